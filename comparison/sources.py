"""Find what a path on the command line holds: a run directory, of any code, or one bare file."""

import dataclasses
import glob
import os
import re
from typing import Dict, Optional

from comparison.ascend_npy import is_ascend_folder
from run_directory.checkpoints import CHECKPOINT_PREFIX, checkpoints_of, find_checkpoint
from run_directory.record import GRAPH, RECORD, read_record
from run_directory.table import STATS
from sparsenet.errors import UserError

STEP = re.compile(r"-(\d+)$")
UNKNOWN_STEP = -1
ACTIVATIONS = "activations*.npz"
ARRAYS = re.compile(CHECKPOINT_PREFIX + r"-\d+(\.npz)?$")  # a checkpoint, where Keras trained
ACCEPTED = (
    "a run directory, a graph (.pbtxt, .pb, .meta), a checkpoint's prefix, a table "
    "(loss+perf_*.txt, stats.json), run.json, or activations (.npz, or a folder of Ascend's .npy)"
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
    tables = _matching(path, "loss+perf_*.txt") + _matching(path, STATS)
    # The run directories of other codes may have the graph only as a checkpoint's .meta.
    graphs = _matching(path, GRAPH) + _matching(path, "*.pbtxt") + _matching(path, "*.meta")
    activations = _matching(path, ACTIVATIONS)
    if not activations and is_ascend_folder(path):
        activations = [path]
    prefixes = [each[: -len(".index")] for each in _matching(path, "*.index")]
    prefixes += [each for each in checkpoints_of(path) if each not in prefixes]
    return Source(
        path,
        record,
        graph=graphs[0] if graphs else None,
        checkpoints={step_of(prefix): prefix for prefix in prefixes},
        curves=tables[0] if tables else None,
        activations=activations[0] if activations else None,
    )


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
        return Source(path, activations=path)
    if name.endswith((".pbtxt", ".pb", ".meta")):
        return Source(path, graph=path)
    if name == RECORD:
        return Source(path, read_record(os.path.dirname(path) or "."))
    if name.endswith((".txt", ".log", ".json", ".tsv", ".csv")):
        return Source(path, curves=path)
    raise UserError("{} is of an unknown kind; accepted: {}".format(path, ACCEPTED))


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
