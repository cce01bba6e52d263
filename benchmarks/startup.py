"""The time from a command to its first training step, and to the answers of those that train not.

It is what a person sees who starts a command at a terminal: the step counts once the bar that shows
the progress of the epoch has moved. So any version of this code can be measured, from outside.
"""

import argparse
import contextlib
import fcntl
import functools
import os
import re
import struct
import subprocess
import sys
import tempfile
import termios
import time
from typing import Dict, Iterator, List, Sequence

from benchmarks.measuring import Arm, Benchmark, Case
from common.cli import refused
from sparsenet.errors import UserError

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HERE = "this checkout"
# tqdm's `64/49984 [00:02<`: images done, of those of an epoch.
MOVED = re.compile(rb"\b[1-9]\d*/\d+ \[")
ROWS, COLUMNS = 40, 120  # of the terminal
# What is answered without TensorFlow: name -> command; {new} is a folder that does not exist.
ANSWERS = {
    "--help": ["main_gpu.py", "--help"],
    "--list_recipes": ["main_gpu.py", "--list_recipes"],
    "a wrong flag": ["main_gpu.py", "--depth", "99"],
    "no data there": ["main_gpu.py", "--dataset", "c10", "--dataset_dir", "{new}"],
    "the ledger": ["scripts/ledger.py"],
}


def checkout(text: str) -> str:
    """Return the path of a checkout, for argparse."""
    if not os.path.isfile(os.path.join(text, "main_gpu.py")):
        raise refused(text, "a folder with main_gpu.py")
    return os.path.abspath(text)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add --against."""
    parser.add_argument(
        "--against", type=checkout, metavar="DIR", help="another checkout, measured in turn"
    )


def cases(args: argparse.Namespace, flags: Sequence[str]) -> Iterator[Case]:
    """Yield the first step of the training that flags ask for, then each of ANSWERS."""
    checkouts = dict({"another": args.against} if args.against else {}, **{HERE: CHECKOUT})
    arms: Dict[str, Arm] = {
        name: functools.partial(seconds_to_first_step, folder, flags)
        for name, folder in checkouts.items()
    }
    yield Case("first step", arms)
    for answer, command in ANSWERS.items():
        arms = {
            name: functools.partial(seconds_to_end, folder, command)
            for name, folder in checkouts.items()
        }
        yield Case(answer, arms)


def seconds_to_first_step(folder: str, flags: Sequence[str]) -> float:
    """Start to train; return the seconds until the first step is shown, and end it there."""
    with tempfile.TemporaryDirectory() as root, _terminal() as (ours, theirs):
        command = [sys.executable, "main_gpu.py", *flags, "--log_dir", root]
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        try:
            return _until_shown(ours) - start
        finally:
            process.kill()
            process.wait()


@contextlib.contextmanager
def _terminal() -> Iterator[List[int]]:
    """Yield both ends of a terminal; the other one is for a process, and closed by the body."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    try:
        yield [ours, theirs]
    finally:
        os.close(ours)


def _until_shown(terminal: int) -> float:
    """Return the time at which a step is shown; UserError if the command ends before."""
    shown = b""
    with contextlib.suppress(OSError):  # how a terminal's end is told
        while not MOVED.search(shown):
            new = os.read(terminal, 4096)
            if not new:
                break
            shown += new
        else:
            return time.perf_counter()
    lines = shown.decode(errors="replace").strip().splitlines()
    raise UserError("it ended before a step: {}".format(lines[-1] if lines else "nothing shown"))


def seconds_to_end(folder: str, command: Sequence[str]) -> float:
    """Return the seconds that a command of a checkout takes."""
    with tempfile.TemporaryDirectory() as root:
        new = os.path.join(root, "new")
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *(each.format(new=new) for each in command)],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        return time.perf_counter() - start


BENCHMARK = Benchmark(
    "a command to its first training step, and commands that do not train to their end",
    "s",
    cases,
    add_flags,
    passes_on=True,
)
