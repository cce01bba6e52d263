"""Keras 3 as the scripts use it: on the backend of KERAS_BACKEND, else on one that is there."""

import importlib.util
import os
import sys
from typing import Optional

from sparsenet.errors import UserError

BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend(*preferred: str) -> str:
    """Set KERAS_BACKEND, before Keras is imported, and return it; UserError if there is none.

    preferred: to be looked for before the others

    Keras's own default is TensorFlow, whether or not it is installed.
    """
    if sys.version_info < (3, 10):
        raise UserError("Keras 3 on Python {}.{}; accepted: 3.10 to 3.13".format(*sys.version_info))
    backend = os.environ.get("KERAS_BACKEND") or _installed(*preferred, *BACKENDS)
    accepted = ", ".join(BACKENDS)
    if backend is None:
        raise UserError("Keras needs a backend; accepted: one of {}".format(accepted))
    if backend not in BACKENDS:
        raise UserError("KERAS_BACKEND is {}; accepted: {}".format(backend, accepted))
    os.environ["KERAS_BACKEND"] = backend
    if backend == "tensorflow":
        from common.quiet_tensorflow import tensorflow  # noqa: F401  (its messages are held back)
    return backend


def _installed(*names: str) -> Optional[str]:
    return next((name for name in names if importlib.util.find_spec(name)), None)
