"""Do two runs lie farther apart than seeds of one recipe do?

A run is reduced to a few figures: the mean logarithm of a loss or an error over the epochs of one
learning rate, since runs of one recipe differ by a share of a loss rather than by an amount.
Reference runs say how far the figures of such runs lie apart. Without them it is estimated, widely:
from the number of images that a figure rests on, and from how the difference of the two runs varies
by epoch. results/README.md has what this finds, and how often it finds what is not there.
"""

import dataclasses
import math
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np

from run_directory.table import Row

FEWEST_REFERENCES = 4
ENOUGH_TO_PREDICT = 6  # references for a line through them: fewer lie on one by chance
# So many figures are held to the standard deviations that are asked for, more of them to wider
# limits (Bonferroni): with three, two comparisons of one recipe in a hundred are called different.
MOST_FIGURES = 7
ENOUGH_EPOCHS = 4  # fewer give no spread from epoch to epoch
MOST_RATES = 4  # with more, the rate falls by epoch and gives no windows
CORRELATED = 5  # so many epochs of a run say as much as one that is independent
LOSS_OF_AN_ERROR = 3.0  # about the loss of a set, in that of its errors
ROUNDING = 1e-4  # relative: tables are printed with few digits
TINY = 1e-30  # added to what may be 0 before its logarithm is taken
GROWTH = "growth of the kernels"
FIRST_STEPS = 0.02  # steps times learning rate: rounding grows with how far the weights have moved
SAME_BATCHES = 2e-4  # how far apart, relative, it takes the loss of the same batches until then


@dataclasses.dataclass
class Check:
    """A figure that decides: `value` may be at most `tolerance`.

    Both say by what share of the smaller of two numbers the larger one is larger.
    """

    what: str
    value: float
    tolerance: float
    derivation: str

    @property
    def holds(self) -> bool:
        """Return whether the value is small enough; NaN is not."""
        return self.value <= self.tolerance

    @property
    def excess(self) -> float:
        """Return the value in that of the tolerance; infinity for NaN."""
        return self.value / self.tolerance if self.value < math.inf else math.inf


class Window(NamedTuple):
    """Epochs whose mean is a figure; place: of them among all epochs."""

    words: str
    place: slice


class Figure(NamedTuple):
    """A figure of both runs and of the references, as natural logarithms.

    column:     of the table
    words:      epochs of its window
    runs:       [2, epochs of the window]
    references: [references, epochs of the window]
    sampling:   standard deviation of a run's figure that is due to the number of images
    apart:      difference of the runs by epoch, in the window or, if that is short, in all epochs
    """

    column: str
    words: str
    runs: np.ndarray
    references: np.ndarray
    sampling: float
    apart: np.ndarray

    @property
    def what(self) -> str:
        """Return `train_loss, epochs 1 to 5`."""
        return "{}, {}".format(self.column, self.words)


def windows_of(rows: Sequence[Row]) -> List[Window]:
    """Return the epochs of each learning rate; thirds of a run if there are none or many."""
    if not rows:
        return []
    rates = [row.get("learning_rate") for row in rows]
    changes = [i for i in range(1, len(rows)) if rates[i] != rates[i - 1]]
    if None in rates or len(changes) >= MOST_RATES:
        changes = sorted({len(rows) // 3, 2 * len(rows) // 3} - {0})
    bounds = [0, *changes, len(rows)]
    return [Window(words_of(rows[a:b]), slice(a, b)) for a, b in zip(bounds, bounds[1:])]


def words_of(rows: Sequence[Row]) -> str:
    """Return `epoch 3` or `epochs 3 to 8`."""
    first, last = (rows[i]["epoch"] for i in (0, -1))
    words = "epoch {:.0f}" if first == last else "epochs {:.0f} to {:.0f}"
    return words.format(first, last)


def figures_of(
    common: Sequence[List[Row]], references: Sequence[List[Row]], images: Dict[str, int]
) -> List[Figure]:
    """Return the figures of two runs with the same epochs; images: of the sets, train and test.

    Errors say little that losses do not: of them there is the final test error, or all that there
    is of a set without a loss. The references have to have all epochs of the two runs.
    """
    epochs = [row["epoch"] for row in common[0]]
    by_epoch = [{row["epoch"]: row for row in rows} for rows in references]
    tables = [*common, *([found[epoch] for epoch in epochs] for found in by_epoch)]
    found = []
    for data in ("train", "test"):
        of_columns = [
            figures_of_column(name, tables, images[data])
            for name in (data + "_loss", data + "_error")
        ]
        first, *others = [figures for figures in of_columns if figures] or [[]]
        found += first
        if data == "test":
            found += [figures[-1] for figures in others]
    return found


def figures_of_column(column: str, tables: Sequence[List[Row]], images: int) -> List[Figure]:
    """Return the figures of a column, from the epochs of which all tables have it.

    The tables have the same epochs, the two runs come first. Loss and error of a set both rest on
    the images that are classified incorrectly.
    """
    shared = [rows for rows in zip(*tables) if all(column in row for row in rows)]
    is_error = column.endswith("error")
    smallest = 0.5 / images if is_error else TINY
    logs = np.array([[math.log(max(row[column], 0.0) + smallest) for row in rows]
                     for rows in shared]).T  # fmt: skip
    found = []
    for window in windows_of([rows[0] for rows in shared]):
        inside = logs[:, window.place]
        size = math.exp(float(np.mean(inside[:2])))
        incorrect = images * min(1.0, size if is_error else size / LOSS_OF_AN_ERROR)
        around = inside if inside.shape[1] >= ENOUGH_EPOCHS else logs
        found.append(
            Figure(
                column, window.words, inside[:2], inside[2:],
                1 / math.sqrt(max(incorrect, 1.0)), around[0] - around[1],
            )
        )  # fmt: skip
    return found


def first_steps_checks(common: Sequence[List[Row]]) -> List[Check]:
    """Return the check of the epochs that end within FIRST_STEPS, for runs of one seed.

    Such runs have the same weights and batches at first, so that their training losses are equal
    up to rounding, whatever seeds differ by.
    """
    first = [
        (x, y) for x, y in zip(*common)
        if all("train_loss" in row and moved(row) <= FIRST_STEPS for row in (x, y))
    ]  # fmt: skip
    if not first:
        return []
    apart = max(
        abs(math.log(x["train_loss"] + TINY) - math.log(y["train_loss"] + TINY)) for x, y in first
    )
    what = "train_loss of the first {:.0f} steps".format(first[-1][0]["global_step"])
    words = "both have one seed, so the same weights and batches"
    return [Check(what, as_share(apart), as_share(SAME_BATCHES), words)]


def moved(row: Row) -> float:
    """Return steps times learning rate up to the end of an epoch; infinity if not recorded."""
    return row.get("global_step", math.inf) * row.get("learning_rate", math.inf)


def growth_figure(step: int, growths: np.ndarray) -> Figure:
    """Return the figure of the kernels' growth up to a step: logarithms, [2 + references]."""
    words = "step {}".format(step)
    return Figure(GROWTH, words, growths[:2, None], growths[2:, None], 0.0, np.array([]))


def checks_of(figures: Sequence[Figure], sigmas: float) -> List[Check]:
    """Return what decides: each figure of each run by the references, else that of both runs.

    sigmas: accepted standard deviations of a normal distribution, of up to MOST_FIGURES figures
    """
    from scipy import stats  # takes half a second to import

    if not figures:
        return []
    has_references = len(figures[0].references) > 0
    count = len(figures) * (2 if has_references else 1)
    level = 2 * stats.norm.sf(sigmas) * min(1.0, MOST_FIGURES / count)
    if not has_references:
        return [by_epochs(each, level) for each in figures]
    progress: Optional[Figure] = figures[progress_of(figures)]
    if len(figures[0].references) < ENOUGH_TO_PREDICT:
        progress = None
    return [
        by_references(each, None if each is progress else progress, run, level)
        for each in figures for run in (0, 1)
    ]  # fmt: skip


def progress_of(figures: Sequence[Figure]) -> int:
    """Return which figure says how far a run has come: its first curve at the end of the run."""
    return [figure.column for figure in figures].count(figures[0].column) - 1


def by_references(figure: Figure, progress: Optional[Figure], run: int, level: float) -> Check:
    """Hold a run's figure against the prediction interval of the references for another run.

    progress: a run that is ahead is so in all its figures. So all but this one are predicted for a
              run that has come as far, by linear regression.
    """
    from scipy import stats  # takes half a second to import

    values, value = figure.references.mean(axis=1), float(figure.runs[run].mean())
    count = len(values)
    centre, rest, leverage = float(values.mean()), values - values.mean(), 0.0
    if progress is not None:
        x = progress.references.mean(axis=1)
        offset = float(progress.runs[run].mean()) - float(x.mean())
        x = x - x.mean()
        squares = max(float(x @ x), ROUNDING**2)
        slope = float(x @ rest) / squares
        centre, rest = centre + slope * offset, rest - slope * x
        leverage = offset**2 / squares
    degrees = count - 2  # one fewer than without a line: seeds have more outliers than is normal
    spread = max(math.sqrt(float(rest @ rest) / degrees), ROUNDING)
    deviations = float(stats.t.isf(level / 2, degrees)) * math.sqrt(1 + 1 / count + leverage)
    words = "spread of {} references {:.2g}, {:.1f} of it accepted".format(
        count, spread, deviations
    )
    what = "{} of {}".format(figure.what, "AB"[run])
    return Check(what, as_share(abs(value - centre)), as_share(deviations * spread), words)


def by_epochs(figure: Figure, level: float) -> Check:
    """Hold the difference of two runs against what it varies by, and what seeds may add."""
    from scipy import stats  # takes half a second to import

    around = figure.apart
    apart = abs(float((figure.runs[0] - figure.runs[1]).mean()))
    seeds = math.sqrt(2) * max(figure.sampling, ROUNDING)
    spread = 0.0
    if len(around) >= ENOUGH_EPOCHS:
        spread = float(np.std(around, ddof=1))
    own = spread / math.sqrt(max(1.0, figure.runs.shape[1] / CORRELATED))
    deviation = math.hypot(seeds, own)
    # Welch's and Satterthwaite's: only the spread by epoch is estimated.
    degrees = (len(around) - 1) * (deviation / own) ** 4 if own else math.inf
    quantile = stats.norm if math.isinf(degrees) else stats.t(degrees)
    tolerance = float(quantile.isf(level / 2)) * deviation
    words = "seeds {:.2g}, epoch to epoch {:.2g}".format(seeds, own)
    return Check(figure.what, as_share(apart), as_share(tolerance), words)


def as_share(logarithm: float) -> float:
    """Return the share by which the larger number is larger, of the difference of logarithms."""
    return math.expm1(logarithm) if not logarithm > 700 else math.inf
