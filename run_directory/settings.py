"""What a run is asked for: one record, to JSON and back."""

import dataclasses
from typing import Optional, Tuple

from sparsenet import json_records
from sparsenet.recipes import Recipe

MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """A run: the recipe, and all that is not part of it.

    dataset_dir:      where the data are; None for the embedded and for random ones
    fake:             random images in place of the data set's
    subset:           use the first N images of each set; None for all
    steps_per_epoch:  fewer steps than the training set has batches; None for all
    gpus:             ids of the devices asked for; None for the first one there is
    load:             checkpoint to take the weights from, in place of initial ones
    name:             of the run directory under `log_dir`; None for an automatic one
    resume:           the run directory to continue, in place of a new one
    data_url, train_url: what ModelArts passes; recorded, and of no effect
    """

    recipe: Recipe
    dataset_dir: Optional[str] = None
    verify: bool = True
    fake: bool = False
    subset: Optional[int] = None
    steps_per_epoch: Optional[int] = None
    seed: int = 0
    gpus: Optional[Tuple[int, ...]] = None
    load: Optional[str] = None
    log_dir: str = "train_log"
    name: Optional[str] = None
    resume: Optional[str] = None
    data_url: Optional[str] = None
    train_url: Optional[str] = None


def settings_to_dict(settings: Settings) -> dict:
    """Settings as plain data, without the recipe, which has a place of its own."""
    data = dataclasses.asdict(settings)
    del data["recipe"]
    return data


def settings_from_dict(fields: dict, recipe: Recipe) -> Settings:
    """Return the settings that :func:`settings_to_dict` wrote; UserError names a wrong field."""
    return json_records.read(Settings, dict(fields, recipe=recipe))
