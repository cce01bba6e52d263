"""What a network costs, by arithmetic on its plan: parameters, operations, connections, memory.

Everything is per image where that makes sense. Only the standard library is imported.
"""

from typing import FrozenSet, List, NamedTuple, Optional

from sparsenet.config import SparseNetConfig
from sparsenet.plan import (
    BatchNormalization,
    Block,
    Convolution,
    Linear,
    blocks,
    operations,
    variable_shapes,
)


def parameters(config: SparseNetConfig) -> int:
    """Number of trainable parameters."""
    return sum(_product(s) for s in variable_shapes(config, trainable_only=True).values())


def parameters_with_statistics(config: SparseNetConfig) -> int:
    """Number of trainable parameters and moving statistics, what keras-SparseNet prints."""
    return sum(_product(shape) for shape in variable_shapes(config).values())


def parameters_without_batch_norm(config: SparseNetConfig) -> int:
    """Number of trainable parameters other than those of batch normalisation."""
    names = variable_shapes(config, trainable_only=True)
    return sum(_product(s) for n, s in names.items() if not n.endswith(("/gamma", "/beta")))


def _product(shape) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def macs(config: SparseNetConfig) -> int:
    """Multiply-accumulate operations of the convolutions and the classifier, per image."""
    total = 0
    for op in operations(config):
        if isinstance(op, Convolution):
            total += op.kernel**2 * op.in_channels * op.out_channels * op.size**2
        elif isinstance(op, Linear):
            total += op.in_features * op.out_features
    return total


def flops(config: SparseNetConfig) -> int:
    """The papers' FLOPs, per image: two for a multiply-accumulate, two for a normalised value."""
    normalised = sum(
        op.channels * op.size**2 for op in operations(config) if isinstance(op, BatchNormalization)
    )
    return 2 * macs(config) + 2 * normalised


def skip_connections(config: SparseNetConfig) -> int:
    """Number of times that a layer reads an earlier output of its block, over all blocks."""
    return sum(len(sources) for block in blocks(config) for sources in _sources(block)[:-1])


class GradientPaths(NamedTuple):
    """Steps that a gradient takes between two outputs of a block, over all pairs that it joins.

    unread: outputs from which no path leads to what the block hands on; they are dead weight.
    """

    longest: int
    mean: float
    unread: int


def gradient_paths(config: SparseNetConfig) -> GradientPaths:
    """Longest and mean over the blocks' pairs (earlier, later) of outputs y_0 ... y_N."""
    steps: List[int] = []
    unread = 0
    for block in blocks(config):
        sources = _sources(block)
        count = len(block.layers)
        for start in range(count + 1):
            distances = _distances(sources, start)
            steps.extend(d for d in distances[start + 1 : count + 1] if d is not None)
            unread += distances[count + 1] is None
    # A sparse block need not hand its input on: it is read inside all the same.
    return GradientPaths(max(steps), sum(steps) / len(steps), unread)


def _sources(block: Block) -> List[FrozenSet[int]]:
    """For layer 1, 2, ... N and what is handed on: the outputs that it reads."""
    read = [layer.reads for layer in block.layers] + [block.block_output]
    return [frozenset(s.output for s in slices) for slices in read]


def _distances(sources: List[FrozenSet[int]], start: int) -> List[Optional[int]]:
    """Fewest steps from output `start` to each output, the last being what is handed on."""
    distances: List[Optional[int]] = [None] * (len(sources) + 1)
    distances[start] = 0
    for reader in range(start + 1, len(distances)):
        read = sources[reader - 1]
        if start in read:
            distances[reader] = 1
            continue
        reached = [distance for distance in (distances[i] for i in read) if distance is not None]
        if reached:
            distances[reader] = 1 + min(reached)
    return distances


def activation_memory(config: SparseNetConfig) -> int:
    """Bytes of float32 values that training keeps for the gradients, per image.

    What each convolution puts out, and what each batch normalisation reads where that was put
    together from several outputs and what it hands to its convolution: frameworks keep all three.
    """
    values = 0
    for op in operations(config):
        if isinstance(op, Convolution):
            values += op.out_channels * op.size**2
        elif isinstance(op, BatchNormalization):
            values += op.channels * op.size**2
    for block in blocks(config):
        read = [(layer.reads, layer.in_channels) for layer in block.layers]
        for slices, channels in read + [(block.block_output, block.out_channels)]:
            values += channels * block.size**2 if len(slices) > 1 else 0
    return 4 * values
