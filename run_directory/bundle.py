"""Read TensorFlow's checkpoints without TensorFlow, which aborts the process where one lies.

A checkpoint is an index, a table of LevelDB's form from the name of a tensor to where its bytes
are, and one or more files of data. Everything in it is checked before it is used: places and sizes
against the files, shapes against sizes, and all bytes against their checksums. What passes is safe
for TensorFlow to read, too.
"""

import os
import struct
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

import numpy as np

from common.crc32c import crc32c, masked
from common.protobuf_wire import Damaged, fields, varint
from sparsenet.arrays import size_of

INDEX = ".index"
SHARD = ".data-{:05d}-of-{:05d}"


def _require(condition: bool, problem: str, *values: object) -> None:
    if not condition:
        raise Damaged(problem.format(*values))


def read(prefix: str) -> Dict[str, np.ndarray]:
    """Return the value of each tensor of a checkpoint by its name; strings as objects, of bytes.

    Raises Damaged if any part of it is, and OSError.
    """
    bundle = Bundle(prefix)
    return {name: bundle.value(name) for name in bundle.entries}


# The table -------------------------------------------------------------------------------------

FOOTER, MAGIC = 48, struct.pack("<Q", 0xDB4775248B80FB57)
TRAILER = 5  # bytes after a block: whether it is compressed, and a checksum
LONGEST_KEY = 4096  # bytes
MOST_ENTRIES = 50000

Pair = Tuple[bytes, bytes]


def _table(content: bytes) -> List[Pair]:
    """Return the keys and values of a table, sorted by key."""
    _require(content.endswith(MAGIC) and len(content) >= FOOTER, "it is no index")
    footer = content[-FOOTER:]
    _, place = _handle(footer, 0)  # of a block that is not used
    (start, size), _ = _handle(footer, place)
    found: List[Pair] = []
    end = 0
    for last_key, value in _block(content, start, size):
        (start, size), _ = _handle(value, 0)
        _require(start >= end, "its blocks overlap")
        end = start + size
        pairs = list(_block(content, start, size))
        _require(bool(pairs) and pairs[-1][0] <= last_key, "its blocks are not in order")
        _require(not found or found[-1][0] < pairs[0][0], "its names are not in order")
        found += pairs
        _require(len(found) <= MOST_ENTRIES, "it has more than {:,} entries", MOST_ENTRIES)
    return found


def _handle(content: bytes, place: int) -> Tuple[Tuple[int, int], int]:
    """Return (start, size) of a block, and the place after them."""
    start, place = varint(content, place, len(content))
    size, place = varint(content, place, len(content))
    return (start, size), place


def _block(content: bytes, start: int, size: int) -> Iterator[Pair]:
    """Yield the keys and values of a block, in order."""
    end = start + size
    _require(size >= 4 and end + TRAILER <= len(content) - FOOTER, "a block is cut short")
    kind, stored = struct.unpack_from("<BI", content, end)
    _require(kind == 0, "a block is compressed")
    _require(masked(crc32c(content[start : end + 1])) == stored, "a block fails its checksum")
    (count,) = struct.unpack_from("<I", content, end - 4)
    entries_end = end - 4 - 4 * count
    _require(count >= 1 and entries_end >= start, "a block is cut short")
    restarts = struct.unpack_from("<{}I".format(count), content, entries_end)
    whole_keys = set()
    key, place = b"", start
    while place < entries_end:
        entry = place - start
        shared, place = varint(content, place, entries_end)
        unshared, place = varint(content, place, entries_end)
        length, place = varint(content, place, entries_end)
        rest, place = place, place + unshared + length
        _require(shared <= len(key) and place <= entries_end, "an entry is cut short")
        _require(shared + unshared <= LONGEST_KEY, "a name is over {} bytes", LONGEST_KEY)
        if shared == 0:
            whole_keys.add(entry)
        before, key = key, key[:shared] + content[rest : rest + unshared]
        _require(entry == 0 or before < key, "its names are not in order")
        yield key, content[rest + unshared : place]
    # TensorFlow looks a name up from these places on.
    in_order = restarts[0] == 0 and list(restarts) == sorted(set(restarts))
    _require(in_order and whole_keys.issuperset(restarts), "a block is damaged")


# Entries ---------------------------------------------------------------------------------------


def _numbers(content: bytes, *wanted: int) -> List[int]:
    """Return the numbers in some fields of a message, 0 for those that it lacks."""
    found = {field: value for field, value in fields(content) if isinstance(value, int)}
    return [found.get(field, 0) for field in wanted]


def _messages(content: bytes, wanted: int) -> List[bytes]:
    """Return the messages in a field of a message."""
    return [value for field, value in fields(content) if field == wanted and type(value) is bytes]


Slice = Tuple[Tuple[int, int], ...]  # (start, length) in each dimension; length -1: all of it


class Entry(NamedTuple):
    """Where a tensor is.

    type:   its number in TensorFlow's DataType
    shard, offset, size: the file of data, and which bytes of it
    crc:    checksum of the bytes, as it is stored
    slices: of a tensor that was saved in parts, which have entries of their own
    """

    type: int
    shape: Tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int
    slices: List[Slice]


def _entry(content: bytes) -> Entry:
    type_, shard, offset, size, crc = _numbers(content, 1, 3, 4, 5, 6)
    shape: Tuple[int, ...] = ()
    for message in _messages(content, 2):
        (unknown,) = _numbers(message, 3)
        shape = tuple(_numbers(dimension, 1)[0] for dimension in _messages(message, 2))
        _require(not unknown and min(shape, default=0) >= 0, "an entry has no shape")
    slices = [
        tuple(_extent(each) for each in _messages(message, 1)) for message in _messages(content, 7)
    ]
    return Entry(type_, shape, shard, offset, size, crc, slices)


def _extent(content: bytes) -> Tuple[int, int]:
    start, _ = _numbers(content, 1, 2)
    lengths = [value for field, value in fields(content) if field == 2 and isinstance(value, int)]
    return start, lengths[-1] if lengths else -1


def _key_of_slice(name: bytes, part: Slice) -> bytes:
    """Return the key of the entry of a slice, as TensorFlow's OrderedCode writes it."""
    escaped = name.replace(b"\xff", b"\xff\0").replace(b"\0", b"\0\xff")
    key = b"\0" + escaped + b"\0\1" + _ordered_count(len(part))
    return key + b"".join(_ordered(number) for extent in part for number in extent)


def _ordered_count(number: int) -> bytes:
    content = number.to_bytes(8, "big").lstrip(b"\0")
    return bytes([len(content)]) + content


def _ordered(number: int) -> bytes:
    """Return a signed number in bytes that sort as numbers do.

    As many bits as there are bytes come first, all ones, then a zero; of a negative number, all
    bits are inverted.
    """
    positive = number if number >= 0 else ~number
    length = next(n for n in range(1, 11) if positive < 1 << 7 * n - 1)
    # The bits before the number: `length` ones and, which are the number's own first bits, zeros.
    header = ((1 << length) - 1) << 8 * length - length
    content = positive | header
    if number < 0:
        content ^= (1 << 8 * length) - 1
    return content.to_bytes(length, "big")


# Values ----------------------------------------------------------------------------------------

STRING = 7
# Numbers in TensorFlow's DataType, of those that numpy has.
TYPES = {
    1: "<f4", 2: "<f8", 3: "<i4", 4: "u1", 5: "<i2", 6: "i1", 8: "<c8", 9: "<i8", 10: "?",
    17: "<u2", 18: "<c16", 19: "<f2", 22: "<u4", 23: "<u8",
}  # fmt: skip
FIRST_REFERENCE = 100  # types from here on are of variables, not of values
LITTLE_ENDIAN = 0


def _type_of(number: int) -> np.dtype:
    """Return the type of the elements of a tensor of numbers."""
    if number in TYPES:
        return np.dtype(TYPES[number])
    _require(0 < number < FIRST_REFERENCE, "an entry is of type {}, which is none", number)
    from common.quiet_tensorflow import tensorflow

    try:
        return np.dtype(tensorflow.as_dtype(number).as_numpy_dtype)
    except (TypeError, KeyError):
        raise Damaged("an entry is of type {}, which is no number".format(number))


class Bundle:
    """A checkpoint, with its index read and checked; entries: of each tensor by name."""

    def __init__(self, prefix: str):
        self._prefix = prefix
        with open(prefix + INDEX, "rb") as stream:
            pairs = _table(stream.read())
        _require(bool(pairs) and pairs[0][0] == b"", "its index has no header")
        self._shards, endianness = _numbers(pairs[0][1], 1, 2)
        _require(endianness == LITTLE_ENDIAN, "its bytes are in another order")
        _require(1 <= self._shards <= 99999, "it has {} files of data", self._shards)
        self._all = {key: _entry(value) for key, value in pairs[1:]}
        self._require_apart()
        parts: Set[bytes] = set()
        for key, entry in self._all.items():
            parts.update(_key_of_slice(key, part) for part in entry.slices)
        names = [key for key in self._all if key not in parts]
        try:
            self.entries = {key.decode("utf-8"): self._all[key] for key in names}
        except UnicodeDecodeError:
            raise Damaged("a name is not in UTF-8")

    def _file(self, shard: int) -> str:
        return self._prefix + SHARD.format(shard, self._shards)

    def _require_apart(self) -> None:
        """Require that the entries lie in their files, and that no two share a byte."""
        ends: Dict[int, int] = {}
        sizes: Dict[int, int] = {}
        whole = [each for each in self._all.values() if not each.slices]
        for entry in sorted(whole, key=lambda each: (each.shard, each.offset, each.size)):
            _require(0 <= entry.shard < self._shards, "an entry is in no file")
            if entry.shard not in sizes:
                sizes[entry.shard] = os.path.getsize(self._file(entry.shard))
            _require(entry.offset >= ends.get(entry.shard, 0), "its entries overlap")
            _require(entry.size >= 0, "an entry has no size")
            ends[entry.shard] = entry.offset + entry.size
            _require(ends[entry.shard] <= sizes[entry.shard], "its data are cut short")

    def value(self, name: str) -> np.ndarray:
        """Return the value of a tensor."""
        entry = self.entries[name]
        try:
            return self._joined(name, entry) if entry.slices else self._whole(name, entry)
        except Damaged as error:
            raise Damaged("{}: {}".format(name, error))

    def _whole(self, name: str, entry: Entry) -> np.ndarray:
        count = size_of(entry.shape)
        with open(self._file(entry.shard), "rb") as stream:
            stream.seek(entry.offset)
            content = stream.read(entry.size)
        if entry.type == STRING:
            found = _strings(content, count, entry.crc)
        else:
            dtype = _type_of(entry.type)
            fits = count * dtype.itemsize == entry.size == len(content)
            _require(fits, "{} elements in {} bytes", list(entry.shape), entry.size)
            _require(masked(crc32c(content)) == entry.crc, "its data fail their checksum")
            found = np.frombuffer(bytearray(content), dtype)
        try:
            return found.reshape(entry.shape)
        except ValueError:  # too many dimensions, or too long where another is 0
            raise Damaged("its shape is {}".format(list(entry.shape)))

    def _joined(self, name: str, entry: Entry) -> np.ndarray:
        """Return a tensor that was saved in parts."""
        keys = {_key_of_slice(name.encode("utf-8"), part): part for part in entry.slices}
        _require(all(key in self._all for key in keys), "a part of it is absent")
        parts = {key: self._all[key] for key in keys}
        alike = all(not each.slices and each.type == entry.type for each in parts.values())
        covered = sum(size_of(each.shape) for each in parts.values())
        _require(alike and covered == size_of(entry.shape), "its parts do not make it up")
        found = np.empty(entry.shape, object if entry.type == STRING else _type_of(entry.type))
        for key, part in keys.items():
            _require(len(part) == len(entry.shape), "its parts do not make it up")
            place = tuple(slice(a, None if n < 0 else a + n) for a, n in part)
            value = self._whole(name, parts[key])
            fits = min((a for a, _ in part), default=0) >= 0 and found[place].shape == value.shape
            _require(fits, "its parts do not make it up")
            found[place] = value
        return found


def _strings(content: bytes, count: int, stored: int) -> np.ndarray:
    """Return strings [count]: their lengths, the checksum of these, and their bytes are stored."""
    _require(count <= len(content), "{} strings in {} bytes", count, len(content))
    lengths, place = [], 0
    for _ in range(count):
        length, place = varint(content, place, len(content))
        lengths.append(length)
    # Checksums are of lengths of 4 bytes each, or 8 where one does not fit these.
    fixed = b"".join(struct.pack("<Q" if n > 0xFFFFFFFF else "<I", n) for n in lengths)
    checksum = struct.pack("<I", masked(crc32c(fixed)))
    _require(content[place : place + 4] == checksum, "its data fail their checksum")
    place += 4
    _require(place + sum(lengths) == len(content), "its strings are cut short")
    crc = crc32c(content[place:], crc32c(fixed + checksum))
    _require(masked(crc) == stored, "its data fail their checksum")
    found = np.empty(count, object)
    for index, length in enumerate(lengths):
        found[index] = content[place : place + length]
        place += length
    return found
