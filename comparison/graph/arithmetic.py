"""The arithmetic of constants, in numpy: a table of ops that are pure, and computed when small.

Nothing else in a graph is ever computed: a graph comes from anybody, and TensorFlow's ops can read
and write files, open connections and run Python. Each op says how many elements it would return
before it is computed.
"""

import math
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from comparison.graph.ops import Op
from sparsenet.arrays import size_of

LARGEST = 4096  # elements of a value: what is larger is data, not arithmetic of shapes
NUMBERS = "biuf"  # kinds of types: bool, whole numbers, floats
NOT_COMPUTED = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, MemoryError)

Values = Sequence[np.ndarray]
Attributes = Mapping[str, Any]


class Operation(NamedTuple):
    """An op: what it computes, and how many elements it would return at most.

    compute: (values it reads, attributes) -> the value of each output
    size:    (values it reads, attributes) -> elements
    """

    compute: Callable[[Values, Attributes], Sequence[Any]]
    size: Callable[[Values, Attributes], int]


def is_small(value: np.ndarray) -> bool:
    """Return whether a value is one that is computed with: few numbers."""
    return value.size <= LARGEST and value.dtype.kind in NUMBERS and value.dtype.itemsize <= 8


def computed(type_: str, values: Values, attributes: Attributes) -> Optional[List[np.ndarray]]:
    """Return the outputs of an op; None if it is not in the table, too large or has no result."""
    operation = OPERATIONS.get(type_)
    if operation is None or len(values) > LARGEST or not all(map(is_small, values)):
        return None
    try:
        if operation.size(values, attributes) > LARGEST:
            return None
        with np.errstate(all="ignore"):
            found = [np.asarray(each) for each in operation.compute(values, attributes)]
    except NOT_COMPUTED:
        return None
    return found if all(map(is_small, found)) else None


def outputs_of(op: Op, values: Sequence[Optional[np.ndarray]]) -> List[np.ndarray]:
    """Return the outputs of a small constant, or of an op that is computed from such ones.

    values: that the op reads, None where one is not known; none are returned then
    """
    if op.value is not None:
        return [op.value] if is_small(op.value) else []
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return []
    return computed(op.type, known, op.attributes) or []


def value_of_shape(
    type_: str, shape: Optional[Sequence[int]], attributes: Attributes
) -> Optional[np.ndarray]:
    """Return what one of SHAPES_OF returns of a shape; None if that is not all known, or too large.

    type_: the op; a size of -1 is open
    """
    if shape is None or -1 in shape:
        return None
    found = {"Size": size_of(shape), "Rank": len(shape)}.get(type_, shape)
    try:
        return np.array(found, attributes.get("out_type", "int32"))
    except NOT_COMPUTED:
        return None


# How large a result is -------------------------------------------------------------------------


def _as_read(values: Values, _: Attributes) -> int:
    return sum(value.size for value in values)


def _broadcast(values: Values, _: Attributes) -> int:
    return size_of(broadcast_shape([value.shape for value in values]))


def broadcast_shape(shapes: Sequence[Tuple[int, ...]]) -> Tuple[int, ...]:
    """Return the shape that arrays of these shapes are broadcast to; ValueError if there is none.

    A size of -1 is open.
    """
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + tuple(shape) for shape in shapes]
    found = []
    for sizes in zip(*padded):
        wider = {size for size in sizes if size not in (1, -1)}
        if len(wider) > 1:
            raise ValueError("no common shape")
        found.append(wider.pop() if wider else -1 if -1 in sizes else 1)
    return tuple(found)


def whole(value: np.ndarray) -> List[int]:
    """Return a vector of whole numbers as a list; ValueError if it is none."""
    if value.dtype.kind not in "iu":
        raise ValueError("no whole numbers")
    return np.atleast_1d(value).ravel().tolist()


def one(value: np.ndarray) -> int:
    """Return a single whole number; ValueError if it is none."""
    (number,) = whole(value)
    return number


def _shape(value: np.ndarray) -> Tuple[int, ...]:
    """Return a shape that is given as a vector; ValueError if a size is negative."""
    shape = tuple(whole(value))
    if min(shape, default=0) < 0:
        raise ValueError("a negative size")
    return shape


def _tiled(values: Values, _: Attributes) -> int:
    return values[0].size * size_of(_shape(values[1]))


def _counted(values: Values, _: Attributes) -> int:
    start, limit, step = (value.item() for value in values)
    return max(0, math.ceil((limit - start) / step))


def _gathered(values: Values, _: Attributes) -> int:
    return values[0].size * max(1, values[1].size)


def _stitched(values: Values, _: Attributes) -> int:
    indices, data = values[: len(values) // 2], values[len(values) // 2 :]
    rows = 1 + max((int(each.max()) for each in indices if each.size), default=-1)
    return rows * size_of(data[0].shape[indices[0].ndim :])


# What is computed ------------------------------------------------------------------------------


def _elementwise(function: Callable, kinds: str = NUMBERS) -> Operation:
    """Return an op that computes each element from those in the same place, in their type."""

    def compute(values: Values, _: Attributes):
        if len({value.dtype for value in values}) != 1 or values[0].dtype.kind not in kinds:
            raise ValueError("other types than the op's")
        return [function(*values)]

    return Operation(compute, _broadcast)


def _in_type(function: Callable) -> Callable:
    """Return a function of arrays whose result has their type."""
    return lambda *values: np.asarray(function(*values)).astype(values[0].dtype)


def _nonzero_divisor(function: Callable) -> Callable:
    """Return a division that has no result for whole numbers over 0."""

    def divide(a, b):
        if b.dtype.kind != "f" and not np.all(b):
            raise ZeroDivisionError
        return function(a, b)

    return divide


def _truncated_quotient(a, b):
    return np.where((a < 0) != (b < 0), -(abs(a) // abs(b)), abs(a) // abs(b))


def _quotient(a, b):
    return a / b if a.dtype.kind == "f" else _truncated_quotient(a, b)


def _reduction(function: Callable, kinds: str = NUMBERS) -> Operation:
    def compute(values: Values, attributes: Attributes):
        value, axes = values
        if value.dtype.kind not in kinds:
            raise ValueError("other types than the op's")
        rank = value.ndim
        places = {axis % rank for axis in whole(axes) if -rank <= axis < rank}
        if len(places) != axes.size:
            raise ValueError("no such axes")
        kept = bool(attributes.get("keep_dims", False))
        return [np.asarray(function(value, axis=tuple(places), keepdims=kept)).astype(value.dtype)]

    return Operation(compute, _as_read)


def _of(function: Callable, size: Callable = _as_read) -> Operation:
    """Return an op with one output, from a function of the values that it reads."""
    return Operation(lambda values, _: [function(*values)], size)


def _cast(values: Values, attributes: Attributes):
    dtype = np.dtype(attributes["DstT"])
    if attributes.get("Truncate") or dtype.kind not in NUMBERS:
        raise ValueError("another type")
    return [values[0].astype(dtype)]


def _filled(values: Values, _: Attributes) -> List[np.ndarray]:
    if values[1].ndim:
        raise ValueError("no single value")
    return [np.full(_shape(values[0]), values[1])]


def _range(start, limit, step):
    _alike([start, limit, step])
    if start.dtype.kind not in "iu":  # TensorFlow adds up the steps of floats, with their rounding
        raise ValueError("no whole numbers")
    count = _counted((start, limit, step), {})
    return (start + step * np.arange(count).astype(start.dtype)).astype(start.dtype)


def _reshaped(value, shape):
    sizes = whole(shape)
    if min(sizes, default=0) < -1:
        raise ValueError("a negative size")
    return value.reshape(sizes)


def _squeezed(values: Values, attributes: Attributes):
    axes = attributes.get("squeeze_dims") or ()
    return [np.squeeze(values[0], tuple(axes) or None)]


def _packed(values: Values, attributes: Attributes):
    return [np.stack(_alike(values), attributes.get("axis", 0))]


def _unpacked(values: Values, attributes: Attributes):
    parts = np.moveaxis(values[0], attributes.get("axis", 0), 0)
    if len(parts) != attributes["num"]:
        raise ValueError("another number of parts")
    return list(parts)


def _alike(values: Values) -> List[np.ndarray]:
    """Return values of one type; ValueError if they are of several."""
    if len({value.dtype for value in values}) != 1:
        raise ValueError("several types")
    return list(values)


def _split(values: Values, attributes: Attributes):
    return np.split(values[1], attributes["num_split"], one(values[0]))


def _split_by_sizes(values: Values, _: Attributes):
    value, sizes, axis = values
    ends = np.cumsum(_shape(sizes))
    if not len(ends) or ends[-1] != value.shape[one(axis)]:
        raise ValueError("other sizes")
    return np.split(value, ends[:-1], one(axis))


def _sliced(value, begin, size):
    starts, sizes = whole(begin), whole(size)
    ends = [
        full if length == -1 else start + length
        for start, length, full in zip(starts, sizes, value.shape)
    ]
    fits = [0 <= a <= b <= full for a, b, full in zip(starts, ends, value.shape)]
    if len(starts) != len(sizes) or len(starts) != value.ndim or not all(fits):
        raise ValueError("no such slice")
    return value[tuple(map(slice, starts, ends))]


def strided_index(bounds: Sequence[List[int]], attributes: Attributes) -> Tuple[Any, ...]:
    """Return the numpy index that a StridedSlice takes; bounds: its begin, end and strides."""
    begin, end, strides = bounds
    index: List[Any] = []
    for place, (first, last, step) in enumerate(zip(begin, end, strides)):
        masked = {name for name in MASKS if attributes.get(name + "_mask", 0) >> place & 1}
        if "ellipsis" in masked:
            index.append(Ellipsis)
        elif "new_axis" in masked:
            index.append(np.newaxis)
        elif "shrink_axis" in masked:
            index.append(first)
        else:
            start, stop = "begin" not in masked, "end" not in masked
            index.append(slice(first if start else None, last if stop else None, step))
    return tuple(index)


MASKS = ("begin", "end", "ellipsis", "new_axis", "shrink_axis")


def _strided_slice(values: Values, attributes: Attributes):
    return [values[0][strided_index([whole(value) for value in values[1:]], attributes)]]


def _taken(value, indices, axis):
    places = np.asarray(indices)
    if places.dtype.kind not in "iu" or (places.size and places.min() < 0):
        raise ValueError("no such places")
    return np.take(value, places, one(axis))


def _gather(values: Values, attributes: Attributes):
    if attributes.get("batch_dims", 0):
        raise ValueError("in batches")
    return [_taken(*values)]


def _transposed(value, order):
    return value.transpose(whole(order))


def _expanded(value, axis):
    return np.expand_dims(value, one(axis))


def _stitch(values: Values, _: Attributes):
    indices, data = values[: len(values) // 2], _alike(values[len(values) // 2 :])
    found: Dict[int, np.ndarray] = {}
    for places, rows in zip(indices, data):
        row = rows.shape[places.ndim :]
        found.update(zip(whole(places), rows.reshape((-1, *row) if rows.size else (0, *row))))
    if sorted(found) != list(range(len(found))) or not found:
        raise ValueError("a gap")
    return [np.stack([found[place] for place in range(len(found))])]


def _gradient_axes(values: Values, _: Attributes):
    """Return over which axes the gradients of two broadcast operands are summed up."""
    shapes = [_shape(value) for value in values]
    rank = max(map(len, shapes))
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    broadcast_shape(padded)
    if shapes[0] == shapes[1]:
        padded = [(), ()]
    axes = [[i for i, size in enumerate(shape) if size == 1] for shape in padded]
    return [np.array(each, values[0].dtype) for each in axes]


def _offsets(values: Values, _: Attributes):
    """Return where each of several arrays, of these shapes, begins where they are concatenated."""
    axis, shapes = one(values[0]), values[1:]
    ends = np.cumsum([0] + [shape[axis] for shape in shapes])
    found = []
    for shape, start in zip(shapes, ends):
        offset = np.zeros_like(shape)
        offset[axis] = start
        found.append(offset)
    return found


def _repeated(value, times):
    if times.size != value.ndim:
        raise ValueError("another rank")
    return np.tile(value, _shape(times))


def _inverted(order):
    found = np.argsort(order).astype(order.dtype)
    if not np.array_equal(order[found], np.arange(order.size)):
        raise ValueError("no permutation")
    return found


FLOATS, SIGNED, TRUTHS = "f", "if", "b"
OPERATIONS: Dict[str, Operation] = {
    # Element by element.
    "Add": _elementwise(np.add, "iuf"),
    "AddV2": _elementwise(np.add, "iuf"),
    "Sub": _elementwise(np.subtract, "iuf"),
    "Mul": _elementwise(np.multiply, "iuf"),
    "Div": _elementwise(_nonzero_divisor(_in_type(_quotient)), SIGNED),
    "RealDiv": _elementwise(np.divide, FLOATS),
    "TruncateDiv": _elementwise(_nonzero_divisor(_in_type(_truncated_quotient)), "i"),
    "FloorDiv": _elementwise(_nonzero_divisor(np.floor_divide), "iuf"),
    "FloorMod": _elementwise(_nonzero_divisor(np.mod), "iuf"),
    "Mod": _elementwise(_nonzero_divisor(np.fmod), SIGNED),
    "TruncateMod": _elementwise(_nonzero_divisor(np.fmod), SIGNED),
    "Maximum": _elementwise(np.maximum, "iuf"),
    "Minimum": _elementwise(np.minimum, "iuf"),
    "SquaredDifference": _elementwise(lambda a, b: (a - b) * (a - b), SIGNED),
    "Neg": _elementwise(np.negative, SIGNED),
    "Abs": _elementwise(np.abs, SIGNED),
    "Sign": _elementwise(np.sign, SIGNED),
    "Square": _elementwise(np.square, SIGNED),
    "Sqrt": _elementwise(np.sqrt, FLOATS),
    "Floor": _elementwise(np.floor, FLOATS),
    "Ceil": _elementwise(np.ceil, FLOATS),
    "Rint": _elementwise(np.rint, FLOATS),
    "Reciprocal": _elementwise(_in_type(lambda value: 1 / value), FLOATS),
    "AddN": Operation(lambda values, _: [sum(_alike(values[1:]), values[0])], _broadcast),
    "Equal": _elementwise(np.equal),
    "NotEqual": _elementwise(np.not_equal),
    "Less": _elementwise(np.less, "iuf"),
    "LessEqual": _elementwise(np.less_equal, "iuf"),
    "Greater": _elementwise(np.greater, "iuf"),
    "GreaterEqual": _elementwise(np.greater_equal, "iuf"),
    "LogicalAnd": _elementwise(np.logical_and, TRUTHS),
    "LogicalOr": _elementwise(np.logical_or, TRUTHS),
    "LogicalNot": _elementwise(np.logical_not, TRUTHS),
    "SelectV2": Operation(
        lambda values, _: [np.where(values[0], *_alike(values[1:]))], _broadcast
    ),
    "Cast": Operation(_cast, _as_read),
    "Identity": _of(lambda value: value),
    "StopGradient": _of(lambda value: value),
    # Along axes.
    "Prod": _reduction(np.prod, "iuf"),
    "Sum": _reduction(np.sum, "iuf"),
    "Max": _reduction(np.max, "iuf"),
    "Min": _reduction(np.min, "iuf"),
    "Mean": _reduction(np.mean, FLOATS),
    "All": _reduction(np.all, TRUTHS),
    "Any": _reduction(np.any, TRUTHS),
    # Made anew.
    "Fill": Operation(_filled, lambda values, _: size_of(_shape(values[0]))),
    "Range": _of(_range, _counted),
    "ZerosLike": _of(np.zeros_like),
    "OnesLike": _of(np.ones_like),
    # In another form.
    "Reshape": _of(_reshaped),
    "ExpandDims": _of(_expanded),
    "Squeeze": Operation(_squeezed, _as_read),
    "Transpose": _of(_transposed),
    "InvertPermutation": _of(_inverted),
    "Tile": _of(_repeated, _tiled),
    "BroadcastTo": _of(
        lambda value, shape: np.broadcast_to(value, _shape(shape)),
        lambda values, _: size_of(_shape(values[1])),
    ),
    # Parts and wholes.
    "Pack": Operation(_packed, _as_read),
    "Unpack": Operation(_unpacked, _as_read),
    "Concat": Operation(
        lambda values, _: [np.concatenate(_alike(values[1:]), one(values[0]))], _as_read
    ),
    "ConcatV2": Operation(
        lambda values, _: [np.concatenate(_alike(values[:-1]), one(values[-1]))], _as_read
    ),
    "Split": Operation(_split, _as_read),
    "SplitV": Operation(_split_by_sizes, _as_read),
    "Slice": _of(_sliced),
    "StridedSlice": Operation(_strided_slice, _as_read),
    "Gather": _of(lambda value, places: _taken(value, places, np.array(0)), _gathered),
    "GatherV2": Operation(_gather, _gathered),
    "DynamicStitch": Operation(_stitch, _stitched),
    # Of shapes.
    "BroadcastArgs": _of(
        lambda a, b: np.array(broadcast_shape([_shape(a), _shape(b)]), a.dtype)
    ),
    "BroadcastGradientArgs": Operation(_gradient_axes, _as_read),
    "ConcatOffset": Operation(_offsets, _as_read),
}  # fmt: skip
