"""Pictures: connection patterns, parameters against error, growth with depth, training curves.

python scripts/plot.py connections densenet-40-12 sparsenet-40-24 liu-zeng-basic-v1 -o FILE.png
python scripts/plot.py efficiency -o FILE.png
python scripts/plot.py growth -o FILE.png
python scripts/plot.py curves RUN_DIR... -o FILE.png
"""

import _checkout  # noqa: F401, I001
import dataclasses
import math
import os
import sys

from command_line import Parser, whole
from curves import new_figure, plain_logarithmic, plot_curves, save
from errors import UserError, exit_code_of
from network_costs import connections, gradient_paths, parameters
from recipes import RECIPES
from run_directory import find_table, read_record, read_rows
from sparsenet_config import SparseNetConfig, blocks

FAMILIES = [  # name, start of the recipes' names, colour
    ("SparseNet", "sparsenet-", "C0"),
    ("DenseNet", "densenet-", "C1"),
    ("ResNet", "resnet-", "C2"),
]


# Connection patterns ---------------------------------------------------------------------------


def plot_connections(names, layers, as_matrix, path) -> None:
    """One block of each recipe, side by side: who reads whom."""
    figure, axes = new_figure(1, len(names), width=4.2 * len(names), height=3.6)
    for panel, name in zip(axes[0], names):
        config = RECIPES[name].config
        count = layers or config.layers[0]
        one = dataclasses.replace(config, layers=(count,), growth_rate=config.growth_rate[:1])
        (block,) = blocks(dataclasses.replace(one, stem="cifar", head="gap"))
        edges = [
            (s.output, reader)
            for reader, slices in enumerate(
                [layer.reads for layer in block.layers] + [block.handed_on], start=1
            )
            for s in slices
        ]
        edges = sorted(set(edges))
        (draw_matrix if as_matrix else draw_arcs)(panel, edges, count)
        paths = gradient_paths(one)
        panel.set_title(
            "{}\n{} layers, {} connections, longest path {}".format(
                name, count, connections(one), paths.longest
            ),
            fontsize=10,
        )
    save(figure, path)


def draw_arcs(axes, edges, count) -> None:
    """Outputs on a line, an arc for each reading; what is handed on is read by the square."""
    from matplotlib.patches import Arc

    for source, reader in edges:
        span = reader - source
        handed_on = reader == count + 1
        axes.add_patch(
            Arc(((source + reader) / 2, 0), span, span, theta1=0, theta2=180, lw=0.9,
                color="C1" if handed_on else "C0", alpha=0.75)
        )  # fmt: skip
    axes.plot(range(count + 1), [0] * (count + 1), "o", ms=4, color="0.15", zorder=3)
    axes.plot([count + 1], [0], "s", ms=6, color="C1", zorder=3)
    axes.set_xlim(-0.8, count + 1.8)
    axes.set_ylim(-0.06 * count, (count + 1) / 2 + 0.6)
    axes.set_aspect("equal")
    axes.set_yticks([])
    axes.set_xticks([0, count, count + 1])
    axes.set_xticklabels(["in", str(count), "out"], fontsize=8)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def draw_matrix(axes, edges, count) -> None:
    """Readers downwards, outputs to the right; a filled square is a reading."""
    filled = [[0] * (count + 1) for _ in range(count + 1)]
    for source, reader in edges:
        filled[reader - 1][source] = 2 if reader == count + 1 else 1
    axes.imshow(filled, cmap="Blues", vmin=0, vmax=2, interpolation="nearest",
                extent=(-0.5, count + 0.5, count + 1.5, 0.5))  # fmt: skip
    axes.set_xlabel("output (0: the block's input)")
    axes.set_ylabel("read by layer (last: handed on)")


# Parameters against published error ---------------------------------------------------------------


def plot_efficiency(path) -> None:
    """The papers' efficiency figure: parameters here against the errors that were published."""
    figure, axes = new_figure(1, 3, width=15, height=5)
    panels = [("c10+", "CIFAR-10, augmented"), ("c100+", "CIFAR-100, augmented"),
              ("imagenet", "ImageNet, top-1")]  # fmt: skip
    for panel, (data, title) in zip(axes[0], panels):
        for family, start, color in FAMILIES:
            points = sorted(
                (parameters(recipe.config) / 1e6, dict(recipe.published.errors)[data], recipe.name)
                for recipe in RECIPES.values()
                if recipe.name.startswith(start) and data in dict(recipe.published.errors)
            )
            if not points:
                continue
            panel.plot(
                [p[0] for p in points], [p[1] for p in points], "o", color=color, label=family, ms=5
            )
            # SparseNet's labels to the left, the others' to the right: they lie close together.
            left = family == "SparseNet"
            for x, y, name in points:
                panel.annotate(
                    name[len(start) :], (x, y), textcoords="offset points",
                    xytext=(-6 if left else 6, -3), ha="right" if left else "left",
                    fontsize=7, color=color,
                )  # fmt: skip
        panel.set_xscale("log")
        plain_logarithmic(panel.xaxis)
        panel.margins(x=0.2, y=0.08)
        panel.set_xlabel("parameters (millions)")
        panel.set_ylabel("published error (%)")
        panel.set_title(title)
        panel.grid(True, which="both", alpha=0.25)
        panel.legend()
    save(figure, path)


# Growth with depth -----------------------------------------------------------------------------


def plot_growth(path) -> None:
    """Connections, parameters and gradient paths of one block against its number of layers."""
    depths = [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128]
    figure, axes = new_figure(1, 3, width=14, height=4.4)
    for fetch, color in (("dense", "C1"), ("sparse", "C0"), ("plain", "C7")):
        networks = [SparseNetConfig((n,), (12,), fetch=fetch) for n in depths]
        for panel, cost in zip(
            axes[0], (connections, parameters, lambda c: gradient_paths(c).longest)
        ):
            panel.plot(depths, [cost(n) for n in networks], "o-", ms=3, color=color, label=fetch)
    axes[0][0].plot(depths, [n * n / 2 for n in depths], ":", color="C1", label="N² / 2")
    axes[0][0].plot(depths, [n * math.log2(n) for n in depths], ":", color="C0", label="N log₂ N")
    axes[0][2].plot(depths, [math.log2(n) for n in depths], ":", color="C0", label="log₂ N")
    titles = ("connections of a block", "parameters (k = 12)", "longest gradient path (steps)")
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
    """The curves of run directories, one colour each."""
    runs = {}
    for directory in directories:
        rows = read_rows(find_table(directory))
        if not rows:
            raise UserError("{} holds no finished epoch".format(directory))
        runs[os.path.basename(os.path.normpath(directory))] = rows
    record = read_record(directories[0])
    title = "{} on {}".format(record["recipe"]["name"], record["recipe"]["dataset"])
    plot_curves(runs, title, path)


def picture(text: str) -> str:
    """A path that ends in .png or .svg."""
    import argparse

    if not text.endswith((".png", ".svg")):
        raise argparse.ArgumentTypeError("{!r}; accepted: a name in .png or .svg".format(text))
    return text


def parser() -> Parser:
    """The command line."""
    parser = Parser(description="Pictures of networks and runs.")
    kinds = parser.add_subparsers(dest="kind", metavar="KIND")
    kind = kinds.add_parser("connections", help="who reads whom in a block of each recipe")
    kind.add_argument("recipes", nargs="+", choices=list(RECIPES), metavar="RECIPE")
    kind.add_argument("--layers", type=whole(1), metavar="N", help="of the block [the recipe's]")
    kind.add_argument("--matrix", action="store_true", help="a matrix in place of arcs")
    kinds.add_parser("efficiency", help="parameters against published error")
    kinds.add_parser("growth", help="connections, parameters and paths against depth")
    kind = kinds.add_parser("curves", help="loss and error of runs, by epoch")
    kind.add_argument("runs", nargs="+", metavar="RUN_DIR")
    for each in kinds.choices.values():
        each.add_argument("-o", "--out", type=picture, required=True, metavar="FILE")
    return parser


def main() -> None:
    args = parser().parse_args()
    if args.kind is None:
        raise UserError("KIND is missing; accepted: connections, efficiency, growth, curves")
    folder = os.path.dirname(os.path.abspath(args.out))
    if not os.path.isdir(folder):
        raise UserError("--out {}: its folder does not exist".format(args.out))
    if args.kind == "connections":
        plot_connections(args.recipes, args.layers, args.matrix, args.out)
    elif args.kind == "efficiency":
        plot_efficiency(args.out)
    elif args.kind == "growth":
        plot_growth(args.out)
    else:
        plot_runs(args.runs, args.out)
    print(args.out)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
