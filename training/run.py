"""A training run, from its settings and platform to its run directory.

The launchers differ in the :class:`Platform` that they choose; everything else happens here.
"""

import contextlib
import logging
import re
import threading
from typing import Callable, Iterator

from common.tf_stack import tf

from tensorpack import logger

from platforms.platform import Platform
from platforms.workers import require_one_network
from run_directory.settings import Settings
from run_directory.table import Table
from sparsenet.errors import RunFailed, UserError
from training.asked import ends_when_asked
from training.chief import finish, recorded
from training.prepare import Inputs, Run, load_inputs, prepare
from training.records import held, reason_of
from training.trainer import run_epochs


@ends_when_asked()
def train(settings: Settings, choose_platform: Callable[[Settings], Platform]) -> None:
    """Train as `settings` ask, see :func:`train_on`."""
    train_on(load_inputs(settings), choose_platform(settings))


def train_on(inputs: Inputs, platform: Platform) -> None:
    """Train on what was loaded.

    Raises UserError before anything is written, and RunFailed afterwards.
    """
    require_one_network(platform.workers)
    prepared = prepare(inputs, platform)
    with background_errors_to_log(), held(prepared, lambda: wait_for_all(platform)) as run:
        is_done = run.first_epoch > run.recipe.epochs
        if not platform.workers.is_chief:
            if not is_done:
                train_as_worker(run)
        elif is_done:
            finish(run)
        else:
            train_as_chief(run)


def wait_for_all(platform: Platform) -> None:
    """Return once every worker has loaded its data and is ready; RunFailed if one can't start."""
    if platform.workers.barrier is None:
        return
    try:
        platform.workers.barrier(platform.session_config)
    except tf.errors.OpError as error:
        raise RunFailed("another worker can't start: {}".format(reason_of(error)))


@contextlib.contextmanager
def background_errors_to_log() -> Iterator[None]:
    """Keep tracebacks of threads and of logging off the terminal during a run.

    TensorBoard's writer is a thread: on a full disk its traceback would bury the sentence that
    ends the run. tensorpack calls `logger.error("...", value)` with no placeholder for the value.
    """
    with contextlib.ExitStack() as stack:
        for module, name, value in [
            (threading, "excepthook", lambda failed: logger.error("thread: %r", failed.exc_value)),
            (logging, "raiseExceptions", False),
        ]:
            stack.callback(setattr, module, name, getattr(module, name, None))
            setattr(module, name, value)
        yield


def train_as_chief(run: Run) -> None:
    """Run the epochs and write the run directory, however the run ends."""

    def logged_epochs(run: Run, table: Table) -> None:
        # run.json is there before: without it the directory would be nobody's.
        open_log(run.directory)
        run_epochs(run, table)

    recorded(run, logged_epochs, (tf.errors.OpError,), reason_of)


def open_log(directory: str) -> None:
    """Have tensorpack write log.log there; RunFailed if it can't."""
    logger_to_file_only()
    messages = logging.getLogger("tensorpack")
    messages.setLevel(logging.CRITICAL)  # the first message comes before our format
    try:
        # "k" keeps what is there and asks nothing; the directory is new or to be resumed.
        logger.set_logger_dir(directory, action="k")
    except OSError as error:
        raise RunFailed("run directory {}: {}".format(directory, error.strerror or error))
    finally:
        messages.setLevel(logging.INFO)
    for handler in messages.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.setFormatter(PlainFormatter(LOG_LINE, "%Y-%m-%d %H:%M:%S"))


LOG_LINE = "%(asctime)s %(levelname)s %(filename)s:%(lineno)d: %(message)s"
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class PlainFormatter(logging.Formatter):
    """Format messages for a file: tensorpack colours them for a terminal."""

    def format(self, record):
        return COLOUR.sub("", super().format(record))


def logger_to_file_only() -> None:
    """Keep tensorpack's messages, warnings included, off the terminal; they go to log.log only."""
    for handler in logging.getLogger("tensorpack").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


def train_as_worker(run: Run) -> None:
    """Run the epochs as a worker that writes nothing."""
    logger_to_file_only()
    try:
        run_epochs(run, None)
    except (RunFailed, UserError, tf.errors.OpError) as error:
        raise RunFailed("worker {}: {}".format(run.platform.workers.rank, reason_of(error)))
