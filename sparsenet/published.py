"""The published networks: published.csv, one row a network, as recipes and as what was printed.

Zhu et al. 2018 is arXiv 1801.05895 and its authors' slides, Liu & Zeng 2018 is arXiv 1804.05340.
The columns up to `training` make a recipe; an empty cell is the default of SparseNetConfig. A row
without `layers` is a network that the paper compares with and that no recipe makes. The others:

network_source:    where the network is described or listed
parameters, flops: as printed, e.g. `0.76M` and `3.46G`; beside them, where they are printed
milliseconds:     that an image takes, as printed beside the FLOPs; on what is not known
classes:           of the head that the counts are for
exact_parameters:  trainable parameters that the description gives, counted elsewhere
exact_without_bn:  the same without batch normalisation, where that is what was printed
error ...:         in percent, of the test set (`+`: trained with augmentation) and of the source
                   that the title names
note:              why a printed count is not met, or why there is no recipe

A ResNet is `dense` with `sum` (x_{l+1} = y_0 + ... + y_l), SparseNet[+] is `sparse` with `sum`.
DenseNets are there as the paper prints them, with conv0 = 2k, and as the slides do, with 16.

Two things could not be found and are assumed. Liu & Zeng's table of growth and path: k = 16 is
their scripts' default, 14 the path of V1 there, and where the paper is silent (conv0 = 2k, order of
channels, convolutions of the attention) the scripts are followed. The schedule of the paper's
ImageNet networks: it is DenseNet's (Huang et al. 2017).
"""

import csv
import dataclasses
import os
import re
from collections import OrderedDict
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from sparsenet.config import ATTENTIONS, COMBINES, FETCHES, HEADS, STEMS, UNITS, SparseNetConfig
from sparsenet.errors import UserError, require
from sparsenet.recipes import CLASSES, DepthRule, Recipe, check

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "published.csv")
DEFAULT_RECIPE = "sparsenet-100-24"


class PrintedError(NamedTuple):
    """An error rate, as printed.

    data:    the test set; `+`: trained with augmentation
    percent: of its images
    source:  where it is printed
    kind:    what tells it from the errors of the network's own source, which have none: `later`
    """

    data: str
    percent: float
    source: str
    kind: str = ""

    @property
    def label(self) -> str:
        """Return data and kind as one: `c10+ later`."""
        return (self.data + " " + self.kind).strip()


@dataclasses.dataclass(frozen=True)
class Published:
    """What was published of a network, see the module's columns; empty or 0: nothing."""

    network_source: str
    parameters: str = ""
    parameters_source: str = ""
    classes: int = 0
    exact_parameters: int = 0
    exact_without_bn: int = 0
    flops: str = ""
    flops_source: str = ""
    milliseconds: float = 0.0
    errors: Tuple[PrintedError, ...] = ()
    note: str = ""


class Network(NamedTuple):
    """A row: how the network is made and trained, None where it is only quoted, and its figures."""

    recipe: Optional[Recipe]
    training: Optional[str]
    published: Published


# What cells name --------------------------------------------------------------------------------

# Convolutions outside the blocks, by whom a depth is counted. The public TensorFlow codes round.
DEPTH_RULES = {
    "densenet": DepthRule(extra=4),
    "resnet": DepthRule(extra=2),
    "official": DepthRule(extra=4, exact=False),
    "ascend": DepthRule(extra=0, exact=False),
}

# Where a public code differs from its paper: the graph has to be this one to load its checkpoints.
# TensorFlow: the two codes that are shipped, of Zhu et al. and in Ascend's ModelZoo. A ReLU stands
# between a transition's convolution and its pooling; conv0 has 16 channels; they differ in depth.
_LIU_ZENG_CODE = {
    "bias": True,
    "stem_relu": True,
    "bottleneck_relu": False,
    "bn_epsilon": 1e-3,
}
PUBLIC_CODES = {
    "TensorFlow": {"transition_relu": True},
    "Liu & Zeng": _LIU_ZENG_CODE,
    "Liu & Zeng BC": dict(_LIU_ZENG_CODE, transition_slots=True),
}

# What differs from Recipe's defaults, which are the paper's CIFAR schedule.
_LIU_ZENG_TRAINING = {"epochs": 280, "lr_milestones": ((150, 10.0), (200, 100.0), (250, 500.0))}
# SVHN is far larger than CIFAR. The schedule is Liu & Zeng's; Zhu et al. have no SVHN, and Huang et
# al. 2017 train DenseNets so.
_SVHN = {"epochs": 40, "lr_milestones": ((20, 10.0), (30, 100.0)), "normalize": "unit"}
TRAININGS: Dict[str, Dict[str, Any]] = {
    "cifar": {},
    "official": {"normalize": "official"},
    "ascend": {"normalize": "ascend"},
    "imagenet": {
        "dataset": "imagenet",
        "batch_size": 256,
        "epochs": 90,
        "lr_milestones": ((30, 10.0), (60, 100.0)),
    },
    "liu-zeng": _LIU_ZENG_TRAINING,
    "liu-zeng-scripts": dict(_LIU_ZENG_TRAINING, weight_decay_scope="all", pad_value="mean"),
    "liu-zeng-svhn": dict(_SVHN, dataset="svhn"),
    "digits": {"dataset": "digits", "epochs": 30, "lr_milestones": ((20, 10.0), (27, 100.0))},
}

_CIFAR = dict(_LIU_ZENG_TRAINING, normalize="channel")
# Training and data set -> what differs from the training there.
ON_OTHER_DATA: Dict[Tuple[Optional[str], str], Dict[str, Any]] = {
    ("cifar", "svhn"): _SVHN,
    ("liu-zeng", "svhn"): _SVHN,
    ("liu-zeng-scripts", "svhn"): _SVHN,
    ("liu-zeng-svhn", "c10"): _CIFAR,
    ("liu-zeng-svhn", "c100"): _CIFAR,
}

_CIFAR_TABLE = "Zhu et al. 2018, CIFAR table"
_IMAGENET_TABLE = "Zhu et al. 2018, ImageNet table"
_LATER = "a later version of Zhu et al. 2018"
_SLIDES = "Zhu et al. 2018, slides, without augmentation"
_SLIDES_AUGMENTED = "Zhu et al. 2018, slides, with augmentation"
_MODELZOO = "Ascend ModelZoo SparseNet_ID1616_for_TensorFlow"
SOURCES = (
    _CIFAR_TABLE,
    _IMAGENET_TABLE,
    _SLIDES,
    _SLIDES_AUGMENTED,
    _MODELZOO,
    "Zhu et al. 2018, section 3; no figures are at hand",
    "public TensorFlow code of Zhu et al.",
    "public PyTorch code of Zhu et al.",
    "keras-SparseNet",
    "Liu & Zeng 2018",
    "public scripts of Liu & Zeng",
    "not published: the small network of the quickstart",
)

# Title of a column of errors -> data, source, and the kind if that is not the network's own source.
ERRORS = OrderedDict(
    [
        ("error c10+ (CIFAR table)", ("c10+", _CIFAR_TABLE, "table")),
        ("error c100+ (CIFAR table)", ("c100+", _CIFAR_TABLE, "table")),
        ("error c10+ (later version)", ("c10+", _LATER, "later")),
        ("error c100+ (later version)", ("c100+", _LATER, "later")),
        ("error c10+ (slides)", ("c10+", _SLIDES_AUGMENTED, "slides")),
        ("error c10 (slides)", ("c10", _SLIDES, "slides")),
        ("error c10+ (ModelZoo, GPU)", ("c10+", _MODELZOO + ", GPU", "GPU")),
        ("error c10+ (ModelZoo, NPU)", ("c10+", _MODELZOO + ", NPU", "NPU")),
        ("error c10+ (ModelZoo, offline)", ("c10+", _MODELZOO + ", offline", "offline")),
        ("error imagenet (ImageNet table)", ("imagenet", _IMAGENET_TABLE, "table")),
    ]
)


# Cells ------------------------------------------------------------------------------------------


class Cell(NamedTuple):
    """Say how the text of a column's cells is read (ValueError if it can't be) and what it is."""

    read: Callable[[str], object]
    accepted: str


def _like(pattern: str, convert: Callable[[str], object], accepted: str) -> Cell:
    """Return the cell that holds text of a pattern."""

    def read(text):
        if not re.fullmatch(pattern, text):
            raise ValueError(text)
        return convert(text)

    return Cell(read, accepted)


def _one_of(meanings: Mapping[str, object]) -> Cell:
    """Return the cell that holds one of some names, and means what that stands for."""

    def read(text):
        if text not in meanings:
            raise ValueError(text)
        return meanings[text]

    return Cell(read, ", ".join(meanings))


def _word(words) -> Cell:
    """Return the cell that holds one of some words as such."""
    return _one_of(OrderedDict((word, word) for word in words))


def _by_block(text: str) -> Tuple[int, ...]:
    return tuple(map(int, text.split("-")))


_TEXT = _like(r"\S|\S.*\S", str, "text without space around it")
_COUNT = _like(r"[1-9][0-9]*", int, "a whole number of at least 1, such as 757252")
_FRACTION = _like(r"0\.[0-9]+", float, "a fraction such as 0.5")
_PERCENT = _like(r"[0-9]{1,2}\.[0-9]+", float, "a percentage as printed, such as 5.13")

CONFIG_CELLS = OrderedDict(
    [
        ("layers", _like(r"[0-9]+(-[0-9]+)*", _by_block, "numbers by block, such as 32-32-32")),
        ("growth_rate", _like(r"[0-9]+(-[0-9]+)*", _by_block, "numbers such as 24 or 16-32-64")),
        ("fetch", _word(FETCHES)),
        ("combine", _word(COMBINES)),
        ("unit", _word(UNITS)),
        ("compression", _FRACTION),
        ("attention", _word(ATTENTIONS)),
        ("stem", _word(STEMS)),
        ("stem_channels", _COUNT),
        ("head", _word(HEADS)),
    ]
)
RECIPE_CELLS = OrderedDict(
    [
        ("public_code", _one_of(PUBLIC_CODES)),
        ("depth_rule", _one_of(DEPTH_RULES)),
        ("training", _word(TRAININGS)),
    ]
)
FIGURE_CELLS = OrderedDict(
    [
        ("network_source", _word(SOURCES)),
        ("parameters", _like(r"[0-9]+(\.[0-9]+)?M", str, "millions as printed, such as 0.76M")),
        ("parameters_source", _word(SOURCES)),
        ("classes", _COUNT),
        ("exact_parameters", _COUNT),
        ("exact_without_bn", _COUNT),
        ("flops", _like(r"[0-9]+(\.[0-9]+)?G", str, "1e9 as printed, such as 3.46G")),
        ("flops_source", _word(SOURCES)),
        ("milliseconds", _like(r"[0-9]+\.[0-9]+", float, "a number as printed, such as 13.5")),
        ("note", _TEXT),
    ]
)
COLUMNS = OrderedDict(
    [("name", _TEXT)]
    + list(CONFIG_CELLS.items())
    + list(RECIPE_CELLS.items())
    + list(FIGURE_CELLS.items())
    + [(title, _PERCENT) for title in ERRORS]
)
# Column -> what its cell means, of the type that COLUMNS makes of it; without the empty ones.
Cells = Dict[str, Any]


# Rows -------------------------------------------------------------------------------------------


def read(path: str = PATH) -> Dict[str, Network]:
    """Return the networks of a file by name, in its order; UserError names row and column."""
    networks: Dict[str, Network] = OrderedDict()
    with open(path, encoding="utf-8", newline="") as stream:
        lines = csv.reader(stream, strict=True)
        row = "titles"
        try:
            titles = next(lines, [])
            _check_titles(titles)
            for line in lines:
                row = "row {}".format(line[0] if line else "empty")
                cells = _cells(titles, line)
                require(cells["name"] not in networks, "name", cells["name"], "each name once")
                networks[cells["name"]] = Network(
                    _recipe(cells), cells.get("training"), _published(cells)
                )
        except (csv.Error, UserError) as error:
            place = "{}, line {}".format(os.path.basename(path), lines.line_num)
            raise UserError("{}, {}: {}".format(place, row, error))
    return networks


def _check_titles(titles: List[str]) -> None:
    """Raise UserError for a column that is unknown, missing or there twice."""
    for title in titles:
        require(title in COLUMNS, "column", title, ", ".join(COLUMNS))
        require(titles.count(title) == 1, "column", title, "each column once")
    missing = [column for column in COLUMNS if column not in titles]
    require(not missing, "columns missing", missing, "all columns")


def _cells(titles: List[str], line: List[str]) -> Cells:
    """Return what the cells of a line mean, after a look at which of them are there."""
    require(len(line) == len(titles), "cells", len(line), "{}, one a column".format(len(titles)))
    cells: Cells = {}
    for title, text in zip(titles, line):
        if text:
            try:
                cells[title] = COLUMNS[title].read(text)
            except ValueError:
                require(False, title, text, COLUMNS[title].accepted)
    _check_presence(cells)
    return cells


def _check_presence(cells: Cells) -> None:
    """Raise UserError for a cell that is missing, or means nothing, beside the others."""
    needed = ["name", "network_source"]
    if "layers" in cells:
        needed += ["growth_rate", "training", "classes"]
    else:
        for column in list(CONFIG_CELLS) + list(RECIPE_CELLS):
            require(column not in cells, column, cells.get(column), "nothing without `layers`")
    for figure in ("parameters", "flops"):
        source = figure + "_source"
        needed += [source] if figure in cells else []
        require(figure in cells or source not in cells, source, cells.get(source),
                "nothing without `{}`".format(figure))  # fmt: skip
    for column in needed:
        require(column in cells, column, "empty", COLUMNS[column].accepted)


def _recipe(cells: Cells) -> Optional[Recipe]:
    """Return the recipe of a row, checked; None for a network that is only quoted."""
    if "layers" not in cells:
        return None
    fields = {column: cells[column] for column in CONFIG_CELLS if column in cells}
    if len(fields["growth_rate"]) == 1:
        fields["growth_rate"] *= len(fields["layers"])
    training = TRAININGS[cells["training"]]
    classes = CLASSES[training.get("dataset", Recipe.dataset)]
    config = SparseNetConfig(classes=classes, **fields, **cells.get("public_code", {}))
    recipe = Recipe(cells["name"], config, depth_rule=cells.get("depth_rule"), **training)
    try:
        check(recipe)
    except UserError as error:
        raise UserError("`training`: {}".format(error))
    return recipe


def _published(cells: Cells) -> Published:
    """Return the figures of a row."""
    errors = []
    for title, (data, source, kind) in ERRORS.items():
        if title in cells:
            is_own = source == cells["network_source"]
            errors.append(PrintedError(data, cells[title], source, "" if is_own else kind))
    figures = {column: cells[column] for column in FIGURE_CELLS if column in cells}
    return Published(errors=tuple(errors), **figures)


RECIPES: Dict[str, Recipe] = OrderedDict()
PUBLISHED: Dict[str, Published] = OrderedDict()  # of the recipes, then of the quoted
QUOTED: Dict[str, Published] = OrderedDict()
TRAINING_OF: Dict[str, Optional[str]] = {}
for _name, _network in read().items():
    PUBLISHED[_name] = _network.published
    TRAINING_OF[_name] = _network.training
    if _network.recipe is None:
        QUOTED[_name] = _network.published
    else:
        RECIPES[_name] = _network.recipe


def on_dataset(recipe: Recipe, dataset: str) -> Recipe:
    """Return a named recipe for another data set, with the schedule that is published for it."""
    changes = ON_OTHER_DATA.get((TRAINING_OF[recipe.name], dataset), {})
    return dataclasses.replace(recipe, dataset=dataset, **changes)


def errors_as_trained(recipe: Recipe) -> List[PrintedError]:
    """Return the published errors of a recipe's network on its data, augmented as training does.

    There are none if the network is another than that of the recipe of this name.
    """
    known = RECIPES.get(recipe.name)
    if known is None or dataclasses.replace(recipe.config, classes=known.config.classes) != (
        known.config
    ):
        return []
    is_plain = recipe.dataset == "imagenet" or recipe.augment == "none"
    data = recipe.dataset + ("" if is_plain else "+")
    return [error for error in PUBLISHED[recipe.name].errors if error.data == data]


# Names ------------------------------------------------------------------------------------------


def network_name(recipe: Recipe, config: SparseNetConfig) -> str:
    """Return a short name, in the field's way, for what flags made of a recipe's network."""
    like = dataclasses.replace(config, classes=10)
    for known in RECIPES.values():
        if dataclasses.replace(known.config, classes=10) == like:
            return known.name
    if recipe.depth_rule is None:
        return recipe.name + _changes(recipe.config, config)
    parts: List[object]
    if not recipe.depth_rule.exact:  # a depth that was rounded away can't be recovered
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


# Field of a config -> how a name says that it is not the recipe's.
CHANGED = OrderedDict(
    [
        ("layers", "layers-{}"),
        ("growth_rate", "k{}"),
        ("fetch", "{}"),
        ("base", "base{}"),
        ("nearest", "near{}"),
        ("farthest", "far{}"),
        ("combine", "{}"),
        ("unit", "{}"),
        ("compression", "c{:g}"),
        ("dropout", "dropout{:g}"),
        ("attention", "attention-{}"),
        ("stem_channels", "conv0-{}"),
        ("head", "{}"),
    ]
)


def _changes(before: SparseNetConfig, now: SparseNetConfig) -> str:
    """Return what flags changed of a network, for its name."""
    text = ""
    for field, form in CHANGED.items():
        value = getattr(now, field)
        if field == "growth_rate" and len(set(value)) == 1 == len(set(before.growth_rate)):
            if value[0] != before.growth_rate[0]:
                text += "-" + form.format(value[0])
        elif value != getattr(before, field):
            is_tuple = isinstance(value, tuple)
            shown = "-".join(map(str, value)) if is_tuple else value
            text += "-" + form.format(shown.replace("_", "-") if isinstance(shown, str) else shown)
    return text


def _depth(config: SparseNetConfig) -> int:
    """Count convolutions and the classifier as the papers do: shortcuts are left out."""
    around = 2 if config.is_residual else len(config.layers) + 1
    return len(UNITS[config.unit]) * sum(config.layers) + around


def _family(config: SparseNetConfig) -> str:
    """Return what networks of this fetch, combine and unit are called."""
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
    """Return what a name has to say beside depth and growth."""
    text = ""
    if config.fetch in ("nearest_farthest", "channel_window"):
        text += "-near{}-far{}".format(config.nearest, config.farthest)
    if config.attention != "none":
        text += "-" + config.attention.replace("_", "-")
    if config.dropout:
        text += "-dropout{:g}".format(config.dropout)
    if config.stem == "cifar_narrow":
        text += "-narrow"
    if config.stem_channels != usual_stem:
        text += "-conv0-{}".format(config.stem_channels)
    if config.unit != "bottleneck" and config.compression < 1:
        text += "-c{:g}".format(config.compression)
    return text
