"""A run that Keras trains: the same records as a run of tensorpack's, checkpoints as arrays."""

import functools
import itertools
import os
import sys
import time
from typing import Optional, Tuple

import keras
import numpy as np
from keras import ops
from tqdm import tqdm

from cifar_data import Dataset, ImageSet
from platforms.platform import Platform
from platforms.workers import require_one_network
from run_directory.checkpoints import (
    ARRAYS,
    CHECKPOINT_PREFIX,
    keep,
    write_arrays,
)
from run_directory.settings import Settings
from run_directory.table import TOP_5, UNTIMED_STEPS, Row, columns_of, write_stats
from sparsenet.errors import UserError
from sparsenet.initial_weights import initial_weights
from sparsenet.keras import preprocess_input
from sparsenet.keras.weights import scope_of, variables
from training.asked import ends_when_asked
from training.chief import finish, recorded
from training.keras_model import (
    get_state,
    make_optimizer,
    seed_dropout,
    set_state,
    training_model,
)
from training.not_finite import first_by_outputs, first_by_statistics
from training.prepare import Run, load_inputs, prepare
from training.records import check_finite, held
from training.screen import print_epoch, print_header


@ends_when_asked()
def train(settings: Settings, platform: Platform) -> None:
    """Train as `settings` ask.

    Raises UserError before anything is written, and RunFailed afterwards.
    """
    require_one_network(platform.workers)
    prepared = prepare(load_inputs(settings, with_keras=True), platform)
    if platform.total_devices > 1 and not is_in_memory(prepared.data):
        raise UserError(
            "{} devices with {}; accepted: one, where the images stay on the disk".format(
                platform.total_devices, prepared.recipe.dataset
            )
        )
    with held(prepared) as run:
        is_done = run.first_epoch > run.recipe.epochs
        if not platform.workers.is_chief:
            if not is_done:
                KerasRun(run).run_epochs(None)
        elif is_done:
            finish(run)
        else:
            recorded(run, lambda run, table: KerasRun(run).run_epochs(table))


class KerasRun:
    """The epochs of a run, and the model in them."""

    def __init__(self, run: Run):
        self.run = run
        self.model = training_model(run.recipe.config)
        self.optimizer = make_optimizer(self.model, run.recipe, run.steps_per_epoch)
        self._set_first_state()
        self.epochs = make_epochs(run, self.model, self.optimizer)
        self.is_new = True  # its first steps are not timed

    def _set_first_state(self) -> None:
        """Give the model what it starts from: a checkpoint to resume, loaded or new weights."""
        run = self.run
        arrays, source = run.weights, run.checkpoint or "weights"
        if arrays is None:
            arrays = initial_weights(run.recipe.config, run.settings.seed)
        set_state(self.model, self.optimizer, run.recipe.config, arrays, source)
        self.optimizer.iterations.assign((run.first_epoch - 1) * run.steps_per_epoch)

    def run_epochs(self, table) -> None:
        """Run the epochs; table: None for a worker that writes nothing."""
        run = self.run
        if table is not None:
            print_header(table.tested_on)
            if run.checkpoint is None:
                self._save(0)
        start = time.perf_counter()
        for epoch in range(run.first_epoch, run.recipe.epochs + 1):
            row = self._epoch(epoch)
            if table is not None:
                table.append(row)
                write_stats(run.directory, table.rows)
                self._save(epoch)
                seconds = (time.perf_counter() - start) / (epoch - run.first_epoch + 1)
                print_epoch(row, run.recipe.epochs, seconds)

    def _epoch(self, epoch: int) -> Row:
        """Train and test; return the row of the table."""
        run = self.run
        seed_dropout(self.model, run.settings.seed, epoch)
        loss, error, seconds = self._train(epoch)
        images = run.steps_per_epoch * run.recipe.batch_size
        start = time.perf_counter()
        losses, errors, *top_5 = self.epochs.test()
        step = epoch * run.steps_per_epoch
        check_finite(
            run.settings.tested_on, float(losses.mean()), step, epoch,
            lambda: self._first_layer_in_test(losses),
        )  # fmt: skip
        row = {
            "epoch": epoch,
            "global_step": step,
            "learning_rate": run.recipe.learning_rate_at(epoch),
            "train_loss": loss / images,
            "train_error": error / images,
            "test_loss": float(losses.mean()),
            "test_error": float(errors.mean()),
            "epoch_seconds": seconds,
            "images_per_second": images / seconds,
            "inference_seconds": time.perf_counter() - start,
        }
        if top_5 and TOP_5 in columns_of(run.recipe.config):
            row[TOP_5] = float(top_5[0].mean())
        return row

    def _train(self, epoch: int) -> Tuple[float, float, float]:
        """Return the sums of losses and errors over an epoch, and its seconds.

        In a process's first epoch the first part, in which the program is compiled, is left out of
        the time, unless it is the only one.
        """
        run, batch = self.run, self.run.recipe.batch_size
        total, done, untimed = np.zeros(2), 0, 0
        start = time.perf_counter()
        with self._bar(epoch) as bar:
            for losses, errors in self.epochs.train(epoch, lambda steps: bar.update(steps * batch)):
                first = (epoch - 1) * run.steps_per_epoch + done
                for offset, loss in enumerate(losses, start=1):
                    check_finite(
                        "training", loss, first + offset, epoch,
                        functools.partial(self._first_layer, offset),
                    )  # fmt: skip
                total += [losses.sum(), errors.sum()]
                done += len(losses)
                if self.is_new and done < run.steps_per_epoch and done >= UNTIMED_STEPS:
                    self.is_new, untimed, start = False, done, time.perf_counter()
        self.is_new = False
        share = (done - untimed) / done
        return total[0], total[1], (time.perf_counter() - start) / share

    def _first_layer(self, steps: int) -> Optional[str]:
        """Return the first layer whose output was not finite in a step of the part trained last.

        steps: of the part, up to that step
        """
        self.epochs.go_back(steps)
        values = {name: ops.convert_to_numpy(v) for name, v in variables(self.model).items()}
        return first_by_statistics(self.run.recipe.config, values)

    def _first_layer_in_test(self, losses: np.ndarray) -> Optional[str]:
        """Return the first layer whose output is not finite, for a test image whose loss is not."""
        run, bad = self.run, np.flatnonzero(~np.isfinite(losses))
        batch, _ = next(itertools.islice(run.data.test_batches(1), int(bad[0]), None))
        layers = [layer for layer in self.model.layers if layer.weights]
        inner = keras.Model(self.model.input, [layer.output for layer in layers])
        images = preprocess_input(batch.images, preprocessing=run.preprocessing)
        outputs = [ops.convert_to_numpy(each) for each in inner(images, training=False)]
        return first_by_outputs(zip(map(scope_of, layers), outputs))

    def _bar(self, epoch: int) -> tqdm:
        """Return the progress bar of an epoch, which only a terminal shows."""
        run = self.run
        return tqdm(
            total=run.steps_per_epoch * run.recipe.batch_size,
            desc="epoch {}/{}".format(epoch, run.recipe.epochs),
            unit=" images",
            leave=False,
            dynamic_ncols=True,
            file=sys.stdout,
            disable=not sys.stdout.isatty() or not run.platform.workers.is_chief,
        )

    def _save(self, epoch: int) -> None:
        """Write a checkpoint; keep that of step 0 and the newest few."""
        directory, step = self.run.directory, epoch * self.run.steps_per_epoch
        prefix = os.path.join(directory, "{}-{}".format(CHECKPOINT_PREFIX, step))
        # As tensorpack has it: a checkpoint holds the rate of the epoch to come.
        rate = self.run.recipe.learning_rate_at(epoch + 1)
        write_arrays(prefix + ARRAYS, get_state(self.model, self.optimizer, step, rate))
        keep(prefix)


def is_in_memory(data: Dataset) -> bool:
    """Return whether the images of a data set are in memory, and so can be on the device."""
    return isinstance(data.train, ImageSet)


def make_epochs(run: Run, model: keras.Model, optimizer):
    """Return what trains and tests: the fast loop on JAX, where the data fit it, or Keras's own."""
    if keras.backend.backend() == "jax" and is_in_memory(run.data):
        from training.keras_jax import JaxEpochs

        return JaxEpochs(run, model, optimizer)
    from training.keras_fit import FitEpochs

    return FitEpochs(run, model, optimizer)
