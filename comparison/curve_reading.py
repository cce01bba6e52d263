"""Read loss and top-1 error by epoch: tables, stats.json, histories and logs, of any code."""

import csv
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from common.files import encoding_of
from common.json_text import parse
from comparison.curve_columns import TooMany, meanings_of, number_of, require_few, rows_of
from run_directory.table import Row
from sparsenet.errors import UserError

CURVES = ("test_error", "test_loss", "train_error", "train_loss")
ACCEPTED = (
    "a loss+perf_*.txt, a table by epoch with columns such as val_acc, tensorpack's stats.json or "
    "log, Keras's CSVLogger, or what a run printed"
)
SEPARATORS = ("\t", ";", ",", "|")
LONGEST_PREFACE = 1000  # lines of comments before the head of a table
LONGEST_HEAD = 20000  # letters

# tensorpack: `Epoch 1 (global_step 782) finished, time:59.5 seconds.`, then its scalars.
FINISHED = re.compile(r"Epoch (\d+) \(global_step (\d+)\) finished, time:(.*)")
# Keras: `Epoch 1/300`, then ` - loss: 1.25 - acc: 0.54 - val_loss: ...`.
OF_KERAS = re.compile(r"\s*Epoch (\d+)/\d+\s*$")
SCALAR = re.compile(
    r"(?<![\w/-])[\d/-]*([A-Za-z_][\w/-]*):\s+"
    r"([-+]?(?:[\d.]+(?:e[-+]?\d+)?|nan|inf))(?![\w.])",
    re.I,
)
# This project's launchers: a line an epoch.
OF_SCREEN = re.compile(
    r"\s*(?P<epoch>\d+)/\d+\s+(?P<learning_rate>[\d.e-]+)"
    r"\s+(?P<train_loss>\S+)\s+(?P<train_error>\S+%)\s+(?P<test_loss>\S+)\s+(?P<test_error>\S+%)"
    r"\s+(?P<images_per_second>[\d.]+)\s+(?P<epoch_seconds>[\d.]+)(\s|$)"
)
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
DURATION = re.compile(r"(?<![\d.])([\d.]+)\s*(hour|minute|second)")
SECONDS = {"hour": 3600, "minute": 60, "second": 1}

Entries = List[Dict[str, Any]]


class Curves(NamedTuple):
    """The rows of a file by epoch, and what was converted to get them, in words."""

    rows: List[Row]
    notes: List[str]


def read_curves(path: str) -> List[Row]:
    """Return the rows of a table, a stats.json or a log by epoch; UserError if there are none."""
    return read_noted(path).rows


def read_noted(path: str) -> Curves:
    """Return the rows of a file and how they were read; UserError if there are none."""
    found = _read(path)
    if not found.rows:
        raise UserError(
            "{} holds no epoch with one of {}; accepted: {}".format(
                path, ", ".join(CURVES), ACCEPTED
            )
        )
    return found


def holds_epochs(path: str) -> bool:
    """Return whether there are rows in a file; UserError if it can't be read."""
    return bool(_read(path).rows)


def _read(path: str) -> Curves:
    try:
        return _read_text(_text(path), path)
    except TooMany as error:
        raise UserError("{} {}".format(path, error))


def _read_text(text: str, path: str) -> Curves:
    if path.endswith(".json"):
        found = rows_of(_entries_of_json(text, path))
    else:
        found = _rows_of_text(text)
    rows, notes = found
    return Curves([row for row in rows if set(CURVES) & set(row)], notes)


def _text(path: str) -> str:
    """Return the text of a file, in UTF-8 or with a byte order mark."""
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror))
    return content.decode(encoding_of(content), errors="replace")


def _entries_of_json(text: str, path: str) -> Entries:
    """Return the entries of a stats.json: a list, or columns by name as in Keras's History."""
    try:
        found = parse(text) if text.strip() else []
        if isinstance(found, dict):
            names = [name for name, column in found.items() if isinstance(column, list)]
            found = [dict(zip(names, cells)) for cells in zip(*(found[name] for name in names))]
        if not all(isinstance(entry, dict) for entry in found):
            raise ValueError("not a list of objects")
        return found
    except (ValueError, TypeError) as error:
        raise UserError("{} can't be read as a stats.json: {}".format(path, error))


def _rows_of_text(text: str) -> Tuple[List[Row], List[str]]:
    lines = [
        line for line in COLOUR.sub("", text).splitlines()
        if line and not line.isspace() and not line.startswith("sep=")
    ]  # fmt: skip
    for place, line in enumerate(lines[:LONGEST_PREFACE]):
        separator = _separator_of_header(line.lstrip("#"))
        if separator is not None:
            return _rows_of_table([line.lstrip("#"), *lines[place + 1 :]], separator)
        if not line.startswith("#"):
            break
    if lines and all(number_of(line)[0] is not None for line in lines):
        require_few(lines)
        numbers = [number_of(line)[0] for line in lines]
        rows, notes = rows_of([{"train_loss": number} for number in numbers])
        return rows, ["has one number a line, read as train_loss", *notes]
    return rows_of(_entries_of_log(lines))


def _separator_of_header(line: str) -> Optional[str]:
    """Return what separates the columns in the head of a table: `" "` for blanks; None if no head.

    A head holds the name of a curve, and nothing that is a number.
    """
    if len(line) > LONGEST_HEAD:
        return None
    for separator in (*SEPARATORS, " "):
        names = _cells(line, separator)
        known = {meaning.column for meaning in meanings_of(names).values()}
        if (
            known & set(CURVES)
            and not any(number_of(name)[0] is not None for name in names)
            and (separator != " " or "epoch" in known)
        ):
            return separator
    return None


def _cells(line: str, separator: str) -> List[str]:
    if separator == " ":
        return line.split()
    try:
        cells = next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])
    except csv.Error:  # no text
        return []
    return [cell.strip() for cell in cells]


def _rows_of_table(lines: Sequence[str], separator: str) -> Tuple[List[Row], List[str]]:
    """Return the rows below a head; a line that was cut short or holds other text is left out."""
    names = _cells(lines[0], separator)
    entries = []
    for line in lines[1:]:
        cells = _cells(line, separator)
        if len(cells) == len(names) and not line.startswith("#"):
            entry = {name: cell for name, cell in zip(names, cells) if name}
            if any(number_of(cell.replace(",", "."))[0] is not None for cell in cells):
                entries.append(entry)
                require_few(entries)
    # Where a comma does not separate columns, it may separate decimals.
    has_comma = separator != "," and any(
        re.fullmatch(r"[-+]?\d+,\d+", cell) for entry in entries for cell in entry.values()
    )
    rows, notes = rows_of(entries, "," if has_comma else ".")
    return rows, notes + (["has decimal commas"] if has_comma else [])


def _entries_of_log(lines: Sequence[str]) -> Entries:
    """Return the entries of a log of tensorpack's or Keras's, or of this project's launchers."""
    entries: Entries = []
    for line in lines:
        require_few(entries)
        finished, of_keras, shown = (
            FINISHED.search(line),
            OF_KERAS.match(line),
            OF_SCREEN.match(line),
        )
        if finished:
            epoch, step, duration = finished.groups()
            times = [
                (number_of(n)[0] or 0.0) * SECONDS[unit] for n, unit in DURATION.findall(duration)
            ]
            entries.append({"epoch": epoch, "global_step": step, "epoch_seconds": sum(times)})
        elif of_keras:
            entries.append({"epoch": of_keras.group(1)})
        elif shown:
            entries.append(shown.groupdict())
        elif entries:
            entries[-1].update(SCALAR.findall(line))
    return entries


def align(a: Sequence[Row], b: Sequence[Row]) -> Tuple[List[Row], List[Row], List[str]]:
    """Return both tables with the same epoch at the same step, and what was shifted, in words.

    Only if epochs are equally long and all steps that both have lie one epoch apart: one counts
    from 0.
    """
    epochs, lengths = [], []
    for rows in (a, b):
        epochs.append({row["global_step"]: row["epoch"] for row in rows if "global_step" in row})
        steps = sorted(epochs[-1])
        lengths.append({later - earlier for earlier, later in zip(steps, steps[1:])})
    apart = {epochs[1][step] - epochs[0][step] for step in set(epochs[0]) & set(epochs[1])}
    if lengths[0] == lengths[1] and apart == {1}:
        return _shifted(a), list(b), ["A: epochs shifted by one, to those of B at the same step"]
    if lengths[0] == lengths[1] and apart == {-1}:
        return list(a), _shifted(b), ["B: epochs shifted by one, to those of A at the same step"]
    return list(a), list(b), []


def _shifted(rows: Sequence[Row]) -> List[Row]:
    return [dict(row, epoch=row["epoch"] + 1) for row in rows]
