"""The command line of both launchers: flags in, one :class:`Settings` out.

TensorFlow, which takes seconds to start, is not imported, so that a mistake is reported at once.
"""

import argparse
import dataclasses
import os
import textwrap
from typing import Any, Dict, List, Optional, Sequence, Tuple

from common.cli import (
    Parser,
    device_ids,
    directory_name,
    int_at_least,
    milestones,
    not_negative,
    positive,
)
from common.flags import add_data_flags, add_network_flags, recipe_from
from platforms import npu_options
from platforms.npu_options import NpuSettings
from run_directory.record import read_settings, run_directory_of
from run_directory.settings import FLOAT32, FUSED, KERNELS, MAX_SEED, MIXED, PRECISIONS, Settings
from sparsenet.costs import parameters
from sparsenet.errors import UserError
from sparsenet.published import DEFAULT_RECIPE, PUBLISHED, RECIPES
from sparsenet.recipes import AUGMENTATIONS, LR_SCHEDULES, Recipe

# The flags that are accepted with --resume; all else stays as it was.
RESUMABLE = (
    "resume", "dataset_dir", "no_verify", "gpu", "recompute", "max_epoch", "data_url", "train_url",
)  # fmt: skip


def parse(argv: Sequence[str]) -> Optional[Settings]:
    """Return the settings that flags ask for; None if they only asked for the recipes."""
    return settings_from(training_parser().parse_args(argv))


def parse_npu(argv: Sequence[str]) -> Optional[Tuple[Settings, NpuSettings]]:
    """Return the settings of a run and of the NPU; None if flags only asked for the recipes."""
    parser = training_parser()
    names = npu_options.add_flags(parser)
    args = parser.parse_args(argv)
    own = argparse.Namespace(**{name: vars(args).pop(name) for name in names})
    if args.gpu is not None:
        raise UserError(
            "--gpu {}; accepted: nothing, ASCEND_DEVICE_ID names the NPU".format(
                ",".join(map(str, args.gpu)) or "none"
            )
        )
    refuse_kernels(args.kernels, "main_gpu.py")
    if args.precision is not None:
        raise UserError(
            "--precision {}; accepted: with main_gpu.py; an NPU has --precision_mode".format(
                args.precision
            )
        )
    settings = settings_from(args)
    if settings is None:
        return None
    start = npu_options.NEW_RUN
    if settings.resume is not None:
        start = npu_options.recorded(settings.resume)
    return settings, npu_options.npu_settings(own, start, os.path.abspath(settings.log_dir))


def refuse_kernels(asked: Optional[str], accepted: str) -> None:
    """Raise UserError if --kernels is given where TensorFlow does not compute on the CPU."""
    if asked is not None:
        raise UserError("--kernels {}; accepted: with {} on the CPU only".format(asked, accepted))


def training_parser() -> Parser:
    """Return the parser of the launchers."""
    default = RECIPES[DEFAULT_RECIPE]
    parser = Parser(
        description="Train a SparseNet.",
        epilog="Values in [brackets] are the defaults of {} (Zhu et al. 2018),\n"
        "which --recipe replaces by those of another recipe. Flags override either.\n"
        "Hyphens may stand for underscores.".format(default.name),
    )
    network = parser.add_argument_group("network")
    add_network_flags(network)
    network.add_argument(
        "--list_recipes", action="store_true", help="print the named recipes and exit"
    )
    add_training_data_flags(parser.add_argument_group("data"))
    add_schedule_flags(parser.add_argument_group("schedule"))
    add_run_flags(parser.add_argument_group("run"))
    return parser


def add_training_data_flags(group) -> None:
    """Add the flags of the data, including those that only training has."""
    add_data_flags(group)
    group.add_argument(
        "--augment", choices=AUGMENTATIONS,
        help="standard: random crops, mirrored where that is no other class; crop: not mirrored; "
        "none [standard]",
    )  # fmt: skip
    group.add_argument(
        "--no_extra", action="store_true", help="SVHN: the 73,257 images of train alone"
    )
    group.add_argument("--fake", action="store_true", help="random images, for smoke tests")
    group.add_argument(
        "--subset", type=int_at_least(1), metavar="N",
        help="only the first N images of each set; of images in files, N spread over the set",
    )  # fmt: skip
    group.add_argument(
        "--hold_out", type=int_at_least(1), metavar="N",
        help="test on N of the training images, and train on the others; no test set",
    )  # fmt: skip


def add_schedule_flags(group) -> None:
    """Add --batch_size, --max_epoch and the flags of the learning rate."""
    group.add_argument(
        "--batch_size", type=int_at_least(1), metavar="N", help="images per step, all devices [64]"
    )
    group.add_argument("--max_epoch", type=int_at_least(1), metavar="N", help="epochs [300]")
    group.add_argument(
        "--drop_1", type=int_at_least(1), metavar="E",
        help="learning rate / 10 after epoch E [150]",
    )  # fmt: skip
    group.add_argument(
        "--drop_2", type=int_at_least(1), metavar="E",
        help="learning rate / 100 after epoch E [225]",
    )  # fmt: skip
    group.add_argument(
        "--lr_milestones", type=milestones, metavar="E:F,...",
        help="all drops: times F of the first rate after epoch E; none [150:0.1,225:0.01]",
    )  # fmt: skip
    group.add_argument("--learning_rate", type=positive, metavar="LR", help="the highest one [0.1]")
    group.add_argument(
        "--lr_schedule", choices=LR_SCHEDULES,
        help="drops, or from step to step to 0: cosine, linear [drops]",
    )  # fmt: skip
    group.add_argument(
        "--warm_up", type=not_negative, metavar="E",
        help="epochs in which the learning rate rises first, from a tenth [0]",
    )  # fmt: skip
    group.add_argument("--weight_decay", type=not_negative, metavar="F", help="on kernels [1e-4]")
    group.add_argument(
        "--steps_per_epoch", type=int_at_least(1), metavar="N", help="end each epoch after N steps"
    )


def add_run_flags(group) -> None:
    """Add the flags of seed, devices, checkpoints and run directory."""
    group.add_argument(
        "--seed", type=int_at_least(0, MAX_SEED), metavar="N", help="of weights, order, crops [0]"
    )
    group.add_argument(
        "-g",
        "--gpu",
        type=device_ids,
        metavar="IDS",
        help="GPUs, e.g. 0,1; none: the CPU [the first]",
    )
    group.add_argument(
        "--kernels", choices=KERNELS,
        help="on a CPU: C++ that is compiled once, or TensorFlow's [fused, where they can be]",
    )  # fmt: skip
    group.add_argument(
        "--precision", choices=PRECISIONS,
        help="of the computation; weights, statistics and sums stay float32 [float32]",
    )  # fmt: skip
    group.add_argument("--load", metavar="CHECKPOINT", help="take the weights from it")
    group.add_argument(
        "--new_head", action="store_true",
        help="with --load: all but the classifier's, for other classes",
    )  # fmt: skip
    group.add_argument("--log_dir", metavar="ROOT", help="root of run directories [train_log]")
    group.add_argument(
        "--name", type=directory_name, metavar="NAME", help="of the run directory [automatic]"
    )
    group.add_argument(
        "--histograms", action="store_true", help="of the weights, in the events for TensorBoard"
    )
    group.add_argument(
        "--recompute", action="store_true",
        help="train with less memory: concatenations, BN and ReLU once more for the gradients",
    )  # fmt: skip
    group.add_argument("--resume", metavar="RUN_DIR", help="resume that run, with its settings")
    group.add_argument("--data_url", metavar="URL", help="passed by ModelArts; no effect")
    group.add_argument("--train_url", metavar="URL", help="passed by ModelArts; no effect")


def settings_from(args) -> Optional[Settings]:
    """Return the settings that parsed flags ask for; None if they only asked for the recipes."""
    if args.list_recipes:
        print("\n".join(recipe_lines()))
        return None
    if args.resume is not None:
        return _resume_settings(args)
    if args.new_head and args.load is None:
        raise UserError("--new_head; accepted: with --load CHECKPOINT only")
    if args.kernels == FUSED and args.precision in MIXED:
        raise UserError(
            "--kernels {}; accepted: with --precision {} only".format(args.kernels, FLOAT32)
        )
    recipe = recipe_from(args)
    if args.no_extra and recipe.dataset != "svhn":
        raise UserError("--no_extra; accepted: with --dataset svhn only")
    settings = Settings(
        recipe,
        dataset_dir=None if args.fake or recipe.dataset == "digits" else args.dataset_dir,
        verify=not args.no_verify,
        fake=args.fake,
        extra=not args.no_extra,
        subset=args.subset,
        hold_out=args.hold_out,
        steps_per_epoch=args.steps_per_epoch,
        gpus=args.gpu,
        kernels=args.kernels,
        precision=args.precision,
        load=args.load,
        new_head=args.new_head,
        histograms=args.histograms,
        recompute=args.recompute,
        name=args.name,
        data_url=args.data_url,
        train_url=args.train_url,
    )
    given = {k: getattr(args, k) for k in ("seed", "log_dir") if getattr(args, k) is not None}
    return dataclasses.replace(settings, **given)


def _resume_settings(args) -> Settings:
    """Return the settings of the run that --resume names, with the changes that flags ask for."""
    for flag, value in sorted(vars(args).items()):
        if flag not in RESUMABLE and value is not None and value is not False:
            raise UserError(
                "--{} can't be changed with --resume; accepted beside it: {}".format(
                    flag, ", ".join("--" + name for name in RESUMABLE[1:])
                )
            )
    directory = run_directory_of(args.resume)
    settings = read_settings(directory)
    changes: Dict[str, Any] = {"resume": directory}
    if args.gpu is not None:
        changes["gpus"] = args.gpu
    if args.dataset_dir is not None:
        changes["dataset_dir"] = args.dataset_dir
    if args.no_verify:
        changes["verify"] = False
    if args.recompute:
        changes["recompute"] = True
    if args.max_epoch is not None:
        refuse_another_end(settings.recipe, args.max_epoch)
        changes["recipe"] = dataclasses.replace(settings.recipe, epochs=args.max_epoch)
    return dataclasses.replace(settings, **changes)


def refuse_another_end(recipe: Recipe, epochs: int) -> None:
    """Raise UserError if a run is to end otherwise than its schedule, which the end is part of."""
    if recipe.lr_schedule != "drops" and epochs != recipe.epochs:
        raise UserError(
            "--max_epoch {} with --resume; accepted: {}, where the run's lr_schedule, {}, "
            "ends".format(epochs, recipe.epochs, recipe.lr_schedule)
        )


def recipe_lines() -> List[str]:
    """Return the named recipes as tables of at most 80 columns, under what they are."""
    groups: Dict[str, List[str]] = {}
    form = "  {:<26} {:<8} {:>6} {:>11}  {}"
    for recipe in RECIPES.values():
        line = form.format(
            recipe.name,
            recipe.dataset,
            recipe.epochs,
            "{:,}".format(parameters(recipe.config)),
            "-".join(map(str, recipe.config.layers)),
        )
        groups.setdefault(kind_of(recipe), []).append(line)
    lines = [form.format("recipe", "data", "epochs", "parameters", "layers of each block")]
    for kind, rows in groups.items():
        lines += ["", *textwrap.wrap(kind, 80), *rows]
    return lines


def kind_of(recipe: Recipe) -> str:
    """Return in words what the network of a recipe is, and where it is published."""
    config, words = recipe.config, []
    if config.is_residual:
        words.append({"dense": "ResNet", "sparse": "sparse sums of residual units"}[config.fetch])
    else:
        words.append(FETCHED[config.fetch])
        words.append("bottlenecks" if config.unit == "bottleneck" else "3x3 convolutions")
    if config.compression < 1:
        words.append("compression {:g}".format(config.compression))
    if config.attention != "none":
        words.append("attention " + config.attention)
    if config.stem == "imagenet":
        words.append("head " + config.head)
    if config.stem_channels is not None or config.stem == "cifar_narrow":
        words.append("conv0 as there")
    return "{} ({})".format(", ".join(words), PUBLISHED[recipe.name].network_source)


# What a layer reads, in a few words.
FETCHED = {
    "sparse": "sparse: outputs 1, 2, 4, ... back",
    "dense": "dense: all outputs",
    "plain": "plain: the last output",
    "nearest_farthest": "the nearest and the farthest outputs",
    "channel_window": "a window of channels",
}
