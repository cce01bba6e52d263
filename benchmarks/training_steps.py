"""A step of training of a network, by this project or by PyTorch: what the benchmarks measure.

In a process of its own each: memory and kernels of one library are left to it alone.
"""

import argparse
import dataclasses
import time
from typing import Any, Callable, Dict, NamedTuple

import numpy as np

from common.cli import int_at_least
from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError
from sparsenet.recipes import DepthRule

NORMALIZATION = {"mean": [125.3, 123.0, 113.9], "std": [63.0, 62.1, 66.7]}
MEGABYTE = 2**20


class Network(NamedTuple):
    """A network as its flags have it; unit, compression: see SparseNetConfig."""

    depth: int
    growth_rate: int
    fetch: str = "sparse"
    unit: str = "single"
    compression: float = 1.0

    def config(self) -> SparseNetConfig:
        """Return the network; UserError for a depth that none has."""
        blocks = SparseNetConfig(
            (1,) * 3, (self.growth_rate,) * 3, fetch=self.fetch, unit=self.unit,
            compression=self.compression,
        )  # fmt: skip
        return dataclasses.replace(blocks, layers=DepthRule().layers(self.depth, blocks))


def depth(text: str) -> int:
    """Return the depth in a flag, one that a network can have."""
    number = int_at_least(1)(text)
    try:
        Network(number, 1).config()
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error))
    return number


def random_batch(config: SparseNetConfig, size: int):
    """Return random images, uint8 [size, S, S, 3], and labels, int32 [size]."""
    draws, side = np.random.RandomState(0), config.image_size
    images = draws.randint(0, 256, (size, side, side, 3)).astype(np.uint8)
    return images, draws.randint(0, config.classes, size).astype(np.int32)


def measure(network: Network, batch_size: int, kind: str, steps: int) -> Dict[str, float]:
    """Return what the steps of a network cost; to be called in a process of its own.

    kind:  a key of KINDS
    steps: after the first one; their median counts

    Memory is the most that the process had in RAM while it trained, less what it had before the
    first step: so it is counted alike whatever library allocates.
    """
    config = network.config()
    step, found = KINDS[kind](config, batch_size)
    before = memory("VmRSS")
    seconds = [seconds_of(step) for _ in range(1 + steps)]
    peak = (memory("VmHWM") - before) / MEGABYTE
    return dict(found, step=float(np.median(seconds[1:])), memory=peak)


def seconds_of(call: Callable[[], Any]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def memory(field: str) -> int:
    """Return a number of bytes of this process as Linux has it: VmRSS now, VmHWM at most so far."""
    with open("/proc/self/status") as stream:
        return next(1024 * int(line.split()[1]) for line in stream if line.startswith(field))


def tensorflow_step(config: SparseNetConfig, batch_size: int, kernels: str, recompute: bool):
    """Return a function that trains for one step, and number of nodes and bytes of its graph."""
    from common.tf_stack import session_config, tf

    from tensorpack.tfutils.tower import TowerContext
    from tensorpack.utils import logger

    from platforms.cpu_kernels import build
    from platforms.cpu_kernels.fuse import Fusion
    from sparsenet_model import SparseNet
    from training.recompute import RecomputingOptimizer

    logger.setLevel("ERROR")
    graph = tf.Graph()
    with graph.as_default(), TowerContext("", is_training=True):
        model = SparseNet(
            config, normalization=NORMALIZATION, batch_size=batch_size,
            wrap_optimizer=RecomputingOptimizer if recompute else lambda optimizer: optimizer,
        )  # fmt: skip
        inputs = [tf.placeholder(each.dtype, each.shape, each.name) for each in model.inputs()]
        optimizer, cost = model.get_optimizer(), model.build_graph(*inputs)
        # Gated as in a run, see training.trainer.make_trainer.
        gradients = optimizer.compute_gradients(cost, gate_gradients=tf.train.Optimizer.GATE_OP)
        updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
        train = tf.group(optimizer.apply_gradients(gradients), *updates)
        definition = graph.as_graph_def()
        if kernels == "fused":
            Fusion(build.load()).apply(graph)
        options = session_config()
        options.device_count["GPU"] = 0
        session = tf.Session(config=options)
        session.run(tf.global_variables_initializer())
    fed = dict(zip(inputs, random_batch(config, batch_size)))
    found = {"nodes": len(definition.node), "bytes": definition.ByteSize()}
    return lambda: session.run([cost, train], fed), found


def torch_step(config: SparseNetConfig, batch_size: int, memory_format: str):
    """Return a function that trains for one step, and nothing of its graph: it has none."""
    import torch

    from benchmarks import peer_torch

    network = peer_torch.build(config, memory_format)
    optimizer = peer_torch.make_optimizer(network)
    images, labels = random_batch(config, batch_size)
    x = peer_torch.to_input(images, NORMALIZATION, memory_format)
    y = torch.from_numpy(labels).long()
    return lambda: peer_torch.train_step(network, optimizer, x, y), {}


KINDS = {
    "standard": lambda config, size: tensorflow_step(config, size, "standard", False),
    "recompute": lambda config, size: tensorflow_step(config, size, "standard", True),
    "fused": lambda config, size: tensorflow_step(config, size, "fused", False),
    "torch": lambda config, size: torch_step(config, size, "contiguous"),
}
