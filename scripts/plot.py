"""Draw pictures: skip connections, parameters against error, growth with depth, training curves.

python scripts/plot.py connections densenet-40-12 sparsenet-40-24 liu-zeng-basic-v1 -o FILE.png
python scripts/plot.py connections --depth 40 --growth_rate 12 --base 3 -o FILE.png
python scripts/plot.py efficiency -o FILE.png
python scripts/plot.py growth -o FILE.png
python scripts/plot.py curves RUN_DIR... -o FILE.png
"""

import _checkout  # noqa: F401, I001
import dataclasses
import math
import os
import sys
from typing import Any, Dict, List, NamedTuple

from common.cli import Parser, new_file
from common.flags import add_network_flags, network_flags, recipe_from
from common.figures import new_figure, plain_logarithmic, save
from run_directory.curves import names_of_runs, plot_curves
from sparsenet.errors import UserError, exit_code_of
from label_placement import Label, place_labels
from sparsenet.costs import skip_connections, gradient_paths, parameters
from sparsenet.published import PUBLISHED, QUOTED, RECIPES, Published
from sparsenet.recipes import CLASSES, Recipe
from run_directory.table import find_table, read_rows
from run_directory.record import RECORD, hold_out_of, read_record
from run_directory.schema import required
from sparsenet.config import SparseNetConfig
from sparsenet.plan import blocks


# Skip connections ------------------------------------------------------------------------------

READ, BLOCK_OUTPUT = "C0", "C1"


def networks_of(args) -> List[Recipe]:
    """Return the named recipes, and the network that flags describe if there are any."""
    recipes = [RECIPES[name] for name in args.recipes]
    flags = network_flags(args)
    if recipes and args.layers and len(args.layers) > 1:
        raise UserError(
            "--layers {}; accepted: one number, for a block of each RECIPE".format(
                ",".join(map(str, args.layers))
            )
        )
    if not recipes and not flags:
        raise UserError("RECIPE is missing; accepted: names of recipes, or network flags")
    if not recipes or flags not in ([], ["layers"]):
        recipes.append(recipe_from(args))
    return recipes


def plot_connections(recipes, layers, as_matrix, path) -> None:
    """Draw which outputs the layers read in one block of each recipe, side by side."""
    handles = legend_of_matrix() if as_matrix else legend_of_arcs()
    columns = min(len(recipes), len(handles))
    legend_height = 0.1 + 0.18 * math.ceil(len(handles) / columns)
    height = (4.5 if as_matrix else 3.1) + legend_height
    figure, axes = new_figure(1, len(recipes), width=4.2 * len(recipes), height=height)
    for panel, recipe in zip(axes[0], recipes):
        config = recipe.config
        count = layers or config.layers[0]
        one = dataclasses.replace(
            config, layers=(count,), growth_rate=config.growth_rate[:1], stem="cifar", head="gap"
        )
        (draw_matrix if as_matrix else draw_arcs)(panel, readings(one), count)
        panel.set_title(
            "{}\n{:,} skip connections, longest path {}".format(
                block_title(recipe, count), skip_connections(one), gradient_paths(one).longest
            ),
            fontsize=10,
        )
    figure.legend(handles=handles, loc="lower center", ncol=columns, fontsize=8, frameon=False)
    save(figure, path, bottom=legend_height / height)


def readings(config: SparseNetConfig):
    """Return the pairs (output, reader) of the one block of a network, sorted.

    Reader N + 1 stands for what the block passes on.
    """
    (block,) = blocks(config)
    read = [layer.reads for layer in block.layers] + [block.block_output]
    return sorted({(s.output, reader) for reader, slices in enumerate(read, 1) for s in slices})


def block_title(recipe: Recipe, count: int) -> str:
    """Return the title of a block's picture.

    It names the recipe's depth only if the whole block of that recipe is drawn.
    """
    if count == recipe.config.layers[0]:
        return "{}, block 1: {} layers".format(recipe.name, count)
    words = recipe.name.split("-")
    kind = "-".join(word for word in words if not any(c.isdigit() for c in word))
    return "{}, a block of {} layers".format(kind, count)


def draw_arcs(axes, pairs, count) -> None:
    """Draw outputs on a line and an arc for each reading; what is passed on goes to the square."""
    from matplotlib.patches import Arc

    for source, reader in pairs:
        span = reader - source
        color = BLOCK_OUTPUT if reader == count + 1 else READ
        axes.add_patch(
            Arc(((source + reader) / 2, 0), span, span, theta1=0, theta2=180, lw=0.9,
                color=color, alpha=0.75)
        )  # fmt: skip
    axes.plot(range(count + 1), [0] * (count + 1), "o", ms=4, color="0.15", zorder=3)
    axes.plot([count + 1], [0], "s", ms=6, color=BLOCK_OUTPUT, zorder=3)
    axes.set_xlim(-0.8, count + 1.8)
    axes.set_ylim(-0.06 * count, (count + 1) / 2 + 0.6)
    axes.set_aspect("equal")
    axes.set_yticks([])
    axes.set_xticks(whole_ticks(0, count))
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def legend_of_arcs():
    """Return the legend of arcs, dots and the square."""
    from matplotlib.lines import Line2D

    return [
        Line2D(
            [], [], ls="", marker="o", color="0.15", label="output of a layer; 0: the block's input"
        ),
        Line2D([], [], color=READ, label="read by a layer: a skip connection"),
        Line2D(
            [],
            [],
            color=BLOCK_OUTPUT,
            marker="s",
            label="passed on (not counted as skip connections)",
        ),
    ]


def draw_matrix(axes, pairs, count) -> None:
    """Draw readers downwards and outputs to the right; a filled square is a reading."""
    from matplotlib.colors import ListedColormap

    filled = [[0] * (count + 1) for _ in range(count + 1)]
    for source, reader in pairs:
        filled[reader - 1][source] = 2 if reader == count + 1 else 1
    colors = ListedColormap(["white", READ, BLOCK_OUTPUT])
    edges = (-0.5, count + 0.5, count + 1.5, 0.5)
    axes.imshow(filled, cmap=colors, vmin=0, vmax=2, aspect="auto", extent=edges,
                interpolation="nearest")  # fmt: skip
    axes.set_xticks(whole_ticks(0, count))
    axes.set_yticks(whole_ticks(1, count))
    axes.set_xlabel("output (0: the block's input)")
    axes.set_ylabel("layer")


def legend_of_matrix():
    """Return the legend of the colours."""
    from matplotlib.patches import Patch

    return [
        Patch(color=READ, label="read by a layer: a skip connection"),
        Patch(color=BLOCK_OUTPUT, label="passed on (not counted as skip connections)"),
    ]


def whole_ticks(first: int, last: int):
    """Return some whole numbers from `first` to `last`, far enough apart to be read."""
    from matplotlib.ticker import MaxNLocator

    ticks = MaxNLocator(6, integer=True).tick_values(first, last)
    return [int(tick) for tick in ticks if first <= tick <= last]


# Parameters against published error ---------------------------------------------------------------

FAMILIES = [  # title, prefix of the recipes' names, colour
    ("SparseNet", "sparsenet-", "C0"),
    ("DenseNet", "densenet-", "C1"),
    ("ResNet", "resnet-", "C2"),
    ("SparseNet 100-24 of Ascend's ModelZoo", "ascend", "C3"),
]
QUOTED_FAMILY = ("quoted, parameters as printed", "0.4")
PANELS = [  # errors of, data set, title
    ("c10+", "c10", "CIFAR-10, augmented"),
    ("c100+", "c100", "CIFAR-100, augmented"),
    ("c10", "c10", "CIFAR-10, not augmented"),
    ("imagenet", "imagenet", "ImageNet, top-1"),
]


LEGEND_SHARE = 0.035  # fraction of the picture's height, below the panels


class Point(NamedTuple):
    """A published error, at the number of parameters of its network."""

    millions: float
    error: float
    label: str


def points_by_family(data: str, dataset: str):
    """Return (title, colour, points) of each family of networks with published errors on `data`.

    The parameters are those with the number of classes of `dataset`.
    """
    families = []
    for title, start, color in FAMILIES:
        points = [
            Point(parameters_on(recipe, dataset), error, label_of(recipe.name[len(start) :], kind))
            for recipe in RECIPES.values()
            if recipe.name.startswith(start)
            for kind, error in errors_on(data, PUBLISHED[recipe.name])
        ]
        families.append((title, color, points))
    quoted = [
        Point(float(published.parameters[:-1]), error, label_of(name, kind))
        for name, published in QUOTED.items()
        for kind, error in errors_on(data, published)
    ]
    return [family for family in families + [QUOTED_FAMILY + (quoted,)] if family[2]]


def errors_on(data: str, published: Published):
    """Return (kind, error) of the published errors on `data`, in percent.

    `c10+ later` is of kind `later`.
    """
    return [(error.kind, error.percent) for error in published.errors if error.data == data]


def label_of(name: str, kind: str) -> str:
    """Return the name of a network, and the kind of the error if it has several."""
    return (name + " " + kind).strip()


def parameters_on(recipe: Recipe, dataset: str) -> float:
    """Return the millions of parameters with the classifier of a data set."""
    return parameters(dataclasses.replace(recipe.config, classes=CLASSES[dataset])) / 1e6


def efficiency_figure():
    """Return the papers' efficiency figure: parameters counted here, published errors."""
    figure, axes = new_figure(2, 2, width=14, height=11)
    labels: Dict[Any, List[Label]] = {}  # by panel
    handles = {}
    for panel, (data, dataset, title) in zip(axes.flat, PANELS):
        labels[panel] = []
        for family, color, points in points_by_family(data, dataset):
            xs, ys = [p.millions for p in points], [p.error for p in points]
            (handles[family],) = panel.plot(xs, ys, "o", color=color, ms=5)
            labels[panel] += [Label(p.millions, p.error, p.label, color) for p in points]
        panel.set_xscale("log")
        panel.margins(x=0.15, y=0.08)
        plain_logarithmic(panel.xaxis)
        panel.set_xlabel("parameters (millions), {:,} classes".format(CLASSES[dataset]))
        panel.set_ylabel("published error (%)")
        panel.set_title(title)
        panel.grid(True, which="both", alpha=0.25)
    figure.legend(handles.values(), handles, loc="lower center", ncol=len(handles), frameon=False)
    figure.tight_layout(rect=(0, LEGEND_SHARE, 1, 1))  # from here on the axes do not move
    for panel, of_panel in labels.items():
        place_labels(panel, of_panel, size=8)
    return figure


# Growth with depth -----------------------------------------------------------------------------


def plot_growth(path) -> None:
    """Draw what one block costs against its layers: skip connections, parameters, paths."""
    depths = [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    figure, axes = new_figure(1, 3, width=14, height=4.4)
    for fetch, color in (("dense", "C1"), ("sparse", "C0"), ("plain", "C7")):
        networks = [SparseNetConfig((n,), (12,), fetch=fetch) for n in depths]
        for panel, cost in zip(
            axes[0], (skip_connections, parameters, lambda c: gradient_paths(c).longest)
        ):
            panel.plot(depths, [cost(n) for n in networks], "o-", ms=3, color=color, label=fetch)
    axes[0][0].plot(depths, [n * n / 2 for n in depths], ":", color="C1", label="N² / 2")
    axes[0][0].plot(depths, [n * math.log2(n) for n in depths], ":", color="C0", label="N log₂ N")
    axes[0][2].plot(depths, [math.log2(n) for n in depths], ":", color="C0", label="log₂ N")
    titles = (
        "skip connections of a block", "parameters (k = 12)", "longest gradient path (steps)",
    )  # fmt: skip
    for panel, title in zip(axes[0], titles):
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(depths[::3])
        panel.set_xticklabels(depths[::3])
        panel.minorticks_off()
        plain_logarithmic(panel.yaxis)
        panel.set_xlabel("layers N of the block")
        panel.set_title(title)
        panel.grid(True, which="both", alpha=0.25)
        panel.legend()
    save(figure, path)


# Training curves -------------------------------------------------------------------------------


def plot_runs(directories, path) -> None:
    """Draw the curves of run directories, one colour each; UserError if one has no epoch."""
    runs, held_out = {}, []
    directories = list({os.path.realpath(each): each for each in directories}.values())
    for directory, name in zip(directories, names_of_runs(directories)):
        rows = read_rows(find_table(directory))
        if not rows:
            raise UserError("{} holds no finished epoch".format(directory))
        runs[name] = rows
        is_recorded = os.path.isfile(os.path.join(directory, RECORD))
        if is_recorded and hold_out_of(read_record(directory)) is not None:
            held_out.append(name)
    record, source = read_record(directories[0]), os.path.join(directories[0], RECORD)
    names = [required(record, "recipe." + field, source) for field in ("name", "dataset")]
    plot_curves(runs, " on ".join(names), path, held_out)


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(description="Pictures of networks and runs.")
    kinds = parser.add_subparsers(dest="kind", metavar="KIND")
    kind = kinds.add_parser("connections", help="which outputs layers read, in a block")
    kind.add_argument("recipes", nargs="*", choices=list(RECIPES), metavar="RECIPE")
    kind.set_defaults(dataset=None)
    add_network_flags(kind.add_argument_group("another network, or --layers N of each block"))
    kind.add_argument("--matrix", action="store_true", help="draw a matrix in place of arcs")
    kinds.add_parser("efficiency", help="parameters against published error")
    kinds.add_parser("growth", help="skip connections, parameters and paths against depth")
    kind = kinds.add_parser("curves", help="loss and error of runs, by epoch")
    kind.add_argument("runs", nargs="+", metavar="RUN_DIR")
    for each in kinds.choices.values():
        each.add_argument(
            "-o", "--out", type=new_file(".png", ".svg"), required=True, metavar="FILE"
        )
    return parser


def main() -> None:
    args = parser().parse_args()
    if args.kind is None:
        raise UserError("KIND is missing; accepted: connections, efficiency, growth, curves")
    if args.kind == "connections":
        layers = args.layers[0] if args.layers else None
        plot_connections(networks_of(args), layers, args.matrix, args.out)
    elif args.kind == "efficiency":
        save(efficiency_figure(), args.out, bottom=LEGEND_SHARE)
    elif args.kind == "growth":
        plot_growth(args.out)
    else:
        plot_runs(args.runs, args.out)
    print(args.out)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
