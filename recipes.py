"""Named recipes: a network, the data it is trained on, and the schedule it is trained with.

A recipe is data. The command line, the run directory and the evaluation all work from one
:class:`Recipe`, and `run.json` holds it whole, so that a run can be continued or repeated
without this file.
"""

import dataclasses
from collections import OrderedDict
from typing import Optional, Tuple

from errors import UserError, require
from sparsenet_config import SparseNetConfig

CLASSES = OrderedDict([("digits", 10), ("c10", 10), ("c100", 100), ("svhn", 10)])
NORMALIZATIONS = ("channel", "pixel_mean")


@dataclasses.dataclass(frozen=True)
class DepthRule:
    """How a depth becomes layers per block: layers = (depth - extra) / (blocks * convolutions).

    extra: convolutions and classifier outside the blocks (conv0, two transitions, linear: 4).
    """

    extra: int = 4

    def layers(self, depth: int, config: SparseNetConfig) -> Tuple[int, ...]:
        """Layers per block of a network like `config` of the given depth; UserError if none is."""
        blocks = len(config.layers)
        step = blocks * (2 if config.unit == "bottleneck" else 1)
        count, remainder = divmod(depth - self.extra, step)
        if count < 1 or remainder:
            nearest = max(count, 1) * step + self.extra
            raise UserError(
                "`depth` is {}; accepted: {} + a multiple of {}, such as {} or {}".format(
                    depth, self.extra, step, nearest, nearest + step
                )
            )
        return (count,) * blocks


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how.

    drops:        (epoch, divisor) pairs: after that epoch the learning rate is the initial one
                  over the divisor
    normalize:    `channel`: subtract the training set's mean of each colour, divide by its
                  standard deviation; `pixel_mean`: subtract its mean image, divide by 255
    depth_rule:   what a depth means for this network; None where depth says nothing about it
    source:       where the row was published, and as what
    """

    name: str
    config: SparseNetConfig
    dataset: str = "c10"
    batch_size: int = 64
    epochs: int = 300
    learning_rate: float = 0.1
    drops: Tuple[Tuple[int, float], ...] = ((150, 10.0), (225, 100.0))
    weight_decay: float = 1e-4
    normalize: str = "channel"
    depth_rule: Optional[DepthRule] = DepthRule()
    source: str = ""

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1; a drop acts after the epoch it names."""
        rate = self.learning_rate
        for drop, divisor in self.drops:
            if epoch > drop:
                rate = self.learning_rate / divisor
        return rate


def check(recipe: Recipe) -> None:
    """Raise UserError for a schedule or a data set that no run can have."""
    infinite = float("inf")
    drops = [epoch for epoch, _ in recipe.drops]
    in_order = all(a < b for a, b in zip([0] + drops, drops))
    for field, is_accepted, accepted in [
        ("dataset", recipe.dataset in CLASSES, ", ".join(CLASSES)),
        ("normalize", recipe.normalize in NORMALIZATIONS, ", ".join(NORMALIZATIONS)),
        ("batch_size", recipe.batch_size >= 1, "a whole number of at least 1"),
        ("epochs", recipe.epochs >= 1, "a whole number of at least 1"),
        ("learning_rate", 0 < recipe.learning_rate < infinite, "a number above 0"),
        ("weight_decay", 0 <= recipe.weight_decay < infinite, "a number of at least 0"),
    ]:
        require(is_accepted, field, getattr(recipe, field), accepted)
    require(in_order, "drops", drops, "epochs of at least 1, each later than the one before")


def to_dict(recipe: Recipe) -> dict:
    """The recipe as plain data, for JSON."""
    return dataclasses.asdict(recipe)


def from_dict(data: dict) -> Recipe:
    """The recipe that :func:`to_dict` wrote; UserError for fields that this version lacks."""
    try:
        data = dict(data)
        config = {k: tuple(v) if isinstance(v, list) else v for k, v in data["config"].items()}
        data["config"] = SparseNetConfig(**config)
        data["drops"] = tuple((int(epoch), divisor) for epoch, divisor in data["drops"])
        if data["depth_rule"] is not None:
            data["depth_rule"] = DepthRule(**data["depth_rule"])
        recipe = Recipe(**data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError("the record's recipe can't be read by this version: {}".format(error))
    check(recipe)
    return recipe


def _paper(depth: int, growth_rate: Tuple[int, int, int], bottleneck: bool, source: str) -> Recipe:
    """A CIFAR row of the paper: three blocks, trained for 300 epochs with batches of 64."""
    layers = (depth - 4) // (6 if bottleneck else 3)
    config = SparseNetConfig(
        layers=(layers,) * 3,
        growth_rate=growth_rate,
        unit="bottleneck" if bottleneck else "single",
        compression=0.5 if bottleneck else 1.0,
    )
    return Recipe(network_name(config, depth), config, source=source)


def network_name(config: SparseNetConfig, depth: int) -> str:
    """A short name in the field's way, e.g. `sparsenet-bc-100-16-32-64`."""
    family = {"sparse": "sparsenet", "dense": "densenet", "plain": "plainnet"}[config.fetch]
    if config.fetch == "sparse" and config.base != 2:
        family += "-base{}".format(config.base)
    if config.unit == "bottleneck":
        family += "-bc" if config.compression < 1 else "-b"
    growth = config.growth_rate
    if len(set(growth)) == 1:
        growth = growth[:1]
    return "-".join([family, str(depth)] + [str(k) for k in growth])


def depth_of(config: SparseNetConfig) -> int:
    """Convolutions and classifier of the network, counted as the papers count them."""
    per_layer = 2 if config.unit == "bottleneck" else 1
    return per_layer * sum(config.layers) + len(config.layers) + 1


_TABLE = "Zhu et al. 2018, CIFAR table"

RECIPES = OrderedDict(
    (recipe.name, recipe)
    for recipe in [
        _paper(40, (24, 24, 24), False, _TABLE + ": SparseNet L=40 k=24"),
        _paper(100, (24, 24, 24), False, _TABLE + ": SparseNet L=100 k=24"),
        _paper(100, (36, 36, 36), False, _TABLE + ": SparseNet L=100 k=36"),
        _paper(100, (16, 32, 64), False, _TABLE + ": SparseNet L=100 k={16,32,64}"),
        _paper(100, (32, 64, 128), False, _TABLE + ": SparseNet L=100 k={32,64,128}"),
        _paper(100, (24, 24, 24), True, _TABLE + ": SparseNet-BC L=100 k=24"),
        _paper(100, (36, 36, 36), True, _TABLE + ": SparseNet-BC L=100 k=36"),
        _paper(100, (16, 32, 64), True, _TABLE + ": SparseNet-BC L=100 k={16,32,64}"),
        _paper(100, (32, 64, 128), True, _TABLE + ": SparseNet-BC L=100 k={32,64,128}"),
        Recipe(
            "digits",
            SparseNetConfig(layers=(4, 4, 4), growth_rate=(12, 12, 12)),
            dataset="digits",
            epochs=30,
            drops=((20, 10.0), (27, 100.0)),
            source="not published: the small network of the quickstart",
        ),
    ]
)  # type: Dict[str, Recipe]

DEFAULT_RECIPE = "sparsenet-100-24"
