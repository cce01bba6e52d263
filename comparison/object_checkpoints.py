"""Names for the variables of an object-based checkpoint, as TensorFlow 2 writes them.

`tf.train.Checkpoint`, Keras and SavedModel save a variable under the path by which it was reached,
`layer_with_weights-0/kernel/.ATTRIBUTES/VARIABLE_VALUE`, and beside the variables a graph of these
objects, which also holds the variable's own name, `conv0/kernel`.
"""

from typing import Dict, Tuple

import numpy as np

from sparsenet.errors import UserError

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
SLOT = "/.OPTIMIZER_SLOT/"
OPTIMIZER = "optimizer/"  # the scope given to all that belongs to an optimizer

Arrays = Dict[str, np.ndarray]


def named_alike(a: Arrays, b: Arrays) -> Tuple[Arrays, Arrays]:
    """Return the variables of two checkpoints under names that can be compared.

    Those of an object-based checkpoint get the variables' own names, or their paths if a larger
    share of the paths is common to both: Keras numbers the layers of one process on.
    """
    if OBJECT_GRAPH not in a and OBJECT_GRAPH not in b:
        return a, b
    own = _by_own_name(a), _by_own_name(b)
    paths = _by_path(a), _by_path(b)
    return max(own, paths, key=lambda both: _common_share(*both))


def _common_share(a: Arrays, b: Arrays) -> float:
    return len(set(a) & set(b)) / max(1, len(set(a) | set(b)))


def _by_path(arrays: Arrays) -> Arrays:
    """Return the variables by their paths, without the suffix that all of these have."""
    return {name.replace(VALUE, ""): v for name, v in arrays.items() if name != OBJECT_GRAPH}


def _by_own_name(arrays: Arrays) -> Arrays:
    """Return the variables by their own names; one with none, or a name twice, by its path."""
    if OBJECT_GRAPH not in arrays:
        return arrays
    found: Arrays = {}
    own_names = _own_names(arrays[OBJECT_GRAPH])
    for path, value in sorted(arrays.items()):
        if path == OBJECT_GRAPH:
            continue
        name = own_names.get(path) or path.replace(VALUE, "")
        is_same = name in found and np.array_equal(found[name], value)  # reached by two paths
        found[name if name not in found or is_same else path.replace(VALUE, "")] = value
    return found


def _own_names(object_graph: np.ndarray) -> Dict[str, str]:
    """Return the own name of the variable that is saved under each path."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.trackable_object_graph_pb2 import TrackableObjectGraph

    graph = TrackableObjectGraph()
    try:
        graph.ParseFromString(object_graph.item())
    except (DecodeError, TypeError, ValueError) as error:
        raise UserError("{} of a checkpoint can't be read: {}".format(OBJECT_GRAPH, error))
    return {
        each.checkpoint_key: _in_scope(each.full_name, each.checkpoint_key)
        for node in graph.nodes
        for each in node.attributes
    }


def _in_scope(name: str, path: str) -> str:
    """Return a variable's own name, in the optimizer's scope if it is one of its slots."""
    is_slot = SLOT in path or "/_variables/" in path
    return OPTIMIZER + name if name and is_slot else name
