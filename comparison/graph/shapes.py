"""The shapes of a graph's outputs, where its file does not record them: a rule for each type of op.

TensorFlow's own inference is not asked: it computes what a shape depends on, whatever op that is.
An op without a rule is taken to keep the shape of what it reads, as most do, if this TensorFlow
does not know it, so that it is of another platform or version; else its shapes are unknown.
"""

import dataclasses
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

from comparison.graph.arithmetic import (
    LARGEST,
    NOT_COMPUTED,
    broadcast_shape,
    computed,
    outputs_of,
    strided_index,
    value_of_shape,
    whole,
)
from comparison.graph.ops import SHAPES_OF, Op, Ops, Output, in_order, shape_of
from comparison.graph.structure import definition_of
from sparsenet.arrays import HIGHEST_RANK, size_of

OPEN = -1  # a size that is not known
MOST_VALUES = 1 << 20  # elements of all values that shapes may depend on
Shape = Optional[Tuple[int, ...]]


class Unknown(LookupError):
    """A shape, or a value that it depends on, is not known."""


class Reads:
    """An op, and the ops that it reads, with their shapes and the values of small constants."""

    def __init__(
        self, op: Op, sources: List[Op], shapes: List[Shape], values: List[Optional[np.ndarray]]
    ):
        self.op, self.sources, self.shapes, self.values = op, sources, shapes, values

    def shape(self, place: int = 0) -> Tuple[int, ...]:
        """Return the shape of an input; Unknown if not even its rank is known."""
        found = self.shapes[place]
        if found is None:
            raise Unknown
        return found

    def numbers(self, place: int) -> List[int]:
        """Return the whole numbers that a constant input holds."""
        found = self.values[place]
        if found is None:
            raise Unknown
        return whole(found)

    def axis(self, place: int, rank: int) -> int:
        """Return the axis that a constant input holds, counted from the first."""
        (axis,) = self.numbers(place)
        return _axis(axis, rank)

    def as_shape(self, place: int) -> Tuple[int, ...]:
        """Return the shape that an input holds; all open if its length is all that is known."""
        if self.values[place] is not None:
            return tuple(self.numbers(place))
        (rank,) = self.shape(place)
        if not 0 <= rank <= HIGHEST_RANK:
            raise Unknown
        return (OPEN,) * rank

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the op."""
        return self.op.attributes.get(name, default)


def infer_shapes(ops: Ops) -> None:
    """Give each op the shapes of its outputs, as far as they are known."""
    values: Dict[Output, np.ndarray] = {}
    left = MOST_VALUES
    wired = {**ops, **_dequeues(ops)}
    for name in in_order(wired):
        op = wired[name]
        sources = [ops[each] for each, _ in op.inputs]
        shapes = [shape_of(ops, each) for each in op.inputs]
        reads = Reads(op, sources, shapes, [values.get(each) for each in op.inputs])
        ops[name].shapes = _shapes(reads)
        for port, value in enumerate(_values(reads) if left > 0 else ()):
            if value is not None:
                values[name, port] = value
                left -= value.size


def _dequeues(ops: Ops) -> Ops:
    """Return the ops that read from queues as ones that pass on what is written to these."""
    written = {
        op.inputs[0][0]: op.inputs[1:] for op in ops.values()
        if op.type in ("QueueEnqueue", "QueueEnqueueV2") and op.inputs
    }  # fmt: skip
    return {
        op.name: dataclasses.replace(op, type="IdentityN", inputs=written.get(op.inputs[0][0], []))
        for op in ops.values()
        if op.type in ("QueueDequeue", "QueueDequeueV2") and op.inputs
    }


def _shapes(reads: Reads) -> List[Shape]:
    """Return the shapes of an op's outputs; none where they are unknown."""
    rule = RULES.get(reads.op.type)
    if rule is None and definition_of(reads.op.type) is None:
        rule = _kept
    try:
        found = rule(reads) if rule is not None else []
        return [None if each is None else tuple(map(_size, each)) for each in found]
    except NOT_COMPUTED:
        return []


def _size(size: int) -> int:
    return size if size >= 0 else OPEN


def _values(reads: Reads) -> Sequence[Optional[np.ndarray]]:
    """Return the values of an op's outputs where they are small constants."""
    op = reads.op
    if op.type in SHAPES_OF:
        return [value_of_shape(op.type, shape, op.attributes) for shape in reads.shapes]
    return outputs_of(op, reads.values)


# Rules -----------------------------------------------------------------------------------------

Rule = Callable[[Reads], Sequence[Optional[Sequence[int]]]]


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise Unknown
    return axis % rank


def _replaced(shape: Sequence[int], axis: int, size: int) -> List[int]:
    return [size if place == axis else each for place, each in enumerate(shape)]


def _total(sizes: Sequence[int]) -> int:
    return OPEN if OPEN in sizes else sum(sizes)


def _like(*places: int) -> Rule:
    """Return the rule of an op whose outputs have the shapes of these inputs."""
    return lambda reads: [reads.shapes[place] for place in places]


_kept = _like(0)


def _recorded(name: str) -> Rule:
    """Return the rule of an op that has its shape as an attribute."""
    return lambda reads: [reads.get(name)]


def _of_value(place: int) -> Rule:
    """Return the rule of an op that reads its shape."""
    return lambda reads: [reads.as_shape(place)]


def _fixed(*shapes: Sequence[int]) -> Rule:
    return lambda reads: shapes


def _broadcast(reads: Reads) -> List[Shape]:
    return [broadcast_shape([reads.shape(place) for place in range(len(reads.shapes))])]


def _first_known(reads: Reads) -> List[Shape]:
    return [next((shape for shape in reads.shapes if shape is not None), None)]


def _matrix_product(reads: Reads) -> List[Shape]:
    a, b = reads.shape(0), reads.shape(1)
    rows = a[-1] if reads.get("transpose_a") or reads.get("adj_x") else a[-2]
    columns = b[-2] if reads.get("transpose_b") or reads.get("adj_y") else b[-1]
    return [(*broadcast_shape([a[:-2], b[:-2]]), rows, columns)]


def _reduced(reads: Reads) -> Sequence[Optional[Sequence[int]]]:
    shape = reads.shape()
    if reads.values[1] is None:
        return [(OPEN,) * len(shape) if reads.get("keep_dims") else None]
    axes = {_axis(axis, len(shape)) for axis in reads.numbers(1)}
    if reads.get("keep_dims"):
        return [[1 if place in axes else size for place, size in enumerate(shape)]]
    return [[size for place, size in enumerate(shape) if place not in axes]]


def _without_axis(reads: Reads) -> List[Sequence[int]]:
    shape = list(reads.shape())
    del shape[reads.axis(1, len(shape))]
    return [shape]


# Windows: convolutions and pooling.


def _layout(reads: Reads) -> Tuple[int, List[int]]:
    """Return the axis of the channels, and those of height and width."""
    return (1, [2, 3]) if reads.get("data_format") == "NCHW" else (3, [1, 2])


def _window_count(reads: Reads, size: int, window: int, place: int) -> int:
    """Return how often a window fits along an axis."""
    stride = reads.get("strides")[place]
    if size == OPEN:
        return OPEN
    window = (window - 1) * reads.get("dilations", (1,) * 4)[place] + 1
    padding = reads.get("padding")
    if padding == "SAME":
        return -(-size // stride)
    if padding == "EXPLICIT":
        size += sum(reads.get("explicit_paddings")[2 * place : 2 * place + 2])
    return max(0, (size - window) // stride + 1)


def _windowed(reads: Reads, windows: Dict[int, int], channels: int) -> List[Sequence[int]]:
    """Return the shape after windows, by axis, have gone over the first input."""
    shape = list(reads.shape())
    for place, window in windows.items():
        shape[place] = _window_count(reads, shape[place], window, place)
    return [_replaced(shape, _layout(reads)[0], channels)]


def _convolution(reads: Reads) -> List[Sequence[int]]:
    _, places = _layout(reads)
    kernel = reads.shape(1)
    return _windowed(reads, dict(zip(places, kernel)), kernel[3])


def _depthwise_convolution(reads: Reads) -> List[Sequence[int]]:
    _, places = _layout(reads)
    kernel = reads.shape(1)
    return _windowed(reads, dict(zip(places, kernel)), kernel[2] * kernel[3])


def _pooling(reads: Reads) -> List[Sequence[int]]:
    channel, places = _layout(reads)
    windows = {place: reads.get("ksize")[place] for place in places}
    return _windowed(reads, windows, reads.shape()[channel])


def _per_channel(reads: Reads) -> List[int]:
    return [reads.shape()[_layout(reads)[0]]]


def _batch_norm(reads: Reads) -> List[Optional[Sequence[int]]]:
    return [reads.shape(), *[_per_channel(reads)] * 4, None]


def _batch_norm_gradient(reads: Reads) -> List[Sequence[int]]:
    return [reads.shape(1), *[_per_channel(reads)] * 2, [0], [0]]


def _bias_gradient(reads: Reads) -> List[Sequence[int]]:
    shape = reads.shape()
    return [[shape[1] if reads.get("data_format") == "NCHW" else shape[-1]]]


# Other forms, parts and wholes.


def _reshaped(reads: Reads) -> List[Sequence[int]]:
    sizes, before = reads.as_shape(1), reads.shapes[0]
    known = size_of(size for size in sizes if size != OPEN)
    if list(sizes).count(OPEN) == 1 and before is not None and OPEN not in before and known:
        return [[size_of(before) // known if size == OPEN else size for size in sizes]]
    return [sizes]


def _transposed(reads: Reads) -> List[Sequence[int]]:
    shape = reads.shape()
    if reads.values[1] is None:
        return [(OPEN,) * len(shape)]
    return [[shape[place] for place in reads.numbers(1)]]


def _padded(reads: Reads) -> List[Sequence[int]]:
    shape = reads.shape()
    if reads.values[1] is None:
        return [(OPEN,) * len(shape)]
    paddings = reads.numbers(1)
    added = [before + after for before, after in zip(paddings[::2], paddings[1::2])]
    return [[OPEN if size == OPEN else size + more for size, more in zip(shape, added)]]


def _tiled(reads: Reads) -> List[Sequence[int]]:
    times = reads.as_shape(1)
    return [[OPEN if OPEN in pair else pair[0] * pair[1] for pair in zip(reads.shape(), times)]]


def _expanded(reads: Reads) -> List[Sequence[int]]:
    shape = list(reads.shape())
    shape.insert(reads.axis(1, len(shape) + 1), 1)
    return [shape]


def _squeezed(reads: Reads) -> List[Sequence[int]]:
    shape = reads.shape()
    axes = {_axis(axis, len(shape)) for axis in reads.get("squeeze_dims", ())}
    if not axes and OPEN in shape:
        raise Unknown
    return [[size for place, size in enumerate(shape)
             if (place not in axes if axes else size != 1)]]  # fmt: skip


def _joined(reads: Reads, places: range, axis_place: int) -> List[Sequence[int]]:
    shapes = [reads.shape(place) for place in places]
    axis = reads.axis(axis_place, len(shapes[0]))
    return [_replaced(shapes[0], axis, _total([shape[axis] for shape in shapes]))]


def _packed(reads: Reads) -> List[Sequence[int]]:
    shape = list(_first_known(reads)[0] or reads.shape())
    shape.insert(_axis(reads.get("axis", 0), len(shape) + 1), len(reads.shapes))
    return [shape]


def _unpacked(reads: Reads) -> List[Sequence[int]]:
    shape = list(reads.shape())
    del shape[_axis(reads.get("axis", 0), len(shape))]
    return [shape] * _parts(reads, "num")


def _parts(reads: Reads, name: str) -> int:
    """Return the number of an op's outputs, which is an attribute."""
    count = reads.get(name)
    if not 0 <= count <= LARGEST:
        raise Unknown
    return count


def _split(reads: Reads) -> List[Sequence[int]]:
    shape, count = reads.shape(1), _parts(reads, "num_split")
    axis = reads.axis(0, len(shape))
    size = OPEN if shape[axis] == OPEN else shape[axis] // count
    return [_replaced(shape, axis, size)] * count


def _split_by_sizes(reads: Reads) -> List[Sequence[int]]:
    shape = reads.shape()
    return [_replaced(shape, reads.axis(2, len(shape)), size) for size in reads.numbers(1)]


def _sliced(reads: Reads) -> List[Sequence[int]]:
    shape, sizes = reads.shape(), reads.numbers(2)
    starts = reads.numbers(1) if reads.values[1] is not None else [OPEN] * len(sizes)
    return [[
        length if length != -1 else OPEN if OPEN in (start, full) else full - start
        for start, length, full in zip(starts, sizes, shape)
    ]]  # fmt: skip


def _strided_slice(reads: Reads) -> List[Sequence[int]]:
    shape = reads.shape()
    bounds = [reads.numbers(place) for place in (1, 2, 3)]
    index = strided_index(bounds, reads.op.attributes)
    # An array that takes no memory: each of its elements is the same one.
    sliced = np.broadcast_to(np.int8(0), [1 if size == OPEN else size for size in shape])[index]
    return [[OPEN] * sliced.ndim if OPEN in shape else sliced.shape]


def _gathered(reads: Reads) -> List[Sequence[int]]:
    shape, places = reads.shape(0), reads.shape(1)
    axis = reads.axis(2, len(shape)) if len(reads.shapes) > 2 else 0
    batch = reads.get("batch_dims", 0)
    return [[*shape[:axis], *places[batch:], *shape[axis + 1 :]]]


def _one_hot(reads: Reads) -> List[Sequence[int]]:
    shape = list(reads.shape())
    (depth,) = reads.numbers(1) if reads.values[1] is not None else [OPEN]
    shape.insert(_axis(reads.get("axis", -1), len(shape) + 1), depth)
    return [shape]


def _stitched(reads: Reads) -> List[Sequence[int]]:
    half = len(reads.shapes) // 2
    row = reads.shape(half)[len(reads.shape(0)) :]
    places = [reads.values[place] for place in range(half)]
    if any(each is None for each in places):
        return [[OPEN, *row]]
    return [[1 + max(place for i in range(half) for place in reads.numbers(i)), *row]]


def _largest(reads: Reads) -> List[Sequence[int]]:
    (count,) = reads.numbers(1) if reads.values[1] is not None else [OPEN]
    return [[*reads.shape()[:-1], count]] * 2


def _range(reads: Reads) -> List[Sequence[int]]:
    values = [value for value in reads.values if value is not None]
    found = computed("Range", values, {}) if len(values) == 3 else None
    return [found[0].shape if found else [OPEN]]


def _resized(reads: Reads) -> List[Sequence[int]]:
    shape = reads.shape()
    return [[shape[0], *reads.as_shape(1), shape[3]]]


ELEMENTWISE = (
    "Abs", "Acos", "Asin", "Atan", "BiasAdd", "Cast", "Ceil", "CheckNumerics",
    "ClipByValue", "Cos", "Cumsum", "Elu", "Erf", "Exp", "Expm1", "FakeQuantWithMinMaxArgs",
    "FakeQuantWithMinMaxVars", "Floor", "Gelu", "Identity", "Inv", "InvertPermutation", "IsFinite",
    "IsInf", "IsNan", "LRN", "LeakyRelu", "Log", "Log1p", "LogSoftmax", "LogicalNot", "Neg",
    "OnesLike", "PlaceholderWithDefault", "PreventGradient", "Print", "Reciprocal", "Relu", "Relu6",
    "ReverseV2", "Rint", "Round", "Rsqrt", "Selu", "Sigmoid", "Sign", "Sin", "Snapshot", "Softmax",
    "Softplus", "Softsign", "Sqrt", "Square", "StopGradient", "Tan", "Tanh", "ZerosLike",
    # Gradients of these.
    "EluGrad", "LeakyReluGrad", "MaxPoolGrad", "Relu6Grad", "ReluGrad", "RsqrtGrad", "SeluGrad",
    "SigmoidGrad", "SoftplusGrad", "SqrtGrad", "TanhGrad",
)  # fmt: skip
BINARY = (
    "Add", "AddV2", "Div", "DivNoNan", "Equal", "FloorDiv", "FloorMod", "Greater", "GreaterEqual",
    "Less", "LessEqual", "LogicalAnd", "LogicalOr", "Maximum", "Minimum", "Mod", "Mul", "MulNoNan",
    "NotEqual", "Pow", "RealDiv", "SelectV2", "SquaredDifference", "Sub", "TruncateDiv",
    "TruncateMod", "Xdivy", "Xlogy",
)  # fmt: skip
REDUCTIONS = ("All", "Any", "EuclideanNorm", "Max", "Mean", "Min", "Prod", "Sum")
RANDOM_OF_SHAPE = (
    "RandomStandardNormal", "RandomUniform", "RandomUniformInt", "StatelessRandomNormal",
    "StatelessRandomNormalV2", "StatelessRandomUniform", "StatelessRandomUniformInt",
    "StatelessRandomUniformIntV2", "StatelessRandomUniformV2", "StatelessTruncatedNormal",
    "StatelessTruncatedNormalV2", "TruncatedNormal",
)  # fmt: skip
# Ops that write a reference variable return it.
OF_VARIABLE = (
    "ApplyAdagrad", "ApplyAdam", "ApplyGradientDescent", "ApplyMomentum", "ApplyRMSProp", "Assign",
    "AssignAdd", "AssignSub", "RefIdentity",
)  # fmt: skip

RULES: Dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE + OF_VARIABLE, _kept),
    **dict.fromkeys(BINARY, _broadcast),
    **dict.fromkeys(REDUCTIONS, _reduced),
    **dict.fromkeys(RANDOM_OF_SHAPE + ("Fill",), _of_value(0)),
    **dict.fromkeys(("Variable", "VariableV2", "Placeholder"), _recorded("shape")),
    "Const": lambda reads: [reads.op.value.shape if reads.op.value is not None else None],
    "IdentityN": lambda reads: reads.shapes,
    "VarHandleOp": _fixed([]),
    "VarIsInitializedOp": _fixed([]),
    "IsVariableInitialized": _fixed([]),
    "ReadVariableOp": lambda reads: [reads.sources[0].attributes.get("shape")],
    "StatelessRandomGetKeyCounter": _fixed([1], [2]),
    "L2Loss": _fixed([]),
    "Rank": _fixed([]),
    "Size": _fixed([]),
    "Shape": lambda reads: [[len(reads.shape())]],
    "ShapeN": lambda reads: [None if shape is None else [len(shape)] for shape in reads.shapes],
    "AddN": _first_known,
    "Select": _like(1),
    "MatMul": _matrix_product,
    "BatchMatMul": _matrix_product,
    "BatchMatMulV2": _matrix_product,
    "ArgMax": _without_axis,
    "ArgMin": _without_axis,
    "Conv2D": _convolution,
    "DepthwiseConv2dNative": _depthwise_convolution,
    "AvgPool": _pooling,
    "MaxPool": _pooling,
    "AvgPoolGrad": _of_value(0),
    "Conv2DBackpropInput": _of_value(0),
    "Conv2DBackpropFilter": _of_value(1),
    "DepthwiseConv2dNativeBackpropInput": _of_value(0),
    "DepthwiseConv2dNativeBackpropFilter": _of_value(1),
    "FusedBatchNorm": lambda reads: _batch_norm(reads)[:5],
    "FusedBatchNormV2": lambda reads: _batch_norm(reads)[:5],
    "FusedBatchNormV3": _batch_norm,
    "FusedBatchNormGrad": _batch_norm_gradient,
    "FusedBatchNormGradV2": _batch_norm_gradient,
    "FusedBatchNormGradV3": _batch_norm_gradient,
    "BiasAddGrad": _bias_gradient,
    "SoftmaxCrossEntropyWithLogits": lambda reads: [reads.shape()[:1], reads.shape()],
    "SparseSoftmaxCrossEntropyWithLogits": lambda reads: [reads.shape()[:1], reads.shape()],
    "InTopK": _like(1),
    "InTopKV2": _like(1),
    "TopKV2": _largest,
    "Reshape": _reshaped,
    "Transpose": _transposed,
    "Pad": _padded,
    "PadV2": _padded,
    "MirrorPad": _padded,
    "Tile": _tiled,
    "BroadcastTo": _of_value(1),
    "ExpandDims": _expanded,
    "Squeeze": _squeezed,
    "Concat": lambda reads: _joined(reads, range(1, len(reads.shapes)), 0),
    "ConcatV2": lambda reads: _joined(reads, range(len(reads.shapes) - 1), -1),
    "ConcatOffset": lambda reads: reads.shapes[1:],
    "BroadcastGradientArgs": _fixed([OPEN], [OPEN]),
    "Pack": _packed,
    "Unpack": _unpacked,
    "Split": _split,
    "SplitV": _split_by_sizes,
    "Slice": _sliced,
    "StridedSlice": _strided_slice,
    "Gather": _gathered,
    "GatherV2": _gathered,
    "OneHot": _one_hot,
    "DynamicStitch": _stitched,
    "Range": _range,
    "ResizeBilinear": _resized,
    "ResizeNearestNeighbor": _resized,
}
