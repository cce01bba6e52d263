"""Save activations and gradients, which graph_activations.py and keras_activations.py compute."""

import hashlib
import json
import os
from typing import Any, Dict, Iterable, Sequence

import numpy as np

from common.files import written_whole
from evaluation.trained_network import TrainedNetwork
from run_directory.record import ABOUT

Arrays = Dict[str, np.ndarray]


def save(
    path: str, arrays: Arrays, network: TrainedNetwork, batch: Sequence[np.ndarray], versions: dict
) -> None:
    """Write the arrays and what they were computed from, whole or not at all.

    versions: of the libraries that computed them
    """
    about = {
        "recipe": network.recipe.name,
        "checkpoint": os.path.basename(network.prefix),
        "weights": _digest(network.weights[name] for name in sorted(network.weights)),
        "images": _digest(batch),
    }
    about.update(versions)
    with written_whole(path, "wb") as stream:
        named: Dict[str, Any] = dict({ABOUT: np.array(json.dumps(about))}, **arrays)
        np.savez(stream, **named)


def _digest(arrays: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of the bytes of some arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
