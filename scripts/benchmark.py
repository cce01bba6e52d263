"""Measure what a user would notice, side by side, and say by how much it varies.

python scripts/benchmark.py records [--rounds N] [--json FILE.json] [flags of main_gpu.py]

records: an epoch with checkpoints, tables, events and all other records, against one with none
"""

import _checkout  # noqa: F401, I001
import contextlib
import io
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Callable, Dict, List, NamedTuple, Sequence
from unittest import mock

from common.cli import Parser, int_at_least, new_file
from common.files import write_whole
from platforms.platform import describe_cpu
from run_directory.table import read_rows, table_path
from sparsenet.errors import exit_code_of

# A round more than this is not counted: the first one sets up memory, files and kernels.
WARM_UP_ROUNDS = 1


class Measured(NamedTuple):
    """Seconds of the rounds of one arm of a benchmark."""

    name: str
    seconds: List[float]

    def line(self, base: float) -> str:
        """Return median, range and the ratio to `base` as a line of a table."""
        low, high = min(self.seconds), max(self.seconds)
        median = statistics.median(self.seconds)
        return "{:<16} {:>9.4g} {:>9.4g} {:>9.4g} {:>8.3f}".format(
            self.name, median, low, high, median / base
        )


def side_by_side(arms: Dict[str, Callable[[], float]], rounds: int) -> List[Measured]:
    """Run each of the arms in turn, round after round; each returns its seconds."""
    seconds: Dict[str, List[float]] = {name: [] for name in arms}
    for number in range(WARM_UP_ROUNDS + rounds):
        for name, measure in arms.items():
            taken = measure()
            if number >= WARM_UP_ROUNDS:
                seconds[name].append(taken)
    return [Measured(name, each) for name, each in seconds.items()]


def in_fresh_process(measure: Callable[..., float], *arguments) -> float:
    """Call a function in a process of its own: nothing is left over from what ran before."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(measure, *arguments).result()


def records(flags: Sequence[str]) -> Dict[str, Callable[[], float]]:
    """Return the arms of `records`: seconds an epoch, after the first, without them and with."""
    return {
        "without records": lambda: in_fresh_process(seconds_an_epoch, flags, False),
        "with records": lambda: in_fresh_process(seconds_an_epoch, flags, True),
    }


def seconds_an_epoch(flags: Sequence[str], with_records: bool) -> float:
    """Train, and return the seconds of an epoch without its test.

    Without records it trains as a worker does that leaves them to another process.
    """
    from common.tf_stack import tf

    from platforms import gpu
    from training import trainer
    from training.command_line import parse
    from training.prepare import prepare
    from training.run import logger_to_file_only, train

    make_callbacks = trainer.make_callbacks
    clock = make_clock()
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        stack.enter_context(tf.Graph().as_default())
        stack.enter_context(
            mock.patch.object(
                trainer, "make_callbacks", lambda *run: [*make_callbacks(*run), clock]
            )
        )
        settings = parse([*flags, "--log_dir", root, "--name", "run"])
        assert settings is not None
        if with_records:
            train(settings, gpu.platform)
            rows = read_rows(table_path(os.path.join(root, "run"), "cpu"))
            tests = sum(row["inference_seconds"] for row in rows[1:])
        else:
            logger_to_file_only()
            trainer.run_epochs(prepare(settings, gpu.platform(settings)), None)
            tests = 0.0
    return (clock.ends[-1] - clock.ends[0] - tests) / (len(clock.ends) - 1)


def make_clock():
    """Return a callback with the times at which epochs ended, in seconds: `ends`."""
    from tensorpack.callbacks import Callback

    class Clock(Callback):
        _chief_only = False

        def __init__(self):
            self.ends: List[float] = []

        def _trigger_epoch(self):
            self.ends.append(time.perf_counter())

    return Clock()


BENCHMARKS = {"records": records}


def main() -> None:
    parser = Parser(
        description="Measure what a user would notice, side by side.",
        epilog="Other flags are passed on to main_gpu.py, such as --recipe digits.",
    )
    parser.add_argument("benchmark", choices=sorted(BENCHMARKS))
    parser.add_argument(
        "--rounds", type=int_at_least(1), metavar="N", default=5, help="counted, of each arm [5]"
    )
    parser.add_argument(
        "--json", type=new_file(".json"), metavar="FILE.json", help="write all that was measured"
    )
    args, flags = parser.parse_known_args()
    measured = side_by_side(BENCHMARKS[args.benchmark](flags), args.rounds)
    base = statistics.median(measured[0].seconds)
    print("{:<16} {:>9} {:>9} {:>9} {:>8}".format("", "median s", "least", "most", "ratio"))
    for arm in measured:
        print(arm.line(base))
    if args.json:
        found = {
            "benchmark": args.benchmark,
            "flags": flags,
            "processor": describe_cpu(),
            "seconds": {arm.name: arm.seconds for arm in measured},
        }
        write_whole(args.json, json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
