"""Write files whole or not at all."""

import contextlib
import os
from typing import IO, Iterator


@contextlib.contextmanager
def written_whole(path: str, mode: str = "w") -> Iterator[IO]:
    """Yield a stream that becomes the file at the end: UTF-8 text, or binary with mode "wb".

    A reader sees the old file or the new one, never a part; if the body raises, the old one stays.
    """
    partial = path + ".partial"
    try:
        with open(partial, mode, encoding=None if "b" in mode else "utf-8") as stream:
            yield stream
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(partial)
        raise


def write_whole(path: str, text: str) -> None:
    """Write a text file, whole or not at all."""
    with written_whole(path) as stream:
        stream.write(text)
