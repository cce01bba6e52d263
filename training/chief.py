"""What the process that writes the run directory does around the epochs, whatever trains."""

import contextlib
import shlex
from typing import Callable, Tuple, Type

from run_directory.checkpoints import latest_checkpoint, newest_whole
from run_directory.table import Table
from sparsenet.errors import RunFailed, UserError
from training.prepare import Run
from training.records import are_closed, close_records, open_records, open_table
from training.screen import print_notes, print_start, print_summary, show


def recorded(
    run: Run,
    run_epochs: Callable[[Run, Table], None],
    failures: Tuple[Type[Exception], ...] = (),
    reason_of: Callable[[Exception], str] = str,
) -> None:
    """Run the epochs and write the run directory, however the run ends.

    failures:  exceptions of what trains that end a run, beside RunFailed, UserError and OSError
    reason_of: returns the line that says what happened

    Raises RunFailed that names the last good checkpoint.
    """
    # UserError: an image that can't be read, of those that stay in their files.
    ends = (RunFailed, UserError, OSError) + failures
    table = open_records(run)
    print_start(run)
    try:
        run_epochs(run, table)
    except KeyboardInterrupt:
        if latest_checkpoint(run.directory):
            show("\nresume with: --resume {}".format(shlex.quote(run.directory)))
        close_records(run, table)
        raise
    except ends as error:
        # A full disk fails the closing summary too: report what failed first.
        with contextlib.suppress(OSError):
            close_records(run, table)
        raise RunFailed("{}; last good checkpoint: {}".format(reason_of(error), _last_good(run)))
    close_records(run, table)
    print_summary(run, table)


def _last_good(run: Run) -> str:
    """Return the prefix of the newest whole checkpoint, or that there is none."""
    try:
        return newest_whole(run.directory).prefix or "none yet"
    except OSError as error:
        return "none, {}: {}".format(run.directory, error.strerror)


def finish(run: Run) -> None:
    """Say that all epochs of a run are done, and write the records that it has not finished.

    Raises RunFailed if one can't be written.
    """
    show("{}: all {} epochs are done".format(run.directory, run.recipe.epochs))
    print_notes(run)
    if are_closed(run):
        return
    try:
        table = open_table(run)
        close_records(run, table)
    except OSError as error:
        raise RunFailed("run directory {}: {}".format(run.directory, error))
    show("its records are finished now")
    if table.rows:
        print_summary(run, table)
