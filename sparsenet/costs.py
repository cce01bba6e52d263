"""What a network costs, computed from its plan: parameters, operations, skip connections, memory.

Operations and memory are those of one image. TensorFlow is not needed.
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
    """Return the number of trainable parameters."""
    return sum(_product(s) for s in variable_shapes(config, trainable_only=True).values())


def parameters_with_statistics(config: SparseNetConfig) -> int:
    """Return the number of parameters and moving statistics, as keras-SparseNet prints it."""
    return sum(_product(shape) for shape in variable_shapes(config).values())


def parameters_without_batch_norm(config: SparseNetConfig) -> int:
    """Return the number of trainable parameters other than those of batch normalisation."""
    names = variable_shapes(config, trainable_only=True)
    return sum(_product(s) for n, s in names.items() if not n.endswith(("/gamma", "/beta")))


def _product(shape) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def macs(config: SparseNetConfig) -> int:
    """Return the multiply-accumulates of the convolutions and the classifier, per image."""
    total = 0
    for op in operations(config):
        if isinstance(op, Convolution):
            total += op.kernel**2 * op.in_channels * op.out_channels * op.size**2
        elif isinstance(op, Linear):
            total += op.in_features * op.out_features
    return total


def flops(config: SparseNetConfig) -> int:
    """Return the FLOPs of one image as the papers count them.

    Each multiply-accumulate counts as two, and so does each value that is normalised.
    """
    normalised = sum(
        op.channels * op.size**2 for op in operations(config) if isinstance(op, BatchNormalization)
    )
    return 2 * macs(config) + 2 * normalised


def skip_connections(config: SparseNetConfig) -> int:
    """Return the number of skip connections: readings of earlier outputs by the layers of a block.

    Summed over all blocks. The output just before a layer counts; what a block passes on does not.
    """
    return sum(len(sources) for block in blocks(config) for sources in _sources(block)[:-1])


class GradientPaths(NamedTuple):
    """Steps that a gradient takes between two outputs of a block, on the shortest path.

    longest, mean: over all pairs of outputs that a path connects
    unread:        number of outputs from which no path leads to the block's output: dead weight
    """

    longest: int
    mean: float
    unread: int


def gradient_paths(config: SparseNetConfig) -> GradientPaths:
    """Return the gradient paths between the outputs y_0 ... y_N of a block, over all blocks.

    A pair is an earlier and a later output of the same block.
    """
    steps: List[int] = []
    unread = 0
    for block in blocks(config):
        sources = _sources(block)
        count = len(block.layers)
        for start in range(count + 1):
            distances = _distances(sources, start)
            steps.extend(d for d in distances[start + 1 : count + 1] if d is not None)
            unread += distances[count + 1] is None
    # A sparse block need not pass its input on, but layers within the block read it.
    return GradientPaths(max(steps), sum(steps) / len(steps), unread)


def _sources(block: Block) -> List[FrozenSet[int]]:
    """Return the outputs that each layer 1 ... N reads, and last those that the block passes on."""
    read = [layer.reads for layer in block.layers] + [block.block_output]
    return [frozenset(s.output for s in slices) for slices in read]


def _distances(sources: List[FrozenSet[int]], start: int) -> List[Optional[int]]:
    """Return the fewest steps from output `start` to each output, None where no path leads there.

    The last entry is for what the block passes on.
    """
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
    """Return the bytes of float32 activations that training keeps for the gradients, per image.

    Frameworks keep three kinds: the output of each convolution, the input of each batch
    normalisation that is combined from several outputs, and what each passes to its convolution.
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
