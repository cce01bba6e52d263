"""Named recipes: a network, the data it is trained on, the schedule, and what was published of it.

A recipe is data: a new variant is a new record here. The command line, the run directory, the
evaluation and the ledger all work from one :class:`Recipe`, and `run.json` holds it whole, so that
a run can be continued or repeated without this file.
"""

import dataclasses
from collections import OrderedDict
from typing import List, Optional, Tuple

from sparsenet import json_records
from sparsenet.config import UNITS, SparseNetConfig
from sparsenet.errors import require

CLASSES = OrderedDict(
    [("digits", 10), ("c10", 10), ("c100", 100), ("svhn", 10), ("imagenet", 1000)]
)
NORMALIZATIONS = ("channel", "pixel_mean", "ascend", "official", "unit")


@dataclasses.dataclass(frozen=True)
class DepthRule:
    """How a depth becomes layers per block: layers = (depth - extra) / (blocks * convolutions).

    extra: convolutions and classifier outside the blocks (conv0, two transitions, linear: 4)
    exact: whether a remainder is a mistake; the public TensorFlow codes round it away
    """

    extra: int = 4
    exact: bool = True

    def layers(self, depth: int, config: SparseNetConfig) -> Tuple[int, ...]:
        """Layers per block of a network like `config` of the given depth; UserError if none is."""
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
        """The depth of a network, counted as the papers count it."""
        return len(UNITS[config.unit]) * sum(config.layers) + self.extra


@dataclasses.dataclass(frozen=True)
class Published:
    """What was published of a network.

    parameters: as printed, e.g. `0.76M`; classes: of the head that the count is for
    counted:    exact count of trainable parameters that the description gives; 0: not at hand
    without_bn: the same without batch normalisation, where that is what was printed
    note:       why a printed count is not met, where it is not
    errors:     percent, by data set; `+` is with augmentation, a second word says of which kind,
                or where it is printed if not in `source`
    flops:      as printed, e.g. `3.46G`
    """

    source: str
    parameters: str = ""
    classes: int = 10
    counted: int = 0
    without_bn: int = 0
    note: str = ""
    errors: Tuple[Tuple[str, float], ...] = ()
    flops: str = ""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What to train, on what, and how.

    lr_milestones: (epoch, divisor) pairs: after that epoch the learning rate is the initial one
                  over the divisor
    weight_decay_scope:      what weight decay acts on: `kernels`, or `all` trainable variables
    normalize:    how images are normalised, see the data's normalization()
    pad_value:       what random crops are padded with: `black`, or the training set's `mean` colour
    depth_rule:   what a depth means for this network; None where depth says nothing about it
    published:    what is known of it
    """

    name: str
    config: SparseNetConfig
    dataset: str = "c10"
    batch_size: int = 64
    epochs: int = 300
    learning_rate: float = 0.1
    lr_milestones: Tuple[Tuple[int, float], ...] = ((150, 10.0), (225, 100.0))
    weight_decay: float = 1e-4
    weight_decay_scope: str = "kernels"
    normalize: str = "channel"
    pad_value: str = "black"
    depth_rule: Optional[DepthRule] = None
    published: Published = Published("not published")

    def learning_rate_at(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1; a drop acts after the epoch it names."""
        rate = self.learning_rate
        for drop, divisor in self.lr_milestones:
            if epoch > drop:
                rate = self.learning_rate / divisor
        return rate


def check(recipe: Recipe) -> None:
    """Raise UserError for a schedule or a data set that no run can have."""
    infinite = float("inf")
    lr_milestones = [epoch for epoch, _ in recipe.lr_milestones]
    in_order = all(a < b for a, b in zip([0] + lr_milestones, lr_milestones))
    for field, is_accepted, accepted in [
        ("dataset", recipe.dataset in CLASSES, ", ".join(CLASSES)),
        ("normalize", recipe.normalize in NORMALIZATIONS, ", ".join(NORMALIZATIONS)),
        ("batch_size", recipe.batch_size >= 1, "a whole number of at least 1"),
        ("epochs", recipe.epochs >= 1, "a whole number of at least 1"),
        ("learning_rate", 0 < recipe.learning_rate < infinite, "a number above 0"),
        ("weight_decay", 0 <= recipe.weight_decay < infinite, "a number of at least 0"),
        ("weight_decay_scope", recipe.weight_decay_scope in ("kernels", "all"), "kernels, all"),
        ("pad_value", recipe.pad_value in ("black", "mean"), "black, mean"),
    ]:
        require(is_accepted, field, getattr(recipe, field), accepted)
    require(
        in_order,
        "lr_milestones",
        lr_milestones,
        "epochs of at least 1, each later than the one before",
    )
    divisors = [divisor for _, divisor in recipe.lr_milestones]
    require(all(d > 0 for d in divisors), "lr_milestones", divisors, "divisors above 0")
    is_large = recipe.config.stem == "imagenet"
    fitting = [name for name in CLASSES if (name == "imagenet") == is_large]
    require(
        recipe.dataset in fitting,
        "dataset", recipe.dataset, "{} with recipe {}".format(", ".join(fitting), recipe.name),
    )  # fmt: skip


def to_dict(recipe: Recipe) -> dict:
    """Return the recipe as plain data, for JSON."""
    return dataclasses.asdict(recipe)


def from_dict(data: dict) -> Recipe:
    """Return the recipe that :func:`to_dict` wrote; UserError for what this version can't read."""
    recipe = json_records.read(Recipe, data)
    check(recipe)
    return recipe


def network_name(recipe: Recipe, config: SparseNetConfig) -> str:
    """A short name, in the field's way, for what flags made of a recipe's network."""
    like = dataclasses.replace(config, classes=10)
    for known in RECIPES.values():
        if dataclasses.replace(known.config, classes=10) == like:
            return known.name
    if recipe.depth_rule is None:
        return recipe.name + "-modified"
    if not recipe.depth_rule.exact:  # a depth that was rounded away can't be told any more
        parts = [recipe.name, "x".join(map(str, config.layers))]
    elif len(set(config.layers)) == 1:
        parts = [_family(config), _depth(config)]
    else:
        parts = [_family(config), _depth(config), "layers"] + list(config.layers)
    growth = config.growth_rate[:1] if len(set(config.growth_rate)) == 1 else config.growth_rate
    if not (config.is_residual and growth == (16, 32, 64)):
        parts += growth
    usual_stem = None if recipe.depth_rule.exact else recipe.config.stem_channels
    return "-".join(map(str, parts)) + _particulars(config, usual_stem)


def _depth(config: SparseNetConfig) -> int:
    """Convolutions and the classifier, counted as the papers do: shortcuts are left out."""
    around = 2 if config.is_residual else len(config.layers) + 1
    return len(UNITS[config.unit]) * sum(config.layers) + around


def _family(config: SparseNetConfig) -> str:
    if config.is_residual:
        family = {"dense": "resnet", "sparse": "sparsenet-sum"}.get(config.fetch)
        family = family or config.fetch.replace("_", "-") + "-sum"
    else:
        family = {"sparse": "sparsenet", "dense": "densenet", "plain": "plainnet"}.get(config.fetch)
        family = family or config.fetch.replace("_", "-")
        family += "-sum" if config.combine == "sum" else ""
        if config.unit == "bottleneck":
            family += "-bc" if config.compression < 1 else "-b"
    if config.fetch == "sparse" and config.base != 2:
        family += "-base{}".format(config.base)
    return family


def _particulars(config: SparseNetConfig, usual_stem: Optional[int]) -> str:
    """What a name has to say beside depth and growth."""
    text = ""
    if config.fetch == "nearest_farthest":
        text += "-near{}-far{}".format(config.nearest, config.farthest)
    if config.attention != "none":
        text += "-" + config.attention.replace("_", "-")
    if config.dropout:
        text += "-dropout{:g}".format(config.dropout)
    if config.stem_channels != usual_stem:
        text += "-conv0-{}".format(config.stem_channels)
    if config.unit != "bottleneck" and config.compression < 1:
        text += "-c{:g}".format(config.compression)
    return text


# CIFAR, 2018: Zhu et al. and the baselines that they print --------------------------------------

_TABLE = "Zhu et al. 2018, CIFAR table"
_SLIDES = "Zhu et al. 2018, slides, without augmentation"
_SLIDES_AUGMENTED = "Zhu et al. 2018, slides, with augmentation"
_UNEXPLAINED = (
    "no growth of 128 gives the printed count; {32,64,125} with conv0 = 32 would (27,723,043 and "
    "16,720,360), perhaps by chance; others count 17.34M too"
)


def _errors(c10, c100, data=("c10+", "c100+")) -> Tuple[Tuple[str, float], ...]:
    """Errors by data set, in the field's notation: `+` is with augmentation."""
    return tuple((name, error) for name, error in zip(data, (c10, c100)) if error)


def _three_blocks(name, depth, growth, published, bottleneck=False, **fields) -> Recipe:
    """A network of three equal blocks: the depth rule of DenseNet and of the paper."""
    rule = DepthRule()
    config = SparseNetConfig(
        layers=(1, 1, 1),
        growth_rate=growth if isinstance(growth, tuple) else (growth,) * 3,
        unit="bottleneck" if bottleneck else "single",
        compression=0.5 if bottleneck else 1.0,
        **fields,
    )
    config = dataclasses.replace(config, layers=rule.layers(depth, config))
    return Recipe(name, config, depth_rule=rule, published=published)


def _paper() -> List[Recipe]:
    """The paper's nine networks; counts are for the head of 100 classes."""
    rows = [
        # depth, growth, BC, printed, calculated, C10+, C100+, note
        (40, 24, False, "0.76M", 757252, 5.13, 24.65, ""),
        (100, 24, False, "2.52M", 2522404, 4.64, 22.41, ""),
        (100, 36, False, "5.65M", 5645908, 4.34, 20.50, ""),
        (100, (16, 32, 64), False, "7.22M", 7218148, 4.11, 19.49, ""),
        (100, (32, 64, 128), False, "27.72M", 28725604, 3.88, 18.80, _UNEXPLAINED),
        (100, 24, True, "1.46M", 1461124, 4.03, 22.12, ""),
        (100, 36, True, "3.26M", 3263428, 3.91, 20.31, ""),
        (100, (16, 32, 64), True, "4.38M", 4365428, None, 19.71,
         "a conv0 of 59 to 86 channels would give it (64: 4,376,852); 2k is 32"),
        (100, (32, 64, 128), True, "16.72M", 17339780, None, 17.71, _UNEXPLAINED),
    ]  # fmt: skip
    later = {  # figures of a later version of the paper
        "sparsenet-100-24": (("c10+ later", 4.44),),
        "sparsenet-bc-100-24": (("c100+ later", 22.71),),
        "sparsenet-bc-100-32-64-128": (("c100+ later", 18.22),),
    }
    recipes = []
    for depth, growth, bottleneck, printed, counted, c10, c100, note in rows:
        suffix = "-".join(map(str, growth)) if isinstance(growth, tuple) else growth
        name = "sparsenet{}-{}-{}".format("-bc" if bottleneck else "", depth, suffix)
        errors = _errors(c10, c100) + later.get(name, ())
        published = Published(_TABLE, printed, 100, counted, note=note, errors=errors)
        recipes.append(_three_blocks(name, depth, growth, published, bottleneck))
    return recipes


def _densenets() -> List[Recipe]:
    """DenseNet as the paper prints it, with conv0 = 2k; and as the slides do, with conv0 = 16."""
    rows = [
        # depth, growth, BC, conv0, printed, classes counted, calculated, C10, C100, source
        (40, 12, False, None, "1.1M", 100, 1100428, 5.39, 24.79, _TABLE),
        (100, 12, False, None, "7.2M", 100, 7189468, 4.28, 20.97, _TABLE),
        (100, 24, False, None, "28.28M", 100, 28283476, 4.04, 19.61, _TABLE),
        (100, 12, True, None, "0.8M", 100, 800032, 4.68, 22.62, _TABLE),
        (250, 24, True, None, "15.3M", 10, 15324406, 3.65, 17.6, _TABLE),
        (190, 40, True, None, "25.6M", 10, 25624430, 3.75, 17.53, _TABLE),
        (40, 12, False, 16, "1.0M", 10, 1019722, 7.00, None, _SLIDES),
        (100, 12, False, 16, "7.0M", 10, 6979642, 5.77, None, _SLIDES),
        (100, 24, False, 16, "27.2M", 10, 27249082, 5.83, None, _SLIDES),
    ]
    recipes = []
    for depth, k, bottleneck, stem, printed, classes, counted, c10, c100, source in rows:
        name = "densenet{}-{}-{}{}".format(
            "-bc" if bottleneck else "", depth, k, "-conv0-16" if stem else ""
        )
        data = ("c10", "c100") if stem else ("c10+", "c100+")
        published = Published(source, printed, classes, counted, errors=_errors(c10, c100, data))
        recipes.append(
            _three_blocks(name, depth, k, published, bottleneck, fetch="dense", stem_channels=stem)
        )
    return recipes


def _resnets() -> List[Recipe]:
    """ResNets as dense + sum (x_{l+1} = y_0 + ... + y_l), and SparseNet[+] as sparse + sum."""
    basic, bottleneck = "residual_basic", "residual_bottleneck"
    none = "Zhu et al. 2018, section 3; no figures are at hand"
    rows = [
        # name, depth, fetch, unit, printed, calculated, without BN, C10+, C100+, source
        ("resnet-32", 32, "dense", basic, "0.46M", 464154, 0, 7.51, None, _SLIDES_AUGMENTED),
        ("resnet-44", 44, "dense", basic, "0.66M", 658586, 0, 7.17, None, _SLIDES_AUGMENTED),
        ("resnet-56", 56, "dense", basic, "0.85M", 853018, 0, 6.97, None, _SLIDES_AUGMENTED),
        ("resnet-110", 110, "dense", basic, "1.7M", 1727962, 0, 6.61, None, _TABLE),
        ("resnet-1202", 1202, "dense", basic, "19.4M", 19421274, 0, 7.93, None, _SLIDES_AUGMENTED),
        ("resnet-164", 164, "dense", bottleneck, "1.7M", 1703258, 0, 5.46, 24.33, _TABLE),
        ("resnet-1001", 1001, "dense", bottleneck, "10.2M", 10327706, 10178490, 4.62, 22.71,
         _TABLE),
        ("sparsenet-sum-110", 110, "sparse", basic, "", 0, 0, None, None, none),
        ("sparsenet-sum-164", 164, "sparse", bottleneck, "", 0, 0, None, None, none),
    ]  # fmt: skip
    also = {  # printed on the slides for networks of the table
        "resnet-110": (("c10+ slides", 6.43),),
        "resnet-164": (("c10 slides", 11.26),),
        "resnet-1001": (("c10 slides", 10.56),),
    }
    rule = DepthRule(extra=2)
    recipes = []
    for name, depth, fetch, unit, printed, counted, without_bn, c10, c100, source in rows:
        config = SparseNetConfig((1,) * 3, (16, 32, 64), fetch=fetch, combine="sum", unit=unit)
        config = dataclasses.replace(config, layers=rule.layers(depth, config))
        errors = _errors(c10, c100) + also.get(name, ())
        published = Published(source, printed, 10, counted, without_bn, errors=errors)
        recipes.append(Recipe(name, config, depth_rule=rule, published=published))
    return recipes


def _quoted(printed: str, c10: float, c100: float) -> Published:
    note = "quoted as printed: no fetch and combine make it"
    return Published(_TABLE, printed, note=note, errors=_errors(c10, c100))


# Networks that the paper compares with and that are no recipe.
QUOTED = OrderedDict(
    [
        ("wide-resnet-16", _quoted("11.0M", 4.81, 22.07)),
        ("fractal-21", _quoted("38.6M", 5.52, 23.30)),
    ]
)


# The two public TensorFlow codes ----------------------------------------------------------------


def _shipped() -> List[Recipe]:
    """The graphs that are shipped, with their quirks; their checkpoints can be loaded.

    Conv0 has 16 channels, a ReLU stands between a transition's convolution and its pooling, and
    the mean image is taken over training and test set. The two differ in depth and input.
    """
    quirks = {"stem_channels": 16, "transition_relu": True}
    official = SparseNetConfig((32,) * 3, (24,) * 3, **quirks)
    ascend = SparseNetConfig((33,) * 3, (24,) * 3, **quirks)
    return [
        Recipe(
            "official", official, normalize="official",
            depth_rule=DepthRule(extra=4, exact=False),
            published=Published("public TensorFlow code of Zhu et al."),
        ),
        Recipe(
            "ascend", ascend, normalize="ascend",
            depth_rule=DepthRule(extra=0, exact=False),
            published=Published(
                "Ascend ModelZoo SparseNet_ID1616_for_TensorFlow", "", 10, 2560810,
                errors=(("c10+ GPU", 5.0), ("c10+ NPU", 4.8), ("c10+ offline", 6.43)),
            ),
        ),
    ]  # fmt: skip


# ImageNet ---------------------------------------------------------------------------------------


def _imagenet() -> List[Recipe]:
    """The paper's ImageNet networks, DenseNet's, and the two more of keras-SparseNet.

    The paper's training set-up was not found; this is DenseNet's (Huang et al. 2017).
    """
    table = "Zhu et al. 2018, ImageNet table"
    keras = "keras-SparseNet"
    rows = [
        # name, layers, growth, fetch, conv0, head, printed, calculated, top-1 error, FLOPs, source
        ("sparsenet-121-32", (6, 12, 24, 16), 32, "sparse", None, "map3x3", "4.51M", 4513576, 25.6,
         "3.46G", table),
        ("sparsenet-169-32", (6, 12, 32, 32), 32, "sparse", None, "map3x3", "6.23M", 6228616, 24.2,
         "3.74G", table),
        ("sparsenet-201-32", (6, 12, 48, 32), 32, "sparse", None, "map3x3", "7.22M", 7221896, 23.1,
         "4.13G", table),
        ("sparsenet-201-48", (6, 12, 48, 32), 48, "sparse", None, "map3x3", "14.91M", 14907736,
         22.1, "9.19G", table),
        ("sparsenet-121-32-gap", (6, 12, 24, 16), 32, "sparse", None, "gap", "", 3233576, None,
         "", table),
        ("sparsenet-169-32-gap", (6, 12, 32, 32), 32, "sparse", None, "gap", "", 4692616, None,
         "", table),
        ("sparsenet-201-32-gap", (6, 12, 48, 32), 32, "sparse", None, "gap", "", 5685896, None,
         "", table),
        ("sparsenet-201-48-gap", (6, 12, 48, 32), 48, "sparse", None, "gap", "", 12603736, None,
         "", table),
        ("keras-121", (6, 12, 24, 16), 32, "sparse", 64, "gap", "", 3250824, None, "", keras),
        ("keras-169", (6, 12, 32, 32), 32, "sparse", 64, "gap", "", 4709864, None, "", keras),
        ("keras-201", (6, 12, 48, 32), 32, "sparse", 64, "gap", "", 5703144, None, "", keras),
        ("keras-161", (6, 12, 36, 24), 48, "sparse", 96, "gap", "", 0, None, "", keras),
        ("keras-264", (6, 12, 64, 48), 32, "sparse", 64, "gap", "", 0, None, "", keras),
        ("densenet-121", (6, 12, 24, 16), 32, "dense", 64, "gap", "7.98M", 0, 25.0, "5.7G", table),
        ("densenet-169", (6, 12, 32, 32), 32, "dense", 64, "gap", "14.15M", 0, 23.6, "6.76G",
         table),
        ("densenet-201", (6, 12, 48, 32), 32, "dense", 64, "gap", "20.01M", 0, 22.5, "8.63G",
         table),
    ]  # fmt: skip
    recipes = []
    for name, layers, k, fetch, stem, head, printed, counted, error, flops, source in rows:
        config = SparseNetConfig(
            layers, (k,) * 4, fetch=fetch, unit="bottleneck", compression=0.5, stem="imagenet",
            stem_channels=stem, head=head, classes=1000,
        )  # fmt: skip
        errors = (("imagenet", error),) if error else ()
        recipes.append(
            Recipe(
                name, config, dataset="imagenet", batch_size=256, epochs=90,
                lr_milestones=((30, 10.0), (60, 100.0)),
                published=Published(source, printed, 1000, counted, errors=errors, flops=flops),
            )
        )  # fmt: skip
    return recipes


# Liu & Zeng -------------------------------------------------------------------------------------

_LIU_ZENG_LAYERS = {
    "v1": (8, 12, 16), "v2": (12, 18, 24), "v3": (16, 24, 32), "v4": (20, 30, 40),
}  # fmt: skip
_LIU_ZENG_SCRIPTS = {
    "basic": (1197194, 1895018, 2583530, 3256586),
    "bc": (828442, 1316730, 1804042, 2277802),
    "abc": (860698, 1365114, 1868554, 2358442),
}


def _liu_zeng() -> List[Recipe]:
    """The three networks of arXiv 1804.05340 in four sizes, by the paper's rule and the scripts'.

    The table with growth and path of each was not found: k = 16 is the scripts' default, 14 what
    V1 uses. Where the paper is silent (conv0 = 2k, order of channels, what attention's
    convolutions look like) both follow the scripts.
    """
    recipes = []
    for kind, counts in _LIU_ZENG_SCRIPTS.items():
        for (size, layers), counted in zip(_LIU_ZENG_LAYERS.items(), counts):
            name = "liu-zeng-{}-{}".format(kind, size)
            paper = SparseNetConfig(
                layers,
                (16,) * 3,
                fetch="nearest_farthest",
                unit="single" if kind == "basic" else "bottleneck",
                compression=1.0 if kind == "basic" else 0.5,
                attention="liu_zeng" if kind == "abc" else "none",
            )
            scripts = dataclasses.replace(
                paper,
                fetch="channel_window",
                compression=1.0,
                transition_slots=kind != "basic",
                bias=True,
                stem_relu=True,
                bottleneck_relu=False,
                bn_epsilon=1e-3,
            )
            schedule = {"epochs": 280, "lr_milestones": ((150, 10.0), (200, 100.0), (250, 500.0))}
            recipes.append(Recipe(name, paper, published=Published("Liu & Zeng 2018"), **schedule))
            recipes.append(
                Recipe(
                    name + "-scripts", scripts, weight_decay_scope="all", pad_value="mean",
                    published=Published("public scripts of Liu & Zeng", "", 10, counted),
                    **schedule
                )
            )  # fmt: skip
    return recipes


def _variants() -> List[Recipe]:
    """SVHN and the squeeze-and-excitation baseline, made of the rows above."""
    by_name = {recipe.name: recipe for recipe in _liu_zeng()}
    svhn = {"dataset": "svhn", "epochs": 40, "lr_milestones": ((20, 10.0), (30, 100.0)),
            "normalize": "unit"}  # fmt: skip
    recipes = [
        dataclasses.replace(
            by_name["liu-zeng-{}-v1".format(kind)], name="liu-zeng-{}-v1-svhn".format(kind), **svhn
        )
        for kind in _LIU_ZENG_SCRIPTS
    ]
    abc = by_name["liu-zeng-abc-v1"]
    se = dataclasses.replace(abc.config, attention="se")
    return recipes + [dataclasses.replace(abc, name="liu-zeng-se-v1", config=se)]


def _digits() -> List[Recipe]:
    config = SparseNetConfig(layers=(4, 4, 4), growth_rate=(12, 12, 12))
    source = Published("not published: the small network of the quickstart")
    return [
        Recipe(
            "digits", config, dataset="digits", epochs=30, lr_milestones=((20, 10.0), (27, 100.0)),
            depth_rule=DepthRule(), published=source,
        )
    ]  # fmt: skip


RECIPES = OrderedDict(
    (recipe.name, recipe)
    for family in (_paper, _densenets, _resnets, _shipped, _imagenet, _liu_zeng, _variants, _digits)
    for recipe in family()
)  # type: Dict[str, Recipe]

DEFAULT_RECIPE = "sparsenet-100-24"
