"""The rows of a run that is resumed: held against its checkpoint, filled from its other records.

A table that was cut, or that a torn file system put together again, may lack rows or have some
twice. stats.json and TensorBoard's events have the same figures.
"""

import glob
import os
from typing import Callable, Dict, Iterator, List, NamedTuple, Sequence, Tuple

from run_directory.table import (
    STATS,
    Row,
    epochs_text,
    is_number,
    read_rows,
    read_stats,
    table_path,
)
from sparsenet.errors import UserError

EVENTS = "events.out.tfevents.*"
Records = Dict[int, Row]  # by epoch


class Wanted(NamedTuple):
    """What rows are looked for.

    directory:       of the run
    table:           path of its table
    epochs:          that are done, by the checkpoint
    steps_per_epoch: number of steps of an epoch
    columns:         that a row has to have
    """

    directory: str
    table: str
    epochs: int
    steps_per_epoch: int
    columns: Sequence[str]

    def is_row(self, row: dict) -> bool:
        """Return whether a row is complete, and of an epoch that is done."""
        if not all(is_number(row.get(name)) for name in self.columns):
            return False
        epoch = row["epoch"]
        is_done = 1 <= epoch <= self.epochs and epoch == int(epoch)
        return is_done and row["global_step"] == epoch * self.steps_per_epoch


def recovered_rows(
    directory: str, platform: str, epochs: int, steps_per_epoch: int, columns: Sequence[str]
) -> Tuple[List[Row], List[str]]:
    """Return the row of each epoch that is done, and sentences on what the table did not have.

    epochs: that are done; an epoch that no record has is left out, and said
    """
    wanted = Wanted(
        directory, table_path(directory, platform), epochs, steps_per_epoch, tuple(columns)
    )
    found, notes = _from_table(wanted)
    for name, read in SOURCES:
        if len(found) == epochs:
            break
        added = {epoch: row for epoch, row in read(wanted).items() if epoch not in found}
        if added:
            notes.append("{}: from {}".format(_ranges(sorted(added)), name))
        found.update(added)
    rows = [found[epoch] for epoch in sorted(found)]
    gaps = _gaps([0, *sorted(found), epochs + 1])
    if gaps:
        notes.append("no record of {}: marked in the table".format(", ".join(gaps)))
    if notes:
        notes[0] = "the table and the checkpoint differ: " + notes[0]
    return rows, notes


def _from_table(wanted: Wanted) -> Tuple[Records, List[str]]:
    """Return the rows that the table has once, or alike, and sentences on the others."""
    try:
        rows = [row for row in read_rows(wanted.table) if wanted.is_row(row)]
    except UserError as error:
        return {}, [str(error)] if wanted.epochs else []
    by_epoch: Dict[int, List[Row]] = {}
    for row in rows:
        by_epoch.setdefault(int(row["epoch"]), []).append(row)
    repeated = [epoch for epoch, same in by_epoch.items() if len(same) > 1]
    notes = ["{} more than once".format(_ranges(sorted(repeated)))] if repeated else []
    alike = {epoch: same[0] for epoch, same in by_epoch.items() if same.count(same[0]) == len(same)}
    return alike, notes


def _from_stats(wanted: Wanted) -> Records:
    rows = [dict(each, epoch=each["epoch_num"]) for each in read_stats(wanted.directory)]
    return _by_epoch(rows, wanted)


def _from_events(wanted: Wanted) -> Records:
    """Return the rows whose figures TensorBoard's events have; the latest ones count."""
    rows: Dict[int, dict] = {}
    for step, tag, value in _scalars(wanted.directory):
        epoch, rest = divmod(step, wanted.steps_per_epoch)
        if not rest:
            rows.setdefault(epoch, {"epoch": epoch, "global_step": step})[tag] = value
    return _by_epoch(list(rows.values()), wanted)


def _scalars(directory: str) -> Iterator[Tuple[int, str, float]]:
    """Yield step, name and value of the scalars in all events of a run, the oldest first."""
    from common.quiet_tensorflow import tensorflow

    tf = tensorflow.compat.v1
    for path in sorted(glob.glob(os.path.join(glob.escape(directory), EVENTS))):
        try:
            for event in tf.train.summary_iterator(path):
                for value in event.summary.value:
                    if value.HasField("simple_value"):
                        yield event.step, value.tag, value.simple_value
        except (tf.errors.OpError, ValueError):
            continue  # cut, or no events


def _by_epoch(rows: Sequence[dict], wanted: Wanted) -> Records:
    whole = [row for row in rows if wanted.is_row(row)]
    return {int(row["epoch"]): {name: row[name] for name in wanted.columns} for row in whole}


SOURCES: List[Tuple[str, Callable[[Wanted], Records]]] = [
    (STATS, _from_stats),
    ("the events", _from_events),
]


def _gaps(epochs: Sequence[int]) -> List[str]:
    """Return the epochs between those that there are, in words."""
    pairs = zip(epochs, epochs[1:])
    return [epochs_text(a + 1, b - 1) for a, b in pairs if a + 1 < b]


def _ranges(epochs: Sequence[int]) -> str:
    """Return sorted epochs in words, neighbours together."""
    starts = [each for each in epochs if each - 1 not in epochs]
    ends = [each for each in epochs if each + 1 not in epochs]
    return ", ".join(epochs_text(*each) for each in zip(starts, ends))
