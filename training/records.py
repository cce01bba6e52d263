"""What a run writes about itself around its epochs: run.json, the table's comments, the curves."""

import contextlib
import datetime
import fcntl
import math
import os
import platform as host
import sys
from typing import Callable, Iterator, Optional

import numpy as np

from common.processes import output_of
from platforms.platform import threads
from run_directory.checkpoints import remove_unfinished
from run_directory.curves import plot_curves
from run_directory.packages import write_requirements
from run_directory.record import (
    CURVES,
    FORMAT,
    claim,
    read_record,
    require_new,
    write_record,
)
from run_directory.settings import settings_to_dict
from run_directory.table import (
    HELD_OUT,
    Table,
    columns_of,
    is_closed,
    read_stats,
    table_path,
    write_stats,
)
from sparsenet import recipes
from sparsenet.costs import parameters
from sparsenet.errors import RunFailed, UserError
from training.prepare import Run, resume

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


@contextlib.contextmanager
def held(run: Run, wait_for_all: Callable[[], None] = lambda: None) -> Iterator[Run]:
    """Hold the run directory while the body runs, and yield the run as it starts.

    Until the directory is locked another run may have written it: only then is a new run's
    directory known to be free, and the checkpoint that a resumed one goes on from.

    wait_for_all: returns once every worker has loaded its data; until then nothing is written

    Raises UserError if another run holds the directory, or has taken it.
    """
    is_new, is_chief = run.settings.resume is None, run.platform.workers.is_chief
    with contextlib.ExitStack() as stack:
        if is_chief and not is_new:
            stack.enter_context(locked(run.directory))
        wait_for_all()
        if is_chief and is_new:
            with _folder_errors(run):
                run.directory = claim(run.directory, may_be_numbered=run.settings.name is None)
            stack.enter_context(locked(run.directory))
            require_new(run.directory)
        if not is_new:
            run = resume(run)
        if is_chief:
            with _folder_errors(run):
                remove_unfinished(run.directory, run.checkpoint)
                for folder in run.platform.folders:
                    os.makedirs(folder, exist_ok=True)
        yield run


@contextlib.contextmanager
def _folder_errors(run: Run) -> Iterator[None]:
    """Raise UserError for a folder that can't be made or written to."""
    try:
        yield
    except OSError as error:
        raise UserError("run directory {}: {}".format(run.directory, error.strerror or error))


@contextlib.contextmanager
def locked(directory: str) -> Iterator[None]:
    """Lock a run directory while the body runs; UserError if another run has locked it."""
    try:
        handle = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise UserError("run directory {}: {}".format(directory, error.strerror or error))
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError("{} is being written by another run".format(directory))
        except OSError:
            pass  # a file system without locks
        if not os.path.isdir(directory) or not os.path.samestat(
            os.fstat(handle), os.stat(directory)
        ):
            raise UserError("{} was removed meanwhile".format(directory))
        yield
    finally:
        os.close(handle)


def open_records(run: Run) -> Table:
    """Write what is known before the first step and return the table of the run.

    Raises RunFailed if a file can't be written.
    """
    try:
        write_record(run.directory, describe_run(run))
        if run.checkpoint is None:
            write_requirements(run.directory)
        return open_table(run)
    except OSError as error:
        raise RunFailed("run directory {}: {}".format(run.directory, error))


def open_table(run: Run) -> Table:
    """Write stats.json and the table up to where the run starts, and return the table."""
    if run.checkpoint is not None:
        write_stats(run.directory, run.rows)
    title = "{} on {}, seed {}, {}".format(
        run.recipe.name, run.recipe.dataset, run.settings.seed,
        ", ".join(run.platform.devices),
    )  # fmt: skip
    return Table(
        table_path(run.directory, run.platform.name),
        title,
        run.rows,
        columns_of(run.recipe.config),
        run.first_epoch - 1,
        run.settings.tested_on,
    )


def close_records(run: Run, table: Table) -> None:
    """Add the closing summary to the table, and write the picture of the curves."""
    table.close()
    if table.rows:
        title = "{} on {}".format(run.recipe.name, run.recipe.dataset)
        name = run.platform.name
        held_out = [name] if table.tested_on == HELD_OUT else []
        plot_curves({name: table.rows}, title, os.path.join(run.directory, CURVES), held_out)


def are_closed(run: Run) -> bool:
    """Return whether a run that is done has all its records, up to the last one written."""
    table = table_path(run.directory, run.platform.name)
    epochs = {row["epoch"] for row in run.rows}
    in_stats = {entry["epoch_num"] for entry in read_stats(run.directory)}
    has_curves = os.path.isfile(os.path.join(run.directory, CURVES)) or not epochs
    return not run.notes and is_closed(table) and epochs <= in_stats and has_curves


def check_finite(
    what: str, loss: float, step: int, epoch: int, first_layer: Callable[[], Optional[str]]
) -> None:
    """Raise RunFailed if a loss is NaN or infinite; it names the step and the layer it began in.

    first_layer: returns the first layer whose output is not finite, None if that is not known
    """
    if math.isfinite(loss):
        return
    layer = first_layer()
    began = "" if layer is None else "; the first layer whose output is not finite: " + layer
    raise RunFailed(
        "the {} loss is {} at step {} (epoch {}){}".format(what, loss, step, epoch, began)
    )


def reason_of(error: Exception) -> str:
    """Return the line that says what happened; TensorFlow 2 first says where, over many lines."""
    text = str(error)
    where, _, what = text.partition("\nNode: ")
    lines = what.split("\n")[1:] if what else where.split("\n")
    return " ".join((lines[0] if lines else text).split())


def describe_run(run: Run) -> dict:
    """Return what run.json says about a run from now on."""
    now = {
        "format": FORMAT,
        "recipe": recipes.to_dict(run.recipe),
        "settings": settings_to_dict(run.settings),
    }
    if run.checkpoint is not None:
        record = read_record(run.directory)
        start = dict(first_epoch=run.first_epoch, **describe_start(run))
        return dict(record, resumed=list(record.get("resumed", ())) + [start], **now)
    return dict(
        describe_start(run),
        **now,
        parameters=parameters(run.recipe.config),
        engine=run.platform.engine,
        platform=run.platform.name,
        precision=run.platform.precision,
        seed=run.settings.seed,
        steps_per_epoch=run.steps_per_epoch,
        data=run.data.describe(),
        preprocessing=run.preprocessing,
    )


def describe_start(run: Run) -> dict:
    """Return what may differ between the starts of one run, for run.json."""
    return {
        "command": [os.path.basename(sys.argv[0])] + sys.argv[1:],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "devices": run.platform.devices,
        "threads": threads(),
        "workers": run.platform.workers.world_size,
        "commit": describe_commit(),
        "versions": {
            "python": host.python_version(),
            **run.platform.versions,
            "numpy": np.__version__,
            "system": "{} {}".format(host.system(), host.machine()),
        },
        **({run.platform.name: run.platform.options} if run.platform.options else {}),
    }


def describe_commit(checkout: str = CHECKOUT) -> Optional[str]:
    """Return the commit of this code, with `+` if files were changed; None outside a checkout.

    Code that was unpacked somewhere in another repository's work tree has none of its commits.
    """
    if _git(checkout, "rev-parse", "--show-prefix") != "":  # the path from the work tree's root
        return None
    commit = _git(checkout, "rev-parse", "HEAD")
    if not commit:
        return None
    changed = _git(checkout, "status", "--porcelain", "--untracked-files=no")
    return commit + ("+" if changed else "")


def _git(checkout: str, *arguments: str) -> Optional[str]:
    """Return what git prints about the folder `checkout`; None if it fails.

    The environment may name another repository (GIT_DIR, in a hook), and the folder may belong to
    another user, as it does in a container.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    command = ["git", "-c", "safe.directory=*", "-C", checkout]
    return output_of(command + list(arguments), environment)
