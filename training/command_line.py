"""The command line of both launchers: flags in, one :class:`Settings` out.

Only the standard library and the recipes are imported, so that a mistake is told before
TensorFlow takes its seconds to start.
"""

import argparse
import dataclasses
import os
import sys
from typing import Callable, List, Optional, Sequence, Tuple

from run_directory.record import read_settings
from run_directory.settings import MAX_SEED, Settings
from sparsenet import recipes
from sparsenet.config import ATTENTIONS, COMBINES, FETCHES, HEADS
from sparsenet.costs import parameters
from sparsenet.errors import UserError
from sparsenet.recipes import CLASSES, DEFAULT_RECIPE, NORMALIZATIONS, RECIPES, Recipe


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and whose flags take `-` for `_`."""

    def __init__(self, *args, **kwargs):
        super().__init__(
            *args,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        args = [part for arg in args for part in self._separated(_underscored(arg))]
        return super().parse_known_args(args, namespace)

    def _separated(self, argument: str) -> List[str]:
        """`-d40` -> `-d 40`: Python 3.7 can't read the two in one where it may not abbreviate."""
        flags = sorted(self._option_string_actions, key=len, reverse=True)
        short = [flag for flag in flags if not flag.startswith("--") and argument.startswith(flag)]
        if not short or argument.partition("=")[0] in flags:
            return [argument]
        return [short[0], argument[len(short[0]) :]]

    def error(self, message):
        raise UserError("{} (see --help)".format(message))


def _underscored(argument: str) -> str:
    """`--batch-size=64` -> `--batch_size=64`: the originals spell some flags one way, some both."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


# What a flag's value may be --------------------------------------------------------------------


def whole(minimum: int, maximum: Optional[int] = None) -> Callable[[str], int]:
    """A whole number from `minimum` to `maximum`."""
    accepted = "a whole number of at least {}".format(minimum)
    if maximum is not None:
        accepted = "a whole number from {} to {}".format(minimum, maximum)

    def convert(text):
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise argparse.ArgumentTypeError("{!r}; accepted: {}".format(text, accepted))
        return number

    return convert


def number(accepted: str, test: Callable[[float], bool]) -> Callable[[str], float]:
    """A number that passes `test`; `accepted` says in words which ones do."""

    def convert(text):
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not test(value):
            raise argparse.ArgumentTypeError("{!r}; accepted: {}".format(text, accepted))
        return value

    return convert


def whole_numbers(minimum: int) -> Callable[[str], Tuple[int, ...]]:
    """Whole numbers separated by commas."""

    def convert(text):
        try:
            numbers = tuple(int(part) for part in text.split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < minimum:
            raise argparse.ArgumentTypeError(
                "{!r}; accepted: whole numbers of at least {}, separated by commas".format(
                    text, minimum
                )
            )
        return numbers

    return convert


def device_ids(text: str) -> Tuple[int, ...]:
    """Different whole numbers separated by commas."""
    ids = whole_numbers(0)(text)
    if len(set(ids)) < len(ids):
        raise argparse.ArgumentTypeError("{!r}; accepted: each device once".format(text))
    return ids


def directory_name(text: str) -> str:
    """The name of a directory, not a path."""
    if text in ("", ".", "..") or os.path.basename(text) != text or len(os.fsencode(text)) > 200:
        raise argparse.ArgumentTypeError(
            "{!r}; accepted: a name without a path, of at most 200 bytes".format(text)
        )
    return text


def new_file(*endings: str) -> Callable[[str], str]:
    """A path to write to: in a folder that exists, with one of `endings` if any are given."""

    def convert(text):
        if endings and not text.endswith(endings):
            accepted = " or ".join(endings)
            raise argparse.ArgumentTypeError(
                "{!r}; accepted: a name that ends in {}".format(text, accepted)
            )
        if not os.path.isdir(os.path.dirname(os.path.abspath(text))):
            raise argparse.ArgumentTypeError("{!r}: its folder does not exist".format(text))
        if os.path.isdir(text):
            raise argparse.ArgumentTypeError("{!r}; accepted: the name of a file".format(text))
        return text

    return convert


share = number("at least 0 and below 1", lambda value: 0 <= value < 1)
compression = number("0 or 1 for none, or a share between", lambda value: 0 <= value <= 1)
LARGEST = 1e38  # what float32 holds
positive = number("a number above 0, below 1e38", lambda value: 0 < value < LARGEST)
not_negative = number("a number from 0 to 1e38", lambda value: 0 <= value < LARGEST)


# Flags -----------------------------------------------------------------------------------------


def data_parser(description: str) -> Parser:
    """A parser that knows where data are found."""
    parser = Parser(description=description)
    add_data_flags(parser, default="c10")
    return parser


def add_data_flags(parser, default: Optional[str] = None) -> None:
    """--dataset, --dataset_dir, --no_verify."""
    parser.add_argument("--dataset", choices=list(CLASSES), default=default, help="the data set")
    parser.add_argument(
        "--dataset_dir", metavar="DIR", help="folder of its files or of its official archive"
    )
    parser.add_argument(
        "--no_verify", action="store_true", help="accept files whose MD5 is not the official one"
    )


def add_network_flags(parser) -> None:
    """--recipe and the flags that override the network it names."""
    parser.add_argument(
        "--recipe", choices=list(RECIPES), metavar="NAME", help="start from this named recipe"
    )
    parser.add_argument(
        "-d", "--depth", type=whole(1), metavar="L", help="depth, as the papers count it [100]"
    )
    parser.add_argument(
        "-gr", "--growth_rate", type=whole_numbers(1), metavar="K",
        help="channels of a layer; one number, or one per block: 16,32,64 [24]",
    )  # fmt: skip
    parser.add_argument(
        "--layers", type=whole_numbers(1), metavar="N",
        help="layers of each block, 8,12,16; in place of a depth",
    )  # fmt: skip
    parser.add_argument(
        "--fetch", choices=FETCHES, metavar="RULE",
        help="which outputs a layer reads: {} [sparse]".format(", ".join(FETCHES)),
    )  # fmt: skip
    parser.add_argument(
        "--base", type=whole(2), metavar="C", help="offsets 1, C, C^2, ... of sparse [2]"
    )
    parser.add_argument(
        "--nearest", type=whole(0), metavar="N", help="outputs of nearest_farthest, near [7]"
    )
    parser.add_argument(
        "--farthest", type=whole(0), metavar="N", help="outputs of nearest_farthest, far [7]"
    )
    parser.add_argument("--combine", choices=COMBINES, help="what is done with them [concat]")
    parser.add_argument(
        "--bottleneck", type=whole(0, 1), metavar="0|1", help="1x1 convolution (4k) first [0]"
    )
    parser.add_argument(
        "--compression", type=compression, metavar="F",
        help="share of channels that a transition keeps; 0 or 1: all [1]",
    )  # fmt: skip
    parser.add_argument(
        "--dropout", type=share, metavar="F", help="share dropped after each convolution [0]"
    )
    parser.add_argument("--attention", choices=ATTENTIONS, help="on a layer's output [none]")
    parser.add_argument(
        "--stem_channels", type=whole(1), metavar="N", help="channels of conv0 [2k]"
    )
    parser.add_argument("--head", choices=HEADS, help="map3x3 is for ImageNet [gap]")
    parser.add_argument(
        "--normalize", choices=NORMALIZATIONS,
        help="channel: colours' mean and deviation; pixel_mean: mean image, as the original "
        "codes do; official, ascend: theirs; unit: / 255 [channel]",
    )  # fmt: skip


def training_parser() -> Parser:
    """The parser of the launchers."""
    default = RECIPES[DEFAULT_RECIPE]
    parser = Parser(
        description="Train a SparseNet.",
        epilog="Values in [brackets] are the defaults of {} (Zhu et al. 2018),\n"
        "which --recipe replaces by those of another row. Flags override either.\n"
        "Hyphens may stand for underscores.".format(default.name),
    )
    network = parser.add_argument_group("network")
    add_network_flags(network)
    network.add_argument(
        "--list_recipes", action="store_true", help="print the named recipes and exit"
    )

    data = parser.add_argument_group("data")
    add_data_flags(data)
    data.add_argument("--fake", action="store_true", help="random images, for smoke tests")
    data.add_argument(
        "--subset",
        type=whole(1),
        metavar="N",
        help="only the first N images of each set (of ImageNet: spread over it)",
    )

    schedule = parser.add_argument_group("schedule")
    schedule.add_argument(
        "--batch_size", type=whole(1), metavar="N", help="images per step, all devices [64]"
    )
    schedule.add_argument("--max_epoch", type=whole(1), metavar="N", help="epochs [300]")
    schedule.add_argument(
        "--drop_1", type=whole(1), metavar="E", help="learning rate / 10 after epoch E [150]"
    )
    schedule.add_argument(
        "--drop_2", type=whole(1), metavar="E", help="learning rate / 100 after epoch E [225]"
    )
    schedule.add_argument(
        "--learning_rate", type=positive, metavar="LR", help="of the first epoch [0.1]"
    )
    schedule.add_argument(
        "--weight_decay", type=not_negative, metavar="F", help="on kernels [1e-4]"
    )
    schedule.add_argument(
        "--steps_per_epoch", type=whole(1), metavar="N", help="end each epoch after N steps"
    )

    run = parser.add_argument_group("run")
    run.add_argument(
        "--seed", type=whole(0, MAX_SEED), metavar="N", help="of weights, order, crops [0]"
    )
    run.add_argument(
        "-g", "--gpu", type=device_ids, metavar="IDS", help="GPUs, e.g. 0,1 [the first]"
    )
    run.add_argument("--load", metavar="CHECKPOINT", help="take the weights from there")
    run.add_argument("--log_dir", metavar="ROOT", help="root of run directories [train_log]")
    run.add_argument(
        "--name", type=directory_name, metavar="NAME", help="of the run directory [automatic]"
    )
    run.add_argument("--resume", metavar="RUN_DIR", help="continue that run, settings and all")
    run.add_argument("--data_url", metavar="URL", help="passed by ModelArts; no effect")
    run.add_argument("--train_url", metavar="URL", help="passed by ModelArts; no effect")
    return parser


def parse(argv: Sequence[str]) -> Optional[Settings]:
    """The settings that the command line asks for; None where it only asked for the recipes."""
    return settings_from(training_parser().parse_args(argv))


def settings_from(args) -> Optional[Settings]:
    """The settings that parsed flags ask for; None where they only asked for the recipes."""
    if args.list_recipes:
        print("\n".join(recipe_lines()))
        return None
    if args.resume is not None:
        return _resumed(args)
    recipe = recipe_from(args)
    settings = Settings(
        recipe,
        dataset_dir=None if args.fake or recipe.dataset == "digits" else args.dataset_dir,
        verify=not args.no_verify,
        fake=args.fake,
        subset=args.subset,
        steps_per_epoch=args.steps_per_epoch,
        gpus=args.gpu,
        load=args.load,
        name=args.name,
        data_url=args.data_url,
        train_url=args.train_url,
    )
    given = {k: getattr(args, k) for k in ("seed", "log_dir") if getattr(args, k) is not None}
    return dataclasses.replace(settings, **given)


# These ask for what is there anyway; the original's command lines have the first.
WITHOUT_EFFECT = [("compression", 0.0), ("compression", 1.0), ("head", "gap")]
RESUMABLE = ("resume", "dataset_dir", "no_verify", "gpu", "max_epoch", "data_url", "train_url")


def _resumed(args) -> Settings:
    """The settings of the run that --resume names, and the few that may differ this time."""
    for flag, value in sorted(vars(args).items()):
        if flag not in RESUMABLE and value is not None and value is not False:
            raise UserError(
                "--{} can't be changed with --resume; accepted beside it: {}".format(
                    flag, ", ".join("--" + name for name in RESUMABLE[1:])
                )
            )
    settings = read_settings(args.resume)
    changes = {"resume": args.resume}
    if args.gpu is not None:
        changes["gpus"] = args.gpu
    if args.dataset_dir is not None:
        changes["dataset_dir"] = args.dataset_dir
    if args.no_verify:
        changes["verify"] = False
    if args.max_epoch is not None:
        changes["recipe"] = dataclasses.replace(settings.recipe, epochs=args.max_epoch)
    return dataclasses.replace(settings, **changes)


# From flags to a recipe ------------------------------------------------------------------------


def recipe_from(args) -> Recipe:
    """The named recipe (or the paper's) with what the flags override, checked."""
    recipe = RECIPES[args.recipe or DEFAULT_RECIPE]
    changes = {
        "dataset": args.dataset,
        "normalize": args.normalize,
        "batch_size": getattr(args, "batch_size", None),
        "epochs": getattr(args, "max_epoch", None),
        "learning_rate": getattr(args, "learning_rate", None),
        "weight_decay": getattr(args, "weight_decay", None),
        "drops": _drops(recipe, getattr(args, "drop_1", None), getattr(args, "drop_2", None)),
    }
    recipe = dataclasses.replace(recipe, **_given(changes))
    config = _config_from(args, recipe)
    if config != dataclasses.replace(recipe.config, classes=config.classes):
        recipe = dataclasses.replace(recipe, name=recipes.network_name(recipe, config))
    recipe = dataclasses.replace(recipe, config=config)
    recipes.check(recipe)
    return recipe


def _given(changes: dict) -> dict:
    return {key: value for key, value in changes.items() if value is not None}


def _drops(recipe, drop_1, drop_2):
    """The recipe's drops with the epochs of the first two replaced."""
    drops = list(recipe.drops)
    for index, epoch in enumerate((drop_1, drop_2)):
        if epoch is None:
            continue
        if index >= len(drops):
            raise UserError(
                "--drop_{} {}; accepted: nothing, recipe {} has {} drops".format(
                    index + 1, epoch, recipe.name, len(drops)
                )
            )
        drops[index] = (epoch, drops[index][1])
    return tuple(drops)


def _config_from(args, recipe: Recipe):
    """The recipe's network with what the flags override."""
    config = recipe.config
    unit = None
    if args.bottleneck is not None:
        if config.is_residual:
            raise UserError(
                "--bottleneck {}; accepted: nothing, recipe {} has units of its own".format(
                    args.bottleneck, recipe.name
                )
            )
        unit = "bottleneck" if args.bottleneck else "single"
    changes = _given(
        {
            "layers": args.layers,
            "growth_rate": _growth_of_each(args.growth_rate or config.growth_rate,
                                           len(args.layers or config.layers)),
            "unit": unit,
            # The original's 0 means "no compression", and so does 1.
            "compression": None if args.compression is None else args.compression or 1.0,
            "classes": CLASSES[recipe.dataset],
        }
    )  # fmt: skip
    for field in ("fetch", "base", "nearest", "farthest", "combine", "dropout", "attention",
                  "stem_channels", "head"):  # fmt: skip
        changes.update(_given({field: getattr(args, field)}))
    changed = dataclasses.replace(config, **changes)
    refuse_without_effect(args, changed)
    if args.layers is not None or (args.depth is None and changed.unit == config.unit):
        if args.depth is not None:
            raise UserError("--depth {}; accepted: nothing beside --layers".format(args.depth))
        return changed
    if recipe.depth_rule is None:
        if args.depth is None:
            return changed
        raise UserError(
            "--depth {}; accepted: nothing, recipe {} lists its layers (--layers)".format(
                args.depth, recipe.name
            )
        )
    depth = recipe.depth_rule.depth(config) if args.depth is None else args.depth
    return dataclasses.replace(changed, layers=recipe.depth_rule.layers(depth, changed))


def refuse_without_effect(args, config) -> None:
    """Raise UserError for a flag that means nothing to the network it is given for."""
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


def _growth_of_each(growth: Tuple[int, ...], blocks: int) -> Tuple[int, ...]:
    """One growth rate for all blocks is that of each."""
    return growth[:1] * blocks if len(set(growth)) == 1 else growth


def recipe_lines() -> List[str]:
    """The named recipes as a table of at most 80 columns."""
    line = "{:<26} {:<8} {:>6} {:>11}  {}"
    lines = [line.format("recipe", "data", "epochs", "parameters", "layers of each block")]
    for recipe in RECIPES.values():
        lines.append(
            line.format(
                recipe.name,
                recipe.dataset,
                recipe.epochs,
                "{:,}".format(parameters(recipe.config)),
                "-".join(map(str, recipe.config.layers)),
            )
        )
    return lines
