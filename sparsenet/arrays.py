"""The weights of a network as arrays by their names in a checkpoint: do they fit it?"""

import os
import re
import struct
import zipfile
import zlib
from collections import OrderedDict
from typing import IO, Dict, Iterable, List, Mapping

import numpy as np

from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError
from sparsenet.plan import variable_shapes

NAMED = 3  # variables that a message names; a wrong network differs in hundreds
NETWORK_SCOPES = re.compile(r"(conv0|bn0|block\d+|transition\d+|bn_last|linear)/")
# The optimizer's slots of a variable are saved under the variable's name.
SLOTS = re.compile(r"/(Momentum|Adam|Adam_1|RMSProp(_1)?|Adagrad|ExponentialMovingAverage)$")


HIGHEST_RANK = 32  # dimensions that every version of numpy can have


def size_of(shape: Iterable[int]) -> int:
    """Return the number of elements of a shape; as large as it is, where numpy's would overflow."""
    size = 1
    for each in shape:
        size *= each
    return size


# Files of arrays, which may come from anybody ---------------------------------------------------

# What numpy writes before the bytes of an array. Nothing else is accepted: neither objects, which
# would be unpickled, nor a header to be evaluated.
HEADER = re.compile(
    r"\{'descr': '([<>|=][biufcSUV][0-9]{1,9})', 'fortran_order': (True|False), "
    r"'shape': \(([0-9, ]{0,600})\),? *\}\s*"
)
LENGTHS = {1: "<H", 2: "<I", 3: "<I"}  # of the header, by the version of the format
LONGEST_HEADER = 10000
# How much may be unpacked: zeros can be packed to a thousandth, weights hardly at all.
UNPACKED, UNPACKED_AT_LEAST = 4, 1 << 24  # times the size of the file; bytes
NOT_READ = (
    OSError, ValueError, TypeError, EOFError, RuntimeError, NotImplementedError, zlib.error,
    struct.error, zipfile.BadZipFile,
)  # fmt: skip
KINDS_OF_PACKING = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy(stream: IO[bytes], size: int) -> np.ndarray:
    """Return the array in a .npy file of `size` bytes; one of NOT_READ if it is none.

    It takes no more memory than the file has bytes, whatever its header promises.
    """
    start = stream.read(8)
    if len(start) < 8 or start[:6] != b"\x93NUMPY" or start[6] not in LENGTHS:
        raise ValueError("it is no array of numpy")
    form = LENGTHS[start[6]]
    (length,) = struct.unpack(form, stream.read(struct.calcsize(form)))
    if length > LONGEST_HEADER:
        raise ValueError("its header is of {:,} bytes".format(length))
    header = stream.read(length).decode("latin-1")
    found = HEADER.fullmatch(header)
    if found is None:
        raise ValueError("its header is {!r}".format(header[:80]))
    dtype, is_fortran = np.dtype(found.group(1)), found.group(2) == "True"
    shape = tuple(int(each) for each in found.group(3).split(",") if each.strip())
    bytes_ = size - 8 - struct.calcsize(form) - length
    if size_of(shape) * dtype.itemsize != bytes_ or (bytes_ == 0 and size_of(shape) > 1):
        raise ValueError("its header promises {} of {}, and {:,} bytes follow".format(
            list(shape), dtype, bytes_))  # fmt: skip
    content = bytearray(bytes_)
    if stream.readinto(content) != bytes_:  # type: ignore[attr-defined]
        raise ValueError("it is cut short")
    flat = np.frombuffer(content, dtype, size_of(shape))
    return flat.reshape(shape[::-1]).T if is_fortran else flat.reshape(shape)


class ArrayFile:
    """A .npz file, whose arrays are read one at a time; names: of the arrays."""

    def __init__(self, path: str):
        """Open a file; UserError if it is no .npz file, or would be too large unpacked."""
        self.path = path
        try:
            if not os.path.isfile(path):
                raise ValueError("it is no file")
            self._zip = zipfile.ZipFile(path)
            members = self._zip.infolist()
            if any(not each.filename.endswith(".npy") for each in members):
                raise ValueError("it holds more than arrays")
            if any(each.compress_type not in KINDS_OF_PACKING for each in members):
                raise ValueError("it is packed in another way than numpy's")
            most = max(UNPACKED_AT_LEAST, UNPACKED * os.path.getsize(path))
            if sum(each.file_size for each in members) > most:
                raise ValueError("unpacked it would have over {:,} bytes".format(most))
        except NOT_READ as error:
            raise self._unreadable(error)
        self._members = {each.filename[: -len(".npy")]: each for each in members}
        self.names = list(self._members)

    def read(self, name: str) -> np.ndarray:
        """Return an array; UserError if it can't be read."""
        member = self._members[name]
        try:
            with self._zip.open(member) as stream:
                return read_npy(stream, member.file_size)
        except NOT_READ as error:
            raise self._unreadable(error, name)

    def _unreadable(self, error: Exception, *name: str) -> UserError:
        where = ": ".join((self.path, *name))
        return UserError("{} can't be read: {}".format(where, str(error) or type(error).__name__))


def read_npz(path: str) -> Dict[str, np.ndarray]:
    """Return the arrays of a .npz file by the names of variables; UserError if it can't be read.

    tensorpack may have them by the names of their values, `conv0/W:0`.
    """
    file = ArrayFile(path)
    found = {name[: -len(OUTPUT)] if name.endswith(OUTPUT) else name: name for name in file.names}
    if len(found) < len(file.names):
        raise UserError("{} holds a variable twice, with and without {}".format(path, OUTPUT))
    return {variable: file.read(name) for variable, name in found.items()}


OUTPUT = ":0"  # a variable's value, as TensorFlow names it


# Weights ---------------------------------------------------------------------------------------


def fitting(
    found: Mapping[str, np.ndarray], config: SparseNetConfig, source: str
) -> Dict[str, np.ndarray]:
    """Return the variables of a network, in the order of the graph.

    Variables elsewhere than in the network, and the optimizer's, are left out. Raises UserError
    that names `source` and the first few variables that are missing, have another shape, or are
    there beside them.
    """
    wanted = variable_shapes(config)
    misfits = misfits_of(found, wanted)
    for name in sorted(found):
        # A surplus layer means another network.
        if name not in wanted and NETWORK_SCOPES.match(name) and not SLOTS.search(name):
            misfits.append("{} is there, wanted absent".format(name))
    if misfits:
        misfits.sort(key=lambda text: "/W is " not in text)  # kernels say most
        named = "; ".join(misfits[:NAMED] + ["..."] * (len(misfits) > NAMED))
        raise UserError(
            "{} does not fit the network, {} of {} variables differ: {}".format(
                source, len(misfits), len(wanted), named
            )
        )
    return OrderedDict((name, found[name]) for name in wanted)


def misfits_of(found: Mapping[str, np.ndarray], wanted: Mapping[str, tuple]) -> List[str]:
    """Return in words which variables are missing or have another shape than wanted."""
    misfits = []
    for name, shape in wanted.items():
        there = list(found[name].shape) if name in found else "absent"
        if there != list(shape):
            misfits.append("{} is {}, wanted {}".format(name, there, list(shape)))
    return misfits
