"""Try every reader of files with damaged and crafted ones, and write down what came of it.

python scripts/fuzz.py [READER ...] [--inputs N] [--out results/fuzz]

Each reader runs in a process of its own. It may read an input or refuse it with a UserError, in 10
seconds and 1 GB; all else is a failure: another exception, the end of the process, a hang.
"""

import _checkout  # noqa: F401, I001
import hashlib
import json
import mmap
import multiprocessing
import os
import platform
import resource
import shlex
import signal
import sys
import tempfile
import time
from typing import Any, Dict, List

from common.cli import Parser, int_at_least, seconds
from common.files import write_whole
from common.processes import output_of
from fuzz_readers import CHECKOUT, LARGEST_INPUT, READERS, Reader, input_of
from sparsenet.errors import EXIT_FAILED, UserError, exit_code_of

SECONDS = 10  # that an input may take
MEMORY = 2**30  # bytes that it may take beside what the libraries do
INPUTS, SLOW_INPUTS = 200_000, 20_000
CHUNK = 5000  # inputs after which memory and time are looked at
SEEDED = 100  # inputs that follow from one choice of hypothesis, which takes longer than most
PLAN = 48  # bytes at most
STUCK = 30  # seconds without an input, after which a process is ended
COUNTER = 16  # bytes of a counter that processes share


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Try readers with damaged and crafted files.",
        epilog="Readers: {}.".format(", ".join(READERS)),
    )
    parser.add_argument("readers", nargs="*", choices=list(READERS), metavar="READER", help="[all]")
    parser.add_argument(
        "--inputs", type=int_at_least(1), metavar="N",
        help="of each reader [{:,}, of slow ones {:,}]".format(INPUTS, SLOW_INPUTS),
    )  # fmt: skip
    parser.add_argument(
        "--limit", type=seconds, metavar="S", help="seconds after which a reader is ended"
    )
    parser.add_argument("--seed", type=int_at_least(0), metavar="N", default=0, help="[0]")
    parser.add_argument("--out", metavar="DIR", help="write campaign.md and failing inputs there")
    return parser


class Hang(BaseException):
    """An input that takes too long."""


class Notes:
    """Counters that outlive the process that counts, and the input that it reads."""

    NAMES = ("inputs", "read", "refused", "slowest", "memory")

    def __init__(self):
        self.head = COUNTER * len(self.NAMES)
        self.shared = mmap.mmap(-1, self.head + LARGEST_INPUT + 8)

    def get(self, name: str) -> float:
        """Return a counter."""
        at = COUNTER * self.NAMES.index(name)
        return float(self.shared[at : at + COUNTER].strip(b"\0") or b"0")

    def set(self, name: str, value: float) -> None:
        """Set a counter."""
        at = COUNTER * self.NAMES.index(name)
        self.shared[at : at + COUNTER] = b"%-16.10g" % value

    @property
    def content(self) -> bytes:
        """The input that is read."""
        size = int.from_bytes(self.shared[self.head : self.head + 8], "little")
        return self.shared[self.head + 8 : self.head + 8 + size]

    @content.setter
    def content(self, content: bytes) -> None:
        whole = len(content).to_bytes(8, "little") + content
        self.shared[self.head : self.head + len(whole)] = whole


def try_reader(reader: Reader, inputs: int, limit: float, seed: int, notes: Notes, queue) -> None:
    """Read inputs until there were as many or the time is over; report failures to the queue."""
    with tempfile.TemporaryDirectory() as folder, open(os.devnull, "w") as nothing:
        for descriptor in (1, 2):  # decoders write to them
            os.dup2(nothing.fileno(), descriptor)
        path = os.path.join(folder, reader.name)
        samples = reader.samples()
        one = _one_input(reader, samples, path, notes)
        for _ in samples:
            one(b"")  # loads the libraries
        for name in Notes.NAMES:
            notes.set(name, 0)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with open("/proc/self/statm") as stream:
            taken = int(stream.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))
        signal.signal(signal.SIGALRM, _hang)
        end = time.perf_counter() + limit
        for number in range(-(-inputs // CHUNK)):
            try:
                _chunk(one, min(CHUNK, inputs - number * CHUNK), seed * 10**6 + number)
            except BaseException as error:
                queue.put(("{}: {}".format(type(error).__name__, error)[:300], notes.content))
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            notes.set("memory", (after - before) / 1024.0)
            if time.perf_counter() > end:
                break


def _one_input(reader: Reader, samples: List[bytes], path: str, notes: Notes):
    """Return the function that reads the input of a plan."""

    def one(plan: bytes) -> None:
        content = input_of(reader, samples, plan)
        with open(path, "wb") as stream:
            stream.write(content)
        notes.content = content
        notes.set("inputs", notes.get("inputs") + 1)
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        start = time.perf_counter()
        try:
            reader.read(path)
            outcome = "read"
        except UserError:
            outcome = "refused"
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        notes.set(outcome, notes.get(outcome) + 1)
        notes.set("slowest", max(notes.get("slowest"), time.perf_counter() - start))

    return one


def _hang(*_):
    raise Hang("more than {} s".format(SECONDS))


def _chunk(one, inputs: int, seed: int) -> None:
    """Have hypothesis choose seeds of plans; raises what an input raises."""
    import hypothesis
    from hypothesis import strategies

    def several(choice: bytes) -> None:
        for number in range(min(SEEDED, inputs)):
            found = hashlib.blake2b(choice, salt=number.to_bytes(2, "little")).digest()
            one(found[: 1 + found[-1] % PLAN])

    settings = hypothesis.settings(
        max_examples=max(1, inputs // SEEDED),
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate],  # what fails is written down as it is
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    choices = strategies.binary(min_size=8, max_size=8)
    hypothesis.seed(seed)(settings(hypothesis.given(choices)(several)))()


def campaign(reader: Reader, inputs: int, limit: float, seed: int) -> Dict[str, Any]:
    """Return what came of trying a reader: figures, and failures with their inputs."""
    notes, context = Notes(), multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=try_reader, args=(reader, inputs, limit, seed, notes, queue))
    start = time.perf_counter()
    process.start()
    seen, since = 0.0, start
    failures: List[Any] = []
    while process.is_alive():
        process.join(0.5)
        while not queue.empty():
            failures.append(queue.get())
        count = notes.get("inputs")
        if count != seen:
            seen, since = count, time.perf_counter()
        elif time.perf_counter() - since > STUCK:
            process.kill()
    while not queue.empty():
        failures.append(queue.get())
    if process.exitcode:
        what = "hung" if process.exitcode == -signal.SIGKILL else "ended"
        failures.append(("the process {} ({})".format(what, process.exitcode), notes.content))
    found = {name: notes.get(name) for name in Notes.NAMES}
    return dict(found, seconds=time.perf_counter() - start, failures=failures)


def table(results: Dict[str, Dict[str, Any]]) -> str:
    """Return the record of a campaign in Markdown."""
    lines = [
        "| reader | inputs | read | refused | seconds | slowest (s) | memory (MB) | failures |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, found in results.items():
        cells = ["{:,.0f}".format(found[key]) for key in ("inputs", "read", "refused", "seconds")]
        cells += ["{:.2f}".format(found["slowest"]), "{:.0f}".format(found["memory"])]
        lines.append("| {} | {} | {} |".format(name, " | ".join(cells), len(found["failures"])))
    return "\n".join(lines) + "\n"


def about() -> str:
    """Return the command, the versions and the hardware."""
    from importlib import import_module

    from platforms.platform import describe_cpu

    command = ["python", "scripts/fuzz.py"] + sys.argv[1:]
    commit = output_of(["git", "-C", CHECKOUT, "rev-parse", "HEAD"]) or "none"
    names = ("numpy", "cv2", "hypothesis")
    versions = ["{} {}".format(name, import_module(name).__version__) for name in names]
    return "`{}`\n\n{}; {}; Python {}, {}; commit {}\n".format(
        " ".join(map(shlex.quote, command)), describe_cpu(), platform.platform(),
        platform.python_version(), ", ".join(versions), commit.strip(),
    )  # fmt: skip


def main() -> int:
    args = parser().parse_args()
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        raise UserError("hypothesis is not installed; accepted: requirements/dev.txt")
    if args.out:
        os.makedirs(args.out, exist_ok=True)
    results: Dict[str, Dict[str, Any]] = {}
    for name in args.readers or READERS:
        inputs = args.inputs or (INPUTS if READERS[name].is_fast else SLOW_INPUTS)
        found = campaign(READERS[name], inputs, args.limit or float("inf"), args.seed)
        results[name] = found
        print(table({name: found}).splitlines()[-1], flush=True)
        for number, (what, content) in enumerate(found["failures"]):
            print("  " + json.dumps(what), flush=True)
            if args.out:
                path = os.path.join(args.out, "{}-{}".format(name, number))
                with open(path, "wb") as stream:
                    stream.write(content)
    if args.out:
        write_whole(os.path.join(args.out, "campaign.md"), about() + "\n" + table(results))
    return EXIT_FAILED if any(found["failures"] for found in results.values()) else 0


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
