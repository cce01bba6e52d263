"""Find, read and write checkpoints, as arrays by variable name.

A checkpoint is TensorFlow's, `model-8.index` and `.data-...`, or, where Keras trains without
TensorFlow, one file of arrays under the same names, `model-8.npz`.
"""

import glob
import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Set

import numpy as np

from common.files import PARTIAL, make_durable, write_whole, written_whole
from run_directory import bundle
from sparsenet.arrays import read_npz
from sparsenet.errors import UserError

CHECKPOINT_PREFIX = "model"
KEPT_CHECKPOINTS = 5  # the newest, beside that of step 0
INDEX, DATA, ARRAYS = ".index", ".data-00000-of-00001", ".npz"
SHARDS = ".data-?????-of-?????"


STATE = "checkpoint"  # TensorFlow's file that names the newest checkpoint
FILE_OF_STEP = re.compile(
    CHECKPOINT_PREFIX + r"-(0|[1-9][0-9]*)(\.index|\.npz|\.data-[0-9]{5}-of-[0-9]{5})"
)


def checkpoints_of(directory: str) -> List[str]:
    """Return the prefixes of the checkpoints of a run directory of which all files are there.

    The oldest is the first. Whether the files can be read is another question: newest_whole.
    """
    prefixes = [_prefix(directory, step) for step in sorted(_steps_with_files(directory))]
    return [prefix for prefix in prefixes if is_whole(prefix)]


def _steps_with_files(directory: str) -> Set[int]:
    """Return the steps of which a run directory has any file of a checkpoint."""
    matches = map(FILE_OF_STEP.fullmatch, os.listdir(directory))
    return {int(match.group(1)) for match in matches if match}


def _prefix(directory: str, step: int) -> str:
    return os.path.join(directory, "{}-{}".format(CHECKPOINT_PREFIX, step))


def step_of(prefix: str) -> int:
    """Return the step of a run's checkpoint."""
    return int(prefix.rpartition("-")[2])


def files_of(prefix: str) -> List[str]:
    """Return the paths of a checkpoint's files; the index, without which it is none, is first."""
    paths = [prefix + INDEX, prefix + ARRAYS, *glob.glob(glob.escape(prefix) + SHARDS)]
    return [path for path in paths if os.path.isfile(path)]


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


class Whole(NamedTuple):
    """The newest checkpoint that could be read: its prefix, its variables, and newer ones' faults.

    The prefix is None if there is no such checkpoint.
    """

    prefix: Optional[str]
    variables: Dict[str, np.ndarray]
    faults: List[str]


def newest_whole(directory: str) -> Whole:
    """Return the newest checkpoint of a run directory that is whole.

    A power loss may leave files that are cut, empty or zeros: a checkpoint is whole if all that its
    index lists can be read, with the right checksums, and if its step is the one in its name.
    """
    faults: List[str] = []
    for step in sorted(_steps_with_files(directory), reverse=True):
        prefix = _prefix(directory, step)
        try:
            variables = read_arrays(prefix)
            _require_step(prefix, variables)
            return Whole(prefix, variables, faults)
        except UserError as error:
            faults.append(str(error))
    return Whole(None, {}, faults)


def _require_step(prefix: str, variables: Mapping[str, np.ndarray]) -> None:
    """Raise UserError if a checkpoint was written at another step than its name says."""
    step = variables.get("global_step")
    if step is None or np.shape(step) or step != step_of(prefix):
        held = "no global_step" if step is None else "global_step {}".format(np.ravel(step)[:3])
        raise UserError("checkpoint {} holds {}".format(prefix, held))


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
    if os.path.isfile(prefix + ARRAYS):
        return read_npz(prefix + ARRAYS)
    raise UserError("checkpoint {0} can't be read: {0}{1} is missing".format(prefix, INDEX))


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


def keep(prefix: str) -> None:
    """Make a run's checkpoint that was just written the newest one, and drop the oldest.

    Beside that of step 0, KEPT_CHECKPOINTS stay. None is dropped before the newest is on the disk.
    Those of later steps, which a resumed run has passed over, go with them.
    """
    directory = os.path.dirname(prefix) or os.curdir
    make_durable(*files_of(prefix), directory)
    steps = sorted(_steps_with_files(directory) - {0})
    kept = [step for step in steps if step <= step_of(prefix)][-KEPT_CHECKPOINTS:]
    if os.path.isfile(prefix + INDEX):
        first = [0] if is_whole(_prefix(directory, 0)) else []
        _write_state(directory, [_prefix(directory, step) for step in first + kept])
    for step in steps:
        if step not in kept:
            for path in files_of(_prefix(directory, step)):
                os.remove(path)


def _write_state(directory: str, kept: List[str]) -> None:
    """Write TensorFlow's file that names the checkpoints, the newest last, by their names."""
    lines = ['model_checkpoint_path: "{}"'.format(os.path.basename(kept[-1]))]
    lines += ['all_model_checkpoint_paths: "{}"'.format(os.path.basename(each)) for each in kept]
    write_whole(os.path.join(directory, STATE), "\n".join(lines) + "\n")


# Files that a run writes under another name at first, and that a kill leaves behind.
UNFINISHED = re.compile(r"{}.*|.*\.tempstate.*|{}\.tmp.*".format(re.escape(PARTIAL), STATE))


def unfinished_files(directory: str) -> List[str]:
    """Return the paths of what a run that was killed has left half written, in its directory."""
    paths = [os.path.join(directory, name) for name in os.listdir(directory)]
    return [path for path in paths if UNFINISHED.fullmatch(os.path.basename(path))]


def remove_unfinished(directory: str, newest: Optional[str]) -> None:
    """Remove what a run that was killed has left half written, or has not quite removed.

    newest: prefix of the checkpoint that it goes on from; newer files are left to be replaced
    """
    paths = [path for path in unfinished_files(directory) if not os.path.isdir(path)]
    for step in _steps_with_files(directory):
        prefix = _prefix(directory, step)
        if newest is not None and step < step_of(newest) and not is_whole(prefix):
            paths += files_of(prefix)
    for path in paths:
        os.remove(path)


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
