"""A training run: settings and a platform in, a run directory out.

The launchers differ in the :class:`Platform` they give; everything else happens here, once.
"""

import contextlib
import os
import shlex
from typing import Callable

from common.tf_stack import tf

from platforms.platform import Platform
from run_directory import record as records
from run_directory.checkpoints import latest_checkpoint
from run_directory.settings import Settings
from sparsenet.errors import RunFailed
from training.prepare import Run, prepare
from training.records import close_records, logger_to_file_only, open_records
from training.trainer import train


def run(settings: Settings, choose_platform: Callable[[Settings], Platform]) -> None:
    """Train as `settings` ask. Raises UserError before anything is written, RunFailed after."""
    this = prepare(settings, choose_platform(settings))
    if this.first_epoch > this.recipe.epochs:
        if this.platform.workers.is_first:
            print("{}: all {} epochs are done".format(this.directory, this.recipe.epochs))
        return
    if this.platform.workers.wait_for_all is not None:
        wait_for_all(this.platform)
    if not this.platform.workers.is_first:
        help_to_train(this)
        return
    table = open_records(this)
    try:
        train(this, table)
    except KeyboardInterrupt:
        if latest_checkpoint(this.directory):
            print("\ncontinue with: --resume {}".format(shlex.quote(this.directory)))
        close_records(this, table)
        raise
    except (RunFailed, tf.errors.OpError, OSError) as error:
        # A disk that is full is full for the closing summary too: what failed first is told.
        with contextlib.suppress(OSError):
            close_records(this, table)
        raise RunFailed(
            "{}; last good checkpoint: {}".format(
                reason_of(error), latest_checkpoint(this.directory)
            )
        )
    close_records(this, table)
    print_summary(this, table)


def wait_for_all(platform: Platform) -> None:
    """Nothing is written before every worker has found its data and all it needs."""
    try:
        platform.workers.wait_for_all(platform.session_config)
    except tf.errors.OpError as error:
        raise RunFailed("another worker can't start: {}".format(reason_of(error)))


def help_to_train(this: Run) -> None:
    """Be one of the workers that write nothing."""
    logger_to_file_only()
    try:
        train(this, None)
    except (RunFailed, tf.errors.OpError) as error:
        raise RunFailed("worker {}: {}".format(this.platform.workers.rank, reason_of(error)))


def reason_of(error: Exception) -> str:
    """The line that says what happened: TensorFlow 2 tells first where, over many lines."""
    text = str(error)
    where, _, what = text.partition("\nNode: ")
    lines = what.split("\n")[1:] if what else where.split("\n")
    return " ".join((lines[0] if lines else text).split())


def print_summary(this: Run, table: records.Table) -> None:
    """The closing table on the terminal."""
    figures = records.summary(table.rows)
    images = len(this.data.test.labels)
    lines = [
        (
            "test error",
            "{:.2f} % ({} of {} images), after epoch {}".format(
                100 * figures["test_error"],
                round(figures["test_error"] * images),
                images,
                figures["epochs"],
            ),
        ),
        (
            "",
            "{:.2f} % median of the last five epochs".format(
                100 * figures["test_error_median_of_last_five"]
            ),
        ),
        ("speed", "{:.0f} images/s on {}".format(figures["images_per_second"], this.platform.name)),
        ("run directory", this.directory),
        ("curves", os.path.join(this.directory, records.CURVES)),
        ("last checkpoint", latest_checkpoint(this.directory)),
    ]
    print()
    for name, value in lines:
        print("{:<16} {}".format(name, value))
