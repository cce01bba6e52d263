"""A network as one frozen record, from which graph, parameter table and pictures are derived.

Sources: Zhu et al., Sparsely Aggregated Convolutional Networks, ECCV 2018, arXiv 1801.05895
("the paper"); Liu & Zeng, SparseNet: A Sparse DenseNet for Image Classification, arXiv 1804.05340;
Huang et al., DenseNet, CVPR 2017; He et al., Identity Mappings, ECCV 2016 (ResNet).
"""

import dataclasses
import typing
from typing import NamedTuple, Optional, Tuple

from sparsenet.errors import require

# Far above any network of the papers; beyond these, memory or patience would run out.
MAX_LAYERS = 5000
MAX_GROWTH = 4096
MAX_CLASSES = 100_000
MAX_READS = 500_000  # outputs that layers read, in all: a dense block of 1,000 layers
MAX_BLOCKS = 6  # each transition halves a map: of 32 pixels, as of 56, the sixth has 1
FETCHES = ("sparse", "dense", "plain", "nearest_farthest", "channel_window")
COMBINES = ("concat", "sum")
ATTENTIONS = ("none", "liu_zeng", "se")
STEMS = ("cifar", "cifar_narrow", "imagenet")
HEADS = ("gap", "map3x3")


class UnitConvolution(NamedTuple):
    """A convolution of a unit, preceded by BN-ReLU.

    kernel: side of the kernel; width: output channels, as a multiple of the growth rate
    """

    kernel: int
    width: int


# The convolutions of a layer, in order. In a ResNet the first 3x3 one has the block's stride.
UNITS = {
    "single": (UnitConvolution(3, 1),),
    "bottleneck": (UnitConvolution(1, 4), UnitConvolution(3, 1)),
    "residual_basic": (UnitConvolution(3, 1), UnitConvolution(3, 1)),
    "residual_bottleneck": (
        UnitConvolution(1, 1), UnitConvolution(3, 1), UnitConvolution(1, 4)
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SparseNetConfig:
    """One network: its blocks, which outputs their layers read, and what the layers are made of.

    layers:       number of layers (units) of each block, in order
    growth_rate:  output channels k of a layer of each block (width of a residual unit)
    fetch:        which earlier outputs a layer reads, see fetch.fetch; `channel_window` is the rule
                  of Liu & Zeng's public scripts, see fetch.channel_window
    base:         base c of the sparse rule's offsets 1, c, c^2, ...
    nearest, farthest: how many outputs from either end `nearest_farthest` reads; their sum is
                  the `path` of the scripts' rule
    combine:      `concat` along channels (SparseNet[⊕] of the paper, DenseNet)
                  or `sum` (SparseNet[+], ResNet)
    unit:         `single` BN-ReLU-Conv3x3(k); `bottleneck` BN-ReLU-Conv1x1(4k) before it;
                  `residual_basic` two 3x3(k); `residual_bottleneck` 1x1(k)-3x3(k)-1x1(4k)
    compression:  output channels of a transition, as a fraction of its input channels
    dropout:      fraction of values dropped after each convolution of a layer or transition
    attention:    applied to a layer's output: `liu_zeng` (their section 3.3), `se`
                  (squeeze-and-excitation, Hu et al.) or `none`
    stem:         `cifar` 3x3; `cifar_narrow`, the same with k channels; `imagenet` 7x7/2, BN-ReLU,
                  3x3/2 max pool
    stem_channels: channels of conv0; None means 2k of the first block for `concat` with `cifar`
                  (which reproduces the paper's counts), and with `cifar_narrow` if dense (as in the
                  public PyTorch code); k otherwise
    head:         `gap` global average; `map3x3` 2x2 average pooling of the 7x7 map, flattened
    classes:      number of classes
    bias, stem_relu, transition_relu, bottleneck_relu, transition_slots, bn_epsilon: where public
                  implementations differ from the papers: biases of convolutions, a ReLU after conv0
                  and after a transition's convolution, a bottleneck's first ReLU, a transition's
                  width counted in slots (see plan.transition_width), epsilon of batch norm

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
        _check_types(self)
        count, stem = len(self.layers), self.stem_channels
        per_block = "one number, or one for each of the {} blocks".format(count)
        at_least_1 = "a whole number of at least 1"
        wide = "at most {}".format(MAX_GROWTH)
        deep = "at most {} layers".format(MAX_LAYERS)
        blocks = "at most {} blocks, behind which no pixel is left".format(MAX_BLOCKS)
        reads = "fewer with {}: at most {} outputs are read".format(self.fetch, MAX_READS)
        for field, is_accepted, accepted in [
            ("layers", count >= 1 and min(self.layers) >= 1, "numbers of at least 1"),
            ("layers", sum(self.layers) <= MAX_LAYERS, deep),
            ("layers", self.is_residual or count <= MAX_BLOCKS, blocks),
            ("layers", self._most_reads <= MAX_READS, reads),
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
            ("stem_channels", (stem or 1) <= 2 * MAX_GROWTH, "at most {}".format(2 * MAX_GROWTH)),
            ("head", self.head in HEADS, ", ".join(HEADS)),
            ("classes", self.classes >= 1, at_least_1),
            ("classes", self.classes <= MAX_CLASSES, "at most {}".format(MAX_CLASSES)),
            ("bn_epsilon", 0 < self.bn_epsilon < 1, "above 0 and below 1"),
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
        """Return whether the units are those of pre-activation ResNets."""
        return self.unit.startswith("residual")

    @property
    def _most_reads(self) -> int:
        """Return a bound of the number of outputs that layers read, or look at to know what."""
        window = self.nearest + self.farthest
        return sum(
            {
                "dense": n * n // 2,
                "nearest_farthest": n * min(n, window),
                # All outputs before a layer pass through the window.
                "channel_window": n * n // 2 * min(n, window),
            }.get(self.fetch, n)
            for n in self.layers
        )

    @property
    def stem_width(self) -> int:
        """Return the number of channels of conv0."""
        if self.stem_channels is not None:
            return self.stem_channels
        is_wide = self.stem == "cifar" or (self.stem == "cifar_narrow" and self.fetch == "dense")
        return (2 if is_wide and self.combine == "concat" else 1) * self.growth_rate[0]

    @property
    def image_size(self) -> int:
        """Return the side of the images that the network reads, in pixels."""
        return 224 if self.stem == "imagenet" else 32


def _check_types(config: SparseNetConfig) -> None:
    """Raise UserError, naming the field, for a value that is not of the type of its field."""
    for field, hint in typing.get_type_hints(SparseNetConfig).items():
        value = getattr(config, field)
        name = hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")
        require(_is_of_type(value, hint), field, value, name)


def _is_of_type(value: object, hint) -> bool:
    """Return whether a value is of a type that fields of the config have."""
    if hint == Optional[int]:
        return value is None or _is_of_type(value, int)
    if hint == Tuple[int, ...]:
        return isinstance(value, tuple) and all(_is_of_type(each, int) for each in value)
    if isinstance(value, bool):  # which Python takes for 1 or 0
        return hint is bool
    return isinstance(value, (int, float) if hint is float else hint)
