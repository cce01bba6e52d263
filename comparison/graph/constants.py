"""The values of constants, of any size that a file promises, without more memory than it holds."""

import functools
import hashlib
from typing import List, Tuple

from common.tf_stack import tf

import numpy as np

from comparison.graph.structure import Malformed
from sparsenet.arrays import HIGHEST_RANK, size_of

MOST_FILLED = 1 << 24  # elements of a graph that its file leaves out, as they repeat the last one

# Fields of a TensorProto by the numbers in DataType that they are for.
FIELDS = {
    "float_val": (tf.float32,),
    "double_val": (tf.float64,),
    "int_val": (
        tf.int32, tf.int16, tf.int8, tf.uint16, tf.uint8, tf.qint32, tf.qint16, tf.qint8,
        tf.quint16, tf.quint8,
    ),
    "int64_val": (tf.int64,),
    "uint32_val": (tf.uint32,),
    "uint64_val": (tf.uint64,),
    "bool_val": (tf.bool,),
    "half_val": (tf.float16, tf.bfloat16),
    "scomplex_val": (tf.complex64,),
    "dcomplex_val": (tf.complex128,),
    "string_val": (tf.string,),
}  # fmt: skip
FIELD_OF = {each.as_datatype_enum: field for field, types in FIELDS.items() for each in types}


@functools.lru_cache(maxsize=1000)
def name_of_type(number: int) -> str:
    """Return `float32` for 1, as DataType has it; `type 977` for a number that it does not have."""
    try:
        return tf.as_dtype(number).name
    except (TypeError, KeyError):
        return "type {}".format(number)


class Constants:
    """Reads the constants of one graph, and counts what they have in excess of their file."""

    def __init__(self):
        self._left = MOST_FILLED

    def value(self, tensor) -> np.ndarray:
        """Return the value of a TensorProto; Malformed if it has none.

        Where all elements are the same, the array is a view of one.
        """
        shape = _shape_of(tensor)
        explicit = _explicit_values(tensor)
        count, size = len(explicit), size_of(shape)
        if count > size or (tensor.tensor_content and count != size):
            raise Malformed("a constant of shape {} has {:,} values".format(list(shape), count))
        if 1 < count < size:
            self._left -= size - count
            if self._left < 0:
                raise Malformed("its constants repeat over {:,} elements".format(MOST_FILLED))
            explicit = np.concatenate([explicit, np.repeat(explicit[-1:], size - count)])
        try:
            if count <= 1 and size:
                fill = explicit if count else np.zeros(1, explicit.dtype)
                return np.broadcast_to(fill.reshape(()), shape)
            return explicit.reshape(shape)
        except ValueError:
            raise Malformed("a constant is of shape {}".format(list(shape)))


def _shape_of(tensor) -> Tuple[int, ...]:
    shape = tuple(dimension.size for dimension in tensor.tensor_shape.dim[: HIGHEST_RANK + 1])
    if tensor.tensor_shape.unknown_rank or len(shape) > HIGHEST_RANK or min(shape, default=0) < 0:
        raise Malformed("a constant is of shape {}".format(list(shape)))
    return shape


def _explicit_values(tensor) -> np.ndarray:
    """Return the values that a TensorProto lists, flat."""
    if tensor.dtype not in FIELD_OF:
        raise Malformed("a constant is of {}".format(name_of_type(tensor.dtype)))
    dtype = np.dtype(tf.as_dtype(tensor.dtype).as_numpy_dtype)
    if tensor.tensor_content:
        if dtype.kind == "O" or len(tensor.tensor_content) % dtype.itemsize:
            raise Malformed("a constant ends within a value")
        return np.frombuffer(tensor.tensor_content, dtype)
    field = FIELD_OF[tensor.dtype]
    listed = getattr(tensor, field)
    if field == "string_val":
        found = np.empty(len(listed), object)
        found[:] = list(listed)
        return found
    if field == "half_val":
        return np.array(listed, np.int64).astype(np.uint16).view(dtype)
    if field in ("scomplex_val", "dcomplex_val"):
        if len(listed) % 2:
            raise Malformed("a constant ends within a value")
        return np.array(listed, "f4" if field == "scomplex_val" else "f8").view(dtype)
    if field == "int_val":
        return np.array(listed, np.int64).astype(np.int32).astype(dtype.base)
    return np.array(listed, dtype)


def digest(value: np.ndarray) -> str:
    """Return a digest, equal for equal values of one type and shape, however a file lists them.

    The elements that repeat the last one are left out, so that their number takes no time.
    """
    described = "{} {} ".format(value.dtype, value.shape).encode()
    if value.dtype.kind == "O":
        content = repr(_without_repeats_of_strings(value)).encode()
    else:
        content = _without_repeats(value).tobytes()
    return hashlib.blake2b(described + content, digest_size=16).hexdigest()


def _is_repeated(value: np.ndarray) -> bool:
    return value.size > 1 and not any(value.strides)


def _without_repeats_of_strings(value: np.ndarray) -> List[bytes]:
    listed = value.ravel().tolist() if not _is_repeated(value) else [value.flat[0]]
    while len(listed) > 1 and listed[-1] == listed[-2]:
        listed.pop()
    return listed


def _without_repeats(value: np.ndarray) -> np.ndarray:
    if _is_repeated(value):
        return value[(slice(0, 1),) * value.ndim]
    flat = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    rows = flat.reshape(value.size, value.dtype.itemsize)
    differing = np.flatnonzero((rows != rows[-1:]).any(axis=1))
    return rows[: (differing[-1] + 2 if len(differing) else 1)]
