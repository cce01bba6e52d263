"""The flags that describe a network and its data, and the recipe that they ask for."""

import dataclasses
from typing import Optional, Tuple

from common.cli import Parser, compression, fraction, int_at_least, ints_at_least
from sparsenet import recipes
from sparsenet.config import ATTENTIONS, COMBINES, FETCHES, HEADS
from sparsenet.errors import UserError
from sparsenet.published import DEFAULT_RECIPE, RECIPES, network_name, on_dataset
from sparsenet.recipes import CLASSES, DATASETS, NORMALIZATIONS, Recipe


def data_parser(description: str) -> Parser:
    """Return a parser with the flags of the data."""
    parser = Parser(description=description)
    add_data_flags(parser, default="c10")
    return parser


def add_data_flags(parser, default: Optional[str] = None) -> None:
    """Add --dataset, --dataset_dir and --no_verify."""
    parser.add_argument("--dataset", choices=DATASETS, default=default, help="the data set")
    parser.add_argument(
        "--dataset_dir", metavar="DIR", help="folder of its files or of its official archive"
    )
    parser.add_argument(
        "--no_verify", action="store_true", help="accept files whose MD5 is not the official one"
    )


def add_network_flags(parser) -> None:
    """Add --recipe and the flags that override the network of a recipe."""
    parser.add_argument(
        "--recipe", choices=list(RECIPES), metavar="NAME", help="start from this named recipe"
    )
    parser.add_argument(
        "-d",
        "--depth",
        type=int_at_least(1),
        metavar="L",
        help="depth, as the papers count it [100]",
    )
    parser.add_argument(
        "-gr", "--growth_rate", type=ints_at_least(1), metavar="K",
        help="channels of a layer; one number, or one per block: 16,32,64 [24]",
    )  # fmt: skip
    parser.add_argument(
        "--layers", type=ints_at_least(1), metavar="N",
        help="layers of each block, such as 8,12,16; in place of a depth",
    )  # fmt: skip
    _add_fetch_flags(parser)
    _add_unit_flags(parser)
    parser.add_argument("--head", choices=HEADS, help="map3x3 is for ImageNet [gap]")
    parser.add_argument(
        "--normalize", choices=NORMALIZATIONS,
        help="channel: mean and deviation of each colour; pixel_mean: mean image, as in "
        "the original codes; official, ascend: as in those codes; unit: / 255 [channel]",
    )  # fmt: skip


def _add_fetch_flags(parser) -> None:
    """Add --fetch, the flags of single rules, and --combine."""
    parser.add_argument(
        "--fetch", choices=FETCHES, metavar="RULE",
        help="which outputs a layer reads: {} [sparse]".format(", ".join(FETCHES)),
    )  # fmt: skip
    parser.add_argument(
        "--base", type=int_at_least(2), metavar="C", help="offsets 1, C, C^2, ... of sparse [2]"
    )
    parser.add_argument(
        "--nearest", type=int_at_least(0), metavar="N",
        help="how many of the nearest outputs nearest_farthest reads [7]",
    )  # fmt: skip
    parser.add_argument(
        "--farthest", type=int_at_least(0), metavar="N",
        help="how many of the farthest outputs nearest_farthest reads [7]",
    )  # fmt: skip
    parser.add_argument(
        "--combine", choices=COMBINES, help="how a layer combines what it reads [concat]"
    )


def _add_unit_flags(parser) -> None:
    """Add the flags of what layers, transitions and conv0 are made of."""
    parser.add_argument(
        "--bottleneck",
        type=int_at_least(0, 1),
        metavar="0|1",
        help="1x1 convolution (4k) first [0]",
    )
    parser.add_argument(
        "--compression", type=compression, metavar="F",
        help="fraction of channels that a transition keeps; 0 or 1: all [1]",
    )  # fmt: skip
    parser.add_argument(
        "--dropout", type=fraction, metavar="F", help="fraction dropped after each convolution [0]"
    )
    parser.add_argument(
        "--attention", choices=ATTENTIONS, help="attention module on a layer's output [none]"
    )
    parser.add_argument(
        "--stem_channels", type=int_at_least(1), metavar="N", help="channels of conv0 [2k]"
    )


def network_flags(args) -> list:
    """Return the names of the network flags that were given."""
    group = Parser()
    add_network_flags(group)
    return sorted(name for name in vars(group.parse_args([])) if getattr(args, name) is not None)


# These values change nothing, so they are always accepted; the original's commands have the first.
WITHOUT_EFFECT = [("compression", 0.0), ("compression", 1.0), ("head", "gap")]


def recipe_from(args) -> Recipe:
    """Return the recipe that flags ask for: the named one (or the paper's) with their changes.

    Raises UserError for flags that contradict each other, have no effect or fit no network.
    """
    recipe = RECIPES[args.recipe or DEFAULT_RECIPE]
    if args.dataset is not None:
        recipe = on_dataset(recipe, args.dataset)
    changes = {"normalize": args.normalize, "augment": getattr(args, "augment", None)}
    recipe = dataclasses.replace(recipe, **_given(changes), **_schedule(args, recipe))
    config = _config_from(args, recipe)
    if config != dataclasses.replace(recipe.config, classes=config.classes):
        recipe = dataclasses.replace(recipe, name=network_name(recipe, config))
    recipe = dataclasses.replace(recipe, config=config)
    recipes.check(recipe)
    return recipe


def _given(changes: dict) -> dict:
    return {key: value for key, value in changes.items() if value is not None}


def _schedule(args, recipe: Recipe) -> dict:
    """Return the changes that flags ask of a schedule."""
    changes = {
        "batch_size": getattr(args, "batch_size", None),
        "epochs": getattr(args, "max_epoch", None),
        "learning_rate": getattr(args, "learning_rate", None),
        "lr_schedule": getattr(args, "lr_schedule", None),
        "warm_up": getattr(args, "warm_up", None),
        "weight_decay": getattr(args, "weight_decay", None),
    }
    milestones = getattr(args, "lr_milestones", None)
    drops = [getattr(args, "drop_1", None), getattr(args, "drop_2", None)]
    if milestones is not None and drops != [None, None]:
        raise UserError("--lr_milestones; accepted: without --drop_1 and --drop_2")
    if changes["lr_schedule"] not in (None, "drops"):
        if milestones or drops != [None, None]:
            given = "--lr_milestones" if milestones else "--drop_{}".format(1 + (drops[0] is None))
            raise UserError("{}; accepted: with --lr_schedule drops only".format(given))
        milestones = ()
    changes["lr_milestones"] = _moved(recipe, drops) if milestones is None else milestones
    return _given(changes)


def _moved(recipe: Recipe, drops):
    """Return the recipe's milestones with the epochs of the first two replaced."""
    lr_milestones = list(recipe.lr_milestones)
    for index, epoch in enumerate(drops):
        if epoch is None:
            continue
        if index >= len(lr_milestones):
            raise UserError(
                "--drop_{} {}; accepted: nothing, recipe {} has {} milestones".format(
                    index + 1, epoch, recipe.name, len(lr_milestones)
                )
            )
        lr_milestones[index] = (epoch, lr_milestones[index][1])
    return tuple(lr_milestones)


def _config_from(args, recipe: Recipe):
    """Return the recipe's network with the changes that flags ask for."""
    config = recipe.config
    blocks = len(args.layers or config.layers)
    changes = {
        "layers": args.layers,
        "growth_rate": _growth_of_each(args, config, blocks),
        "unit": _unit(args, recipe),
        # As in the original, 0 means "no compression", and so does 1.
        "compression": None if args.compression is None else args.compression or 1.0,
        "classes": CLASSES.get(recipe.dataset),
    }
    for field in ("fetch", "base", "nearest", "farthest", "combine", "dropout", "attention",
                  "stem_channels", "head"):  # fmt: skip
        changes[field] = getattr(args, field)
    changed = dataclasses.replace(config, **_given(changes))
    refuse_without_effect(args, changed)
    return dataclasses.replace(changed, layers=_layers(args, recipe, changed))


def _unit(args, recipe: Recipe) -> Optional[str]:
    """Return the unit that --bottleneck asks for, None without it."""
    if args.bottleneck is None:
        return None
    if recipe.config.is_residual:
        raise UserError(
            "--bottleneck {}; accepted: nothing, recipe {} has units of its own".format(
                args.bottleneck, recipe.name
            )
        )
    return "bottleneck" if args.bottleneck else "single"


def _layers(args, recipe: Recipe, changed) -> Tuple[int, ...]:
    """Return the layers of each block: as listed, or by the depth and what a layer is made of."""
    if args.layers is not None and args.depth is not None:
        raise UserError("--depth {}; accepted: nothing beside --layers".format(args.depth))
    if args.layers is not None or (args.depth is None and changed.unit == recipe.config.unit):
        return changed.layers
    if recipe.depth_rule is None:
        if args.depth is None:
            return changed.layers
        raise UserError(
            "--depth {}; accepted: nothing, recipe {} lists its layers (--layers)".format(
                args.depth, recipe.name
            )
        )
    depth = recipe.depth_rule.depth(recipe.config) if args.depth is None else args.depth
    return recipe.depth_rule.layers(depth, changed)


def refuse_without_effect(args, config) -> None:
    """Raise UserError for a flag that has no effect on the network it is given for."""
    windows = ("nearest_farthest", "channel_window")
    for flag, has_effect, accepted in [
        ("base", config.fetch == "sparse", "--fetch sparse"),
        ("nearest", config.fetch in windows, "--fetch nearest_farthest"),
        ("farthest", config.fetch in windows, "--fetch nearest_farthest"),
        ("compression", config.combine == "concat", "--combine concat"),
        ("head", config.stem == "imagenet", "a recipe for ImageNet"),
    ]:
        value = getattr(args, flag)
        if value is not None and not has_effect and (flag, value) not in WITHOUT_EFFECT:
            raise UserError("--{} {}; accepted: with {} only".format(flag, value, accepted))


def _growth_of_each(args, config, blocks: int) -> Tuple[int, ...]:
    """Return the growth rate of each block: a single one is that of all blocks."""
    growth = args.growth_rate or config.growth_rate
    is_one = len(growth) == 1 if args.growth_rate else len(set(growth)) == 1
    return growth[:1] * blocks if is_one else growth
