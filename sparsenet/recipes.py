"""Recipes: a network, the data that it is trained on and the schedule, as one record.

The command line, the run directory, the evaluation and the ledger all work from one
:class:`Recipe`. `run.json` holds all of it, so that a run can be resumed or repeated without
published.csv, the file of named recipes.
"""

import dataclasses
import math
from collections import OrderedDict
from typing import Optional, Tuple

from sparsenet.config import UNITS, SparseNetConfig
from sparsenet.errors import require

CLASSES = OrderedDict(
    [("digits", 10), ("c10", 10), ("c100", 100), ("svhn", 10), ("imagenet", 1000)]
)
# `folder`, any folder of images, has the classes that it holds.
DATASETS = (*CLASSES, "folder")
AUGMENTATIONS = ("standard", "crop", "none")
LR_SCHEDULES = ("drops", "cosine", "linear")
WARM_UP_FROM = 0.1  # of the learning rate
NORMALIZATIONS = ("channel", "pixel_mean", "ascend", "official", "unit")


@dataclasses.dataclass(frozen=True)
class DepthRule:
    """How a depth becomes layers per block: layers = (depth - extra) / (blocks * convolutions).

    extra: convolutions and classifier outside the blocks (conv0, two transitions, linear: 4)
    exact: whether a remainder is an error; the public TensorFlow codes round down
    """

    extra: int = 4
    exact: bool = True

    def layers(self, depth: int, config: SparseNetConfig) -> Tuple[int, ...]:
        """Return the layers per block of a network of this depth; UserError if there is none."""
        count = len(config.layers)
        step = count * len(UNITS[config.unit])
        layers, remainder = divmod(depth - self.extra, step)
        if layers < 1 or (remainder and self.exact):
            nearest = max(layers, 1) * step + self.extra
            accepted = "{} + a multiple of {}, such as {} or {}".format(
                self.extra, step, nearest, nearest + step
            )
            if not self.exact:
                accepted = "at least {}".format(nearest)
            require(False, "depth", depth, accepted)
        return (layers,) * count

    def depth(self, config: SparseNetConfig) -> int:
        """Return the depth of a network, counted as the papers count it."""
        return len(UNITS[config.unit]) * sum(config.layers) + self.extra


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how.

    name:               of the recipe, or of the network that flags made of one
    config:             the network
    dataset:            the data set, one of DATASETS
    batch_size:         images per step, over all devices
    epochs:             number of epochs
    learning_rate:      the highest one, which training starts with if there is no warm-up
    lr_schedule:        how it falls: by `drops`, or from step to step to 0 after the last epoch,
                        along half a `cosine` or `linear`
    lr_milestones:      of drops, (epoch, divisor) pairs: after that epoch, the learning rate is the
                        highest one divided by the divisor
    warm_up:            epochs, or a part of one, in which it rises from step to step, in a straight
                        line, from a tenth of what it is then
    weight_decay:       factor of the weights that is added to their gradient
    weight_decay_scope: variables that weight decay acts on: `kernels`, or `all` trainable ones
    normalize:          how images are normalised, see cifar_data.normalization_constants
    pad_value:          colour of the padding of random crops: `black`, or the training set's `mean`
    augment:            how training images are augmented: `standard`, by random crops, and by
                        mirroring where a mirrored image still shows its class; `crop` without
                        mirroring; or `none`
    depth_rule:         how a depth becomes layers per block; None if the layers are listed instead
    """

    name: str
    config: SparseNetConfig
    dataset: str = "c10"
    batch_size: int = 64
    epochs: int = 300
    learning_rate: float = 0.1
    lr_schedule: str = "drops"
    lr_milestones: Tuple[Tuple[int, float], ...] = ((150, 10.0), (225, 100.0))
    warm_up: float = 0.0
    weight_decay: float = 1e-4
    weight_decay_scope: str = "kernels"
    normalize: str = "channel"
    pad_value: str = "black"
    augment: str = "standard"
    depth_rule: Optional[DepthRule] = None

    @property
    def lr_moves(self) -> bool:
        """Whether the learning rate is another one at each step, and not at each epoch at most."""
        return self.lr_schedule != "drops" or self.warm_up > 0

    def learning_rate_at(self, epoch: int) -> float:
        """Return the learning rate of the first step of an epoch, counted from 1."""
        return self.learning_rate_after(epoch - 1)

    def learning_rate_after(self, done: float) -> float:
        """Return the learning rate of the step after `done` epochs, parts of them included."""
        if done < self.warm_up:
            share = WARM_UP_FROM + (1 - WARM_UP_FROM) * done / self.warm_up
            return share * self._falling(done)
        return self._falling(done)

    def _falling(self, done: float) -> float:
        """Return the learning rate without warm-up."""
        if self.lr_schedule == "drops":
            rate = self.learning_rate
            for milestone, divisor in self.lr_milestones:
                if done >= milestone:
                    rate = self.learning_rate / divisor
            return rate
        left = max(1 - done / self.epochs, 0.0)
        return self.learning_rate * (
            left if self.lr_schedule == "linear" else (1 - math.cos(math.pi * left)) / 2
        )


def check(recipe: Recipe) -> None:
    """Raise UserError for a schedule or a data set that no run can have."""
    infinite = 1e38  # in float32
    milestones = [epoch for epoch, _ in recipe.lr_milestones]
    in_order = all(a < b for a, b in zip([0] + milestones, milestones))
    for field, is_accepted, accepted in [
        ("dataset", recipe.dataset in DATASETS, ", ".join(DATASETS)),
        ("normalize", recipe.normalize in NORMALIZATIONS, ", ".join(NORMALIZATIONS)),
        ("batch_size", recipe.batch_size >= 1, "a whole number of at least 1"),
        ("epochs", recipe.epochs >= 1, "a whole number of at least 1"),
        ("learning_rate", 0 < recipe.learning_rate < infinite, "a number above 0"),
        ("lr_schedule", recipe.lr_schedule in LR_SCHEDULES, ", ".join(LR_SCHEDULES)),
        ("warm_up", 0 <= recipe.warm_up < infinite, "a number of epochs of at least 0"),
        ("weight_decay", 0 <= recipe.weight_decay < infinite, "a number of at least 0"),
        ("weight_decay_scope", recipe.weight_decay_scope in ("kernels", "all"), "kernels, all"),
        ("pad_value", recipe.pad_value in ("black", "mean"), "black, mean"),
        ("augment", recipe.augment in AUGMENTATIONS, ", ".join(AUGMENTATIONS)),
    ]:
        require(is_accepted, field, getattr(recipe, field), accepted)
    later = "epochs of at least 1, each later than the one before"
    require(in_order, "lr_milestones", milestones, later)
    divisors = [divisor for _, divisor in recipe.lr_milestones]
    fits = recipe.lr_schedule == "drops" or not milestones
    require(fits, "lr_milestones", milestones, "none with lr_schedule " + recipe.lr_schedule)
    above_0 = all(0 < divisor < infinite for divisor in divisors)
    require(above_0, "lr_milestones", divisors, "divisors above 0")
    is_large = recipe.config.stem == "imagenet"
    fitting = ["imagenet"] if is_large else [name for name in CLASSES if name != "imagenet"]
    fitting.append("folder")
    require(
        recipe.dataset in fitting,
        "dataset", recipe.dataset, "{} with recipe {}".format(", ".join(fitting), recipe.name),
    )  # fmt: skip


def to_dict(recipe: Recipe) -> dict:
    """Return a recipe as plain data, for JSON."""
    return dataclasses.asdict(recipe)
