"""A training run: settings and a platform in, a run directory out.

The launchers differ in the :class:`Platform` they give; everything else happens here, once.
"""

import contextlib
import dataclasses
import datetime
import fcntl
import os
import platform as host
import shlex
import sys
from typing import Callable, Dict, Optional, Sequence

import tf_stack
from tf_stack import tf

import numpy as np
from tensorpack import FeedInput, QueueInput, SyncMultiGPUTrainerReplicated, logger
from tensorpack.callbacks import HyperParamSetterWithFunc, JSONWriter, RunUpdateOps
from tensorpack.dataflow import DataFromGenerator
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.sessinit import DictRestore, SaverRestore

import datasets
import recipes
import run_directory as records
from callbacks import Checkpoints, EpochReport, Events, Screen, TestSet, TrainingMeter
from checkpoints import find_checkpoint, latest_checkpoint, network_weights
from cifar_data import Dataset
from curves import plot_curves
from errors import RunFailed, UserError
from initial_weights import initial_weights
from network_costs import parameters
from processes import output_of
from recipes import Recipe
from run_platform import Platform
from settings import Settings, settings_to_dict
from sparsenet_model import SparseNet
from workers import AverageStatistics, BroadcastVariables


@dataclasses.dataclass
class Run:
    """A run whose every input has been looked at; `directory` is not written yet.

    first_epoch: counted from 1; more than that where a run is continued
    checkpoint:  to continue from, in a run directory; rows: of its table up to there
    weights:     what a new run starts from, where they were loaded
    """

    settings: Settings
    platform: Platform
    data: Dataset
    steps: int
    preprocessing: dict
    directory: str
    first_epoch: int = 1
    checkpoint: Optional[str] = None
    weights: Optional[Dict[str, np.ndarray]] = None
    rows: Sequence[records.Row] = ()

    @property
    def recipe(self) -> Recipe:
        """The recipe of the settings."""
        return self.settings.recipe


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


# Before anything is written --------------------------------------------------------------------


def prepare(settings: Settings, platform: Platform) -> Run:
    """Find the data and all that may be wrong; writes nothing."""
    recipe = settings.recipe
    if settings.resume is None and not platform.workers.is_first:
        directory = ""  # the first worker's matter
    elif settings.resume is None:
        directory = records.choose_path(settings, platform.name, datetime.datetime.now())
    else:
        directory = settings.resume
    if recipe.batch_size % platform.total_devices:
        raise UserError(
            "--batch_size {}; accepted: a multiple of {}, the number of devices".format(
                recipe.batch_size, platform.total_devices
            )
        )
    weights = None
    if settings.load is not None and settings.resume is None:
        weights = network_weights(find_checkpoint(settings.load), recipe.config)
    data = load_data(settings)
    batches = len(data.train.labels) // recipe.batch_size
    if not batches:
        raise UserError(
            "--batch_size {}; accepted: 1 to {}, the training images".format(
                recipe.batch_size, len(data.train.labels)
            )
        )
    steps = settings.steps_per_epoch or batches
    if steps > batches:
        raise UserError(
            "--steps_per_epoch {}; accepted: 1 to {}, the whole batches of {} there are".format(
                steps, batches, recipe.batch_size
            )
        )
    preprocessing = data.preprocessing(recipe.normalize, recipe.border)
    this = Run(settings, platform, data, steps, preprocessing, directory, weights=weights)
    return this if settings.resume is None else continued(this)


def load_data(settings: Settings) -> Dataset:
    """The data set of the recipe, or random images in its place, cut down to the subset."""
    name = settings.recipe.dataset
    if settings.fake:
        data = datasets.fake(name, settings.seed)
    else:
        data = datasets.load(name, settings.dataset_dir, settings.verify)
    return data if settings.subset is None else data.first(settings.subset)


def continued(this: Run) -> Run:
    """`this`, going on from the newest checkpoint of its directory; UserError if it can't."""
    record = records.read_record(this.directory)
    then = dict({"workers": 1}, **record)
    then["devices"] = len(record.get("devices", ()))
    for field, now in [
        ("platform", this.platform.name),
        ("devices", len(this.platform.devices)),
        ("workers", this.platform.workers.count),
        ("precision", this.platform.precision),
        ("steps_per_epoch", this.steps),
    ]:
        if then.get(field) != now:
            raise UserError(
                "{}: `{}` was {}, here it is {}; accepted: the same, or a new run with "
                "--load {}".format(this.directory, field, then.get(field), now, this.directory)
            )
    if record.get("data") != this.data.describe():
        raise UserError(
            "the data in {} are not those that {} was trained on; accepted: the same, see "
            "--dataset_dir".format(this.settings.dataset_dir, this.directory)
        )
    if not os.access(this.directory, os.W_OK):
        raise UserError("{} can't be written to".format(this.directory))
    checkpoint = latest_checkpoint(this.directory)
    if checkpoint is None:
        raise UserError("{} holds no checkpoint to continue from".format(this.directory))
    network_weights(checkpoint, this.recipe.config)
    done = int(checkpoint.rsplit("-", 1)[1]) // this.steps
    rows = records.read_rows(records.table_path(this.directory, this.platform.name))
    rows = [row for row in rows if row["epoch"] <= done]
    return dataclasses.replace(this, checkpoint=checkpoint, first_epoch=done + 1, rows=rows)


# The records -----------------------------------------------------------------------------------


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
    import tensorpack

    return {
        "python": host.python_version(),
        "tensorflow": tf_stack.VERSION,
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


# Training --------------------------------------------------------------------------------------


def train(this: Run, table: Optional[records.Table]) -> None:
    """Build the graph and run the epochs. Raises RunFailed where the loss is not finite.

    table: None for a worker that writes nothing
    """
    recipe, settings = this.recipe, this.settings
    tf.set_random_seed(settings.seed)
    model = SparseNet(
        recipe.config,
        this.preprocessing,
        recipe.batch_size // this.platform.total_devices,
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.decayed,
        settings.seed,
        this.platform.wrap_optimizer,
        this.platform.workers.rank * len(this.platform.devices),
    )
    trainer = make_trainer(this.platform)
    trainer.setup_graph(
        model.get_input_signature(), make_input(this), model.build_graph,
        model.get_optimizer,
    )  # fmt: skip
    trainer.train(
        callbacks=make_callbacks(this, table),
        monitors=[Events(), JSONWriter()],
        session_creator=NewSessionCreator(config=this.platform.session_config),
        session_init=initial_state(this),
        steps_per_epoch=this.steps,
        starting_epoch=this.first_epoch,
        max_epoch=recipe.epochs,
    )


def make_callbacks(this: Run, table: Optional[records.Table]) -> list:
    """What happens around the steps; a callback comes after those whose results it uses.

    tensorpack leaves out those that only the first worker needs where it is another one.
    """
    recipe, workers = this.recipe, this.platform.workers
    meter = TrainingMeter(workers)
    test_set = TestSet(this.data, recipe.batch_size // this.platform.total_devices)
    return [
        *([BroadcastVariables(workers)] if workers.broadcast is not None else []),
        RunUpdateOps(),
        # Asked at the end of epoch e for the rate of e + 1, and once before the first.
        HyperParamSetterWithFunc(
            "learning_rate", lambda epoch, _: recipe.learning_rate_at(epoch + 1)
        ),
        meter,
        *([AverageStatistics(workers)] if workers.count > 1 else []),
        test_set,
        EpochReport(meter, test_set, table, recipe),
        Checkpoints(this.directory, is_new_run=this.checkpoint is None),
        # Last: whatever becomes of the terminal, the epoch is kept.
        Screen(table, recipe.batch_size),
    ]


def make_trainer(platform: Platform):
    """The trainer for the devices of this process."""
    towers = len(platform.devices)
    if towers == 1:
        trainer = platform.workers.make_trainer()
    else:
        trainer = SyncMultiGPUTrainerReplicated(list(range(towers)))
    trainer.is_chief = platform.workers.is_first
    # Ungated (tensorpack's default), TF 1.15 may update a kernel in place while the gradient of
    # its layer's input is still being computed from it.
    trainer.GATE_GRADIENTS = tf.train.Optimizer.GATE_OP
    return trainer


def make_input(this: Run):
    """Placeholders for one device; for several a queue, of which each takes its part of a batch."""
    towers, workers = len(this.platform.devices), this.platform.workers

    def datapoints():
        batches = this.data.training_batches(
            this.recipe.batch_size, this.settings.seed, this.steps, this.first_epoch,
            this.preprocessing, (workers.rank, workers.count),
        )  # fmt: skip
        for step, batch in enumerate(batches, start=(this.first_epoch - 1) * this.steps):
            for part in zip(*(np.split(array, towers) for array in batch)):
                # Dropout masks are a function of the step.
                yield part + (step,) if this.recipe.config.dropout else part

    flow = DataFromGenerator(datapoints)
    return FeedInput(flow) if towers == 1 else QueueInput(flow)


def initial_state(this: Run):
    """What the variables start from: a checkpoint to continue, loaded weights, or new ones."""
    if this.checkpoint is not None:
        return SaverRestore(this.checkpoint)
    if this.weights is not None:
        return DictRestore(this.weights)
    return DictRestore(initial_weights(this.recipe.config, this.settings.seed))


def logger_to_file_only() -> None:
    """Leave the terminal to our own lines: tensorpack's go to log.log, its warnings included."""
    import logging

    for handler in logging.getLogger("tensorpack").handlers:
        if not isinstance(handler, logging.FileHandler):
            handler.setLevel(logging.CRITICAL)


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
