"""Images a second in training, against PyTorch, TensorFlow 1.15 and what the processor can do.

Every arm trains the same network on random images, without records or tests. The last arm is what
the rate of a product of large matrices, measured here too, would give: a training step takes 6
floating-point operations for each multiplication and addition of an image's forward pass.
"""

import argparse
import os
import re
import time
from functools import partial
from importlib.util import find_spec
from typing import Callable, Iterator, List, Sequence, Tuple

import numpy as np

from benchmarks.measuring import Arm, Benchmark, Case, in_fresh_process
from benchmarks.records import seconds_an_epoch
from common.cli import int_at_least, quoted
from common.processes import output_of
from platforms.platform import threads
from run_directory.settings import KERNELS, STANDARD
from sparsenet import costs
from sparsenet.errors import RunFailed
from sparsenet.recipes import Recipe

NETWORKS = "40-12,40-24,100-24"
FLOPS_PER_MAC = 6  # forward, and the gradients of input and kernel: a product and a sum each
WARM_UP_STEPS = 2
MATRIX = 2048  # rows and columns
CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The variants of PyTorch: name -> memory format, compiled.
TORCH = {
    "PyTorch": ("contiguous", False),
    "PyTorch, channels last": ("channels_last", False),
    "PyTorch, compiled": ("contiguous", True),
    "PyTorch, channels last, compiled": ("channels_last", True),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of this benchmark."""
    parser.add_argument(
        "--networks", type=networks, metavar="L-K,...", default=networks(NETWORKS),
        help="depth and growth rate of each [{}]".format(NETWORKS),
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=int_at_least(1), metavar="N", default=10, help="of a round [10]"
    )
    parser.add_argument("--batch_size", type=int_at_least(1), metavar="N", default=64, help="[64]")
    parser.add_argument(
        "--legacy_python", metavar="PYTHON", help="with TensorFlow 1.15 [without this arm]"
    )


def networks(text: str) -> List[str]:
    """Return the names of networks in a flag."""
    for name in text.split(","):
        if not re.match(r"[1-9]\d{0,3}-[1-9]\d{0,3}$", name):
            raise argparse.ArgumentTypeError(
                "{}; accepted: depth-growth rate, such as 40-12".format(quoted(name))
            )
    return text.split(",")


def cases(args: argparse.Namespace, flags: Sequence[str]) -> Iterator[Case]:
    """Yield a case for each network."""
    for name in args.networks:
        yield Case("SparseNet {}".format(name), dict(arms(name, args)))


def arms(name: str, args: argparse.Namespace) -> Iterator[Tuple[str, Arm]]:
    """Yield name and function of each arm; it returns images a second."""
    flags = flags_of(name, args)
    images = args.steps * args.batch_size

    def own_rate(kernels: str) -> float:
        return images / in_fresh_process(seconds_an_epoch, [*flags, "--kernels", kernels], False)

    def possible_rate() -> float:
        flops = FLOPS_PER_MAC * costs.macs(recipe_of(flags).config)
        return in_fresh_process(matrix_rate) / flops

    for kernels in in_fresh_process(available_kernels):
        yield "this, {} kernels".format(kernels), partial(own_rate, kernels)
    if args.legacy_python:
        yield "this, TensorFlow 1.15", lambda: images / legacy_seconds(args.legacy_python, flags)
    if find_spec("torch"):
        for variant, options in TORCH.items():
            yield variant, partial(in_fresh_process, torch_rate, flags, *options)
    yield "the matrix rate", possible_rate


def available_kernels() -> Sequence[str]:
    """Return the kernels that there are on this machine, see run_directory.settings.KERNELS."""
    from platforms.cpu_kernels import build

    try:
        build.load()
    except build.Unavailable:
        return (STANDARD,)
    return KERNELS


def flags_of(name: str, args: argparse.Namespace) -> List[str]:
    """Return the flags of main_gpu.py that train a network on random images on the CPU."""
    depth, growth = name.split("-")
    return [
        "--fake", "--gpu", "none", "--depth", depth, "--growth_rate", growth, "--max_epoch", "2",
        "--batch_size", str(args.batch_size), "--steps_per_epoch", str(args.steps),
    ]  # fmt: skip


def recipe_of(flags: Sequence[str]) -> Recipe:
    """Return the recipe that flags of main_gpu.py ask for."""
    from training.command_line import parse

    settings = parse(flags)
    assert settings is not None
    return settings.recipe


def legacy_seconds(python: str, flags: Sequence[str]) -> float:
    """Return seconds an epoch of this project on TensorFlow 1.15."""
    program = (
        "import sys; sys.path.insert(0, {!r}); from benchmarks.records import seconds_an_epoch; "
        "seconds = seconds_an_epoch({!r}, False); print(); print(seconds)"
    ).format(CHECKOUT, list(flags))
    output = output_of([python, "-c", program])
    if output is None:
        raise RunFailed("{} can't train; try: {} main_gpu.py --fake".format(python, python))
    return float(output.split()[-1])


def torch_rate(flags: Sequence[str], memory_format: str, compiled: bool) -> float:
    """Return images a second of the network in PyTorch."""
    import torch

    from benchmarks import peer_torch

    recipe = recipe_of(flags)
    torch.set_num_threads(threads())
    network = peer_torch.build(recipe.config, memory_format, compiled)
    optimizer = peer_torch.make_optimizer(network, recipe.learning_rate, recipe.weight_decay)
    draws, size = np.random.RandomState(0), recipe.config.image_size
    images = draws.randint(0, 256, (recipe.batch_size, size, size, 3)).astype(np.uint8)
    batch = peer_torch.to_input(images, {"mean": [128.0] * 3, "std": [64.0] * 3}, memory_format)
    labels = torch.from_numpy(draws.randint(0, recipe.config.classes, recipe.batch_size))

    def step():
        peer_torch.train_step(network, optimizer, batch, labels)

    steps = int(flags[flags.index("--steps_per_epoch") + 1])
    return recipe.batch_size / seconds_of(step, steps)


def matrix_rate() -> float:
    """Return single-precision floating-point operations a second of numpy's matrix product."""
    a, b = (np.random.RandomState(seed).rand(MATRIX, MATRIX).astype(np.float32) for seed in (0, 1))
    return 2.0 * MATRIX**3 / seconds_of(lambda: a @ b, 10)


def seconds_of(step: Callable[[], object], count: int) -> float:
    """Return the mean seconds of a step, after a few that do not count."""
    for _ in range(WARM_UP_STEPS):
        step()
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


BENCHMARK = Benchmark(
    "training steps on the CPU against PyTorch, TensorFlow 1.15 and the matrix rate",
    "images/s",
    cases,
    add_flags,
)
