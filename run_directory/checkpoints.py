"""Find, read and write checkpoints, as arrays by variable name.

A checkpoint is TensorFlow's, `model-8.index` and `.data-...`, or, where Keras trains without
TensorFlow, one file of arrays under the same names, `model-8.npz`.
"""

import glob
import os
import re
from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from common.files import written_whole
from run_directory import bundle
from sparsenet.arrays import read_npz
from sparsenet.errors import UserError

CHECKPOINT_PREFIX = "model"
KEPT_CHECKPOINTS = 5  # the newest, beside that of step 0
INDEX, DATA, ARRAYS = ".index", ".data-00000-of-00001", ".npz"
SHARDS = ".data-?????-of-?????"


def checkpoints_of(directory: str) -> List[str]:
    """Return the prefixes of the complete checkpoints of a run directory, oldest first."""
    steps = []
    for file in os.listdir(directory):
        stem, extension = os.path.splitext(file)
        prefix, _, step = stem.rpartition("-")
        if extension in (INDEX, ARRAYS) and prefix == CHECKPOINT_PREFIX and step.isdigit():
            steps += [int(step)] if is_whole(os.path.join(directory, stem)) else []
    return [
        os.path.join(directory, "{}-{}".format(CHECKPOINT_PREFIX, step)) for step in sorted(steps)
    ]


def is_whole(prefix: str) -> bool:
    """Return whether all files of a checkpoint are there: one of arrays, or an index and shards."""
    if os.path.isfile(prefix + ARRAYS):
        return True
    shards = glob.glob(glob.escape(prefix) + SHARDS)
    wanted = shards[0].rpartition("-")[2] if shards else ""
    return os.path.isfile(prefix + INDEX) and wanted == "{:05}".format(len(shards))


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
    elif path.endswith((INDEX, ARRAYS, ".meta")):
        prefix = os.path.splitext(path)[0]
    elif ".data-" in os.path.basename(path):
        prefix = path[: path.rindex(".data-")]
    if not (os.path.isfile(prefix + INDEX) or os.path.isfile(prefix + ARRAYS)):
        problem = "{} is no checkpoint" if os.path.isfile(path) else "checkpoint {} does not exist"
        raise UserError(
            problem.format(path) + "; accepted: the part of its files' names before .index, or "
            "their directory"
        )
    return prefix


def _newest_of(directory: str) -> str:
    """Return the prefix of the newest checkpoint of a directory; UserError if there is none.

    In a directory that no run of this project wrote, it is what the `checkpoint` file names.
    """
    prefix = latest_checkpoint(directory) or named_in(directory)
    if prefix is None:
        raise UserError("{} holds no checkpoint".format(directory))
    return prefix


NAMED = re.compile(r'^[ \t]*model_checkpoint_path:[ \t]*"(.*)"', re.MULTILINE)


def named_in(directory: str) -> Optional[str]:
    """Return the prefix that TensorFlow's file `checkpoint` names; None if there is none.

    The file names the folder where the checkpoint was written: if that is gone, because the folder
    was moved or comes from another machine, the checkpoint of this name beside the file is meant.
    """
    path = os.path.join(directory, "checkpoint")
    if not os.path.isfile(path):
        return None
    try:
        with open(path, encoding="utf-8") as stream:
            named = NAMED.search(stream.read())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("{} can't be read: {}".format(path, error))
    if named is None:
        return None
    text = named.group(1)
    beside = re.split(r"[/\\]+", text)[-1]
    # The first is as it is written, unless it is absolute: then `join` drops the directory.
    candidates = [os.path.join(directory, each) for each in (text, beside)]
    return next((each for each in candidates if is_whole(each)), None)


def read_arrays(prefix: str) -> Dict[str, np.ndarray]:
    """Return the name and value of each variable of a checkpoint; UserError if it is damaged.

    prefix: of its files, or a file of arrays
    """
    if prefix.endswith(ARRAYS):
        return read_npz(prefix)
    if os.path.isfile(prefix + INDEX):
        return _read_tensorflow(prefix)
    return read_npz(prefix + ARRAYS)


def _read_tensorflow(prefix: str) -> Dict[str, np.ndarray]:
    try:
        return bundle.read(prefix)
    except (OSError, bundle.Damaged) as error:
        raise UserError("checkpoint {} can't be read: {}".format(prefix, error))


def write_arrays(path: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a .npz file of arrays by variable name, whole or not at all."""
    with written_whole(path, "wb") as stream:
        named: Dict[str, Any] = dict(arrays)
        np.savez(stream, **named)


def write_tensorflow(prefix: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write TensorFlow's checkpoint of arrays by variable name."""
    from common.quiet_tensorflow import tensorflow

    tf = tensorflow.compat.v1
    with tf.Graph().as_default(), tf.Session() as session:
        values = [tf.placeholder(value.dtype, value.shape) for value in arrays.values()]
        whole = [""] * len(values)
        # The op by which tf.train.Saver saves; it needs no variables.
        save = tf.raw_ops.SaveV2(
            prefix=prefix, tensor_names=list(arrays), shape_and_slices=whole, tensors=values
        )
        session.run(save, dict(zip(values, arrays.values())))


# Scopes of the public TensorFlow codes (`official`, `ascend`): the pattern there, what it is here.
SCOPES = [
    (r"^block(\d+)/densen_layer\.(\d+)/", r"block\1/layer\2/"),
    (r"^block(\d+)/transition\1/", r"transition\1/"),
]


def project_name(name: str) -> str:
    """Return the name in this project of a variable of the public TensorFlow codes.

    Other names are returned as they are.
    """
    for theirs, ours in SCOPES:
        name = re.sub(theirs, ours, name)
    return name


def network_variables(prefix: str) -> Dict[str, np.ndarray]:
    """Return the variables of a checkpoint, those of the public TensorFlow codes by our names."""
    return {project_name(name): value for name, value in read_arrays(prefix).items()}
