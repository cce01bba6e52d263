"""What happens before a run writes anything: load its data, and check all that can go wrong."""

import dataclasses
import datetime
import os
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

import datasets
from cifar_data import Batch, Dataset
from platforms.platform import Platform
from run_directory.checkpoints import newest_whole, step_of
from run_directory.record import RECORD, choose_path, read_record, settings_of
from run_directory.recovery import recovered_rows
from run_directory.settings import Settings
from run_directory.table import Row, columns_of
from run_directory.weights import CLASSIFIER, read_weights, require_without_keras
from sparsenet.arrays import fitting
from sparsenet.errors import UserError
from sparsenet.initial_weights import initial_weights
from sparsenet.recipes import Recipe


@dataclasses.dataclass
class Run:
    """A run whose every input has been checked; `directory` is not written yet.

    settings:        what is asked of the run
    platform:        what it computes on
    data:            the data set, loaded
    steps_per_epoch: number of steps of an epoch
    preprocessing:   see Dataset.preprocessing
    directory:       "" for a worker that is not the chief
    first_epoch:     counted from 1; a resumed run starts later
    checkpoint:      to resume from, in the run directory; None for a new run
    weights:         that the run starts from: loaded, or all variables of the checkpoint; None for
                     initial ones
    rows:            of the epochs up to the checkpoint, if the run is resumed
    notes:           what a resumed run's directory lacked, in sentences
    """

    settings: Settings
    platform: Platform
    data: Dataset
    steps_per_epoch: int
    preprocessing: dict
    directory: str
    first_epoch: int = 1
    checkpoint: Optional[str] = None
    weights: Optional[Dict[str, np.ndarray]] = None
    rows: Sequence[Row] = ()
    notes: Sequence[str] = ()

    @property
    def recipe(self) -> Recipe:
        """Return the recipe of the settings."""
        return self.settings.recipe

    @property
    def device_batch_size(self) -> int:
        """Return the number of images per step and device."""
        return self.recipe.batch_size // self.platform.total_devices


class Inputs(NamedTuple):
    """What a run reads, whatever it computes on.

    settings: with the number of classes of the data
    weights:  to start from; None if the run has initial ones, or is resumed
    """

    settings: Settings
    data: Dataset
    weights: Optional[Dict[str, np.ndarray]]


def load_inputs(settings: Settings, with_keras: bool = False) -> Inputs:
    """Return what a run reads, loaded and checked; writes nothing, and needs no TensorFlow.

    with_keras: Keras trains, so that weights may be in its files

    Raises UserError for whatever is wrong with data, schedule or weights.
    """
    if settings.load is not None and not with_keras:
        require_without_keras(settings.load)
    data, weights = load_data(settings), None
    if settings.resume is None:
        recipe = datasets.with_classes(settings.recipe, data.classes)
        settings = dataclasses.replace(settings, recipe=recipe)
    _steps_per_epoch(settings, len(data.train.labels))
    if settings.resume is None and settings.load is not None:
        weights = load_weights(settings, settings.load)
    return Inputs(settings, data, weights)


def prepare(inputs: Inputs, platform: Platform) -> Run:
    """Return the run of these inputs on a platform; writes nothing.

    Where a resumed run starts is left to :func:`resume`. Raises UserError for whatever does not
    fit the platform.
    """
    settings, data, weights = inputs
    directory = _directory(settings, platform)
    recipe = settings.recipe
    if recipe.batch_size % platform.total_devices:
        raise UserError(
            "--batch_size {}; accepted: a multiple of {}, the number of devices".format(
                recipe.batch_size, platform.total_devices
            )
        )
    return Run(
        settings,
        platform,
        data,
        _steps_per_epoch(settings, len(data.train.labels)),
        data.preprocessing(recipe.normalize, recipe.pad_value, recipe.augment),
        directory,
        weights=weights,
    )


def load_weights(settings: Settings, path: str) -> Dict[str, np.ndarray]:
    """Return the weights of a file; with --new_head the classifier has its initial ones."""
    config, classifier = settings.recipe.config, None
    if settings.new_head:
        initial = initial_weights(config, settings.seed)
        classifier = {name: initial[name] for name in initial if name.startswith(CLASSIFIER)}
    _, weights = read_weights(path, config, classifier)
    return weights


def _directory(settings: Settings, platform: Platform) -> str:
    """Return the path of the run directory; "" if another worker, the chief, chooses it."""
    if settings.resume is not None:
        return settings.resume
    if not platform.workers.is_chief:
        return ""
    return choose_path(settings, platform.name, datetime.datetime.now())


def load_data(settings: Settings) -> Dataset:
    """Return the recipe's data set, or random images in its place, as the run is to use it.

    That is cut down to the subset, and with the images that are held out in place of the test set.
    """
    fake_seed = settings.seed if settings.fake else None
    data = datasets.load(
        settings.recipe, settings.dataset_dir, settings.verify, fake_seed, settings.extra
    )
    data = data if settings.subset is None else data.first(settings.subset)
    return data if settings.hold_out is None else data.hold_out(settings.hold_out)


def noting(batches: Iterator[Batch], faults: List[Exception]) -> Iterator[Batch]:
    """Yield batches; note what goes wrong while they are read, for what reads them may hide it."""
    try:
        yield from batches
    except Exception as error:
        faults.append(error)
        raise


def _steps_per_epoch(settings: Settings, images: int) -> int:
    """Return the number of steps of an epoch; UserError if `images` are too few for them."""
    batch_size = settings.recipe.batch_size
    batches = images // batch_size
    if not batches:
        raise UserError(
            "--batch_size {}; accepted: 1 to {}, the training images".format(batch_size, images)
        )
    steps = settings.steps_per_epoch or batches
    if steps > batches:
        raise UserError(
            "--steps_per_epoch {}; accepted: 1 to {}, the number of whole batches of {}".format(
                steps, batches, batch_size
            )
        )
    return steps


def resume(run: Run) -> Run:
    """Return `run` as it resumes from the newest whole checkpoint of its directory.

    It starts anew where it ended before its first checkpoint. To be called once the directory is
    locked. Raises UserError if the run can't be resumed.
    """
    _require_same(run, read_record(run.directory))
    if not os.access(run.directory, os.W_OK):
        raise UserError("{} can't be written to".format(run.directory))
    checkpoint, variables, faults = newest_whole(run.directory)
    if checkpoint is None:
        return _start_anew(run, faults)
    fitting(variables, run.recipe.config, "checkpoint {}".format(checkpoint))
    done, rest = divmod(step_of(checkpoint), run.steps_per_epoch)
    if rest:
        raise UserError(
            "checkpoint {} is not of the end of an epoch; accepted: one after a multiple of {} "
            "steps".format(checkpoint, run.steps_per_epoch)
        )
    rows, notes = _recorded(run, done)
    faults = ["{}; passed over for {}".format(each, checkpoint) for each in faults]
    return dataclasses.replace(
        run,
        checkpoint=checkpoint,
        weights=variables,
        first_epoch=done + 1,
        rows=rows,
        notes=faults + notes,
    )


def _recorded(run: Run, epochs: int) -> Tuple[List[Row], List[str]]:
    """Return the rows of a run's first epochs, and sentences on what its table did not have."""
    return recovered_rows(
        run.directory,
        run.platform.name,
        epochs,
        run.steps_per_epoch,
        columns_of(run.recipe.config),
    )


def _start_anew(run: Run, faults: Sequence[str]) -> Run:
    """Return a run that ended before its first checkpoint, as it starts once more.

    Raises UserError if an epoch of it is recorded: then its checkpoints are lost.
    """
    rows, _ = _recorded(run, run.recipe.epochs)
    if rows:
        raise UserError(
            "{} holds no checkpoint to resume from{}".format(
                run.directory, "".join("; " + each for each in faults[:1])
            )
        )
    weights = None
    if run.settings.load is not None:
        weights = load_weights(run.settings, run.settings.load)
    note = "{} ended before its first checkpoint: it starts anew".format(run.directory)
    return dataclasses.replace(run, weights=weights, notes=[*faults, note])


# What a resumed run may have changed meanwhile, in another resume of it.
CHANGEABLE = (
    "dataset_dir", "verify", "gpus", "recompute", "resume", "data_url", "train_url", "recipe",
)  # fmt: skip


def _require_unchanged(run: Run, record: dict) -> None:
    """Raise UserError if run.json is no longer that of the run whose settings were read."""
    then = settings_of(record, os.path.join(run.directory, RECORD))
    same = {field: getattr(run.settings, field) for field in CHANGEABLE}
    same["recipe"] = dataclasses.replace(then.recipe, epochs=run.recipe.epochs)
    if dataclasses.replace(then, **same) != run.settings or same["recipe"] != run.recipe:
        raise UserError(
            "{} was replaced by another run meanwhile; accepted: --resume once more".format(
                run.directory
            )
        )


def _require_same(run: Run, record: dict) -> None:
    """Raise UserError if a run can't be resumed under the conditions it began with."""
    _require_unchanged(run, record)
    then = dict({"workers": 1, "engine": "tensorpack"}, **record)
    then["devices"] = len(record.get("devices", ()))
    for field, now in [
        ("engine", run.platform.engine),
        ("platform", run.platform.name),
        ("devices", len(run.platform.devices)),
        ("workers", run.platform.workers.world_size),
        ("precision", run.platform.precision),
        ("steps_per_epoch", run.steps_per_epoch),
    ]:
        if then.get(field) != now:
            raise UserError(
                "{}: `{}` was {}, here it is {}; accepted: the same, or a new run with "
                "--load {}".format(run.directory, field, then.get(field), now, run.directory)
            )
    if record.get("data") != run.data.describe():
        raise UserError(
            "the data in {} are not those that {} was trained on; accepted: the same, see "
            "--dataset_dir".format(run.settings.dataset_dir, run.directory)
        )
