"""Read the weights of a network from every kind of file that holds them."""

import os
from typing import Dict, Mapping, Optional, Tuple

import numpy as np

from common.keras_stack import choose_backend
from run_directory.checkpoints import find_checkpoint, network_variables
from sparsenet import official_pytorch
from sparsenet.arrays import fitting
from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError

KERAS_FILES = (".keras", ".weights.h5")
CLASSIFIER = "linear/"

Weights = Dict[str, np.ndarray]


def read_weights(
    path: str, config: SparseNetConfig, classifier: Optional[Mapping[str, np.ndarray]] = None
) -> Tuple[str, Weights]:
    """Return the path of a file, or the prefix of a checkpoint, and the weights in it.

    path:       a run directory, a checkpoint, .npz, .keras, .weights.h5, or PyTorch's
    classifier: its variables, to be taken in place of those of the file

    Raises UserError if there are none, or if they are not those of the network.
    """
    source, found = _read(path, config, classifier is not None)
    if classifier is not None:
        found = {name: array for name, array in found.items() if not name.startswith(CLASSIFIER)}
        found.update(classifier)
    named = path if source == path else "checkpoint {}".format(source)
    return source, fitting(found, config, named)


def require_without_keras(path: str) -> None:
    """Raise UserError for a file of Keras's: where TensorFlow 1.x runs, there is no Keras 3."""
    if path.endswith(KERAS_FILES):
        raise UserError(
            "{}; accepted: a run directory or a checkpoint, such as `scripts/convert.py {} "
            "FILE.npz` makes of it".format(path, os.path.basename(path))
        )


def _read(path: str, config: SparseNetConfig, any_classifier: bool) -> Tuple[str, Weights]:
    """Return where weights are, and these; any_classifier: it may be of other classes."""
    if path.endswith(KERAS_FILES):
        return path, _read_keras(path, config, any_classifier)
    if path.endswith(official_pytorch.FILES):
        if not os.path.isfile(path):
            raise UserError("{} does not exist; accepted: a file".format(path))
        return path, official_pytorch.read(path)
    prefix = find_checkpoint(path)
    return prefix, network_variables(prefix)


def _read_keras(path: str, config: SparseNetConfig, any_classifier: bool) -> Weights:
    choose_backend()
    from sparsenet.keras import build, get_variables, load_weights
    from sparsenet.keras.weights import read_variables

    if path.endswith(".keras"):
        return read_variables(path)
    model = build(config, include_top=not any_classifier)
    load_weights(model, path)
    return get_variables(model)
