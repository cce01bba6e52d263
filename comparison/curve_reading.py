"""Read loss and top-1 error by epoch: tables of this project, stats.json, tensorpack logs."""

import json
import re
from typing import List, Sequence

from run_directory.table import COLUMNS, Row, read_rows
from sparsenet.errors import UserError

CURVES = ("test_error", "test_loss", "train_error", "train_loss")

# Names of the columns in the stats.json and logs of the public tensorpack codes.
ALIASES = {
    "epoch_num": "epoch",
    "cross_entropy_loss": "train_loss",
    "cost": "train_loss",
    "train_error": "train_error",
    "train-error-top1": "train_error",
    "val_error": "test_error",
    "validation_error": "test_error",
    "val-error-top1": "test_error",
    "validation_cross_entropy_loss": "test_loss",
    "validation_cost": "test_loss",
    "validation_cross_entropy": "test_loss",
    "val_loss": "test_loss",
}
FINISHED = re.compile(r"Epoch (\d+) \(global_step (\d+)\) finished, time:\s*(.+?)\.?\s*$")
SCALAR = re.compile(r"\]?\s*([\w/-]+):\s*([-+]?[\d.]+(?:e[-+]?\d+)?|nan|inf)\s*$", re.I)
DURATION = re.compile(r"([\d.]+)\s*(hour|minute|second)")
SECONDS = {"hour": 3600, "minute": 60, "second": 1}


def read_curves(path: str) -> List[Row]:
    """Return the rows of a table, a stats.json or a tensorpack log by epoch; UserError if none."""
    if path.endswith(".json"):
        rows = _rows_of_stats(path)
    else:
        rows = _rows_of_text(path)
    rows = [row for row in rows if "epoch" in row]
    if not any(set(CURVES) & set(row) for row in rows):
        raise UserError(
            "{} holds no epoch with one of {}; accepted: a loss+perf_*.txt, or tensorpack's "
            "stats.json or log".format(path, ", ".join(CURVES))
        )
    return sorted({row["epoch"]: row for row in rows}.values(), key=lambda row: row["epoch"])


def _rows_of_stats(path: str) -> List[Row]:
    try:
        with open(path, encoding="utf-8") as stream:
            entries = json.load(stream)
        return [_renamed(entry) for entry in entries]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError("{} can't be read as a stats.json: {}".format(path, error))


def _rows_of_text(path: str) -> List[Row]:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = [line.rstrip("\n") for line in stream]
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror))
    header = next((line for line in lines if line.strip() and not line.startswith("#")), "")
    if tuple(header.split("\t")) == COLUMNS:
        return read_rows(path)
    if re.match(r"\W*epoch(_num)?\W", header + " ") and not FINISHED.search(header):
        return _rows_of_columns(header, lines[lines.index(header) + 1 :])
    return _rows_of_log(lines)


def _rows_of_columns(header: str, lines: Sequence[str]) -> List[Row]:
    """Return the rows of a table with other columns, separated by tabs, commas or spaces."""
    separator = "\t" if "\t" in header else "," if "," in header else None
    names = [name.strip() for name in header.split(separator)]
    rows = []
    for line in lines:
        cells = line.split(separator)
        if len(cells) == len(names) and not line.startswith("#"):
            try:
                rows.append(_renamed({n: float(c) for n, c in zip(names, cells)}))
            except ValueError:
                continue  # a line of text between the rows
    return rows


def _rows_of_log(lines: Sequence[str]) -> List[Row]:
    """Return the rows of tensorpack's log: `Epoch 1 (global_step 782) finished` starts one."""
    rows = []
    for line in lines:
        finished = FINISHED.search(line)
        if finished:
            epoch, step, duration = finished.groups()
            seconds = sum(float(n) * SECONDS[unit] for n, unit in DURATION.findall(duration))
            rows.append({"epoch": int(epoch), "global_step": int(step), "epoch_seconds": seconds})
            continue
        scalar = SCALAR.search(line)
        if scalar and rows:
            rows[-1].update(_renamed({scalar.group(1): float(scalar.group(2))}))
    return rows


def _renamed(entry: dict) -> Row:
    """Return the columns that this project knows, under its names."""
    row: Row = {}
    for name, value in entry.items():
        column = ALIASES.get(name, name)
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        # A name of this project has precedence over one that maps to it.
        if column in COLUMNS and is_number and (column == name or column not in entry):
            row.setdefault(column, value)
    return row
