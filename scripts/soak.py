"""Break a training run again and again, resume it, and hold its end against an unbroken run.

python scripts/soak.py SMALL_DIR --log_dir DIR [--minutes M] [--every S] [flags of main_gpu.py]

In turn, the run is killed, asked to end (SIGTERM), and left without space to write on. Therefore
SMALL_DIR lies in a small file system of its own, which is filled up:

    mount -t tmpfs -o size=64m tmpfs SMALL_DIR

The unbroken run trains at the same time in DIR/unbroken; memory and open files of both are watched.
When the time is over, both are asked to end, and resumed to the same epoch. DIR/soak.json gets what
was seen. Exit code 1: something is not as it should be.
"""

import _checkout  # noqa: F401, I001
import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence

import numpy as np
import psutil

from common.cli import Parser, positive, seconds
from common.files import write_whole
from run_directory.checkpoints import find_checkpoint, read_arrays
from run_directory.record import RECORD
from run_directory.table import STATS, find_table, read_rows, read_stats
from sparsenet.errors import RunFailed, UserError, exit_code_of

MAIN = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "main_gpu.py")
SMALL = 2**30  # bytes that are filled in a second or two
BALLAST = "ballast"
SECONDS_BETWEEN_SAMPLES = 5
EPOCHS = 10**6  # that no run comes to by itself
TIMES = ("epoch_seconds", "images_per_second", "inference_seconds")


class Fault(NamedTuple):
    """A way to break a run, and the exit code that a shell is to see then."""

    name: str
    code: int


KILLED, ASKED, FULL = FAULTS = (
    Fault("SIGKILL", 128 + signal.SIGKILL),
    Fault("SIGTERM", 128 + signal.SIGTERM),
    Fault("full disk", 1),
)


class Watch(threading.Thread):
    """Sample memory and open files of a process, with its children, until it ends.

    samples: (seconds since the start, MiB, open files)
    """

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.samples: List[List[float]] = []
        self._process = psutil.Process(pid)
        self.start()

    def run(self):
        start = time.time()
        with contextlib.suppress(psutil.Error):
            while self._process.status() != psutil.STATUS_ZOMBIE:
                family = [self._process] + self._process.children(recursive=True)
                memory = sum(each.memory_info().rss for each in family) / 2**20
                files = sum(each.num_fds() for each in family)
                self.samples.append([time.time() - start, memory, files])
                time.sleep(SECONDS_BETWEEN_SAMPLES)


def parser() -> Parser:
    """Return the parser of this command's own flags; those of the launcher are left over."""
    parser = Parser(
        description="Break a run again and again, and hold its end against an unbroken one.",
        epilog="Other flags are passed on to main_gpu.py, such as --recipe digits.",
    )
    parser.add_argument("small_dir", metavar="SMALL_DIR", help="in a small file system of its own")
    parser.add_argument("--log_dir", metavar="DIR", required=True, help="for all else")
    parser.add_argument(
        "--minutes", type=seconds, metavar="M", default=120, help="how long to break it [120]"
    )
    parser.add_argument(
        "--every", type=positive, metavar="S", default=180, help="seconds between faults [180]"
    )
    return parser


def main() -> None:
    args, flags = parser().parse_known_args()
    require_small(args.small_dir)
    os.makedirs(args.log_dir, exist_ok=True)
    broken, unbroken = (
        os.path.join(folder, name)
        for folder, name in ((args.small_dir, "broken"), (args.log_dir, "unbroken"))
    )
    start = time.time()
    steady = launch(new_run(unbroken, flags), unbroken + ".out")
    watches = [Watch(steady.pid)]
    try:
        faults = break_often(broken, flags, args, watches)
    finally:
        steady.send_signal(signal.SIGTERM)
        steady.wait()
    if code_of(steady) != ASKED.code:
        raise RunFailed("the unbroken run ended with code {}".format(code_of(steady)))
    finish([broken, unbroken], args.log_dir)
    record: Dict[str, Any] = {
        "command": [os.path.basename(sys.argv[0])] + sys.argv[1:],
        "minutes": round((time.time() - start) / 60, 1),
        "faults": faults,
        "epochs": len(read_rows(find_table(unbroken))),
        "unbroken": growth(watches[0]),
        "broken": {
            "memory_mib": round(max(s[1] for w in watches[1:] for s in w.samples)),
            "open_files": max(s[2] for w in watches[1:] for s in w.samples),
        },
        "differences": list(differences(broken, unbroken)),
    }
    text = json.dumps(record, indent=1)
    write_whole(os.path.join(args.log_dir, "soak.json"), text + "\n")
    print(text)
    if record["differences"]:
        raise RunFailed(record["differences"][0])


def require_small(directory: str) -> None:
    """Raise UserError unless a directory is there in a file system that may be filled."""
    try:
        found = os.statvfs(directory)
    except OSError as error:
        raise UserError("SMALL_DIR {}: {}".format(directory, error.strerror))
    free = found.f_bavail * found.f_frsize
    if free > SMALL:
        raise UserError(
            "SMALL_DIR {} has {:,} bytes free; accepted: at most {:,}, in a file system of its "
            "own".format(directory, free, SMALL)
        )


def new_run(directory: str, flags: List[str]) -> List[str]:
    """Return the arguments that start a run without an end in a new directory."""
    folder, name = os.path.split(directory)
    return [*flags, "--log_dir", folder, "--name", name, "--max_epoch", str(EPOCHS)]


def launch(arguments: List[str], output: str) -> subprocess.Popen:
    """Start main_gpu.py; what it prints is added to the file `output`."""
    with open(output, "ab") as stream:
        return subprocess.Popen(
            [sys.executable, MAIN, *arguments],
            stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip


def break_often(directory: str, flags: List[str], args, watches: List[Watch]) -> Dict[str, int]:
    """Train, with a fault every few seconds, for as long as is asked; ask the run to end then.

    Returns how often each fault struck. Raises RunFailed if one ends the run otherwise than it
    should, or if the run ends by itself.
    """
    struck = dict.fromkeys((fault.name for fault in FAULTS), 0)
    output = os.path.join(args.log_dir, "broken.out")
    arguments = new_run(directory, flags)
    end = time.time() + 60 * args.minutes
    for fault in itertools.cycle(FAULTS):
        is_last = time.time() + args.every >= end
        fault = ASKED if is_last else fault
        process = launch(arguments, output)
        watches.append(Watch(process.pid))
        try:
            process.wait(args.every)
        except subprocess.TimeoutExpired:
            strike(fault, process, args.small_dir)
            struck[fault.name] += 1
        if code_of(process) != fault.code:
            raise RunFailed(
                "code {}, and not {}, of {}; see {}".format(
                    code_of(process), fault.code, fault.name, output
                )
            )
        if is_last:
            return struck
        if os.path.exists(os.path.join(directory, RECORD)):
            arguments = ["--resume", directory]
    raise AssertionError


def finish(directories: Sequence[str], log_dir: str) -> None:
    """Resume runs, and train all of them to the end of the same epoch."""
    epochs = max(len(read_rows(find_table(each))) for each in directories) + 1
    for each in directories:
        arguments = ["--resume", each, "--max_epoch", str(epochs)]
        output = os.path.join(log_dir, "{}.out".format(os.path.basename(each)))
        if launch(arguments, output).wait():
            raise RunFailed("{} can't be resumed; see {}".format(each, output))


def code_of(process: subprocess.Popen) -> int:
    """Return the exit code of a process that has ended, as a shell does."""
    return 128 - process.returncode if process.returncode < 0 else process.returncode


def strike(fault: Fault, process: subprocess.Popen, small_dir: str) -> None:
    """Break a run and wait for its end."""
    if fault is not FULL:
        process.send_signal(signal.SIGKILL if fault is KILLED else signal.SIGTERM)
        process.wait()
        return
    ballast = os.path.join(small_dir, BALLAST)
    try:
        fill(ballast, process)
        process.wait()
    finally:
        os.remove(ballast)


def fill(path: str, process: subprocess.Popen) -> None:
    """Write a file until there is no space left, as long as a process runs."""
    with open(path, "wb", buffering=0) as stream:
        while process.poll() is None:
            try:
                stream.write(bytes(2**16))
            except OSError:
                time.sleep(0.1)  # the run may delete files and make room


def growth(watch: Watch) -> Dict[str, List[float]]:
    """Return means of memory and open files over ten equal parts of a run."""
    parts = np.array_split(np.array(watch.samples)[:, 1:], 10)
    means = np.array([part.mean(axis=0) for part in parts])
    return {
        "memory_mib": means[:, 0].round().tolist(),
        "open_files": means[:, 1].round(1).tolist(),
    }


def differences(broken: str, unbroken: str) -> Iterator[str]:
    """Yield in what the records and weights of two runs differ, times apart."""
    wanted = [row["epoch"] for row in read_rows(find_table(unbroken))]
    stats = [read_stats(each) for each in (broken, unbroken)]
    if [row["epoch"] for row in read_rows(find_table(broken))] != wanted:
        yield "the table of {} has not each epoch once".format(broken)
    if [entry["epoch_num"] for entry in stats[0]] != wanted:
        yield "{} of {} has not each epoch once".format(STATS, broken)
    for first, second in zip(*stats):
        for name in sorted(set(first) | set(second)):
            if name not in TIMES and first.get(name) != second.get(name):
                yield "epoch {}: {} differs".format(second["epoch_num"], name)
    weights = [read_arrays(find_checkpoint(each)) for each in (broken, unbroken)]
    if set(weights[0]) != set(weights[1]):
        yield "the checkpoints hold other variables"
    for name in sorted(set(weights[0]) & set(weights[1])):
        if weights[0][name].tobytes() != weights[1][name].tobytes():
            yield "{} is not the same bit for bit".format(name)


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
