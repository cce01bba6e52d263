"""What a run writes of itself around its epochs: run.json, the table's frame, the curves."""

import datetime
import fcntl
import logging
import os
import platform as host
import sys
from typing import Optional

from common.tf_stack import VERSION

import numpy as np
import tensorpack
from tensorpack import logger

from common.processes import output_of
from run_directory import record as records
from run_directory.curves import plot_curves
from run_directory.settings import settings_to_dict
from sparsenet import recipes
from sparsenet.costs import parameters
from sparsenet.errors import RunFailed, UserError
from training.prepare import Run


def open_records(this: Run) -> records.Table:
    """Make the run directory (or go on with it) and write what is known before the first step."""
    try:
        for folder in (this.directory, *this.platform.folders):
            os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError("run directory {}: {}".format(this.directory, error.strerror or error))
    lock(this.directory)
    try:
        logger_to_file_only()
        # Any action but asking on the terminal; the directory is new or to be continued.
        logger.set_logger_dir(this.directory, action="k")
        if this.checkpoint is None:
            record = describe_run(this)
        else:
            record = records.read_record(this.directory)
            start = dict(first_epoch=this.first_epoch, **describe_start(this))
            record["continued"] = list(record.get("continued", ())) + [start]
            record["recipe"] = recipes.to_dict(this.recipe)
            record["settings"] = settings_to_dict(this.settings)
            records.write_stats(this.directory, this.rows)
        records.write_record(this.directory, record)
        title = "{} on {}, seed {}, {}".format(
            this.recipe.name, this.recipe.dataset, this.settings.seed,
            ", ".join(this.platform.devices),
        )  # fmt: skip
        path = records.table_path(this.directory, this.platform.name)
        return records.Table(path, title, this.rows)
    except OSError as error:
        raise RunFailed("run directory {}: {}".format(this.directory, error.strerror or error))


def lock(directory: str) -> None:
    """Hold a run directory until this process ends; UserError if another one holds it."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError("{} is being written by another run".format(directory))
    except OSError:
        pass  # a file system without locks


def close_records(this: Run, table: records.Table) -> None:
    """Add the closing summary and the picture."""
    table.close()
    if table.rows:
        title = "{} on {}".format(this.recipe.name, this.recipe.dataset)
        curves = {this.platform.name: table.rows}
        plot_curves(curves, title, os.path.join(this.directory, records.CURVES))


def describe_run(this: Run) -> dict:
    """What run.json holds of a new run."""
    return dict(
        describe_start(this),
        format=1,
        recipe=recipes.to_dict(this.recipe),
        settings=settings_to_dict(this.settings),
        parameters=parameters(this.recipe.config),
        platform=this.platform.name,
        precision=this.platform.precision,
        seed=this.settings.seed,
        steps_per_epoch=this.steps,
        data=this.data.describe(),
        preprocessing=this.preprocessing,
    )


def describe_start(this: Run) -> dict:
    """What may differ between the starts of one run."""
    return {
        "command": [os.path.basename(sys.argv[0])] + sys.argv[1:],
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "devices": this.platform.devices,
        "workers": this.platform.workers.count,
        "commit": describe_commit(),
        "versions": describe_versions(),
        **({this.platform.name: this.platform.options} if this.platform.options else {}),
    }


def describe_versions() -> dict:
    """Versions of what computes."""

    return {
        "python": host.python_version(),
        "tensorflow": VERSION,
        "tensorpack": tensorpack.__version__,
        "numpy": np.__version__,
        "system": "{} {}".format(host.system(), host.machine()),
    }


def describe_commit() -> Optional[str]:
    """The commit of this code, with `+` where files differ from it; None outside a checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    commit = output_of(["git", "-C", here, "rev-parse", "HEAD"])
    if not commit:
        return None
    changed = output_of(["git", "-C", here, "status", "--porcelain", "--untracked-files=no"])
    return commit + ("+" if changed else "")


def logger_to_file_only() -> None:
    """Leave the terminal to our own lines: tensorpack's go to log.log, its warnings included."""

    for handler in logging.getLogger("tensorpack").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)
