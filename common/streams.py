"""Read from a stream up to a bound, so that a small file can't fill the memory."""

from typing import Any, Iterator

SMALL = 2**27
MOST_COMPRESSED = 20
PIECE = 2**20  # bytes that are read at a time


def most_unpacked(packed: int) -> int:
    """Return how many bytes a file of `packed` bytes may unpack to; what needs more is refused.

    Images and weights hardly compress. A file that is small when unpacked may do so by any factor.
    """
    return max(SMALL, MOST_COMPRESSED * packed)


class Bounded:
    """A stream that may be read up to a number of bytes."""

    def __init__(self, stream: Any, most: int):
        self.stream = stream
        self.most = self.left = most

    def read(self, size: int) -> bytes:
        """Return `size` bytes, or fewer at the end; ValueError for more than may be read."""
        content = self.stream.read(min(size, self.left + 1))
        if len(content) > self.left:
            raise ValueError("it unpacks to more than {:,} bytes".format(self.most))
        self.left -= len(content)
        return content

    def read_whole(self, size: int) -> bytes:
        """Return `size` bytes; ValueError if there are fewer, or if more than may be read."""
        content = self.read(size)
        if len(content) < size:
            raise ValueError("it is cut off")
        return content

    def skip(self, size: int) -> None:
        """Read `size` bytes and drop them; ValueError as from read_whole."""
        while size:
            size -= len(self.read_whole(min(size, PIECE)))

    def pieces(self, size: int = PIECE) -> Iterator[bytes]:
        """Yield what is left, `size` bytes at a time; ValueError as from read."""
        while True:
            piece = self.read(size)
            if not piece:
                return
            yield piece
