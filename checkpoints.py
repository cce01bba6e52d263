"""Checkpoints as arrays by name: found, looked at, read."""

import os
from typing import Dict, List, Optional

from tf_stack import tf

import numpy as np

from errors import UserError
from sparsenet_config import SparseNetConfig, variable_shapes

CHECKPOINT_PREFIX = "model"


def checkpoints_of(directory: str) -> List[str]:
    """Prefixes of the checkpoints of a run directory that are there whole, oldest first."""
    steps = []
    for file in os.listdir(directory):
        stem, extension = os.path.splitext(file)
        prefix, _, step = stem.rpartition("-")
        if extension == ".index" and prefix == CHECKPOINT_PREFIX and step.isdigit():
            steps.append(int(step))
    return [
        os.path.join(directory, "{}-{}".format(CHECKPOINT_PREFIX, step)) for step in sorted(steps)
    ]


def latest_checkpoint(directory: str) -> Optional[str]:
    """Prefix of the newest checkpoint of a run directory, or None."""
    found = checkpoints_of(directory)
    return found[-1] if found else None


def find_checkpoint(path: str) -> str:
    """The prefix meant by a prefix, one of a checkpoint's files, or a directory of checkpoints."""
    prefix = path
    if os.path.isdir(path):
        prefix = tf.train.latest_checkpoint(path) or latest_checkpoint(path)
        if prefix is None:
            raise UserError("{} holds no checkpoint".format(path))
    elif path.endswith(".index") or path.endswith(".meta"):
        prefix = os.path.splitext(path)[0]
    elif ".data-" in os.path.basename(path):
        prefix = path[: path.rindex(".data-")]
    if not tf.train.checkpoint_exists(prefix):
        raise UserError(
            "checkpoint {} does not exist; accepted: the part of its files' names before "
            ".index, or their directory".format(path)
        )
    return prefix


def read_shapes(prefix: str) -> Dict[str, tuple]:
    """Name and shape of each variable of a checkpoint; UserError if it can't be read."""
    try:
        shapes = tf.train.load_checkpoint(prefix).get_variable_to_shape_map()
    except (tf.errors.OpError, ValueError, RuntimeError) as error:
        raise UserError("checkpoint {} can't be read: {}".format(prefix, error))
    return {name: tuple(shape) for name, shape in shapes.items()}


def check_fits(path: str, config: SparseNetConfig) -> str:
    """The prefix of a checkpoint that holds each variable of the network in its shape.

    Raises UserError that lists the names and shapes that differ.
    """
    prefix = find_checkpoint(path)
    found = read_shapes(prefix)
    wrong = [
        "{} is {}, wanted {}".format(name, list(found[name]) if name in found else "absent",
                                     list(shape))
        for name, shape in variable_shapes(config).items()
        if found.get(name) != shape
    ]  # fmt: skip
    if wrong:
        raise UserError(
            "checkpoint {} does not fit the network, {} of {} variables differ: {}".format(
                prefix, len(wrong), len(variable_shapes(config)), "; ".join(wrong)
            )
        )
    return prefix


def read_weights(prefix: str, config: SparseNetConfig) -> Dict[str, np.ndarray]:
    """Name and value of each variable of the network, from a checkpoint that fits it."""
    reader = tf.train.load_checkpoint(prefix)
    return {name: reader.get_tensor(name) for name in variable_shapes(config)}
