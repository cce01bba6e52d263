"""The networks in Keras 3, on TensorFlow, JAX or PyTorch, in the manner of keras.applications.

    from sparsenet.keras import SparseNet40_24, build

    model = SparseNet40_24(classes=100)
    model = build("sparsenet-bc-100-24", input_shape=(64, 64, 3))

Code written for keras-SparseNet finds its functions here under their names.
"""

from sparsenet.keras.build import (
    SparseNet40_24,
    SparseNet100_24,
    SparseNet100_36,
    SparseNet121,
    SparseNet161,
    SparseNet169,
    SparseNet201,
    SparseNet264,
    SparseNetBC100_24,
    SparseNetBC100_36,
    build,
)
from sparsenet.keras.images import decode_predictions, preprocess_input
from sparsenet.keras.keras_sparsenet import (
    SparseNet,
    SparseNetImageNet121,
    SparseNetImageNet161,
    SparseNetImageNet169,
    SparseNetImageNet201,
    SparseNetImageNet264,
)
from sparsenet.keras.weights import get_variables, load_weights, set_variables, variables

__all__ = [
    "SparseNet",
    "SparseNet40_24",
    "SparseNet100_24",
    "SparseNet100_36",
    "SparseNet121",
    "SparseNet161",
    "SparseNet169",
    "SparseNet201",
    "SparseNet264",
    "SparseNetBC100_24",
    "SparseNetBC100_36",
    "SparseNetImageNet121",
    "SparseNetImageNet161",
    "SparseNetImageNet169",
    "SparseNetImageNet201",
    "SparseNetImageNet264",
    "build",
    "decode_predictions",
    "get_variables",
    "load_weights",
    "preprocess_input",
    "set_variables",
    "variables",
]
