"""The errors that a user can run into, and how a command reports them.

Every command runs in :func:`exit_code_of`, which turns a mistake into one line on stderr,
`error: ...`, and exit code 2, whatever raised it.
"""

import contextlib
import os
import signal
import sys
from typing import Callable, Optional

EXIT_FAILED = 1  # the work itself failed, e.g. the loss became NaN
EXIT_MISUSE = 2  # the command or its input is wrong; nothing was written
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells report it (128 + SIGINT)
LONGEST_VALUE = 100  # characters of a value that a message shows


class UserError(ValueError):
    """A mistake in a command or its input; the message names the value and what is accepted."""


class RunFailed(Exception):
    """A valid command that failed while it ran; what was saved until then is usable."""


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; `number` is the signal's."""

    def __init__(self, number: int):
        super().__init__(STOPS[number])
        self.number = number


# Signals that ask a process to end, and what is said then.
STOPS = {
    int(signal.SIGINT): "interrupted",
    int(signal.SIGTERM): "terminated",
    int(signal.SIGHUP): "hung up",
}


def require(condition: bool, field: str, value: object, accepted: str) -> None:
    """Raise UserError about the value of a field unless `condition` holds."""
    if not condition:
        raise UserError(wrong_value(field, value, accepted))


def wrong_value(field: str, value: object, accepted: str) -> str:
    """Return the sentence that says which values of a field are accepted instead."""
    text = ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
    return "`{}` is {}; accepted: {}".format(field, shortened(text, LONGEST_VALUE), accepted)


def exit_code_of(command: Callable[[], Optional[int]]) -> int:
    """Run `command` and return its exit code, where None counts as 0.

    What it raises becomes one line on stderr.
    """
    _occupy_standard_streams()
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        # Escape what the terminal can't show, such as parts of a path. A notebook's stream has no
        # encoding.
        if hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")
    try:
        return command() or 0
    except UserError as error:
        return report(error, EXIT_MISUSE)
    except RunFailed as error:
        return report(error, EXIT_FAILED)
    except Stopped as stop:
        return report(stop, 128 + stop.number)
    except KeyboardInterrupt:
        return report("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (`| head`) has left: there is nobody to report to.
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        return EXIT_FAILED
    except MemoryError as error:
        return report("out of memory: {}".format(error), EXIT_FAILED)
    except OSError as error:
        return report(error, EXIT_FAILED)


def _occupy_standard_streams() -> None:
    """Open /dev/null as each of the three streams that the parent process has closed.

    Else the next file to be opened would take its number, and get what is printed in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def report(message: object, code: int) -> int:
    """Print a message as one line on stderr, and return `code`."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
    line = shortened(printable(" ".join(str(message).split())), LONGEST_MESSAGE)
    with contextlib.suppress(OSError):  # nobody reads it
        print("error: {}".format(line), file=sys.stderr, flush=True)
    return code


def note(text: str) -> None:
    """Print what a user should know and that ends nothing, as one line."""
    print("note: {}".format(printable(text)), flush=True)


def printable(text: str) -> str:
    """Return text that may come from a file as it can be shown: what is no letter is escaped.

    Else it could move the cursor of a terminal, or turn the direction of what follows.
    """
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii")
        for each in text
    )


LONGEST_MESSAGE = 2000  # letters


def shortened(text: str, longest: int) -> str:
    """Return a text of at most so many letters: its beginning and its end, if it is longer."""
    if len(text) <= longest:
        return text
    end = (longest - 5) // 2
    return "{} ... {}".format(text[: longest - 5 - end], text[len(text) - end :])
