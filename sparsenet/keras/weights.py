"""The weights of a model by their names in a checkpoint, and the files that hold them."""

import os
import re
import zipfile
from collections import Counter
from typing import Any, Dict, List

import h5py
import keras
import numpy as np
from keras import ops

from sparsenet.arrays import misfits_of, read_npz
from sparsenet.errors import UserError, require

FILES = (".keras", ".weights.h5", ".npz")

# Last part of a variable's name in a checkpoint -> attribute of the Keras layer that holds it.
ATTRIBUTES = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean/EMA": "moving_mean",
    "variance/EMA": "moving_variance",
}
# Names of the layers with weights.
SCOPES = re.compile(
    r"conv0|bn0|bn_last|linear|block\d+_layer\d+_(conv\d|bn\d|shortcut|attention_(conv|bn)\d)"
    r"|transition\d+_(conv|bn)1"
)


def variables(model: keras.Model) -> Dict[str, Any]:
    """Return the variables of a model by their names in a checkpoint, in the order of the graph."""
    found = {}
    for layer in _layers(model):
        scope = scope_of(layer)
        for suffix, attribute in ATTRIBUTES.items():
            variable = getattr(layer, attribute, None)
            if variable is not None:
                found[scope + "/" + suffix] = variable
    return found


def scope_of(layer: keras.Layer) -> str:
    """Return the variable scope of a layer, see network.layer_name."""
    as_it_stands = ("bn_last", "pool_last")
    return layer.name if layer.name in as_it_stands else layer.name.replace("_", "/")


def _layers(model: keras.Model) -> List[keras.Layer]:
    """Return the layers of the network, also where it is nested in another model."""
    found = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += _layers(layer)
        elif SCOPES.fullmatch(layer.name):
            found.append(layer)
    return found


def get_variables(model: keras.Model) -> Dict[str, np.ndarray]:
    """Return the weights of a model by their names in a checkpoint, as float32 arrays."""
    return {
        name: ops.convert_to_numpy(variable.value).astype(np.float32)
        for name, variable in variables(model).items()
    }


def set_variables(model: keras.Model, arrays: Dict[str, np.ndarray]) -> None:
    """Give a model the weights `arrays`, by their names in a checkpoint; others are ignored.

    Raises UserError, naming the variable, if one of the model's is missing or has another shape.
    """
    wanted = variables(model)
    misfits = misfits_of(arrays, {name: tuple(each.shape) for name, each in wanted.items()})
    if misfits:
        more = " and {} more".format(len(misfits) - 3) if len(misfits) > 3 else ""
        raise UserError("; ".join(misfits[:3]) + more)
    for name, variable in wanted.items():
        variable.assign(arrays[name])


def load_weights(model: keras.Model, path: str) -> None:
    """Give a model the weights of a file; UserError if it can't be read or does not fit.

    path: a .keras file of such a model, or its .weights.h5; or .npz, arrays by their names in a
          checkpoint. Only .weights.h5 has no names: there, the shapes have to be the model's.
    """
    if path.endswith(".weights.h5"):
        _load_h5(model, path)
    else:
        arrays = read_variables(path)
        try:
            set_variables(model, arrays)
        except UserError as error:
            raise UserError("{} does not fit the network: {}".format(path, error))


def read_variables(path: str) -> Dict[str, np.ndarray]:
    """Return the arrays of a .keras or .npz file by their names in a checkpoint.

    Raises UserError if there is no such file, or none that holds a network's weights.
    """
    require(path.endswith(FILES), "weights", path, "a path that ends in " + ", ".join(FILES))
    if not os.path.isfile(path):
        raise UserError("{} does not exist; accepted: a file".format(path))
    arrays = read_npz(path) if path.endswith(".npz") else get_variables(load_model(path))
    if not arrays:
        raise UserError("{} holds no weights of a network of this package".format(path))
    return arrays


def load_model(path: str) -> keras.Model:
    """Return the model of a .keras file; no code in it is run. UserError if it can't be read."""
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        raise UserError("{} can't be read as a Keras model: {}".format(path, _first_line(error)))


def _load_h5(model: keras.Model, path: str) -> None:
    """Load a .weights.h5 file, whose variables are numbered layer by layer."""
    if not os.path.isfile(path):
        raise UserError("{} does not exist; accepted: a file".format(path))
    try:
        with h5py.File(path, "r") as file:
            found = _shapes(file)
    except OSError as error:
        raise UserError("{} can't be read: {}".format(path, _first_line(error)))
    own = variables(model)
    wanted = Counter(tuple(variable.shape) for variable in own.values())
    missing, surplus = list((wanted - found).elements()), list((found - wanted).elements())
    # A model without its classifier takes the weights of one that has it.
    is_classifier = sorted(map(len, surplus)) == [1, 2] and "linear/W" not in own
    if missing or (surplus and not is_classifier):
        raise UserError(
            "{} does not fit the network: of its variables, {}".format(
                path, _misfits(missing, surplus)
            )
        )
    try:
        model.load_weights(path)
    except (ValueError, OSError) as error:
        raise UserError("{} does not fit the network: {}".format(path, _first_line(error)))


def _misfits(missing: List[tuple], surplus: List[tuple]) -> str:
    """Return in words which shapes of variables a file lacks, and which it has beside them."""
    parts = []
    for shapes, words in ((missing, "the file lacks"), (surplus, "the file alone has")):
        if shapes:
            first = ", ".join(str(list(shape)) for shape in shapes[:3])
            more = " and {} more".format(len(shapes) - 3) if len(shapes) > 3 else ""
            parts.append("{} {}{}".format(words, first, more))
    return "; ".join(parts)


def _shapes(file: h5py.File) -> Counter:
    """Return how often each shape of weights occurs in a file, the state of dropout left out."""
    found: Counter = Counter()

    def count(name, item):
        is_weight = isinstance(item, h5py.Dataset) and item.dtype.kind == "f"
        if is_weight and not name.startswith("optimizer"):
            found[item.shape] += 1

    file.visititems(count)
    return found


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).split("\n")[0]
