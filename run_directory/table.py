"""The table of a run, loss+perf_<platform>.txt: write, read and summarise its row per epoch."""

import errno
import glob
import json
import os
import statistics
import sys
from types import MappingProxyType
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Sequence

from common import json_text
from common.files import write_whole
from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError, shortened

STATS = "stats.json"
SHOWN = 200  # letters of a row that can't be read

COLUMNS = (
    "epoch",
    "global_step",
    "learning_rate",
    "train_loss",
    "train_error",
    "test_loss",
    "test_error",
    "epoch_seconds",
    "images_per_second",
    "inference_seconds",
)

TOP_5 = "test_top5_error"  # the column that the tables of ImageNet's networks have besides

# What the columns test_* are of: the test set, or training images that --hold_out set aside.
TEST, HELD_OUT = "test", "held-out"

WHOLE = ("epoch", "global_step")

NO_RECORD = "# no record of"  # how a mark in place of rows begins

Row = Dict[str, float]


def table_path(directory: str, platform: str) -> str:
    """Return the path of the table of a run on `platform` (gpu, npu or cpu)."""
    return os.path.join(directory, "loss+perf_{}.txt".format(platform))


def find_table(directory: str) -> str:
    """Return the path of the table in a run directory; UserError if there is none."""
    tables = sorted(glob.glob(os.path.join(glob.escape(directory), "loss+perf_*.txt")))
    if not tables:
        raise UserError("{} holds no loss+perf_*.txt".format(directory))
    return tables[0]


# In its first steps a process sets up memory and kernels; on an NPU it compiles.
UNTIMED_STEPS = 20

NOTES = """\
# Losses are cross entropy per image, without weight decay; errors are fractions.
# train_* are means over the epoch's augmented batches, while the weights move; test_* are over
# {of_all}, after the epoch.
# epoch_seconds covers the training steps alone. After a start, the first 20 steps (at most half of
# the epoch's) are left out, in which memory and kernels are set up, and the rest is scaled to the
# whole epoch.
"""
OF_ALL = {
    TEST: "every test image",
    HELD_OUT: "the training images that --hold_out set aside, not over the test set",
}


class Table:
    """The table of a run: comments, a row for each epoch, a closing summary.

    The file is written whole each time: no row in it is ever cut.
    """

    def __init__(
        self,
        path: str,
        title: str,
        rows: Sequence[Row] = (),
        columns: Sequence[str] = COLUMNS,
        done: int = 0,
        tested_on: str = TEST,
    ):
        """Start the file, with the `rows` that there are already if a run is resumed.

        done:      epochs that the run had; those that have no row are marked
        tested_on: what the columns test_* are of, TEST or HELD_OUT
        """
        self.path = path
        self.rows = list(rows)
        self.columns = columns
        self.done = done
        self.tested_on = tested_on
        self._folder = os.stat(os.path.dirname(path) or os.curdir)
        notes = NOTES.format(of_all=OF_ALL[tested_on])
        self._head = "# {}\n{}{}\n".format(title, notes, "\t".join(columns))
        self._write()

    def append(self, row: Row) -> None:
        """Add a row with a value for each of the columns."""
        self.rows.append(row)
        self._write()

    def close(self) -> None:
        """Add the closing summary, as comments."""
        lines = summary_lines(self.rows, self.tested_on)
        self._write("".join("# {}\n".format(line) for line in lines))

    def _write(self, closing: str = "") -> None:
        folder = os.path.dirname(self.path) or os.curdir
        if not os.path.samestat(os.stat(folder), self._folder):
            raise OSError(errno.ENOENT, "is another directory than it was", folder)
        write_whole(self.path, self._head + "".join(self._lines()) + closing)

    def _lines(self) -> Iterator[str]:
        """Yield the rows, and a mark where there are none of epochs that the run had."""
        last = 0
        for row in self.rows:
            epoch = int(row["epoch"])
            yield from _mark(last + 1, epoch - 1)
            yield self._format(row)
            last = epoch
        yield from _mark(last + 1, self.done)

    def _format(self, row: Row) -> str:
        cells = [
            str(int(row[name])) if name in WHOLE else _digits(row[name]) for name in self.columns
        ]
        return "\t".join(cells) + "\n"


def _digits(value: Any) -> str:
    """Return a value as a table has it."""
    return "{:.6g}".format(value)


def _mark(first: int, last: int) -> Iterator[str]:
    if first <= last:
        yield "{} {}\n".format(NO_RECORD, epochs_text(first, last))


def epochs_text(first: int, last: int) -> str:
    """Return some epochs in words."""
    return "epoch {}".format(first) if first == last else "epochs {} to {}".format(first, last)


def columns_of(config: SparseNetConfig) -> Sequence[str]:
    """Return the columns of the tables of a network."""
    return (*COLUMNS, TOP_5) if config.stem == "imagenet" else COLUMNS


def read_rows(path: str) -> List[Row]:
    """Return the rows of a table; UserError if the file is not such a table."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            lines = [line.rstrip("\n") for line in stream if not line.startswith("#")]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError("{} can't be read: {}".format(path, error))
    columns = tuple(lines[0].split("\t")) if lines else ()
    if columns not in (COLUMNS, (*COLUMNS, TOP_5)):
        raise UserError("{} does not start with the columns {}".format(path, ", ".join(COLUMNS)))
    rows = []
    for line in lines[1:]:
        cells = line.split("\t")
        if len(cells) != len(columns):
            continue  # a row that was cut short when the machine went down
        try:
            row = {name: float(cell) for name, cell in zip(columns, cells)}
            for name in WHOLE:
                int(row[name])
            rows.append(row)
        except (ValueError, OverflowError) as error:
            raise UserError("{}: {!r}: {}".format(path, shortened(line, SHOWN), error))
    return rows


def is_closed(path: str) -> bool:
    """Return whether a table ends with a closing summary: with a comment that is no mark."""
    try:
        with open(path, encoding="utf-8-sig") as stream:
            last = stream.read().splitlines()[-1:]
    except (OSError, UnicodeDecodeError):
        return False
    return bool(last) and last[0].startswith("# ") and not last[0].startswith(NO_RECORD)


def steady(rows: List[Row]) -> List[Row]:
    """Return the rows that timings are taken from: all but the first, if there are others."""
    return rows[1:] or rows


class Timing(NamedTuple):
    """Seconds that something took over the epochs of a run."""

    median: float
    shortest: float
    longest: float

    @classmethod
    def of(cls, seconds: List[float]) -> "Timing":
        """Return the timing of some epochs."""
        return cls(statistics.median(seconds), min(seconds), max(seconds))

    def __str__(self):
        if self.shortest == self.longest:
            return "{:.4g}".format(self.median)
        return "{:.4g} ({:.4g} to {:.4g})".format(*self)


LAST = 5  # epochs whose median error is quoted beside the last one's


def summary(rows: List[Row]) -> dict:
    """Return the figures that a finished run is quoted with; errors are fractions.

    The median of the last five epochs is None where there are fewer.
    """
    last = [row["test_error"] for row in rows[-LAST:]]
    timed = steady(rows)
    return {
        "epochs": int(rows[-1]["epoch"]),
        "test_error": rows[-1]["test_error"],
        "test_error_median_of_last_five": statistics.median(last) if len(last) == LAST else None,
        TOP_5: rows[-1].get(TOP_5),
        "test_loss": rows[-1]["test_loss"],
        "train_loss": rows[-1]["train_loss"],
        "train_error": rows[-1]["train_error"],
        "images_per_second": statistics.median(row["images_per_second"] for row in timed),
        "epoch_seconds": Timing.of([row["epoch_seconds"] for row in timed]),
        "inference_seconds": Timing.of([row["inference_seconds"] for row in timed]),
    }


def summary_lines(rows: List[Row], tested_on: str = TEST) -> List[str]:
    """Return the closing summary of a table, in words."""
    if not rows:
        return ["no epoch was finished"]
    figures = summary(rows)
    timed = "epoch 1 left out" if len(rows) > 1 else "of the only epoch"
    median = figures["test_error_median_of_last_five"]
    of_last = "" if median is None else " (median of the last five {:.6g})".format(median)
    images = "" if tested_on == TEST else ", on {} images".format(tested_on)
    return [
        "after epoch {epochs}{images}: test_error {test_error:.6g}{of_last}, test_loss "
        "{test_loss:.6g}".format(of_last=of_last, images=images, **figures),
        "medians, {}: {images_per_second:.6g} images_per_second, {epoch_seconds} epoch_seconds, "
        "{inference_seconds} inference_seconds".format(timed, **figures),
    ]


def write_stats(
    directory: str, rows: Sequence[Row], others: Mapping[str, float] = MappingProxyType({})
) -> None:
    """Write stats.json anew from the rows of the table, in the format of tensorpack's JSONWriter.

    What the file has of an epoch besides the columns of the table is kept, and so are its figures
    where the row has the same ones with fewer digits, as it was read from the table.

    others: values of the last epoch that are no columns of the table
    """
    before = {entry["epoch_num"]: entry for entry in read_stats(directory)}
    entries = []
    for row in rows:
        entry = dict(before.get(row["epoch"], {}))
        entry.update(others if row is rows[-1] else {})
        for name in set(row) - set(WHOLE):
            known = entry.get(name)
            if not is_number(known) or _digits(known) != _digits(row[name]):
                entry[name] = row[name]
        entry.update(epoch_num=int(row["epoch"]), global_step=int(row["global_step"]))
        entries.append(entry)
    write_whole(os.path.join(directory, STATS), json.dumps(entries))


def read_stats(directory: str) -> List[dict]:
    """Return the entries of stats.json; none if it is absent, or was cut short."""
    try:
        with open(os.path.join(directory, STATS), encoding="utf-8") as stream:
            entries = json_text.parse(stream.read())
    except (OSError, ValueError):
        return []
    entries = entries if isinstance(entries, list) else []
    return [each for each in entries if isinstance(each, dict) and is_number(each.get("epoch_num"))]


def is_number(value: object) -> bool:
    """Return whether a value that was read from a file is a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= sys.float_info.max
