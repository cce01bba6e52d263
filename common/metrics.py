"""Loss and error of each image, from the logits."""

import numpy as np


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the cross entropy of each image: logits [N, classes], labels [N] -> float64 [N]."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=1, keepdims=True)
    own = shifted[np.arange(len(labels)), labels]
    return np.log(np.exp(shifted).sum(axis=1)) - own


def incorrect(logits: np.ndarray, labels: np.ndarray, top: int = 1) -> np.ndarray:
    """Return 1.0 where the label is not among the `top` largest logits, else 0.0: [N]."""
    best = np.argsort(-logits, axis=1, kind="stable")[:, :top]
    return (best != labels[:, np.newaxis]).all(axis=1).astype(np.float64)
