"""Choose what computes the logits of a trained network: TensorFlow's graph, or Keras."""

import importlib.util
import os
import sys
from typing import Callable

import numpy as np

from common.keras_stack import choose_backend
from evaluation.trained_network import TrainedNetwork
from run_directory.checkpoints import INDEX

# From a batch of images, uint8 [batch_size, H, W, 3], to logits [batch_size, classes].
Logits = Callable[[np.ndarray], np.ndarray]


def logits_of(network: TrainedNetwork, batch_size: int) -> Logits:
    """Return the function from a batch of images to its logits."""
    if is_for_keras(network.prefix):
        choose_backend()
        from evaluation import keras_models as runner
    else:
        from evaluation import graph as runner  # type: ignore[no-redef]
    return runner.logits_of(network.recipe, network.weights, network.preprocessing, batch_size)


def is_for_keras(prefix: str) -> bool:
    """Return whether Keras runs the network of a checkpoint or a file.

    What TensorFlow wrote is run by its graph, where tensorpack is there: that is what was trained.
    Keras runs all the rest, so that its files are tested as their readers run them. Python 3.7 has
    the graph alone.
    """
    if sys.version_info < (3, 10):
        return False
    has_graph = importlib.util.find_spec("tensorpack") is not None
    return not (has_graph and os.path.isfile(prefix + INDEX))
