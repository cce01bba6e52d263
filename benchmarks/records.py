"""What checkpoints, tables, events and all other records of a run cost."""

import argparse
import contextlib
import io
import os
import tempfile
import time
from typing import Dict, List, Sequence
from unittest import mock

from benchmarks.measuring import Arm, Benchmark, Case, in_fresh_process
from run_directory.table import read_rows, table_path


def cases(args: argparse.Namespace, flags: Sequence[str]) -> List[Case]:
    """Return one case: seconds an epoch, after the first, without records and with them."""
    arms: Dict[str, Arm] = {
        "without records": lambda: in_fresh_process(seconds_an_epoch, flags, False),
        "with records": lambda: in_fresh_process(seconds_an_epoch, flags, True),
    }
    return [Case("an epoch", arms)]


def seconds_an_epoch(flags: Sequence[str], with_records: bool) -> float:
    """Train, and return the seconds of an epoch without its test.

    Without records it trains as a worker does that leaves them to another process.
    """
    from common.tf_stack import tf

    from platforms import gpu
    from training import trainer
    from training.command_line import parse
    from training.prepare import load_inputs, prepare
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
            trainer.run_epochs(prepare(load_inputs(settings), gpu.platform(settings)), None)
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


BENCHMARK = Benchmark(
    "an epoch with checkpoints and all other records against one with none",
    "s",
    cases,
    passes_on=True,
)
