"""A SparseNet as data: the fetch rule, the network record, and the arithmetic that follows.

Layer i of a block (i = 1 ... N) reads some of the outputs y_0 ... y_{i-1} that came before it,
where y_0 is the input of the block. *Which* ones it reads is a pure function of i, :func:`fetch`;
a network is a :class:`SparseNetConfig`; and what the network holds and costs is derived from
the list of its operations, :func:`operations`, without building any graph.

Source: Zhu et al., Sparsely Aggregated Convolutional Networks, ECCV 2018, arXiv 1801.05895.
Only the standard library is imported here.
"""

import dataclasses
from collections import OrderedDict
from typing import Dict, Iterator, NamedTuple, Optional, Tuple

from errors import require

FETCHES = ("sparse", "dense", "plain")
UNITS = ("single", "bottleneck")
BOTTLENECK_WIDTH = 4  # the 1x1 convolution of a bottleneck has 4k channels (section 3.2)
IMAGE_SIZE = 32
IMAGE_CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class SparseNetConfig:
    """One network.

    layers:       layers (units) of each block, in order
    growth_rate:  channels k that a layer of each block puts out
    fetch:        which earlier outputs a layer reads, see FETCHES
    base:         the base c of the sparse rule's offsets 1, c, c^2, ...
    unit:         `single` is BN-ReLU-Conv3x3(k); `bottleneck` puts BN-ReLU-Conv1x1(4k) before it
    compression:  channels of a transition, as a share of what it reads
    dropout:      share of values dropped after each convolution of a layer or transition
    stem_channels: channels of conv0; None is 2k of the first block, which is what reproduces
                  the paper's parameter counts
    classes:      number of classes

    Raises UserError, naming the field, for a value that no network can have.
    """

    layers: Tuple[int, ...]
    growth_rate: Tuple[int, ...]
    fetch: str = "sparse"
    base: int = 2
    unit: str = "single"
    compression: float = 1.0
    dropout: float = 0.0
    stem_channels: Optional[int] = None
    classes: int = 10

    def __post_init__(self):
        blocks, stem = len(self.layers), self.stem_channels
        per_block = "one number, or one for each of the {} blocks".format(blocks)
        for field, is_accepted, accepted in [
            ("layers", blocks >= 1 and min(self.layers) >= 1, "numbers of at least 1"),
            ("growth_rate", len(self.growth_rate) == blocks, per_block),
            ("growth_rate", min(self.growth_rate, default=0) >= 1, "numbers of at least 1"),
            ("fetch", self.fetch in FETCHES, ", ".join(FETCHES)),
            ("base", self.base >= 2, "a whole number of at least 2"),
            ("unit", self.unit in UNITS, ", ".join(UNITS)),
            ("compression", 0 < self.compression <= 1, "above 0 and at most 1"),
            ("dropout", 0 <= self.dropout < 1, "at least 0 and below 1"),
            ("stem_channels", stem is None or stem >= 1, "a whole number of at least 1"),
            ("classes", self.classes >= 2, "a whole number of at least 2"),
        ]:
            require(is_accepted, field, getattr(self, field), accepted)

    @property
    def stem_width(self) -> int:
        """Channels of conv0."""
        return 2 * self.growth_rate[0] if self.stem_channels is None else self.stem_channels


def fetch(config: SparseNetConfig, layer: int) -> Tuple[int, ...]:
    """The indices of the outputs that layer `layer` (1 ... N) of a block reads, in reading order.

    Index 0 is the input of the block. `layer` = N + 1 gives what the block hands on: the paper
    applies the same rule once more (section 3.1), so that after 32 layers the outputs 32, 31,
    29, 25, 17 and 1 go on, and not the input of the block.

    Reading order is the order of the channels after concatenation, which checkpoints depend on:
    newest first for `sparse`, oldest first for `dense`, as both public TensorFlow codes have it.
    """
    if config.fetch == "plain":
        return (layer - 1,)
    if config.fetch == "dense":
        return tuple(range(layer))
    sources, offset = [], 1
    while offset <= layer:
        sources.append(layer - offset)
        offset *= config.base
    return tuple(sources)


class Convolution(NamedTuple):
    """A convolution without bias, `same` padding, stride 1; `size` is the side of its map."""

    scope: str
    kernel: int
    inputs: int
    outputs: int
    size: int


class BatchNormalization(NamedTuple):
    """Batch normalisation of `inputs` channels on a map of side `size`, then ReLU."""

    scope: str
    inputs: int
    size: int


class Linear(NamedTuple):
    """The classifier."""

    scope: str
    inputs: int
    outputs: int


def operations(config: SparseNetConfig) -> Iterator[tuple]:
    """Every operation of the network that holds variables, in the order of the graph."""
    size, channels = IMAGE_SIZE, config.stem_width
    yield Convolution("conv0", 3, IMAGE_CHANNELS, channels, size)
    for block, (layers, growth) in enumerate(zip(config.layers, config.growth_rate), start=1):
        widths = [channels]
        for layer in range(1, layers + 1):
            inputs = sum(widths[i] for i in fetch(config, layer))
            scope = "block{}/layer{}".format(block, layer - 1)
            yield from _unit_operations(config, scope, inputs, growth, size)
            widths.append(growth)
        channels = sum(widths[i] for i in fetch(config, layers + 1))
        if block < len(config.layers):
            scope = "transition{}".format(block)
            outputs = transition_width(config, channels)
            yield BatchNormalization(scope + "/bn1", channels, size)
            yield Convolution(scope + "/conv1", 1, channels, outputs, size)
            channels, size = outputs, size // 2
    yield BatchNormalization("bn_last", channels, size)
    yield Linear("linear", channels, config.classes)


def _unit_operations(config, scope, inputs, growth, size):
    yield BatchNormalization(scope + "/bn1", inputs, size)
    if config.unit == "bottleneck":
        inner = BOTTLENECK_WIDTH * growth
        yield Convolution(scope + "/conv1", 1, inputs, inner, size)
        yield BatchNormalization(scope + "/bn2", inner, size)
        yield Convolution(scope + "/conv2", 3, inner, growth, size)
    else:
        yield Convolution(scope + "/conv1", 3, inputs, growth, size)


def transition_width(config: SparseNetConfig, channels: int) -> int:
    """Channels that a transition puts out when it reads `channels`: rounded down, at least 1."""
    return max(1, int(channels * config.compression))


def variable_shapes(config: SparseNetConfig, trainable_only: bool = False) -> Dict[str, tuple]:
    """Name and shape of each variable that a checkpoint of the network holds, in graph order.

    `mean/EMA` and `variance/EMA` are the moving statistics of batch normalisation, which are
    not trained.
    """
    shapes = OrderedDict()
    for op in operations(config):
        if isinstance(op, Convolution):
            shapes[op.scope + "/W"] = (op.kernel, op.kernel, op.inputs, op.outputs)
        elif isinstance(op, BatchNormalization):
            shapes[op.scope + "/gamma"] = (op.inputs,)
            shapes[op.scope + "/beta"] = (op.inputs,)
            if not trainable_only:
                shapes[op.scope + "/mean/EMA"] = (op.inputs,)
                shapes[op.scope + "/variance/EMA"] = (op.inputs,)
        else:
            shapes[op.scope + "/W"] = (op.inputs, op.outputs)
            shapes[op.scope + "/b"] = (op.outputs,)
    return shapes


def parameters(config: SparseNetConfig) -> int:
    """Number of trainable parameters."""
    return sum(_product(s) for s in variable_shapes(config, trainable_only=True).values())


def _product(shape: Tuple[int, ...]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


def macs(config: SparseNetConfig) -> int:
    """Multiply-accumulate operations of the convolutions and the classifier, per image."""
    total = 0
    for op in operations(config):
        if isinstance(op, Convolution):
            total += op.kernel**2 * op.inputs * op.outputs * op.size**2
        elif isinstance(op, Linear):
            total += op.inputs * op.outputs
    return total
