"""Python's search for garbage in cycles, put off where a great deal is made and all of it stays."""

import contextlib
import gc
from typing import Iterator


@contextlib.contextmanager
def none_collected() -> Iterator[None]:
    """Look for no cycles while the body runs; what is there at its end is not looked at again.

    TensorFlow's modules and the operations of a graph are a million objects that stay: looking
    through them again and again takes a fifth of the time that they take to make.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()
