"""Find and read checkpoints, as arrays by variable name."""

import os
import re
from typing import Dict, List, Optional

from common.tf_stack import tf

import numpy as np

from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError
from sparsenet.plan import variable_shapes

CHECKPOINT_PREFIX = "model"


def checkpoints_of(directory: str) -> List[str]:
    """Return the prefixes of the complete checkpoints of a run directory, oldest first."""
    steps = []
    for file in os.listdir(directory):
        stem, extension = os.path.splitext(file)
        prefix, _, step = stem.rpartition("-")
        is_model = extension == ".index" and prefix == CHECKPOINT_PREFIX and step.isdigit()
        if is_model and os.path.exists(os.path.join(directory, stem + ".data-00000-of-00001")):
            steps.append(int(step))
    return [
        os.path.join(directory, "{}-{}".format(CHECKPOINT_PREFIX, step)) for step in sorted(steps)
    ]


def latest_checkpoint(directory: str) -> Optional[str]:
    """Return the prefix of the newest checkpoint of a run directory; None if there is none."""
    found = checkpoints_of(directory)
    return found[-1] if found else None


def find_checkpoint(path: str) -> str:
    """Return the prefix of the checkpoint that `path` stands for; UserError if there is none.

    path: a prefix, one of a checkpoint's files, or a directory of checkpoints
    """
    prefix = path
    if os.path.isdir(path):
        prefix = _newest_of(path)
    elif path.endswith(".index") or path.endswith(".meta"):
        prefix = os.path.splitext(path)[0]
    elif ".data-" in os.path.basename(path):
        prefix = path[: path.rindex(".data-")]
    if not os.path.isfile(prefix + ".index"):
        raise UserError(
            "checkpoint {} does not exist; accepted: the part of its files' names before "
            ".index, or their directory".format(path)
        )
    return prefix


def _newest_of(directory: str) -> str:
    """Return the prefix of the newest checkpoint of a directory; UserError if there is none.

    In a directory that no run of this project wrote, it is what the `checkpoint` file names.
    """
    try:
        prefix = latest_checkpoint(directory) or tf.train.latest_checkpoint(directory)
    except (OSError, UnicodeDecodeError, tf.errors.OpError) as error:
        raise UserError("{} can't be read: {}".format(directory, error))
    if prefix is None:
        raise UserError("{} holds no checkpoint".format(directory))
    return prefix


def read_arrays(prefix: str) -> Dict[str, np.ndarray]:
    """Return the name and value of each variable of a checkpoint; UserError if it is damaged."""
    try:
        reader = tf.train.load_checkpoint(prefix)
        return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
    except (tf.errors.OpError, ValueError, RuntimeError, IndexError, UnicodeError) as error:
        reason = str(error).split("\n")[0]
        raise UserError("checkpoint {} can't be read: {}".format(prefix, reason))


# Scopes of this project and of the public TensorFlow codes (`official`, `ascend`): for each of the
# two, the pattern that finds it and the replacement that writes it.
SCOPES = [
    (
        (r"^block(\d+)/layer(\d+)/", r"block\1/layer\2/"),
        (r"^block(\d+)/densen_layer\.(\d+)/", r"block\1/densen_layer.\2/"),
    ),
    (
        (r"^transition(\d+)/", r"transition\1/"),
        (r"^block(\d+)/transition\1/", r"block\1/transition\1/"),
    ),
]


def original_name(name: str) -> str:
    """Return the name in the public TensorFlow codes of a variable of this project."""
    for (ours, _), (_, theirs) in SCOPES:
        name = re.sub(ours, theirs, name)
    return name


def project_name(name: str) -> str:
    """Return the name in this project of a variable of the public TensorFlow codes.

    Other names are returned as they are.
    """
    for (_, ours), (theirs, _) in SCOPES:
        name = re.sub(theirs, ours, name)
    return name


# The optimizer's slots of a variable are saved under the variable's name.
SLOTS = re.compile(r"/(Momentum|Adam|Adam_1|RMSProp(_1)?|Adagrad|ExponentialMovingAverage)$")
NETWORK_SCOPES = re.compile(r"(conv0|bn0|block\d+|transition\d+|bn_last|linear)/")


def network_weights(prefix: str, config: SparseNetConfig) -> Dict[str, np.ndarray]:
    """Return the variables of a network from a checkpoint, under this project's names.

    The checkpoint may have them under the names of the public TensorFlow codes. Raises UserError
    that lists the names and shapes that differ.
    """
    found = read_arrays(prefix)
    wanted = variable_shapes(config)
    weights, misfits = {}, []
    for name, shape in wanted.items():
        value = found.get(name, found.get(original_name(name)))
        if value is not None and value.shape == shape:
            weights[name] = value
        else:
            there = "absent" if value is None else list(value.shape)
            misfits.append("{} is {}, wanted {}".format(name, there, list(shape)))
    for name in sorted(map(project_name, found)):
        # Variables elsewhere are the other code's own; a surplus layer means another network.
        if name not in wanted and NETWORK_SCOPES.match(name) and not SLOTS.search(name):
            misfits.append("{} is there, wanted absent".format(name))
    if misfits:
        raise UserError(
            "checkpoint {} does not fit the network, {} of {} variables differ: {}".format(
                prefix, len(misfits), len(wanted), "; ".join(misfits)
            )
        )
    return weights
