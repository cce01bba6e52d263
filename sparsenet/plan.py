"""The plan of a network: its blocks and layers, its operations, and the shapes of its variables.

The TensorFlow graph, the costs, the initial weights and the pictures are all derived from it.
"""

import functools
from collections import OrderedDict
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Tuple, Union

from sparsenet.config import UNITS, SparseNetConfig
from sparsenet.fetch import Slice, count_channels, reads

SE_REDUCTION = 8  # as in Liu & Zeng's scripts, whose layers have few channels; Hu et al.: 16
IMAGE_CHANNELS = 3
MAP_SIDE = 3  # side of the map that the head `map3x3` flattens
BN_MOMENTUM = 0.9
# TensorFlow 1 raises a fused batch norm's epsilon to this, TensorFlow 2 and Keras 3 do not. Raised
# here, it is the same everywhere, and that of the original code on TensorFlow 1.
LEAST_BN_EPSILON = 1.001e-5


class Layer(NamedTuple):
    """A layer (unit): what it reads, and its numbers of channels.

    reads:        channels of earlier outputs of its block
    in_channels:  channels of its input, after what it reads is combined
    growth:       growth rate k of its block
    out_channels: channels of its output
    stride:       of its first 3x3 convolution
    """

    scope: str
    reads: Tuple[Slice, ...]
    in_channels: int
    growth: int
    out_channels: int
    stride: int


class Block(NamedTuple):
    """A block on maps of side `size`, and the transition behind it.

    block_in_channels: channels of the block's input
    in_channels:  channels of y_0, which layers read as output number 0
    shortcut:     whether y_0 is a strided or widened version of the block's input (residual
                  units); the first layer then reads the block's input
    block_output: what the block passes on, `out_channels` channels in all
    transition:   output channels of the transition behind the block, None where there is none
    """

    scope: str
    size: int
    block_in_channels: int
    in_channels: int
    shortcut: bool
    layers: Tuple[Layer, ...]
    block_output: Tuple[Slice, ...]
    out_channels: int
    transition: Optional[int]


@functools.lru_cache(maxsize=None)
def blocks(config: SparseNetConfig) -> Tuple[Block, ...]:
    """Return the blocks of a network, in order."""
    return tuple(_blocks(config))


def _blocks(config: SparseNetConfig) -> Iterator[Block]:
    block_in_channels = config.stem_width
    size = config.image_size // (4 if config.stem == "imagenet" else 1)
    for index in range(len(config.layers)):
        stride = 2 if config.is_residual and index else 1
        size = -(-size // stride)  # `same` padding rounds up
        block = _block(config, index, size, stride, block_in_channels)
        yield block
        if block.transition is not None:
            size //= 2
        block_in_channels = block.transition or block.out_channels


def _block(
    config: SparseNetConfig, index: int, size: int, stride: int, block_in_channels: int
) -> Block:
    growth, scope = config.growth_rate[index], "block{}".format(index + 1)
    out_channels = growth * UNITS[config.unit][-1].width
    shortcut = config.is_residual and (stride > 1 or block_in_channels != out_channels)
    in_channels = out_channels if shortcut else block_in_channels
    widths, layers = [in_channels], []
    for i in range(1, config.layers[index] + 1):
        read = reads(config, widths, i)
        is_first = i == 1
        layers.append(
            Layer(
                scope="{}/layer{}".format(scope, i - 1),
                reads=read,
                in_channels=block_in_channels if is_first else _combined(config, read),
                growth=growth,
                out_channels=out_channels,
                stride=stride if is_first else 1,
            )
        )
        widths.append(out_channels)
    block_output = reads(config, widths, len(layers) + 1)
    channels = _combined(config, block_output)
    has_transition = index + 1 < len(config.layers) and not config.is_residual
    transition = transition_width(config, channels, index) if has_transition else None
    return Block(
        scope, size, block_in_channels, in_channels, shortcut, tuple(layers), block_output,
        channels, transition,
    )  # fmt: skip


def _combined(config: SparseNetConfig, slices: Tuple[Slice, ...]) -> int:
    """Return the number of channels of slices after they are combined."""
    return count_channels(slices if config.combine == "concat" else slices[:1])


def transition_width(config: SparseNetConfig, channels: int, block: int) -> int:
    """Return the output channels of the transition that reads `channels` behind block `block`.

    Blocks count from 0. With `sum` it is the width of the next block. With `concat` it is the
    fraction `compression` of `channels`, rounded down; with `transition_slots`, as in Liu & Zeng's
    scripts, 2k + floor(nb / 2) * k for nb = (channels - 2k) / k + 1.
    """
    if config.combine == "sum":
        return config.growth_rate[block + 1]
    if config.transition_slots:
        growth = config.growth_rate[block]
        slots = (channels - 2 * growth) // growth + 1
        return 2 * growth + slots // 2 * growth
    return max(1, int(channels * config.compression))


# Operations and variables ----------------------------------------------------------------------


class Convolution(NamedTuple):
    """A convolution with `same` padding; `size` is the side of its output map."""

    scope: str
    kernel: int
    in_channels: int
    out_channels: int
    size: int
    bias: bool


class BatchNormalization(NamedTuple):
    """Batch normalisation of `channels` channels on a map of side `size`."""

    scope: str
    channels: int
    size: int


class Linear(NamedTuple):
    """The classifier, a fully connected layer."""

    scope: str
    in_features: int
    out_features: int


Operation = Union[Convolution, BatchNormalization, Linear]
MakeConvolution = Callable[[str, int, int, int, int], Convolution]


@functools.lru_cache(maxsize=None)
def operations(config: SparseNetConfig) -> Tuple[Operation, ...]:
    """Return every operation of the network that holds variables, in the order of the graph."""
    return tuple(_operations(config))


def _operations(config: SparseNetConfig) -> Iterator[Operation]:
    def conv(scope, kernel, in_channels, out_channels, size):
        return Convolution(scope, kernel, in_channels, out_channels, size, config.bias)

    if config.stem == "imagenet":
        yield conv("conv0", 7, IMAGE_CHANNELS, config.stem_width, config.image_size // 2)
        yield BatchNormalization("bn0", config.stem_width, config.image_size // 2)
    else:
        yield conv("conv0", 3, IMAGE_CHANNELS, config.stem_width, config.image_size)
    for index, block in enumerate(blocks(config), start=1):
        for layer in block.layers:
            yield from _unit_operations(config, block, layer, conv)
            yield from _attention_operations(config, layer, conv)
        if block.transition is not None:
            scope = "transition{}".format(index)
            yield BatchNormalization(scope + "/bn1", block.out_channels, block.size)
            yield conv(scope + "/conv1", 1, block.out_channels, block.transition, block.size)
    yield BatchNormalization("bn_last", block.out_channels, block.size)
    positions = MAP_SIDE**2 if config.head == "map3x3" else 1
    yield Linear("linear", block.out_channels * positions, config.classes)


def _unit_operations(
    config: SparseNetConfig, block: Block, layer: Layer, conv: MakeConvolution
) -> Iterator[Operation]:
    """Yield a layer's batch normalisations and convolutions, and its block's shortcut."""
    channels, size = layer.in_channels, block.size * layer.stride
    for number, convolution in enumerate(UNITS[config.unit], start=1):
        yield BatchNormalization("{}/bn{}".format(layer.scope, number), channels, size)
        if number == 1 and layer is block.layers[0] and projects(config, block):
            shortcut = layer.scope + "/shortcut"
            yield conv(shortcut, 1, layer.in_channels, layer.out_channels, block.size)
        if convolution.kernel == 3:  # the first one takes the stride
            size = block.size
        width = convolution.width * layer.growth
        yield conv(
            "{}/conv{}".format(layer.scope, number), convolution.kernel, channels, width, size
        )
        channels = width


def projects(config: SparseNetConfig, block: Block) -> bool:
    """Return whether a block's shortcut is a 1x1 convolution, as in bottleneck ResNets.

    Basic ResNets pad with zero channels and have no parameters there (He et al. 2015, option A).
    """
    return block.shortcut and config.unit == "residual_bottleneck"


def _attention_operations(
    config: SparseNetConfig, layer: Layer, conv: MakeConvolution
) -> Iterator[Operation]:
    scope, k = layer.scope + "/attention", layer.out_channels
    if config.attention == "liu_zeng":
        yield BatchNormalization(scope + "/bn1", k, 1)
        yield conv(scope + "/conv1", 1, k, k, 1)
        yield BatchNormalization(scope + "/bn2", 2 * k, 1)
        yield conv(scope + "/conv2", 1, 2 * k, k, 1)
    elif config.attention == "se":
        inner = se_width(k)
        yield Convolution(scope + "/conv1", 1, k, inner, 1, True)
        yield Convolution(scope + "/conv2", 1, inner, k, 1, True)


def bn_epsilon(config: SparseNetConfig) -> float:
    """Return the epsilon that every batch normalisation of the network uses."""
    return max(config.bn_epsilon, LEAST_BN_EPSILON)


def se_width(channels: int) -> int:
    """Return the number of channels inside a squeeze-and-excitation module."""
    return max(1, channels // SE_REDUCTION)


def variable_shapes(config: SparseNetConfig, trainable_only: bool = False) -> Dict[str, tuple]:
    """Return the name and shape of each variable in a checkpoint of the network, in graph order.

    `mean/EMA` and `variance/EMA` are the moving statistics of batch normalisation, which are
    not trained.
    """
    shapes: Dict[str, tuple] = OrderedDict()
    for op in operations(config):
        if isinstance(op, Convolution):
            shapes[op.scope + "/W"] = (op.kernel, op.kernel, op.in_channels, op.out_channels)
            if op.bias:
                shapes[op.scope + "/b"] = (op.out_channels,)
        elif isinstance(op, BatchNormalization):
            shapes[op.scope + "/gamma"] = (op.channels,)
            shapes[op.scope + "/beta"] = (op.channels,)
            if not trainable_only:
                shapes[op.scope + "/mean/EMA"] = (op.channels,)
                shapes[op.scope + "/variance/EMA"] = (op.channels,)
        else:
            shapes[op.scope + "/W"] = (op.in_features, op.out_features)
            shapes[op.scope + "/b"] = (op.out_features,)
    return shapes
