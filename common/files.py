"""Write files and folders whole or not at all."""

import codecs
import contextlib
import errno
import os
import shutil
import stat
from typing import IO, Iterator

PARTIAL = ".partial-"  # what the name of a file begins with while it is written


@contextlib.contextmanager
def written_beside(path: str) -> Iterator[str]:
    """Yield a path beside `path`, of the same ending; what is written there becomes `path` at last.

    A reader sees the old file or the new one, never a part, also after the machine went down; if
    the body raises, the old one stays. It may be a folder too, if nothing is at `path` but an empty
    one.
    """
    folder, name = os.path.split(path)
    partial = os.path.join(folder, PARTIAL + name)
    try:
        yield partial
        make_durable(*_and_all_below(partial))
        os.replace(partial, path)
        make_durable(folder or os.curdir)
    except BaseException as error:
        with contextlib.suppress(OSError):
            remove = shutil.rmtree if os.path.isdir(partial) else os.remove
            remove(partial)
        if isinstance(error, OSError) and error.filename in (None, partial):
            raise OSError(error.errno, error.strerror, path)  # which file it was
        raise


def _and_all_below(path: str) -> Iterator[str]:
    for folder, _, files in os.walk(path):
        yield from (os.path.join(folder, name) for name in files)
        yield folder
    if os.path.isfile(path):
        yield path


# What a file system answers that has nothing to bring to the disk.
NOT_NEEDED = (errno.EINVAL, errno.ENOTSUP)


def make_durable(*paths: str) -> None:
    """Bring files, or the entries of folders, to the disk, so that they outlast a loss of power."""
    for path in paths:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in NOT_NEEDED:
                raise
        finally:
            os.close(handle)


@contextlib.contextmanager
def written_whole(path: str, mode: str = "w") -> Iterator[IO]:
    """Yield a stream that becomes the file at the end: UTF-8 text, or binary with mode "wb"."""
    encoding = None if "b" in mode else "utf-8"
    with written_beside(path) as partial, open(partial, mode, encoding=encoding) as stream:
        yield stream


def read_file(path: str, most: int) -> bytes:
    """Return the content of a file; OSError for what is none, such as a pipe, or is too large.

    most: bytes that it may have
    """
    # Without waiting for what may be written to a pipe.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with open(handle, "rb") as stream:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "is no file", path)
        if found.st_size > most:
            raise OSError(errno.EFBIG, "larger than {:,} bytes".format(most), path)
        return stream.read(most)


def encoding_of(content: bytes) -> str:
    """Return the encoding of a text by how it begins: UTF-8, or UTF-16 as Windows writes it."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if content[1:4:2] == b"\0\0":  # without its mark
        return "utf-16-le"
    return "utf-8-sig"


def write_whole(path: str, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as stream:
        stream.write(text)
