"""The table of a run, loss+perf_<platform>.txt: write, read and summarise its row per epoch."""

import glob
import json
import os
import statistics
from typing import Dict, List, NamedTuple, Sequence

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

WHOLE = ("epoch", "global_step")

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
# every test image, after the epoch.
# epoch_seconds covers the training steps alone. After a start, the first 20 steps (at most half of
# the epoch's) are left out, in which memory and kernels are set up, and the rest is scaled to the
# whole epoch.
"""


class Table:
    """The table of a run: comments, a row that is appended after each epoch, a closing summary."""

    def __init__(
        self, path: str, title: str, rows: Sequence[Row] = (), columns: Sequence[str] = COLUMNS
    ):
        """Start the file, with the `rows` that there are already if a run is resumed."""
        self.path = path
        self.rows = list(rows)
        self.columns = columns
        head = "# {}\n{}{}\n".format(title, NOTES, "\t".join(columns))
        write_whole(path, head + "".join(map(self._format, self.rows)))

    def append(self, row: Row) -> None:
        """Add a row with a value for each of the columns."""
        self.rows.append(row)
        self._add(self._format(row))

    def close(self) -> None:
        """Add the closing summary, as comments."""
        for line in summary_lines(self.rows):
            self._add("# {}\n".format(line))

    def _add(self, text: str) -> None:
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(text)

    def _format(self, row: Row) -> str:
        cells = [
            str(int(row[name])) if name in WHOLE else "{:.6g}".format(row[name])
            for name in self.columns
        ]
        return "\t".join(cells) + "\n"


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


def summary_lines(rows: List[Row]) -> List[str]:
    """Return the closing summary of a table, in words."""
    if not rows:
        return ["no epoch was finished"]
    figures = summary(rows)
    timed = "epoch 1 left out" if len(rows) > 1 else "of the only epoch"
    median = figures["test_error_median_of_last_five"]
    of_last = "" if median is None else " (median of the last five {:.6g})".format(median)
    return [
        "after epoch {epochs}: test_error {test_error:.6g}{of_last}, test_loss "
        "{test_loss:.6g}".format(of_last=of_last, **figures),
        "medians, {}: {images_per_second:.6g} images_per_second, {epoch_seconds} epoch_seconds, "
        "{inference_seconds} inference_seconds".format(timed, **figures),
    ]


def write_stats(directory: str, rows: Sequence[Row]) -> None:
    """Write stats.json anew from the rows of the table, in the format of tensorpack's JSONWriter.

    A run that was stopped may have saved a checkpoint before the epoch's statistics, and JSONWriter
    sets aside a file that does not end just before the epoch it starts with. What the file has of
    an epoch besides the columns of the table is kept.
    """
    path = os.path.join(directory, STATS)
    before = {entry["epoch_num"]: entry for entry in _read_stats(path)}
    entries = []
    for row in rows:
        entry = dict(before.get(row["epoch"], {}))
        entry.update({name: row[name] for name in row if name not in WHOLE})
        entry.update(epoch_num=int(row["epoch"]), global_step=int(row["global_step"]))
        entries.append(entry)
    write_whole(path, json.dumps(entries))


def _read_stats(path: str) -> List[dict]:
    """Return the entries of a stats.json; none if it is absent, or was cut short."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json_text.parse(stream.read())
        return [entry for entry in found if isinstance(entry, dict) and _is_epoch(entry)]
    except (OSError, ValueError, TypeError):
        return []


def _is_epoch(entry: dict) -> bool:
    return isinstance(entry.get("epoch_num"), (int, float))
