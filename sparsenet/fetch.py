"""Which outputs a layer reads: the idea of the paper.

Layer i of a block (i = 1 ... N) reads some of the outputs y_0 ... y_{i-1} that came before it,
where y_0 is the input of the block. *Which* ones it reads is a pure function of i, :func:`fetch`;
*how* it combines them is `concat` or `sum`.

Sources: Zhu et al., Sparsely Aggregated Convolutional Networks, ECCV 2018, arXiv 1801.05895
("the paper"); Liu & Zeng, SparseNet: A Sparse DenseNet for Image Classification, arXiv 1804.05340.
"""

from typing import Iterable, List, NamedTuple, Tuple

from sparsenet.config import SparseNetConfig


def fetch(config: SparseNetConfig, layer: int) -> Tuple[int, ...]:
    """Return the indices of the outputs that layer `layer` (1 ... N) of a block reads, in order.

    Index 0 is the input of the block. `layer` = N + 1 gives the block's output: the same rule is
    used once more (the paper, section 3.1), so that after 32 layers the sparse outputs 32, 31, 29,
    25, 17 and 1 are passed on, and the input of the block is not.

    The order is that of the channels after concatenation, which checkpoints depend on: oldest
    first for `dense`, newest first for the others, as in the public TensorFlow codes.
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
    """The channels `start` to `stop` (excluded) of output number `output` of a block."""

    output: int
    start: int
    stop: int


def reads(config: SparseNetConfig, widths: List[int], layer: int) -> Tuple[Slice, ...]:
    """Return what layer `layer` of a block reads, where output i has `widths[i]` channels."""
    if config.fetch == "channel_window":
        return channel_window(config, widths, layer)
    return tuple(Slice(i, 0, widths[i]) for i in fetch(config, layer))


def channel_window(config: SparseNetConfig, widths: List[int], layer: int) -> Tuple[Slice, ...]:
    """Return what a layer reads under the rule of Liu & Zeng's public scripts.

    All outputs form one list of channels, newest first, which counts as nb = (channels - 2k)/k + 1
    slots. Whenever nb is above `path` before a layer is added, k channels are cut out, starting at
    channel nb/2 * k, whichever output they belong to (for odd nb the cut straddles two).
    """
    path = config.nearest + config.farthest
    window = [Slice(0, 0, widths[0])]
    for output in range(1, layer):
        growth = widths[output]
        slots = (count_channels(window) - 2 * growth) / growth + 1
        if slots > path:
            cut = int(round(slots / 2 * growth))
            last = count_channels(window)
            window = _part(window, 0, cut) + _part(window, cut + growth, last)
        window = [Slice(output, 0, growth)] + window
    return tuple(window)


def count_channels(slices: Iterable[Slice]) -> int:
    """Return the number of channels of all slices together."""
    return sum(s.stop - s.start for s in slices)


def _part(slices: List[Slice], start: int, stop: int) -> List[Slice]:
    """Return channels `start` to `stop` (excluded), counted over a whole list of slices."""
    part, position = [], 0
    for s in slices:
        first, last = max(start - position, 0), min(stop - position, s.stop - s.start)
        if first < last:
            part.append(Slice(s.output, s.start + first, s.start + last))
        position += s.stop - s.start
    return part
