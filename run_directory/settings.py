"""What is asked of a run, as one record, to JSON and back."""

import dataclasses
import os
from typing import Optional, Tuple

from common import json_records
from run_directory.table import HELD_OUT, TEST
from sparsenet.errors import require
from sparsenet.recipes import Recipe

MAX_SEED = 2**32 - 1
DEFAULT_SEED = 0
# What computes the layers on a CPU: C++ of this project's own, or TensorFlow's kernels.
KERNELS = FUSED, STANDARD = ("fused", "standard")
# Of the computation, by the names of Keras's dtype policies: in mixed ones, variables are float32.
PRECISIONS = FLOAT32, TF32, MIXED_BFLOAT16, MIXED_FLOAT16 = (
    "float32", "tf32", "mixed_bfloat16", "mixed_float16",
)  # fmt: skip
MIXED = (MIXED_BFLOAT16, MIXED_FLOAT16)
PATHS = ("dataset_dir", "load", "log_dir", "resume")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is asked of a run: the recipe, and all that is not part of it.

    recipe:           network, data set and schedule
    dataset_dir:      folder of the data; None for embedded and for random images
    verify:           refuse files of the official size whose MD5 is not the official one
    fake:             random images in place of the data set
    extra:            use SVHN's extra training images, if they are there
    subset:           use N images of each set; None for all
    hold_out:         test on N of the training images, which are not trained on; None for the test
                      set. Of a subset, they are images of the subset
    steps_per_epoch:  fewer steps than the training set has batches; None for all
    seed:             of initial weights, order of images, crops and dropout masks
    gpus:             ids of the devices asked for; () for the CPU, None for the first GPU there is
    kernels:          of the layers on a CPU, one of KERNELS; None for fused ones where they can be
    precision:        of the computation, one of PRECISIONS; None for the platform's default, which
                      is float32 but on an NPU
    load:             checkpoint to take the weights from, in place of initial ones
    new_head:         take all of these but the classifier's, which is initialised
    log_dir:          root of run directories
    name:             of the run directory under `log_dir`; None for an automatic one
    histograms:       of all weights after each epoch, in the events for TensorBoard
    recompute:        keep less for the gradients in training, see training.recompute
    resume:           run directory to resume, in place of a new one
    data_url, train_url: passed by ModelArts; recorded, without effect
    """

    recipe: Recipe
    dataset_dir: Optional[str] = None
    verify: bool = True
    fake: bool = False
    extra: bool = True
    subset: Optional[int] = None
    hold_out: Optional[int] = None
    steps_per_epoch: Optional[int] = None
    seed: int = DEFAULT_SEED
    gpus: Optional[Tuple[int, ...]] = None
    kernels: Optional[str] = None
    precision: Optional[str] = None
    load: Optional[str] = None
    new_head: bool = False
    log_dir: str = "train_log"
    name: Optional[str] = None
    histograms: bool = False
    recompute: bool = False
    resume: Optional[str] = None
    data_url: Optional[str] = None
    train_url: Optional[str] = None

    @property
    def tested_on(self) -> str:
        """Return what the errors of the run are of, for its records and the screen."""
        return TEST if self.hold_out is None else HELD_OUT


def settings_to_dict(settings: Settings) -> dict:
    """Return settings as plain data, without the recipe, which run.json holds elsewhere.

    Paths are absolute: a run may be resumed or evaluated from another directory.
    """
    data = dataclasses.asdict(settings)
    del data["recipe"]
    for field in PATHS:
        if data[field] is not None:
            data[field] = os.path.abspath(data[field])
    return data


def settings_from_dict(fields: dict, recipe: Recipe) -> Settings:
    """Return the settings that :func:`settings_to_dict` wrote; UserError names an invalid field."""
    settings = json_records.read(Settings, dict(fields, recipe=recipe))
    check(settings)
    return settings


def check(settings: Settings) -> None:
    """Raise UserError, naming the field, for a value that no flag can give it."""
    gpus = settings.gpus or ()
    at_least_1 = "a whole number of at least 1, or null"
    for field, is_accepted, accepted in [
        ("seed", 0 <= settings.seed <= MAX_SEED, "a whole number from 0 to {}".format(MAX_SEED)),
        ("subset", settings.subset is None or settings.subset >= 1, at_least_1),
        ("hold_out", settings.hold_out is None or settings.hold_out >= 1, at_least_1),
        ("steps_per_epoch", (settings.steps_per_epoch or 1) >= 1, at_least_1),
        ("kernels", settings.kernels in (None, *KERNELS), "{}, or null".format(", ".join(KERNELS))),
        (
            "precision",
            settings.precision in (None, *PRECISIONS),
            "{}, or null".format(", ".join(PRECISIONS)),
        ),
        ("gpus", min(gpus, default=0) >= 0 and len(set(gpus)) == len(gpus), "different numbers"),
    ]:
        require(is_accepted, field, getattr(settings, field), accepted)
