"""Find what a path on the command line holds: a run directory, of any code, or one bare file."""

import contextlib
import dataclasses
import glob
import os
import re
from typing import Dict, Iterator, List, Optional

from comparison.ascend_npy import is_ascend_folder
from comparison.curve_reading import holds_epochs
from run_directory.checkpoints import (
    CHECKPOINT_PREFIX,
    checkpoints_of,
    find_checkpoint,
    is_whole,
    named_in,
)
from run_directory.pack import ENDING, unpacked
from run_directory.record import ABOUT, GRAPH, RECORD, read_record
from run_directory.table import STATS
from sparsenet.arrays import ArrayFile
from sparsenet.errors import UserError

STEP = re.compile(r"[-_.](\d+)(\.ckpt)?$")  # `model-15`, `model.ckpt-15`, `cp-0005.ckpt`
UNKNOWN_STEP = -1
ACTIVATIONS = "activations*.npz"
ARRAYS = re.compile(CHECKPOINT_PREFIX + r"-\d+(\.npz)?$")  # a checkpoint, where Keras trained
GRAPHS = (GRAPH, "*.pbtxt", "saved_model.pb", "*.pb", "*.meta")
# Where curves are looked for, the most exact first: a log of the screen has few digits.
TABLES = (
    "loss+perf_*.txt", STATS, "*.csv", "*.tsv", "history.json", "log.log", "train*.log", "*.log",
    "train_*_loss.txt",
)  # fmt: skip
ACCEPTED = (
    "a run directory, a pack (.zip), a graph (.pbtxt, .pb, .meta), a checkpoint's prefix, a table "
    "or log (loss+perf_*.txt, stats.json, .csv, .log), run.json, or activations (.npz, or a folder "
    "of Ascend's .npy)"
)


@dataclasses.dataclass
class Source:
    """The parts of a run that a path holds; None or empty for those that it lacks.

    record:      run.json, with the field names of today
    checkpoints: prefixes by step; UNKNOWN_STEP if the name has no step
    activations: a file, or a folder with one for each
    beside:      run.json in the folder of a bare checkpoint
    """

    path: str
    record: Optional[dict] = None
    graph: Optional[str] = None
    checkpoints: Dict[int, str] = dataclasses.field(default_factory=dict)
    curves: Optional[str] = None
    activations: Optional[str] = None
    beside: Optional[dict] = None


@contextlib.contextmanager
def opened(path: str) -> Iterator[Source]:
    """Yield what a path holds, while the body runs that of a pack too; UserError as from `find`."""
    if path.endswith(ENDING):
        with unpacked(path) as directory:
            yield dataclasses.replace(find(directory), path=path)
    else:
        yield find(path)


def find(path: str) -> Source:
    """Return what `path` holds; UserError if nothing that can be compared."""
    if os.path.isdir(path):
        source = _directory(path)
        parts = (source.record, source.graph, source.checkpoints, source.curves)
        if not any(parts + (source.activations,)):
            raise UserError("{} holds nothing to compare; accepted: {}".format(path, ACCEPTED))
        return source
    return _file(path)


def _directory(path: str) -> Source:
    record = read_record(path) if os.path.isfile(os.path.join(path, RECORD)) else None
    if record is None:
        runs = sorted(os.path.dirname(each) for each in _matching(path, os.path.join("*", RECORD)))
        if len(runs) == 1:  # as ModelZoo's scripts leave it in their folder of logs
            return _directory(runs[0])
        if runs:
            raise _several(path, runs, "run directories")
    # The run directories of other codes may have the graph only as a checkpoint's .meta.
    graphs = [each for pattern in GRAPHS for each in _matching(path, pattern)]
    activations = _matching(path, ACTIVATIONS)
    if not activations and is_ascend_folder(path):
        activations = [path]
    return Source(
        path,
        record,
        graph=graphs[0] if graphs else None,
        checkpoints=_checkpoints_in(path),
        curves=_curves_in(path),
        activations=activations[0] if activations else None,
    )


def _several(path: str, found: List[str], what: str) -> UserError:
    names = ", ".join(os.path.relpath(each, path) for each in found[:5])
    more = ", ..." if len(found) > 5 else ""
    return UserError(
        "{} holds several {}: {}{}; accepted: one of them".format(path, what, names, more)
    )


def _curves_in(directory: str) -> Optional[str]:
    """Return the most exact table of a directory; None if a run was stopped in its first epoch."""
    for pattern in TABLES:
        found = [each for each in _matching(directory, pattern) if holds_epochs(each)]
        if len(found) > 1 and pattern == TABLES[0]:
            raise _several(directory, found, "tables")
        if found:
            return found[0]
    return None


def _checkpoints_in(directory: str) -> Dict[int, str]:
    """Return the prefixes of the checkpoints of a directory by step.

    Where it has none itself, they are in a folder of it: `checkpoint_gpu/`, `variables/`.
    """
    found = _own_checkpoints(directory)
    if not found:
        folders = [each for each in _matching(directory, "*") if os.path.isdir(each)]
        folders = [each for each in folders if _own_checkpoints(each)]
        if len(folders) > 1:
            raise _several(directory, folders, "folders of checkpoints")
        for folder in folders:
            found = _own_checkpoints(folder)
    return found


def _own_checkpoints(directory: str) -> Dict[int, str]:
    prefixes = [each[: -len(".index")] for each in _matching(directory, "*.index")]
    prefixes = sorted({*filter(is_whole, prefixes), *checkpoints_of(directory)})
    found = {step_of(prefix): prefix for prefix in prefixes}
    # Of several names without a step, the one counts that TensorFlow's file `checkpoint` names.
    named = named_in(directory)
    if named is not None and step_of(named) == UNKNOWN_STEP:
        found[UNKNOWN_STEP] = named
    return found


def _matching(directory: str, pattern: str):
    return sorted(glob.glob(os.path.join(glob.escape(directory), pattern)))


def _file(path: str) -> Source:
    name = os.path.basename(path)
    if _is_checkpoint(path):
        prefix = find_checkpoint(path)
        return Source(path, checkpoints={step_of(prefix): prefix}, beside=_record_beside(prefix))
    if not os.path.isfile(path):
        raise UserError("{} does not exist; accepted: {}".format(path, ACCEPTED))
    if name.endswith(".npz"):
        if is_dump(path):
            return Source(path, activations=path)
        return Source(path, checkpoints={UNKNOWN_STEP: path})
    if name.endswith((".pbtxt", ".pb", ".meta")):
        return Source(path, graph=path)
    if name == RECORD:
        return Source(path, read_record(os.path.dirname(path) or "."))
    if name.endswith((".txt", ".log", ".json", ".tsv", ".csv")):
        return Source(path, curves=path)
    raise UserError("{} is of an unknown kind; accepted: {}".format(path, ACCEPTED))


def is_dump(path: str) -> bool:
    """Return whether a .npz file says that it holds activations; if not, it is weights."""
    return ABOUT in ArrayFile(path).names


def _is_checkpoint(path: str) -> bool:
    """Return whether a path is that of a checkpoint, by its prefix or one of its files."""
    name = os.path.basename(path)
    is_file = name.endswith((".index", ".ckpt")) or ".data-" in name
    return is_file or bool(ARRAYS.match(name)) or os.path.isfile(path + ".index")


def step_of(prefix: str) -> int:
    """Return the step in a checkpoint's name, or UNKNOWN_STEP."""
    found = STEP.search(prefix)
    return int(found.group(1)) if found else UNKNOWN_STEP


def _record_beside(prefix: str) -> Optional[dict]:
    directory = os.path.dirname(prefix) or "."
    return read_record(directory) if os.path.isfile(os.path.join(directory, RECORD)) else None
