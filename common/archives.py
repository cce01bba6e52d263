"""Read files out of archives, in memory: tar, compressed or not, and zip; nothing is unpacked."""

import bz2
import gzip
import lzma
import os
import posixpath
import zipfile
from typing import Any, Callable, Dict, Iterator, Tuple

from common import tar
from common.streams import Bounded, most_unpacked
from sparsenet.errors import UserError

# What a damaged archive makes the readers of Python raise: nearly any built-in exception.
DAMAGED = Exception
# How a compressed stream begins -> what reads it.
COMPRESSED = (
    (b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ\0", lzma.open),
    (b"\x5d\0\0", lzma.open),
)  # fmt: skip
# A piece that zipfile inflates at a time: of bzip2 and LZMA, all that a piece holds.
PIECE = 4096

Wanted = Callable[[str], bool]


def is_archive(path: str) -> bool:
    """Return whether a file begins, or a zip file ends, as an archive does, whatever its name."""
    try:
        if zipfile.is_zipfile(path):
            return True
        with _decompressed(path) as stream:
            return tar.read_header(Bounded(stream, tar.BLOCK)) is not None
    except DAMAGED:
        return False


def read_archive(path: str, wanted: Wanted) -> Dict[str, bytes]:
    """Return the contents of an archive's files whose paths are wanted, by path.

    The whole archive is read. Raises UserError if it is damaged, or none, or if it unpacks to more
    than most_unpacked allows.
    """
    try:
        read = _zipped if zipfile.is_zipfile(path) else _tarred
        found = read(path, lambda name: wanted(posixpath.normpath(name)))
        return {posixpath.normpath(name): content for name, content in found}
    except DAMAGED as error:
        reason = str(error).split("\n")[0].rstrip(":") or type(error).__name__
        raise UserError(
            "{} can't be unpacked: {}; accepted: a whole archive, tar or zip".format(path, reason)
        )


def _zipped(path: str, wanted: Wanted) -> Iterator[Tuple[str, bytes]]:
    """Yield path and content of the files that are wanted."""
    left = most_unpacked(os.path.getsize(path))
    with zipfile.ZipFile(path) as archive:
        for name in filter(wanted, archive.namelist()):
            with archive.open(name) as member:
                stream = Bounded(member, left)
                content = b"".join(stream.pieces(PIECE))
            left = stream.left
            yield name, content


def _tarred(path: str, wanted: Wanted) -> Iterator[Tuple[str, bytes]]:
    """Yield path and content of the files that are wanted."""
    if not os.path.getsize(path):
        raise ValueError("it is empty")
    with _decompressed(path) as decompressed:
        stream = Bounded(decompressed, most_unpacked(os.path.getsize(path)))
        yield from tar.files(stream, wanted)
        # Read to the end: only there does a compressed stream show whether it is damaged.
        for _ in stream.pieces():
            pass


def _decompressed(path: str) -> Any:
    """Return the stream of a file, decompressed if it is compressed."""
    with open(path, "rb") as stream:
        start = stream.read(6)
    openers: Any = [opener for magic, opener in COMPRESSED if start.startswith(magic)]
    return (openers or [open])[0](path, "rb")
