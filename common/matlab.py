"""Read arrays of numbers from MATLAB's files of version 5, as `save -v6` and `-v7` write them.

scipy's reader trusts the sizes in a file: one changed bit, and it ends the process. Here a size is
held against the bytes that there are, and no more is inflated than streams.most_unpacked allows.

Source: MATLAB's MAT-File Format, chapter "Level 5 MAT-File Format".
"""

import struct
import zlib
from typing import Collection, Dict, Iterator, NamedTuple, Optional, Tuple

import numpy as np

from common.streams import most_unpacked
from sparsenet.arrays import HIGHEST_RANK, size_of

HEADER = 128
HDF5 = b"\x89HDF\r\n\x1a\n"
HDF5_PLACES = (0, 512)  # MATLAB writes a header of its own in front
ORDERS = {b"IM": "<", b"MI": ">"}  # the last bytes of the header: little- or big-endian
VERSION = 0x0100

INT32, MATRIX, COMPRESSED = 5, 14, 15
NUMBERS = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
# Classes of MATLAB's arrays that are numbers: double, single, and whole ones of 8 to 64 bits.
CLASSES = range(6, 16)
COMPLEX = 0x0800


class Element(NamedTuple):
    """A part of a file: the kind of its data, the data, and the offset of the next one."""

    kind: int
    data: memoryview
    end: int


def read_arrays(content: bytes, names: Collection[str]) -> Dict[str, np.ndarray]:
    """Return those of the arrays called `names` that a file holds.

    Raises ValueError if it is damaged, of another version, or if one of these is not of numbers.
    """
    order = _order(content)
    arrays = {}
    for matrix in _matrices(content, order):
        name, array = _array(matrix, order, names)
        if array is not None:
            arrays[name] = array
    return arrays


def _order(content: bytes) -> str:
    """Return the order of bytes, as numpy and struct write it; ValueError for other versions."""
    if any(content[place : place + len(HDF5)] == HDF5 for place in HDF5_PLACES):
        raise ValueError("it is of version 7.3 (HDF5); accepted: one that `save -v7` wrote")
    order = ORDERS.get(content[HEADER - 2 : HEADER])
    if order is None or struct.unpack_from(order + "H", content, HEADER - 4) != (VERSION,):
        raise ValueError("it is no MATLAB file of version 5; accepted: one that `save -v7` wrote")
    return order


def _matrices(content: bytes, order: str) -> Iterator[memoryview]:
    """Yield the arrays of a file, inflated."""
    whole, left = memoryview(content), most_unpacked(len(content))
    offset = HEADER
    while offset < len(whole):
        kind, data, offset = _element(whole, offset, order, padded=False)
        if kind == COMPRESSED:
            inflated = _inflated(data, left)
            left -= len(inflated)
            kind, data, _ = _element(inflated, 0, order, padded=False)
        if kind != MATRIX:
            raise ValueError("it holds data of kind {}, which are no array".format(kind))
        yield data


def _inflated(data: memoryview, most: int) -> memoryview:
    """Return the inflated bytes of an element; ValueError if they are damaged or too many."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(data, most + 1)
    except zlib.error as error:
        raise ValueError("it is damaged: {}".format(error))
    if len(inflated) > most:
        raise ValueError("it unpacks to more than {:,} bytes".format(most))
    if not stream.eof:
        raise ValueError("it is cut off")
    return memoryview(inflated)


def _element(buffer: memoryview, offset: int, order: str, padded: bool = True) -> Element:
    """Return the element at an offset; ValueError if it is not whole.

    padded: whether the next one begins at a multiple of 8 bytes
    """
    if offset + 8 > len(buffer):
        raise ValueError("it is cut off")
    kind, size = struct.unpack_from(order + "II", buffer, offset)
    if kind >> 16:  # kind and size in four bytes, and the data in the next four
        kind, size, start, end = kind & 0xFFFF, kind >> 16, offset + 4, offset + 8
        most = 4
    else:
        start = offset + 8
        end = start + (-(-size // 8) * 8 if padded else size)
        most = len(buffer) - start
    if size > most:
        raise ValueError("it is cut off: {} of {} bytes are there at {}".format(most, size, offset))
    return Element(kind, buffer[start : start + size], end)


def _array(
    matrix: memoryview, order: str, names: Collection[str]
) -> Tuple[str, Optional[np.ndarray]]:
    """Return the name of an array, and the array, None if it is not one of `names`."""
    flags = _element(matrix, 0, order)
    shape = _element(matrix, flags.end, order)
    name = _element(matrix, shape.end, order)
    title = bytes(name.data).decode("latin1")
    if title not in names:
        return title, None
    bits = struct.unpack_from(order + "I", flags.data)[0] if len(flags.data) >= 4 else 0
    if bits & 0xFF not in CLASSES or bits & COMPLEX:
        raise ValueError("`{}` is no array of real numbers".format(title))
    if shape.kind != INT32 or len(shape.data) % 4 or len(shape.data) > 4 * HIGHEST_RANK:
        raise ValueError("the dimensions of `{}` are damaged".format(title))
    values = _element(matrix, name.end, order)
    if values.kind not in NUMBERS:
        raise ValueError("`{}` holds data of kind {}, no numbers".format(title, values.kind))
    dtype = np.dtype(order + NUMBERS[values.kind])
    dimensions = np.frombuffer(shape.data, order + "i4").tolist()
    size = size_of(dimensions) * dtype.itemsize
    if min(dimensions, default=-1) < 0 or size != len(values.data):
        raise ValueError(
            "`{}` holds {} bytes; its dimensions {} need others".format(
                title, len(values.data), dimensions
            )
        )
    return title, np.frombuffer(values.data, dtype).reshape(dimensions, order="F")
