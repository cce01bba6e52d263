"""Before a run writes anything: its data are found, and all that may be wrong."""

import dataclasses
import datetime
import os
from typing import Dict, Optional, Sequence

import numpy as np

import datasets
from cifar_data import Dataset
from platforms.platform import Platform
from run_directory import record as records
from run_directory.checkpoints import find_checkpoint, latest_checkpoint, network_weights
from run_directory.settings import Settings
from sparsenet.errors import UserError
from sparsenet.recipes import Recipe


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
