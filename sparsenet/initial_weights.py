"""Initial weights as a numpy function of (seed, variable name): the same on every platform.

TensorFlow's initialisers draw from streams that depend on how the operations of a graph are
numbered, so that the same seed gives other weights in another version. The weights that a run
starts from are drawn here instead.
"""

import hashlib
import math
from collections import OrderedDict
from typing import Dict

import numpy as np

from sparsenet.config import SparseNetConfig
from sparsenet.plan import variable_shapes


def initial_weights(config: SparseNetConfig, seed: int) -> Dict[str, np.ndarray]:
    """Return the name and float32 value of each variable of a network before its first step."""
    return OrderedDict(
        (name, initial_value(name, shape, seed)) for name, shape in variable_shapes(config).items()
    )


def initial_value(name: str, shape: tuple, seed: int) -> np.ndarray:
    """Return the initial value of one variable: a kernel [h, w, in, out] or [in, out], else [n].

    Kernels are normal (He et al. 2015): with standard deviation sqrt(2 / (h * w * out)) for
    convolutions (the fan out, as in the paper's code) and sqrt(2 / in) for the classifier, whose
    few outputs would make that value far too large. Scales and moving variances start at 1, all
    else at 0.
    """
    kind = name.rsplit("/", 1)[-1]
    if kind == "W":
        fan = shape[0] * shape[1] * shape[3] if len(shape) == 4 else shape[0]
        values = _stream(seed, name).standard_normal(shape) * math.sqrt(2.0 / fan)
    elif kind == "gamma" or name.endswith("variance/EMA"):
        values = np.ones(shape)
    else:
        values = np.zeros(shape)
    return values.astype(np.float32)


def _stream(seed: int, name: str) -> np.random.RandomState:
    """Return the random stream of one (seed, name), independent of all others.

    RandomState rather than Generator: its streams are frozen by NumPy's compatibility policy.
    """
    digest = hashlib.sha256("{}/{}".format(seed, name).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, dtype="<u4"))
