"""Run a trained network over a test set: logits, losses and errors, image by image."""

import time
from typing import NamedTuple

import numpy as np

from common.files import written_whole
from common.metrics import cross_entropy, incorrect
from common.quiet import stderr_kept_back
from evaluation.logits import Logits


class Evaluation(NamedTuple):
    """Logits [N, classes] and labels [N], in the order of the test set.

    seconds: time over the test set, without building the network
    """

    logits: np.ndarray
    labels: np.ndarray
    seconds: float

    @property
    def predicted(self) -> np.ndarray:
        """Return the class of the largest logit of each image: [N]."""
        return self.logits.argmax(axis=1)

    def losses(self) -> np.ndarray:
        """Return the cross entropy of each image: [N]."""
        return cross_entropy(self.logits, self.labels)

    def incorrect(self, top: int = 1) -> np.ndarray:
        """Return 1.0 where the label is not among the `top` largest logits, else 0.0: [N]."""
        return incorrect(self.logits, self.labels, top)

    def save(self, path: str) -> None:
        """Write logits and labels to a .npz file, whole or not at all."""
        with written_whole(path, "wb") as stream:
            np.savez(stream, logits=self.logits, labels=self.labels)


def evaluate(logits_of: Logits, data, batch_size: int) -> Evaluation:
    """Compute the logits of the test images of `data`, in order."""
    start = time.perf_counter()
    with stderr_kept_back():  # decoders write to it of damaged images
        parts = [logits_of(batch.images)[:count] for batch, count in data.test_batches(batch_size)]
    seconds = time.perf_counter() - start
    return Evaluation(np.concatenate(parts), data.test.labels, seconds)
