"""Read tar, as a stream: which files it holds, and the contents of some.

The headers are read here and not by tarfile, which takes them apart with regular expressions that
keep it busy for hours with a crafted one (CVE-2024-6232; there is no mended Python 3.7).

Source: POSIX.1-2017, pax, "ustar Interchange Format"; GNU tar's manual, "Basic Tar Format".
"""

import re
from typing import Callable, Dict, Iterator, NamedTuple, Optional, Tuple

from common.streams import Bounded

BLOCK = 512
# Kinds of members.
REGULAR = (b"0", b"\0", b"7")
WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")  # links, devices, folders, pipes
LONG_NAME, EXTENDED, SPARSE = b"L", b"x", b"S"
POSIX = b"ustar\0"
MOST_DIGITS = 20  # of a number in text
MOST_MEMBERS = 10**5


class Header(NamedTuple):
    """What a header says of the member behind it."""

    name: bytes
    size: int
    kind: bytes


def files(stream: Bounded, wanted: Callable[[str], bool]) -> Iterator[Tuple[str, bytes]]:
    """Yield path and content of the files whose paths are wanted; ValueError if it is damaged."""
    changes: Dict[bytes, bytes] = {}  # that an extended header makes to the next one
    for count, header in enumerate(iter(lambda: read_header(stream), None)):
        if count >= MOST_MEMBERS:
            raise ValueError("it holds more than {:,} members".format(MOST_MEMBERS))
        if header.kind in (LONG_NAME, EXTENDED):
            content = stream.read_whole(header.size)
            stream.skip(-header.size % BLOCK)
            is_name = header.kind == LONG_NAME
            changes.update({b"path": content} if is_name else dict(_extensions(content)))
            continue
        if header.kind == SPARSE:
            raise ValueError("it holds a sparse file")
        name = changes.get(b"path", header.name).split(b"\0")[0].decode("utf-8", "surrogateescape")
        size = _decimal(changes[b"size"]) if b"size" in changes else header.size
        changes = {}
        if header.kind in REGULAR and wanted(name):
            yield name, stream.read_whole(size)
            stream.skip(-size % BLOCK)
        elif header.kind not in WITHOUT_DATA:
            stream.skip(size + -size % BLOCK)


def read_header(stream: Bounded) -> Optional[Header]:
    """Return the next header, None at the end of the archive; ValueError if it is none."""
    block = stream.read(BLOCK)
    if not block.strip(b"\0"):
        return None
    if len(block) < BLOCK or _octal(block[148:156]) != sum(block) - sum(block[148:156]) + 8 * 32:
        raise ValueError("it is no tar, or damaged")
    name = block[:100].split(b"\0")[0]
    prefix = block[345:500].split(b"\0")[0] if block[257:263] == POSIX else b""
    return Header(prefix + b"/" + name if prefix else name, _size(block[124:136]), block[156:157])


def _size(field: bytes) -> int:
    """Return a size; where the octal digits don't suffice, GNU tar writes bytes."""
    return int.from_bytes(field[1:], "big") if field[0] == 0x80 else _octal(field)


def _octal(field: bytes) -> int:
    digits = field.split(b"\0")[0].strip()
    if not re.match(rb"[0-7]*$", digits):
        raise ValueError("it is no tar, or damaged")
    return int(digits or b"0", 8)


def _decimal(digits: bytes) -> int:
    if not re.match(rb"[0-9]{1,%d}$" % MOST_DIGITS, digits):
        raise ValueError("it is damaged")
    return int(digits)


def _extensions(content: bytes) -> Iterator[Tuple[bytes, bytes]]:
    """Yield the fields of an extended header: `LENGTH KEY=VALUE\\n`, where LENGTH is of all."""
    start = 0
    while start < len(content):
        space = content.find(b" ", start, start + MOST_DIGITS)
        end = start + _decimal(content[start : max(space, start)])
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if end <= space or end > len(content) or not equals:
            raise ValueError("it is damaged")
        yield key, value
        start = end
