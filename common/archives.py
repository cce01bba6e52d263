"""Read files out of archives, in memory: tar, compressed or not, and zip; nothing is unpacked."""

import lzma
import posixpath
import tarfile
import zipfile
import zlib
from typing import Any, Callable, Dict, Iterator, Tuple

from sparsenet.errors import UserError

DAMAGED = (
    tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, ValueError,
    RuntimeError, NotImplementedError,
)  # fmt: skip

Member = Tuple[str, Callable[[], bytes]]


def is_archive(path: str) -> bool:
    """Return whether a file begins, or a zip file ends, as an archive does, whatever its name."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except DAMAGED:
        return False


def read_archive(path: str, wanted: Callable[[str], bool]) -> Dict[str, bytes]:
    """Return the contents of an archive's files whose paths are wanted, by path.

    The whole archive is read. Raises UserError if it is damaged, or none.
    """
    contents = {}
    try:
        for name, read in _members(path):
            name = posixpath.normpath(name)
            if wanted(name):
                contents[name] = read()
    except DAMAGED as error:
        reason = str(error).split("\n")[0].rstrip(":") or type(error).__name__
        raise UserError(
            "{} can't be unpacked: {}; accepted: a whole archive, tar or zip".format(path, reason)
        )
    return contents


def _members(path: str) -> Iterator[Member]:
    """Yield path and reader of each file of an archive."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as zipped:
            for name in zipped.namelist():
                yield name, lambda name=name: zipped.read(name)  # type: ignore[misc]
        return
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            content: Any = archive.extractfile(member) if member.isfile() else None
            if content is not None:
                yield member.name, content.read
        # Read to the end: only there does a compressed stream show whether it is damaged.
        stream: Any = archive.fileobj
        while stream.read(1 << 20):
            pass
