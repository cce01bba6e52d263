"""What the columns of other codes' tables and logs mean, and their values in this project's terms.

A column is known by its name, however that is spelled: `val_acc`, `Test Accuracy (%)`,
`train-error-top1`. Errors are fractions here; accuracies and percentages are converted, and each
conversion is reported.
"""

import math
import re
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from run_directory.table import COLUMNS, Row

OTHERS = {
    "epoch": "epoch",
    "epochs": "epoch",
    "epoch_num": "epoch",
    "step": "global_step",
    "steps": "global_step",
    "iteration": "global_step",
    "lr": "learning_rate",
    "epoch_time": "epoch_seconds",
    "images_s": "images_per_second",
    "fps": "images_per_second",
}
SPLITS = {
    "train": "train", "training": "train",
    "val": "test", "valid": "test", "validation": "test", "test": "test", "eval": "test",
}  # fmt: skip
# Kind -> names, without the word for the set; of two columns that mean the same, the first counts:
# a cost includes the weight decay.
KINDS = {
    "loss": ("cross_entropy_loss", "cross_entropy", "ce_loss", "ce", "nll", "loss", "cost"),
    "error": (
        "error", "err", "error_rate", "error_top1", "top1_error", "top1_err", "err1", "error1",
        "err_top1", "top_1_error",
    ),
    "accuracy": (
        "accuracy", "acc", "categorical_accuracy", "sparse_categorical_accuracy",
        "accuracy_top1", "acc_top1", "top1_accuracy", "top1_acc", "top_1_accuracy",
        "top1", "top_1", "acc1", "acc_1", "prec1", "prec_1",
    ),
}  # fmt: skip
# Without a word for the set these are of the test set, unless another column is.
OF_TEST = re.compile(r"^(top_?1|(acc|prec|err)_?1)")
NUMBER = re.compile(
    r"([-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?|[-+]?inf(?:inity)?|[-+]?nan)\s*(%?)", re.I
)
MOST_ROWS = 50000


class Meaning(NamedTuple):
    """What a column means: which `column` of this project, and how its values become that.

    kind: error and accuracy may be in percent; an accuracy becomes 1 - accuracy; plain stays
    rank: of columns with one meaning the lowest counts
    """

    column: str
    kind: str
    rank: int
    is_percent: bool


def meaning_of(name: str, has_test: bool) -> Optional[Meaning]:
    """Return what a column means; None if it is nothing that is compared.

    has_test: another column is an error or accuracy of the test set
    """
    if name in COLUMNS:
        kind = "error" if name.endswith("_error") else "plain"
        return Meaning(name, kind, -1, False)
    words = _words(name)
    is_percent = "%" in name or bool({"percent", "pct"} & set(words))
    words = [word for word in words if word not in ("percent", "pct")]
    joined = "_".join(words)
    if joined in COLUMNS or joined in OTHERS:
        column = OTHERS.get(joined, joined)
        return Meaning(column, "error" if column.endswith("_error") else "plain", 0, is_percent)
    split, rest = _split(words)
    for kind, names in KINDS.items():
        if rest in names:
            split = split or ("test" if OF_TEST.match(rest) and not has_test else "train")
            column = "{}_{}".format(split, "loss" if kind == "loss" else "error")
            return Meaning(
                column, "plain" if kind == "loss" else kind, names.index(rest), is_percent
            )
    return None


def _words(name: str) -> List[str]:
    """Return the words of a name in small letters: `valLoss`, `Val-Loss` -> val, loss."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return [word for word in re.split(r"[^a-z0-9]+", apart.lower()) if word]


def _split(words: Sequence[str]) -> Tuple[Optional[str], str]:
    """Return the set that the first or last word names, or None, and the rest of the name."""
    for place, rest in ((0, words[1:]), (-1, words[:-1])):
        if words and words[place] in SPLITS:
            return SPLITS[words[place]], "_".join(rest)
    return None, "_".join(words)


def meanings_of(names: Sequence[str]) -> Dict[str, Meaning]:
    """Return the columns that count, by name: one for each column of this project."""
    has_test = "test_error" in {
        meaning.column for meaning in (meaning_of(name, True) for name in names) if meaning
    }
    found: Dict[str, Tuple[str, Meaning]] = {}
    for name in names:
        meaning = meaning_of(name, has_test)
        if meaning and (
            meaning.column not in found or meaning.rank < found[meaning.column][1].rank
        ):
            found[meaning.column] = (name, meaning)
    return dict(found.values())


def number_of(cell: object, decimal: str = ".") -> Tuple[Optional[float], bool]:
    """Return a cell as a number, None if it is none, and whether it is marked with `%`.

    `3/300`, an epoch of all, is 3. decimal: the sign before the decimals
    """
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return float(cell), False
    if not isinstance(cell, str):
        return None, False
    text = cell.strip().replace(decimal, ".")
    found = NUMBER.fullmatch(re.sub(r"(?<=\d)\s*/\s*\d+$", "", text))
    return (float(found.group(1)), bool(found.group(2))) if found else (None, False)


class TooMany(ValueError):
    """A file has more rows than a run has epochs, in words that follow its name."""


def require_few(rows: Sequence) -> None:
    """Raise TooMany for rows that are no epochs of a run."""
    if len(rows) > MOST_ROWS:
        raise TooMany("holds more than {:,} epochs".format(MOST_ROWS))


def rows_of(
    entries: Sequence[Mapping[str, object]], decimal: str = "."
) -> Tuple[List[Row], List[str]]:
    """Return entries by the names and in the units of this project, and what was converted.

    entries: cells by the name of their column; those that are empty or no number are left out
    """
    require_few(entries)
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    rows: List[Row] = [{} for _ in entries]
    notes = []
    for name, meaning in meanings_of(names).items():
        cells = [number_of(entry.get(name), decimal) for entry in entries]
        values = [value for value, _ in cells]
        if meaning.kind in ("error", "accuracy"):
            marked = meaning.is_percent or any(is_percent for _, is_percent in cells)
            values, words = _as_errors(values, meaning.kind == "accuracy", marked)
            notes += ["`{}` {}".format(name, words)] if words else []
        for row, value in zip(rows, values):
            if value is not None:
                row[meaning.column] = value
    return _with_epochs(rows, notes), notes


def _as_errors(
    values: List[Optional[float]], is_accuracy: bool, is_percent: bool
) -> Tuple[List[Optional[float]], str]:
    """Return errors as fractions, and what was converted in words."""
    largest = max((v for v in values if v is not None and math.isfinite(v)), default=0.0)
    words = []
    if is_percent or 1 < largest <= 100:
        values = [None if value is None else value / 100 for value in values]
        words.append("is in percent, read as a fraction")
    if is_accuracy:
        values = [None if value is None else 1 - value for value in values]
        words.append("is an accuracy, read as an error")
    return values, "; ".join(words)


def _with_epochs(rows: List[Row], notes: List[str]) -> List[Row]:
    """Return the rows that have an epoch, those of one merged; add to notes.

    Both epochs and steps are counted from 1. Epoch 0 at step 0 stays: the network before training.
    """
    if rows and not any("epoch" in row for row in rows):
        notes.append("has no epochs: rows are counted")
        for epoch, row in enumerate(rows, 1):
            row["epoch"] = epoch
    merged: Dict[float, Row] = {}
    for row in rows:
        if math.isfinite(row.get("epoch", math.nan)):
            merged.setdefault(row["epoch"], {}).update(row)
    rows = [merged[epoch] for epoch in sorted(merged)]
    if rows and rows[0]["epoch"] == 0 and rows[0].get("global_step") != 0:
        notes.append("counts epochs from 0: shifted to 1")
        for row in rows:
            row["epoch"] += 1
    steps = [row["global_step"] for row in rows if "global_step" in row]
    if any(later <= earlier for earlier, later in zip(steps, steps[1:])):
        for row in rows:  # of the epoch, not of the run
            row.pop("global_step", None)
    elif len(steps) > 1 and steps[0] + 1 == steps[1] - steps[0]:
        notes.append("counts steps from 0: shifted to 1")
        for row in rows:
            if "global_step" in row:
                row["global_step"] += 1
    return rows
