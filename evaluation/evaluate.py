"""Run a trained network over a test set: logits, losses and top-1 errors, image by image."""

import time
from typing import Dict, NamedTuple

from common.tf_stack import session_config, tf

import numpy as np
from tensorpack import OfflinePredictor, PredictConfig, logger
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.sessinit import DictRestore

from common.files import written_whole
from sparsenet.config import SparseNetConfig
from sparsenet_model import CROSS_ENTROPY, LOGITS, SparseNet


class Evaluation(NamedTuple):
    """Logits [N, classes]; labels, losses and incorrect [N], in the order of the test set.

    incorrect: 1.0 where the largest logit is not the label's, else 0.0
    seconds:   time over the test set, without building the network
    """

    logits: np.ndarray
    labels: np.ndarray
    losses: np.ndarray
    incorrect: np.ndarray
    seconds: float

    def save(self, path: str) -> None:
        """Write logits and labels to a .npz file, whole or not at all."""
        with written_whole(path, "wb") as stream:
            np.savez(stream, logits=self.logits, labels=self.labels)


def evaluate(
    config: SparseNetConfig, weights: Dict[str, np.ndarray], preprocessing: dict, data,
    batch_size: int,
) -> Evaluation:  # fmt: skip
    """Run a network with these weights over the test images of `data`, in order."""
    logger.setLevel("ERROR")
    with tf.Graph().as_default():
        predict = OfflinePredictor(
            PredictConfig(
                model=SparseNet(config, normalization=preprocessing, batch_size=batch_size),
                session_init=DictRestore(weights),
                input_names=["image", "label"],
                output_names=[LOGITS, CROSS_ENTROPY],
                session_creator=NewSessionCreator(config=session_config()),
            )
        )
        start = time.perf_counter()
        results = [
            [array[:count] for array in predict(*batch)]
            for batch, count in data.test_batches(batch_size)
        ]
        seconds = time.perf_counter() - start
    logits, losses = (np.concatenate(parts) for parts in zip(*results))
    labels = data.test.labels
    incorrect = (logits.argmax(axis=1) != labels).astype(np.float64)
    return Evaluation(logits, labels, losses.astype(np.float64), incorrect, seconds)
