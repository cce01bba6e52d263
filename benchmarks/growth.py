"""What training costs as networks grow: time, memory and graph, by depth and by growth rate.

A cost that grows as a power of the depth is a line on logarithmic scales; its slope is fitted.
"""

import argparse
import functools
from typing import Dict, Iterator, List, Sequence, Tuple

import numpy as np

from benchmarks.measuring import Arm, Benchmark, Case, in_fresh_process
from benchmarks.training_steps import KINDS, MEGABYTE, Network, depth, measure
from common import figures
from common.cli import int_at_least, new_file
from sparsenet.costs import activation_memory, macs

# What is measured or, the last two, computed from the plan: label.
COSTS = {
    "step": "a step, s",
    "memory": "peak memory, MB",
    "nodes": "graph, nodes",
    "bytes": "graph, bytes",
    "macs": "MACs of a step",
    "activations": "activations, MB",
}


class Measurements:
    """Measurements of networks, each taken once a round for all costs together."""

    def __init__(self, args: argparse.Namespace):
        self._args = args
        self._found: Dict[Network, List[Dict[str, float]]] = {}
        self._taken: Dict[Tuple[Network, str], int] = {}

    def next(self, network: Network, cost: str) -> float:
        """Return a cost of a network in the round that this cost is in."""
        found = self._found.setdefault(network, [])
        number = self._taken.get((network, cost), 0)
        self._taken[network, cost] = number + 1
        if number == len(found):
            found.append(self._measured(network))
        return found[number][cost]

    def _measured(self, network: Network) -> Dict[str, float]:
        size, config = self._args.batch_size, network.config()
        found = in_fresh_process(measure, network, size, self._args.kind, self._args.steps)
        found["macs"] = size * macs(config)
        found["activations"] = size * activation_memory(config) / MEGABYTE
        return found

    def medians(self, networks: Sequence[Network], cost: str) -> List[float]:
        """Return a cost of each network, over the rounds after the one that warms up."""
        return [float(np.median([each[cost] for each in self._found[n][1:]])) for n in networks]


def cases(args: argparse.Namespace, _flags: Sequence[str]) -> Iterator[Case]:
    """Yield a case for each cost, by depth and then by growth rate; draw the picture at last."""
    by_depth = [Network(each, args.at_growth_rate, args.fetch) for each in args.depth]
    by_growth = [Network(args.at_depth, rate, args.fetch) for rate in args.growth_rate]
    series = {"depth": (args.depth, by_depth), "growth rate": (args.growth_rate, by_growth)}
    found: Dict[str, Dict[str, List[float]]] = {}
    for axis, (sizes, networks) in series.items():
        taken = Measurements(args)
        for cost, label in COSTS.items():
            arms: Dict[str, Arm] = {
                "{} {}".format(axis, size): functools.partial(taken.next, network, cost)
                for size, network in zip(sizes, networks)
            }
            yield Case("{} by {}".format(label, axis), arms)
            found.setdefault(axis, {})[label] = taken.medians(networks, cost)
            slope = exponent(sizes, found[axis][label])
            print("{} grows as {} to the power of {:.2f}".format(label, axis, slope), flush=True)
    if args.picture:
        draw(args.picture, {axis: sizes for axis, (sizes, _) in series.items()}, found)


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the slope of the line through points on logarithmic scales, by least squares."""
    if len(set(sizes)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(sizes), np.log(costs), 1)[0])


def draw(
    path: str, axes: Dict[str, Sequence[int]], found: Dict[str, Dict[str, List[float]]]
) -> None:
    """Draw each cost, relative to the smallest network's, on logarithmic scales.

    axes:  what grows, and its sizes
    found: for each of them the costs, by their labels
    """
    figure, panels = figures.new_figure(1, len(axes), 5 * len(axes), 4.2)
    for panel, (axis, sizes) in zip(panels[0], axes.items()):
        for label, values in found[axis].items():
            relative = [value / values[0] for value in values]
            label = "{}: {:.2f}".format(label, exponent(sizes, values))
            panel.plot(sizes, relative, marker="o", markersize=3, label=label)
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.set_xticks(sizes, map(str, sizes), minor=False)
        panel.minorticks_off()
        panel.yaxis.set_major_formatter(figures.plain)
        panel.set_xlabel(axis)
        panel.set_ylabel("times that of {} {}".format(axis, sizes[0]))
        panel.legend(title="fitted exponents", fontsize=8)
        panel.grid(alpha=0.3)
    figures.save(figure, path)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the sizes that are measured, and the picture."""
    whole = int_at_least(1)
    depths, rates = [22, 40, 70, 100, 202, 400], [12, 16, 24, 36, 48]
    parser.add_argument("--depth", type=depth, nargs="+", metavar="N", default=depths)
    parser.add_argument("--at_growth_rate", type=whole, metavar="K", default=12)
    parser.add_argument("--growth_rate", type=whole, nargs="+", metavar="K", default=rates)
    parser.add_argument("--at_depth", type=depth, metavar="N", default=40)
    parser.add_argument("--fetch", choices=["sparse", "dense"], default="sparse")
    parser.add_argument("--batch_size", type=whole, metavar="N", default=64)
    parser.add_argument("--steps", type=whole, metavar="N", default=3, help="timed, a round [3]")
    parser.add_argument(
        "--kind", choices=[each for each in KINDS if each != "torch"], default="standard",
        help="what computes [standard]",
    )  # fmt: skip
    parser.add_argument("--picture", type=new_file(".png", ".svg"), metavar="FILE.png")


BENCHMARK = Benchmark("what training costs by depth and growth rate", "", cases, add_flags)
