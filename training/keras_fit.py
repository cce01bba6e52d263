"""Epochs by Keras's own loop, model.fit: on any backend, and with data that are read from files."""

from typing import Callable, Iterator, List, Sequence

import keras
import numpy as np

from common.metrics import cross_entropy, incorrect
from sparsenet.keras import preprocess_input
from training.keras_model import NesterovSGD
from training.prepare import Run, noting

Sums = Sequence[np.ndarray]  # losses and errors
TEST_BATCH = 100


class Steps(keras.callbacks.Callback):
    """Counts the steps of an epoch, and tells of each of them."""

    def __init__(self, advance: Callable[[int], object]):
        super().__init__()
        self.done = 0
        self.advance = advance

    def on_train_batch_end(self, batch, logs=None):
        """Count one more."""
        self.done += 1
        self.advance(1)


class FitEpochs:
    """Train and test a model with model.fit and model.predict."""

    def __init__(self, run: Run, model: keras.Model, optimizer: NesterovSGD):
        self.run = run
        self.model = model
        model.compile(
            optimizer=optimizer,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
            jit_compile=keras.backend.backend() == "jax",
        )

    def train(self, epoch: int, advance: Callable[[int], object]) -> Iterator[Sums]:
        """Train for an epoch; yield the sums of losses and of errors over it.

        advance: told of each step; a loss that is not finite ends the epoch
        """
        run, steps = self.run, Steps(advance)
        faults: List[Exception] = []
        batches = run.data.training_batches(
            run.recipe.batch_size, run.settings.seed, run.steps_per_epoch, epoch, run.preprocessing
        )
        try:
            history = self.model.fit(
                ((self._normalized(each.images), each.labels) for each in noting(batches, faults)),
                steps_per_epoch=run.steps_per_epoch,
                shuffle=False,
                verbose=0,
                callbacks=[keras.callbacks.TerminateOnNaN(), steps],
            ).history
        except Exception as error:
            raise faults[0] if faults else error
        images = steps.done * run.recipe.batch_size
        means = (history["loss"][-1], 1 - history["accuracy"][-1])
        # All of it counts for the last step, which is the one whose loss was not finite.
        yield [np.append(np.zeros(steps.done - 1), images * mean) for mean in means]

    def go_back(self, steps: int) -> None:
        """Do nothing: a step whose loss is not finite was the last one."""

    def test(self) -> Sums:
        """Return losses, errors and top-5 errors of the test images, in order."""
        data = self.run.data
        parts = [
            np.asarray(self.model.predict_on_batch(self._normalized(batch.images)))[:count]
            for batch, count in data.test_batches(min(TEST_BATCH, len(data.test.labels)))
        ]
        logits = np.concatenate(parts)
        labels = data.test.labels
        return (
            cross_entropy(logits, labels),
            incorrect(logits, labels),
            incorrect(logits, labels, 5),
        )

    def _normalized(self, images: np.ndarray) -> np.ndarray:
        return preprocess_input(images, preprocessing=self.run.preprocessing)
