"""Keras 3 as the scripts use it: on the backend of KERAS_BACKEND, else on one that is there."""

import importlib.util
import os

from sparsenet.errors import UserError

BACKENDS = ("tensorflow", "jax", "torch")


def choose_backend(*preferred: str) -> str:
    """Set KERAS_BACKEND, before Keras is imported, and return it; UserError if there is none.

    preferred: to be looked for before the others

    Keras's own default is TensorFlow, whether or not it is installed.
    """
    given = os.environ.get("KERAS_BACKEND")
    if given is not None:
        if given not in BACKENDS:
            accepted = ", ".join(BACKENDS)
            raise UserError("KERAS_BACKEND is {}; accepted: {}".format(given, accepted))
        return given
    found = [name for name in (*preferred, *BACKENDS) if importlib.util.find_spec(name)]
    if not found:
        raise UserError("Keras needs a backend; accepted: one of {}".format(", ".join(BACKENDS)))
    os.environ["KERAS_BACKEND"] = found[0]
    if found[0] == "tensorflow":
        from common.quiet_tensorflow import tensorflow  # noqa: F401  (its messages are held back)
    return found[0]
