"""The binary form of Protocol Buffers, read with bounds where protobuf itself takes what comes."""

import functools
from typing import Any, Dict, Iterator, Tuple, Union

NUMBER, BYTES = 0, 2  # kinds of fields
LENGTHS = {1: 8, 5: 4}  # bytes of the numbers of the other kinds


class Damaged(ValueError):
    """What is wrong with a file, in words."""


def varint(content: bytes, place: int, end: int) -> Tuple[int, int]:
    """Return the number of up to 64 bits that begins at a place, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        if place >= end:
            raise Damaged("it is cut short")
        byte = content[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & 0xFFFFFFFFFFFFFFFF, place
    raise Damaged("a number has no end")


def places(content: bytes, place: int, end: int) -> Iterator[Tuple[int, int, int, int]]:
    """Yield number, kind, start and end of the value of each field of a message."""
    while place < end:
        tag, start = varint(content, place, end)
        kind = tag & 7
        if kind == NUMBER:
            _, place = varint(content, start, end)
        elif kind == BYTES:
            size, start = varint(content, start, end)
            place = start + size
        elif kind in LENGTHS:
            place = start + LENGTHS[kind]
        else:
            raise Damaged("a field is of kind {}".format(kind))
        if place > end:
            raise Damaged("it is cut short")
        yield tag >> 3, kind, start, place


def fields(content: bytes) -> Iterator[Tuple[int, Union[int, bytes]]]:
    """Yield number and value of each field of a message: a signed integer or bytes."""
    for number, kind, start, end in places(content, 0, len(content)):
        value: Union[int, bytes] = content[start:end]
        if kind == NUMBER:
            value, _ = varint(content, start, end)
            value -= value >> 63 << 64
        elif kind in LENGTHS:
            value = int.from_bytes(content[start:end], "little")
        yield number, value


@functools.lru_cache(maxsize=None)
def _messages_of(descriptor) -> Dict[int, Any]:
    """Return the types of the fields of a message that are messages, by their numbers."""
    return {each.number: each.message_type for each in descriptor.fields if each.message_type}


def count_messages(content: bytes, descriptor: Any, most: int) -> int:
    """Return how many messages one holds, of which each takes memory, however short it is.

    Raises Damaged if it is not of the form of a message, or holds more than `most`.
    """
    count = 0
    pending = [(descriptor, 0, len(content))]
    while pending:
        type_, begin, stop = pending.pop()
        inner = _messages_of(type_)
        for number, kind, start, end in places(content, begin, stop):
            if kind == BYTES and number in inner:
                count += 1
                if count > most:
                    raise Damaged("it has more than {:,} parts".format(most))
                if end > start:
                    pending.append((inner[number], start, end))
    return count
