"""Read pickles that hold numbers and plain containers, as CIFAR's do, and run no code from them."""

import io
import pickle
import re

import numpy as np


class _PickledDtype:
    """Stand in for numpy.dtype; accept the whole numbers that a CIFAR batch is made of."""

    def __init__(self, code, *_):
        if not re.match("[biu][1248]$", str(code)):
            raise pickle.UnpicklingError(
                "it holds {}, which is no type of whole numbers".format(code)
            )
        self.dtype = np.dtype(str(code))

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")

    def array(self, content) -> np.ndarray:
        """Return bytes, or the text that Python 2's bytes are read as, as an array [N]."""
        if isinstance(content, str):
            content = content.encode("latin1")
        return np.frombuffer(content, self.dtype)


class _PickledArray:
    """Stand in for numpy.ndarray during unpickling; `array` is the result."""

    array = np.empty(0)

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, content = state
        self.array = dtype.array(content).reshape(shape, order="F" if is_fortran else "C")


def _pickled_buffer(content, dtype, shape, order) -> np.ndarray:
    """Stand in for numpy's _frombuffer, which newer pickles use."""
    return dtype.array(content).reshape(shape, order=order)


def _pickled_text(text, encoding):
    """Stand in for _codecs.encode, in which Python 3 wraps the bytes of old pickles."""
    if encoding != "latin1":
        raise pickle.UnpicklingError("it holds text in {}".format(encoding))
    return text.encode("latin1")


_PICKLE_GLOBALS = {
    ("numpy", "ndarray"): _PickledArray,
    ("numpy", "dtype"): _PickledDtype,
    ("_codecs", "encode"): _pickled_text,
}
for _core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
    _PICKLE_GLOBALS[_core + ".multiarray", "_reconstruct"] = lambda *_: _PickledArray()
    _PICKLE_GLOBALS[_core + ".multiarray", "scalar"] = lambda dtype, b: int(dtype.array(b)[0])
    _PICKLE_GLOBALS[_core + ".numeric", "_frombuffer"] = _pickled_buffer


class _NumbersUnpickler(pickle.Unpickler):
    """Unpickle arrays of whole numbers and plain containers; refuse all else.

    A pickle never gets hold of numpy itself, whose own __setstate__ trusts it with pointers.
    """

    def find_class(self, module, name):
        if (module, name) in _PICKLE_GLOBALS:
            return _PICKLE_GLOBALS[module, name]
        raise pickle.UnpicklingError("it asks for {}.{}, which is not data".format(module, name))


def loads(content: bytes):
    """Return what a pickle holds: plain containers, text and numbers; arrays for :func:`as_array`.

    Raises whatever a damaged pickle makes the unpickler raise: nearly any built-in exception.
    """
    return _NumbersUnpickler(io.BytesIO(content), encoding="latin1").load()


def as_array(value: object) -> np.ndarray:
    """Return the array that :func:`loads` found in a place, or an array of a list."""
    return value.array if isinstance(value, _PickledArray) else np.asarray(value)
