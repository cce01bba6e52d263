"""A network as data: the fetch rule, the record, and the plan of layers that follows from it.

Layer i of a block (i = 1 ... N) reads some of the outputs y_0 ... y_{i-1} that came before it,
where y_0 is the input of the block. *Which* ones it reads is a pure function of i, :func:`fetch`;
*how* it combines them is `concat` or `sum`. A network is a :class:`SparseNetConfig`; the graph,
the ledger and the pictures are all derived from its plan, :func:`blocks`.

Sources: Zhu et al., Sparsely Aggregated Convolutional Networks, ECCV 2018, arXiv 1801.05895
("the paper"); Liu & Zeng, SparseNet: A Sparse DenseNet for Image Classification, arXiv 1804.05340
(liu-zeng); Huang et al., DenseNet, CVPR 2017; He et al., Identity Mappings, ECCV 2016 (ResNet).
Only the standard library is imported here.
"""

import dataclasses
import functools
from collections import OrderedDict
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple, Union

from sparsenet.errors import require
from sparsenet.typed_records import check_types

# Far beyond any network of the papers, and before memory and patience end.
MAX_LAYERS = 5000
MAX_GROWTH = 4096
FETCHES = ("sparse", "dense", "plain", "nearest_farthest", "channel_window")
COMBINES = ("concat", "sum")
UNITS = ("single", "bottleneck", "residual_basic", "residual_bottleneck")
ATTENTIONS = ("none", "liu_zeng", "se")
STEMS = ("cifar", "imagenet")
HEADS = ("gap", "map3x3")

INNER_WIDTH = 4  # a bottleneck's 1x1 convolution has 4k channels; a residual one puts out 4k
SE_REDUCTION = 8  # as liu-zeng's scripts have it, for layers of few channels; Hu et al.: 16
IMAGE_CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class SparseNetConfig:
    """One network.

    layers:       layers (units) of each block, in order
    growth_rate:  channels k that a layer of each block puts out (width of a residual unit)
    fetch:        which earlier outputs a layer reads, see :func:`fetch`; `channel_window` is the
                  rule of liu-zeng's public scripts, see :func:`channel_window`
    base:         the base c of the sparse rule's offsets 1, c, c^2, ...
    nearest, farthest: how many outputs from either end `nearest_farthest` reads; their sum is
                  the `path` of the scripts' rule
    combine:      `concat` along channels (SparseNet[⊕] of the paper, DenseNet)
                  or `sum` (SparseNet[+], ResNet)
    unit:         `single` BN-ReLU-Conv3x3(k); `bottleneck` BN-ReLU-Conv1x1(4k) before it;
                  `residual_basic` two 3x3(k); `residual_bottleneck` 1x1(k)-3x3(k)-1x1(4k)
    compression:  channels of a transition, as a share of what it reads
    dropout:      share of values dropped after each convolution of a layer or transition
    attention:    on a layer's output: liu-zeng's module or squeeze-and-excitation (Hu et al.)
    stem:         `cifar` 3x3; `imagenet` 7x7/2, BN-ReLU, 3x3/2 max pool
    stem_channels: channels of conv0; None is 2k of the first block for `concat` on CIFAR (what
                  reproduces the paper's counts), k otherwise
    head:         `gap` global average; `map3x3` 2x2 average pooling of the 7x7 map, flattened
    classes:      number of classes
    bias, stem_relu, transition_relu, bottleneck_relu, transition_slots, bn_epsilon: ways of
                  public codes that differ from the papers: biases of convolutions, ReLU after
                  conv0 and after a transition's convolution, a bottleneck's first ReLU, a
                  transition's width by slots (see :func:`transition_width`)

    Raises UserError, naming the field, for a value that no network can have.
    """

    layers: Tuple[int, ...]
    growth_rate: Tuple[int, ...]
    fetch: str = "sparse"
    base: int = 2
    nearest: int = 7
    farthest: int = 7
    combine: str = "concat"
    unit: str = "single"
    compression: float = 1.0
    dropout: float = 0.0
    attention: str = "none"
    stem: str = "cifar"
    stem_channels: Optional[int] = None
    head: str = "gap"
    classes: int = 10
    bias: bool = False
    stem_relu: bool = False
    transition_relu: bool = False
    bottleneck_relu: bool = True
    transition_slots: bool = False
    bn_epsilon: float = 1e-5

    def __post_init__(self):
        check_types(self)
        count, stem = len(self.layers), self.stem_channels
        per_block = "one number, or one for each of the {} blocks".format(count)
        at_least_1 = "a whole number of at least 1"
        wide = "at most {}".format(MAX_GROWTH)
        deep = "at most {} layers".format(MAX_LAYERS)
        for field, is_accepted, accepted in [
            ("layers", count >= 1 and min(self.layers) >= 1, "numbers of at least 1"),
            ("layers", sum(self.layers) <= MAX_LAYERS, deep),
            ("growth_rate", len(self.growth_rate) == count, per_block),
            ("growth_rate", min(self.growth_rate, default=0) >= 1, "numbers of at least 1"),
            ("growth_rate", max(self.growth_rate, default=0) <= MAX_GROWTH, wide),
            ("fetch", self.fetch in FETCHES, ", ".join(FETCHES)),
            ("base", self.base >= 2, "a whole number of at least 2"),
            ("nearest", self.nearest >= 0, "a whole number of at least 0"),
            ("farthest", self.farthest >= 0, "a whole number of at least 0"),
            ("farthest", self.farthest + self.nearest >= 1, "at least 1 where `nearest` is 0"),
            ("combine", self.combine in COMBINES, ", ".join(COMBINES)),
            ("unit", self.unit in UNITS, ", ".join(UNITS)),
            ("compression", 0 < self.compression <= 1, "above 0 and at most 1"),
            ("dropout", 0 <= self.dropout < 1, "at least 0 and below 1"),
            ("attention", self.attention in ATTENTIONS, ", ".join(ATTENTIONS)),
            ("stem", self.stem in STEMS, ", ".join(STEMS)),
            ("stem_channels", stem is None or stem >= 1, at_least_1),
            ("head", self.head in HEADS, ", ".join(HEADS)),
            ("classes", self.classes >= 2, "a whole number of at least 2"),
            ("bn_epsilon", self.bn_epsilon > 0, "a number above 0"),
        ]:
            require(is_accepted, field, getattr(self, field), accepted)
        if self.is_residual or self.fetch == "channel_window":
            needed = "sum" if self.is_residual else "concat"
            because = self.unit if self.is_residual else self.fetch
            accepted = "{} with {}".format(needed, because)
            require(self.combine == needed, "combine", self.combine, accepted)
        if self.head == "map3x3":
            require(self.stem == "imagenet", "head", self.head, "gap with the cifar stem")

    @property
    def is_residual(self) -> bool:
        """Whether the units are those of pre-activation ResNets."""
        return self.unit.startswith("residual")

    @property
    def stem_width(self) -> int:
        """Channels of conv0."""
        if self.stem_channels is not None:
            return self.stem_channels
        doubled = self.combine == "concat" and self.stem == "cifar"
        return (2 if doubled else 1) * self.growth_rate[0]

    @property
    def image_size(self) -> int:
        """Side of the images that the network reads."""
        return 224 if self.stem == "imagenet" else 32


# Which outputs a layer reads -------------------------------------------------------------------


def fetch(config: SparseNetConfig, layer: int) -> Tuple[int, ...]:
    """The indices of the outputs that layer `layer` (1 ... N) of a block reads, in reading order.

    Index 0 is the input of the block. `layer` = N + 1 gives what the block hands on: the same
    rule is used once more (the paper, section 3.1), so that after 32 layers the sparse outputs
    32, 31, 29, 25, 17 and 1 go on, and not the input of the block.

    Reading order is the order of the channels after concatenation, which checkpoints depend on:
    oldest first for `dense`, newest first for the others, as the public TensorFlow codes have it.
    """
    if config.fetch == "plain":
        return (layer - 1,)
    if config.fetch == "dense":
        return tuple(range(layer))
    if config.fetch == "nearest_farthest":
        # Liu & Zeng, section 3.1; they print n/2 + 1 of the farthest, which would be n + 1 in all.
        near = range(layer - 1, max(layer - config.nearest, config.farthest) - 1, -1)
        far = range(min(config.farthest, layer) - 1, -1, -1)
        return tuple(near) + tuple(far)
    if config.fetch == "channel_window":
        raise ValueError("`channel_window` reads channels, not outputs: see channel_window()")
    sources, offset = [], 1
    while offset <= layer:
        sources.append(layer - offset)
        offset *= config.base
    return tuple(sources)


class Slice(NamedTuple):
    """Channels `start` to `stop` of output number `output` of a block."""

    output: int
    start: int
    stop: int


def reads(config: SparseNetConfig, widths: List[int], layer: int) -> Tuple[Slice, ...]:
    """What layer `layer` of a block reads, where output i has `widths[i]` channels."""
    if config.fetch == "channel_window":
        return channel_window(config, widths, layer)
    return tuple(Slice(i, 0, widths[i]) for i in fetch(config, layer))


def channel_window(config: SparseNetConfig, widths: List[int], layer: int) -> Tuple[Slice, ...]:
    """What a layer reads under the rule of liu-zeng's public scripts: a window of channels.

    All outputs stand in one list of channels, newest first. They count as nb = (channels - 2k)/k
    + 1 slots. Once nb is above `path` before a layer is added, k channels are cut out, from
    channel nb/2 * k on, whatever output they belong to (for odd nb the cut straddles two).
    """
    path = config.nearest + config.farthest
    window = [Slice(0, 0, widths[0])]
    for output in range(1, layer):
        growth = widths[output]
        slots = (_channels(window) - 2 * growth) / growth + 1
        if slots > path:
            cut = int(round(slots / 2 * growth))
            window = _part(window, 0, cut) + _part(window, cut + growth, _channels(window))
        window = [Slice(output, 0, growth)] + window
    return tuple(window)


def _channels(slices) -> int:
    return sum(s.stop - s.start for s in slices)


def _part(slices: List[Slice], start: int, stop: int) -> List[Slice]:
    """Channels `start` to `stop` of a list of slices, counted over the whole list."""
    part, position = [], 0
    for s in slices:
        first, last = max(start - position, 0), min(stop - position, s.stop - s.start)
        if first < last:
            part.append(Slice(s.output, s.start + first, s.start + last))
        position += s.stop - s.start
    return part


# The plan of a network -------------------------------------------------------------------------


class Layer(NamedTuple):
    """A layer (unit): what it reads, how many channels that is, how many it puts out."""

    scope: str
    reads: Tuple[Slice, ...]
    inputs: int
    outputs: int
    stride: int


class Block(NamedTuple):
    """A block on maps of side `size`, and the transition behind it.

    inputs:     channels of the block's input y_0
    shortcut:   whether y_0 is a strided or widened version of what the block is given (residual
                units); the first layer then reads what the block is given
    handed_on:  what goes on, of `outputs` channels
    transition: channels of the transition behind the block, None where there is none
    """

    scope: str
    size: int
    given: int
    inputs: int
    shortcut: bool
    layers: Tuple[Layer, ...]
    handed_on: Tuple[Slice, ...]
    outputs: int
    transition: Optional[int]


@functools.lru_cache(maxsize=None)
def blocks(config: SparseNetConfig) -> Tuple[Block, ...]:
    """The blocks of a network, in order; everything else is derived from them, many times over."""
    return tuple(_blocks(config))


def _blocks(config: SparseNetConfig) -> Iterator[Block]:
    given = config.stem_width
    size = config.image_size // (4 if config.stem == "imagenet" else 1)
    for index, (count, growth) in enumerate(zip(config.layers, config.growth_rate)):
        last = index + 1 == len(config.layers)
        outputs = growth * (INNER_WIDTH if config.unit == "residual_bottleneck" else 1)
        stride = 2 if config.is_residual and index else 1
        shortcut = config.is_residual and (stride > 1 or given != outputs)
        inputs = outputs if shortcut else given
        size = -(-size // stride)  # `same` padding rounds up
        scope = "block{}".format(index + 1)
        widths, layers = [inputs], []
        for i in range(1, count + 1):
            read = reads(config, widths, i)
            channels = _combined(config, read)
            if i == 1:
                channels = given
            layers.append(
                Layer("{}/layer{}".format(scope, i - 1), read, channels, outputs,
                      stride if i == 1 else 1)
            )  # fmt: skip
            widths.append(outputs)
        handed_on = reads(config, widths, count + 1)
        channels = _combined(config, handed_on)
        transition = None
        if not last and not config.is_residual:
            transition = transition_width(config, channels, index)
        yield Block(scope, size, given, inputs, shortcut, tuple(layers), handed_on, channels,
                    transition)  # fmt: skip
        if transition is not None:
            size //= 2
        given = channels if transition is None else transition


def _combined(config: SparseNetConfig, slices: Tuple[Slice, ...]) -> int:
    """Channels of slices after they are combined."""
    return _channels(slices) if config.combine == "concat" else _channels(slices[:1])


def transition_width(config: SparseNetConfig, channels: int, block: int) -> int:
    """Channels that the transition behind block `block` (from 0) puts out when it reads `channels`.

    `sum` has no choice: the width of the next block. `concat`: the share `compression`, rounded
    down; with `transition_slots` as liu-zeng's scripts have it, 2k + floor(nb / 2) * k for
    nb = (channels - 2k) / k + 1.
    """
    if config.combine == "sum":
        return config.growth_rate[block + 1]
    if config.transition_slots:
        growth = config.growth_rate[block]
        slots = (channels - 2 * growth) // growth + 1
        return 2 * growth + slots // 2 * growth
    return max(1, int(channels * config.compression))


# Its operations and variables ------------------------------------------------------------------


class Convolution(NamedTuple):
    """A convolution with `same` padding; `size` is the side of the map that it puts out."""

    scope: str
    kernel: int
    inputs: int
    outputs: int
    size: int
    bias: bool


class BatchNormalization(NamedTuple):
    """Batch normalisation of `inputs` channels on a map of side `size`."""

    scope: str
    inputs: int
    size: int


class Linear(NamedTuple):
    """The classifier."""

    scope: str
    inputs: int
    outputs: int


Operation = Union[Convolution, BatchNormalization, Linear]


@functools.lru_cache(maxsize=None)
def operations(config: SparseNetConfig) -> Tuple[Operation, ...]:
    """Every operation of the network that holds variables, in the order of the graph."""
    return tuple(_operations(config))


def _operations(config: SparseNetConfig) -> Iterator[Operation]:

    def conv(scope, kernel, inputs, outputs, size):
        return Convolution(scope, kernel, inputs, outputs, size, config.bias)

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
            yield BatchNormalization(scope + "/bn1", block.outputs, block.size)
            yield conv(scope + "/conv1", 1, block.outputs, block.transition, block.size)
    yield BatchNormalization("bn_last", block.outputs, block.size)
    features = block.outputs * (9 if config.head == "map3x3" else 1)
    yield Linear("linear", features, config.classes)


def _unit_operations(config, block, layer, conv):
    """Batch normalisations and convolutions of a layer: (name, kernel, channels) in a row."""
    width = layer.outputs
    if config.unit == "residual_bottleneck":
        width = layer.outputs // INNER_WIDTH
    kernels = {
        "single": [(3, layer.outputs)],
        "bottleneck": [(1, INNER_WIDTH * layer.outputs), (3, layer.outputs)],
        "residual_basic": [(3, width), (3, width)],
        "residual_bottleneck": [(1, width), (3, width), (1, layer.outputs)],
    }[config.unit]
    strided = strided_convolution(config)
    channels, size = layer.inputs, block.size * layer.stride
    for number, (kernel, outputs) in enumerate(kernels, start=1):
        yield BatchNormalization("{}/bn{}".format(layer.scope, number), channels, size)
        if number == 1 and layer is block.layers[0] and projects(config, block):
            yield conv(layer.scope + "/shortcut", 1, layer.inputs, layer.outputs, block.size)
        if number == strided:
            size = block.size
        yield conv("{}/conv{}".format(layer.scope, number), kernel, channels, outputs, size)
        channels = outputs


def strided_convolution(config: SparseNetConfig) -> int:
    """The number of the convolution of a unit that takes the unit's stride: the first 3x3."""
    return 2 if config.unit == "residual_bottleneck" else 1


def projects(config: SparseNetConfig, block: Block) -> bool:
    """Whether a block's shortcut is a 1x1 convolution, as in bottleneck ResNets.

    Basic ResNets pad with zero channels and have no parameters there (He et al. 2015, option A).
    """
    return block.shortcut and config.unit == "residual_bottleneck"


def _attention_operations(config, layer, conv):
    scope, k = layer.scope + "/attention", layer.outputs
    if config.attention == "liu_zeng":
        yield BatchNormalization(scope + "/bn1", k, 1)
        yield conv(scope + "/conv1", 1, k, k, 1)
        yield BatchNormalization(scope + "/bn2", 2 * k, 1)
        yield conv(scope + "/conv2", 1, 2 * k, k, 1)
    elif config.attention == "se":
        inner = se_width(k)
        yield Convolution(scope + "/conv1", 1, k, inner, 1, True)
        yield Convolution(scope + "/conv2", 1, inner, k, 1, True)


def se_width(channels: int) -> int:
    """Channels inside a squeeze-and-excitation module."""
    return max(1, channels // SE_REDUCTION)


def variable_shapes(config: SparseNetConfig, trainable_only: bool = False) -> Dict[str, tuple]:
    """Name and shape of each variable that a checkpoint of the network holds, in graph order.

    `mean/EMA` and `variance/EMA` are the moving statistics of batch normalisation, which are
    not trained.
    """
    shapes = OrderedDict()
    for op in operations(config):
        if isinstance(op, Convolution):
            shapes[op.scope + "/W"] = (op.kernel, op.kernel, op.inputs, op.outputs)
            if op.bias:
                shapes[op.scope + "/b"] = (op.outputs,)
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
