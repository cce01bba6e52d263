"""The most memory that training takes: SparseNet, DenseNet, with --recompute, and in PyTorch."""

import argparse
import functools
from typing import Iterator, Sequence

from benchmarks.measuring import Benchmark, Case, in_fresh_process
from benchmarks.training_steps import KINDS, MEGABYTE, Network, depth, measure
from common.cli import int_at_least
from sparsenet.costs import activation_memory

NAMES = {"sparse": "SparseNet", "dense": "DenseNet"}


def cases(args: argparse.Namespace, _flags: Sequence[str]) -> Iterator[Case]:
    """Yield a case for each depth and batch size, with an arm for each network and kind."""
    for layers in args.depth:
        for size in args.batch_size:
            networks = [Network(layers, args.growth_rate, fetch) for fetch in args.fetch]
            kept = [activation_memory(each.config()) * size / MEGABYTE for each in networks]
            name = "depth {}, batch {} (activations by costs.py: {} MB)".format(
                layers, size, ", ".join(map("{:.0f}".format, kept))
            )
            yield Case(
                name,
                {
                    "{}, {}".format(NAMES[network.fetch], kind): functools.partial(
                        peak, network, size, kind
                    )
                    for network in networks
                    for kind in args.kinds
                },
            )


def peak(network: Network, batch_size: int, kind: str) -> float:
    """Return the megabytes that two steps of training take beyond what the process had before."""
    return in_fresh_process(measure, network, batch_size, kind, 1)["memory"]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add what is measured."""
    whole = int_at_least(1)
    parser.add_argument("--depth", type=depth, nargs="+", metavar="N", default=[40, 100])
    parser.add_argument("--growth_rate", type=whole, metavar="K", default=24)
    parser.add_argument("--batch_size", type=whole, nargs="+", metavar="N", default=[64])
    parser.add_argument("--fetch", nargs="+", choices=list(NAMES), default=list(NAMES))
    parser.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=list(KINDS),
        help="TensorFlow's own kernels, these with --recompute, fused ones, or PyTorch's [all]",
    )  # fmt: skip


BENCHMARK = Benchmark(
    "the most memory in training, against DenseNet and PyTorch", "MB", cases, add_flags
)
