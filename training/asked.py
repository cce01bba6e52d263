"""What ends a run from outside: a signal does, a terminal that is gone does not."""

import contextlib
import os
import signal
import sys
import threading
from typing import IO, Any, Iterator, Optional

from sparsenet.errors import STOPS, Stopped


@contextlib.contextmanager
def ends_when_asked() -> Iterator[None]:
    """While the body runs, raise Stopped in it at a signal that asks to end, and let output fail.

    A second signal ends the process at once. A signal that was ignored stays so, as SIGHUP is under
    nohup.
    """
    with contextlib.ExitStack() as stack:
        if threading.current_thread() is threading.main_thread():
            stack.enter_context(_stops_are_raised())
        stack.enter_context(contextlib.redirect_stdout(_Outlasting(sys.stdout)))
        yield


class _Together(contextlib.ContextDecorator):
    """What is to be done as a whole: a signal that asks to end is raised after it.

    An exception amid what another thread is told may leave that thread waiting for ever, and
    whoever waits for it: Condition.notify forgets a waiter before it wakes it.
    """

    def __init__(self):
        self.depth = 0
        self.asked: Optional[int] = None

    def __enter__(self):
        self.depth += 1

    def __exit__(self, *_):
        self.depth -= 1
        if self.depth == 0 and self.asked is not None:
            number, self.asked = self.asked, None
            raise Stopped(number)


_together = _Together()


def together() -> _Together:
    """Return a context, or decorator, whose body a signal does not interrupt."""
    return _together


@contextlib.contextmanager
def _stops_are_raised() -> Iterator[None]:
    # None: a handler that no Python code has set
    before = {number: signal.getsignal(number) for number in STOPS}
    heard = [number for number, was in before.items() if was not in (signal.SIG_IGN, None)]

    def stop(number, _):
        for each in heard:
            signal.signal(each, signal.SIG_DFL)
        if _together.depth:
            _together.asked = number
        else:
            raise Stopped(number)

    for number in heard:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in heard:
            if signal.getsignal(number) is stop:
                signal.signal(number, before[number])


class _Outlasting:
    """A text stream that takes what is printed, whether or not anybody reads it any more."""

    def __init__(self, stream: IO[str]):
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text; return its length."""
        with self._to_nowhere_at_an_error():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is kept back."""
        with self._to_nowhere_at_an_error():
            self._stream.flush()

    @contextlib.contextmanager
    def _to_nowhere_at_an_error(self) -> Iterator[None]:
        """Have the stream end in /dev/null once it can't be written to: a pipe, a terminal, a disk.

        It keeps its number: what it still holds is written at the end of the process.
        """
        try:
            yield
        except OSError:
            with open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
