"""Epochs by Keras's own loop, model.fit: on any backend, and with data that are read from files."""

from typing import Iterator, Sequence

import keras
import numpy as np

from common.metrics import cross_entropy, incorrect
from sparsenet.keras import preprocess_input
from training.keras_model import NesterovSGD
from training.prepare import Run

Sums = Sequence[np.ndarray]  # losses and errors
TEST_BATCH = 100


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

    def train(self, epoch: int) -> Iterator[Sums]:
        """Train for an epoch; yield the sums of losses and of errors over it."""
        run = self.run
        batches = run.data.training_batches(
            run.recipe.batch_size, run.settings.seed, run.steps_per_epoch, epoch, run.preprocessing
        )
        pairs = ((self._normalized(each.images), each.labels) for each in batches)
        history = self.model.fit(
            pairs, steps_per_epoch=run.steps_per_epoch, shuffle=False, verbose=0
        ).history
        images = run.steps_per_epoch * run.recipe.batch_size
        yield [
            np.array([images * each]) for each in (history["loss"][-1], 1 - history["accuracy"][-1])
        ]

    def test(self) -> Sums:
        """Return losses and errors of the test images, in order."""
        data = self.run.data
        parts = [
            np.asarray(self.model.predict_on_batch(self._normalized(batch.images)))[:count]
            for batch, count in data.test_batches(min(TEST_BATCH, len(data.test.labels)))
        ]
        logits = np.concatenate(parts)
        return cross_entropy(logits, data.test.labels), incorrect(logits, data.test.labels)

    def _normalized(self, images: np.ndarray) -> np.ndarray:
        return preprocess_input(images, preprocessing=self.run.preprocessing)
