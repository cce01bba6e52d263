"""Read pickles that hold numbers and plain containers, as CIFAR's do, and run no code from them.

The unpickler is Python's own one in Python: the one in C reserves memory for as many objects as a
pickle of nine bytes says it holds. It knows the operations of plain data alone, in a number that is
bounded, and copies no more than the file has bytes.
"""

import io
import pickle
import re
from typing import Any, Callable, Dict

import numpy as np

# CIFAR-100's training set takes about 500,000.
MOST_READS = 2 * 10**6
# Of numbers in text: with very many digits, reading takes very long; as keys, large numbers can be
# made to collide.
MOST_DIGITS, MOST_DIGITS_OF_MEMO = 20, 9

OPERATIONS = (
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK",
    "NONE", "NEWTRUE", "NEWFALSE", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1",
    "FLOAT", "BINFLOAT", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "LIST", "APPEND", "APPENDS",
    "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS",
    "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
)  # fmt: skip


def damaged(what: str) -> pickle.UnpicklingError:
    """Return the error of a pickle that holds what it must not."""
    return pickle.UnpicklingError("it holds {}".format(what))


class _Dtype:
    """Stand in for numpy.dtype; accept the whole numbers that a CIFAR batch is made of."""

    def __init__(self, code, *_):
        if not isinstance(code, str) or not re.match("[biu][1248]$", code):
            what = repr(code[:20]) if isinstance(code, str) else "a " + type(code).__name__
            raise damaged("{}, which is no type of whole numbers".format(what))
        self.dtype = np.dtype(code)

    def __setstate__(self, state):
        self.dtype = self.dtype.newbyteorder(">" if state[1] == ">" else "<")


class _Array:
    """Stand in for numpy.ndarray during unpickling; `array` is the result."""

    array = np.empty(0)

    def __init__(self, as_bytes: Callable):
        self.as_bytes = as_bytes

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, content = state
        self.array = np.frombuffer(self.as_bytes(content), dtype.dtype)
        self.array = self.array.reshape(shape, order="F" if is_fortran else "C")


class _Reads(io.BytesIO):
    """The content of a pickle, of which pieces are read up to a number of times."""

    reads = 0

    def read(self, *size):
        self._count()
        return super().read(*size)

    def readline(self, *size):
        self._count()
        return super().readline(*size)

    def _count(self) -> None:
        self.reads += 1
        if self.reads > MOST_READS:
            raise damaged("too many objects")


PythonUnpickler: Any = pickle._Unpickler


class _NumbersUnpickler(PythonUnpickler):
    """Unpickle arrays of whole numbers and plain containers; refuse all else.

    A pickle never gets hold of numpy itself, whose own __setstate__ trusts it with pointers.
    """

    dispatch: Dict[int, Callable] = {}

    def __init__(self, content: bytes):
        super().__init__(_Reads(content), encoding="latin1")
        self.left = len(content)  # bytes that may be copied
        self.size = len(content)
        self.globals: Dict[Any, Callable] = {
            ("numpy", "ndarray"): _Array,
            ("numpy", "dtype"): _Dtype,
            ("_codecs", "encode"): self._encoded,
        }
        for core in ("numpy.core", "numpy._core"):  # numpy 1 and 2
            self.globals[core + ".multiarray", "_reconstruct"] = lambda *_: _Array(self._as_bytes)
            self.globals[core + ".multiarray", "scalar"] = self._scalar
            self.globals[core + ".numeric", "_frombuffer"] = self._buffer

    def find_class(self, module, name):
        """Return what stands in for a class or a function."""
        if (module, name) in self.globals:
            return self.globals[module, name]
        raise pickle.UnpicklingError(
            "it asks for {}.{}, which is not data".format(str(module)[:80], str(name)[:80])
        )

    def _as_bytes(self, content):
        """Return bytes; Python 2's are read as text."""
        return self._encoded(content, "latin1") if isinstance(content, str) else content

    def _encoded(self, text, encoding):
        """Stand in for _codecs.encode, in which Python 3 wraps the bytes of old pickles."""
        if encoding != "latin1":
            raise damaged("text in another encoding than latin1")
        self.left -= len(text)
        if self.left < 0:
            raise damaged("the same bytes again and again")
        return text.encode("latin1")

    def _scalar(self, dtype, content) -> int:
        return int(np.frombuffer(self._as_bytes(content), dtype.dtype)[0])

    def _buffer(self, content, dtype, shape, order) -> np.ndarray:
        """Stand in for numpy's _frombuffer, which newer pickles use."""
        return np.frombuffer(content, dtype.dtype).reshape(shape, order=order)

    def _number(self, digits: int) -> int:
        """Read a number in text."""
        line = self.readline()[:-1]
        if not re.match(rb"-?[0-9]{1,%d}L?$" % digits, line):
            raise damaged("{!r}, which is no number".format(line[:MOST_DIGITS]))
        return int(line.rstrip(b"L"))

    def load_int(self) -> None:
        """Put a number in text on the stack."""
        self.append(self._number(MOST_DIGITS))

    load_long = load_int

    def load_put(self) -> None:
        """Number an object, by a number in text."""
        self.memo[self._number(MOST_DIGITS_OF_MEMO)] = self.stack[-1]

    def load_get(self) -> None:
        """Take an object by its number in text."""
        self.append(self.memo[self._number(MOST_DIGITS_OF_MEMO)])

    def load_frame(self) -> None:
        """Pass over the head of a frame: the content is in memory as it is."""
        self.read(8)

    def load_bytearray8(self) -> None:
        """Read an array of bytes; its size is not that of the memory to reserve."""
        size = int.from_bytes(self.read(8), "little")
        if size > self.size:
            raise damaged("{:,} bytes".format(size))
        self.append(self.read(size))

    def load_dict(self) -> None:
        """Make a dictionary of what is on the stack, by names: numbers can be made to collide."""
        items = self.pop_mark()
        self.append(_named(items))

    def load_setitem(self) -> None:
        """Put an entry into a dictionary."""
        value, key = self.stack.pop(), self.stack.pop()
        _dictionary(self.stack[-1]).update(_named([key, value]))

    def load_setitems(self) -> None:
        """Put entries into a dictionary."""
        items = self.pop_mark()
        _dictionary(self.stack[-1]).update(_named(items))

    def load_build(self) -> None:
        """Give an array or a type its state; nothing else has one."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], (_Array, _Dtype)):
            raise damaged("the state of a {}".format(type(self.stack[-1]).__name__))
        self.stack[-1].__setstate__(state)


def _named(items: list) -> dict:
    """Return a dictionary of keys and values in turn; UnpicklingError for keys that are no text."""
    if not all(isinstance(key, (str, bytes)) for key in items[::2]):
        raise damaged("a dictionary of other keys than names")
    return dict(zip(items[::2], items[1::2]))


def _dictionary(found) -> dict:
    if not isinstance(found, dict):
        raise damaged("entries of a {}".format(type(found).__name__))
    return found


def _dispatch() -> Dict[int, Callable]:
    """Return what is done for each operation: as Python does it, where it is not done above."""
    known: Dict[int, Callable] = {}
    for name in OPERATIONS:
        code = getattr(pickle, name, None)  # BYTEARRAY8 is one of protocol 5: Python 3.8
        if code is not None:
            python = PythonUnpickler.dispatch[code[0]]
            known[code[0]] = getattr(_NumbersUnpickler, python.__name__, python)
    return known


_NumbersUnpickler.dispatch = _dispatch()


def loads(content: bytes) -> Dict[str, Any]:
    """Return the dictionary that a pickle holds; arrays are for :func:`as_array`.

    Raises UnpicklingError for a damaged pickle, and for one that holds anything else.
    """
    try:
        found = _NumbersUnpickler(content).load()
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # a damaged pickle raises nearly every built-in one
        raise pickle.UnpicklingError("it is damaged: {}".format(type(error).__name__))
    if not isinstance(found, dict):
        raise damaged("a {}".format(type(found).__name__))
    return {_text(key): value for key, value in found.items()}


def _text(key) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else key


def as_array(value: object) -> np.ndarray:
    """Return the array that :func:`loads` found in a place, or one of a list of whole numbers.

    Of anything else it is empty: within each other, a few lists can hold billions of numbers.
    """
    if isinstance(value, _Array):
        return value.array
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, list) and all(type(each) is int for each in value):
        return np.asarray(value)
    return np.empty(0)
