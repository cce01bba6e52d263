"""The size of an image by its header, before it is decoded.

A decoder reserves the memory of all pixels that a header claims, whatever follows it.

Sources: PNG (ISO/IEC 15948), JPEG (ITU-T T.81), WebP Container Specification, Microsoft's BMP,
Netpbm, TIFF 6.0.
"""

import re
import struct
from typing import Callable, Dict, NamedTuple, Optional

# 8,192 x 8,192; the largest image of ImageNet has fewer.
MOST_PIXELS = 2**26
# Of a progressive JPEG, whose coefficients are all kept until the last scan.
MOST_PROGRESSIVE = 2**25
# Each scan of a JPEG passes through the whole image; a usual one has 1 or 10.
MOST_SCANNED = 2**30
# Of a TIFF: bytes of what is decoded at once, and strips or tiles.
MOST_BYTES = 2**28
MOST_PIECES = 10**5


class Size(NamedTuple):
    """What decoding takes.

    width, height: in pixels
    most:          pixels that an image of its kind may have
    scans:         how often all of them are visited
    """

    width: int
    height: int
    most: int = MOST_PIXELS
    scans: int = 1


def require_small(content: bytes) -> Size:
    """Return the size of an image; ValueError if it is of no known format, or too large."""
    size = size_of(content)
    if size is None or min(size.width, size.height) < 1:
        raise ValueError("damaged, or no image")
    pixels = size.width * size.height
    if pixels > size.most:
        raise ValueError(
            "too large to be decoded, {}x{} pixels; accepted: at most {:,} pixels".format(
                size.width, size.height, size.most
            )
        )
    if pixels * size.scans > MOST_SCANNED:
        raise ValueError("{} scans of {}x{} pixels".format(size.scans, size.width, size.height))
    return size


def size_of(content: bytes) -> Optional[Size]:
    """Return the size that the header of an image says; None for what is none that is known."""
    for start, read in FORMATS.items():
        if content.startswith(start):
            try:
                return read(content)
            except (struct.error, IndexError):  # cut off
                return None
    return None


def _png(content: bytes) -> Optional[Size]:
    kind, width, height = struct.unpack_from(">4sII", content, 12)
    return Size(width, height) if kind == b"IHDR" else None


def _bmp(content: bytes) -> Optional[Size]:
    is_old = struct.unpack_from("<I", content, 14) == (12,)
    width, height = struct.unpack_from("<HH" if is_old else "<ii", content, 18)
    return Size(width, abs(height))  # negative: the first row is the top one


def _webp(content: bytes) -> Optional[Size]:
    kind = content[8:16]
    if kind == b"WEBPVP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return Size(width & 0x3FFF, height & 0x3FFF)
    if kind == b"WEBPVP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"WEBPVP8X":
        width, height = (int.from_bytes(content[at : at + 3], "little") + 1 for at in (24, 27))
        return Size(width, height)
    return None


# Markers of a JPEG.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = frozenset([0xC2, 0xC6, 0xCA, 0xCE])
WITHOUT_LENGTH = frozenset([0x01, *range(0xD0, 0xD9)])
SCAN = b"\xff\xda"


def _jpeg(content: bytes) -> Optional[Size]:
    at = 2
    while True:
        at = content.find(b"\xff", at)
        if at < 0:
            return None
        marker = content[at + 1]
        if marker in (0x00, 0xFF):  # no marker, or one filled up in front
            at += 1 if marker else 2
        elif marker in FRAMES:
            height, width = struct.unpack_from(">HH", content, at + 5)
            most = MOST_PROGRESSIVE if marker in PROGRESSIVE else MOST_PIXELS
            return Size(width, height, most, content.count(SCAN, at))
        elif marker in WITHOUT_LENGTH:
            at += 2
        elif marker in (0xD9, 0xDA):  # its end, or a scan: before any size
            return None
        else:
            at += 2 + struct.unpack_from(">H", content, at + 2)[0]


PNM = re.compile(rb"P[1-6](?:\s|#[^\n]*\n)+([0-9]{1,9})(?:\s|#[^\n]*\n)+([0-9]{1,9})\s")
PNM_HEADER = 4096


def _pnm(content: bytes) -> Optional[Size]:
    found = PNM.match(content[:PNM_HEADER])
    return Size(*map(int, found.groups())) if found else None


# The kinds of whole numbers in a TIFF as struct names them, and its tags.
WHOLE = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 16: "Q", 17: "q"}
WIDTH, HEIGHT, BITS, SAMPLES, ROWS, TILE_WIDTH, TILE_HEIGHT = 256, 257, 258, 277, 278, 322, 323


def _tiff(content: bytes) -> Optional[Size]:
    order = "<" if content.startswith(b"I") else ">"
    tags = _tags_of(content, order)
    width, height = tags.get(WIDTH, 0), tags.get(HEIGHT, 0)
    piece = width, min(tags.get(ROWS, height), height)  # a strip
    if TILE_WIDTH in tags or TILE_HEIGHT in tags:
        piece = tags.get(TILE_WIDTH, 0), tags.get(TILE_HEIGHT, 0)
    if min(piece) < 1:
        return None
    pieces = -(-width // piece[0]) * -(-height // piece[1])
    depth = tags.get(SAMPLES, 1) * max(8, tags.get(BITS, 1)) // 8
    if pieces > MOST_PIECES or piece[0] * piece[1] * depth > MOST_BYTES:
        return None
    return Size(width, height)


def _tags_of(content: bytes, order: str) -> Dict[int, int]:
    """Return the first value of each tag of a TIFF's first image."""
    (start,) = struct.unpack_from(order + "I", content, 4)
    (count,) = struct.unpack_from(order + "H", content, start)
    tags: Dict[int, int] = {}
    for at in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, number = struct.unpack_from(order + "HHI", content, at)
        value = WHOLE.get(kind)
        if value is None or not number:
            continue
        place = at + 8
        if number * struct.calcsize(value) > 4:
            (place,) = struct.unpack_from(order + "I", content, place)
        tags.setdefault(tag, struct.unpack_from(order + value, content, place)[0])
    return tags


FORMATS: Dict[bytes, Callable[[bytes], Optional[Size]]] = {
    b"\x89PNG\r\n\x1a\n": _png,
    b"\xff\xd8": _jpeg,
    b"RIFF": _webp,
    b"BM": _bmp,
    b"II*\0": _tiff,
    b"MM\0*": _tiff,
    **{b"P%d" % number: _pnm for number in range(1, 7)},
}
