"""Compare loss and top-1 error by epoch: are two runs as close as two of one platform would be?"""

import dataclasses
import math
import statistics
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from scipy import stats

from comparison.curve_reading import CURVES, read_curves
from comparison.findings import DIFFERENT, REPORTED, SAME, Part, Thresholds, absent, plural, ratio
from comparison.records import same_value
from comparison.sources import Source
from run_directory.table import Row
from sparsenet.errors import UserError

LAST = 5  # epochs
ENOUGH_EPOCHS = 4  # fewer give no spread from epoch to epoch
DEFAULT_TEST_IMAGES = 10000
ROUNDING = 1e-4  # relative: tables are printed with few digits


@dataclasses.dataclass
class Check:
    """A number that decides: `value` may be at most `tolerance`; both in the unit of `what`."""

    what: str
    value: float
    tolerance: float
    derivation: str

    @property
    def holds(self) -> bool:
        """Return whether the value is small enough; NaN is not."""
        return self.value <= self.tolerance


def compare_curve_files(
    a: Source, b: Source, references: Sequence[Source], thresholds: Thresholds,
    test_images: Optional[int],
) -> Part:  # fmt: skip
    """Compare the curves of two runs by the spread of the references, or from epoch to epoch."""
    if a.curves is None or b.curves is None:
        lacking = a if a.curves is None else b
        return absent("curves", "no loss+perf_*.txt or stats.json in {}".format(lacking.path))
    runs = [read_curves(path) for path in (a.curves, b.curves)]
    spread_of = read_references(references)
    epochs = set.intersection(*({row["epoch"] for row in rows} for rows in runs))
    if not epochs:
        return absent("curves", "no epoch in common")
    common = [[row for row in rows if row["epoch"] in epochs] for rows in runs]
    images, stated = _test_images(a, b, test_images)
    schedule = schedule_differences(*common)
    checks = curve_checks(common, spread_of, thresholds.sigmas, images)
    failed = [check for check in checks if not check.holds]
    held = [check for check in checks if check.holds]
    enough = len(epochs) >= ENOUGH_EPOCHS or bool(spread_of)
    speeds = speed_ratios(*runs)
    return Part(
        "curves",
        verdict_of(schedule, failed, enough),
        _headline(common, schedule, checks, failed, enough),
        judged_by(thresholds.sigmas, len(spread_of), stated),
        schedule + [check_text(each) for each in failed + held] + speeds,
        data={
            "files": [a.curves, b.curves],
            "rows": runs,
            "references": spread_of,
            "checks": checks,
            "schedule": schedule,
            "speed": speeds,
        },
    )


def read_references(references: Sequence[Source]) -> List[List[Row]]:
    """Return the tables of --reference: none, or two or more; UserError for one."""
    found = [read_curves(source.curves) for source in references if source.curves]
    if references and len(found) < 2:
        raise UserError(
            "--reference {}; accepted: at least two runs of one platform, for their spread".format(
                " ".join(source.path for source in references)
            )
        )
    return found


def verdict_of(schedule: List[str], failed: List[Check], enough: bool) -> str:
    """Return DIFFERENT or SAME; REPORTED if a check failed and the epochs are too few to judge."""
    if schedule:
        return DIFFERENT
    if not failed:
        return SAME
    return DIFFERENT if enough else REPORTED


def judged_by(sigmas: float, references: int, images: str) -> str:
    """Return the rule in words."""
    spread = "spread from epoch to epoch"
    if references:
        spread = "spread of {}".format(plural(references, "reference run"))
    return "{:g} standard deviations of the difference of two runs; {}; {}".format(
        sigmas, spread, images
    )


def _test_images(a: Source, b: Source, given: Optional[int]) -> Tuple[int, str]:
    """Return the size of the test set, and the same in words with where it is known from."""
    if given is not None:
        return given, "{:,} test images (given)".format(given)
    for source in (a, b):
        data = (source.record or {}).get("data")
        test = data.get("test") if isinstance(data, dict) else None
        images = test.get("images") if isinstance(test, dict) else None
        if isinstance(images, int) and images > 0:
            return images, "{:,} test images (run.json)".format(images)
    return DEFAULT_TEST_IMAGES, "{:,} test images (assumed; --test_images)".format(
        DEFAULT_TEST_IMAGES
    )


def schedule_differences(a: List[Row], b: List[Row]) -> List[str]:
    """Return, for steps and learning rate, the first epoch at which they differ, in words."""
    found = []
    for column in ("global_step", "learning_rate"):
        for x, y in zip(a, b):
            if column in x and column in y and not same_value(x[column], y[column]):
                found.append(
                    "{} after epoch {:.0f}: {:g} | {:g}".format(
                        column, x["epoch"], x[column], y[column]
                    )
                )
                break
    return found


class Pair(NamedTuple):
    """A curve of both runs; series: its values at `epochs`, [2, epochs]."""

    name: str
    epochs: List[float]
    series: np.ndarray

    def last(self, count: int) -> "Pair":
        """Return the last `count` epochs of it."""
        return Pair(self.name, self.epochs[-count:], self.series[:, -count:])


def curve_checks(common, references: List[List[Row]], sigmas: float, images: int) -> List[Check]:
    """Return the check of each curve over all epochs, and those of the test error over the last."""
    checks = []
    for name in CURVES:
        both = [(x, y) for x, y in zip(*common) if name in x and name in y]
        if not both:
            continue
        pair = Pair(name, [x["epoch"] for x, _ in both],
                    np.array([(x[name], y[name]) for x, y in both], float).T)  # fmt: skip
        if name == "test_error":
            late = _late([x for x, _ in both])
            # Too few epochs for a spread: only the number of test images gives a tolerance.
            late_noise = noise_of(pair.last(late), references, images) or Noise(
                0.0, 1000, "binomial alone", binomial(pair.series, images)
            )
            checks += _late_checks(pair.series, late, late_noise, sigmas)
        noise = noise_of(pair, references, images)
        if noise is not None:
            apart = float(np.median(np.abs(pair.series[0] - pair.series[1])))
            what = name + ", median distance over the epochs"
            checks.append(Check(what, apart, noise.tolerance(sigmas), noise.words))
    return checks


def _late_checks(series, late: int, noise: "Noise", sigmas: float) -> List[Check]:
    """Return the checks of the test error: last epoch, last five, all with the last rate."""
    checks = []
    for epochs in sorted({1, min(LAST, late), late}):
        apart = abs(float(np.subtract(*(np.median(values[-epochs:]) for values in series))))
        what = "final test_error"
        if epochs > 1:
            what = "median test_error of the last {} epochs".format(epochs)
        checks.append(Check(what, apart, noise.tolerance(sigmas, epochs), noise.words))
    return checks


@dataclasses.dataclass
class Noise:
    """How much the curves of two runs that do the same differ at an epoch.

    spread:   standard deviation of the difference, estimated with `degrees` degrees of freedom
    sampling: standard deviation that does not shrink when epochs are averaged
    """

    spread: float
    degrees: int
    words: str
    sampling: float = 0.0

    def tolerance(self, sigmas: float, epochs: int = 1) -> float:
        """Return how much the medians over some epochs may differ.

        The tail of Student's t distribution beyond it is that of the normal one beyond `sigmas`.
        """
        # The variance of the median of n values is pi / 2 times that of their mean.
        share = 1.0 if epochs < 3 else math.pi / 2 / epochs
        deviation = math.hypot(self.spread * math.sqrt(share), self.sampling)
        return float(stats.t.isf(stats.norm.sf(sigmas), self.degrees)) * deviation


def noise_of(pair: Pair, references: List[List[Row]], images: int) -> Optional[Noise]:
    """Return how much the pair would differ if both did the same; None if there is no estimate."""
    if references:
        return _noise_of_references(pair.name, references, images, pair.epochs)
    return _noise(pair.series, pair.name, images)


def _noise(series, name: str, images: int) -> Optional[Noise]:
    """Estimate the noise from the two runs: how their difference varies from epoch to epoch.

    What both curves do, such as falling with the learning rate, cancels in the difference.
    """
    difference = series[0] - series[1]
    if len(difference) < ENOUGH_EPOCHS:
        return None
    spread = 1.4826 * float(np.median(np.abs(difference - np.median(difference))))
    spread = max(spread, ROUNDING * float(np.median(np.abs(series[0]))))
    sampling = binomial(series, images) if name == "test_error" else 0.0
    words = "epoch to epoch {:.2g}".format(spread)
    words += ", binomial {:.2g}".format(sampling) if sampling else ""
    words += "; few epochs show gross differences only" if len(difference) < 10 else ""
    return Noise(spread, len(difference) - 1, words, sampling)


def binomial(series, images: int) -> float:
    """Return the standard deviation of the difference of two errors on this many images."""
    share = float(np.mean([values[-1] for values in series]))
    return math.sqrt(2 * max(share * (1 - share), 1 / images) / images)


def _noise_of_references(name: str, references: List[List[Row]], images: int, epochs) -> Noise:
    """Estimate the noise from several runs of one platform: their pooled spread at these epochs.

    Runs differ by more than their epochs do, so that averaging epochs does not reduce it.
    """
    values = []
    for rows in references:
        by_epoch = {row["epoch"]: row for row in rows if name in row}
        absent = [epoch for epoch in epochs if epoch not in by_epoch]
        if absent:
            raise UserError(
                "--reference: a run has no {} of epoch {:.0f}; accepted: runs with all epochs that "
                "are compared".format(name, absent[0])
            )
        values.append([by_epoch[epoch][name] for epoch in epochs])
    variance = np.var(np.array(values), axis=0, ddof=1)
    least = 1 / images if name.endswith("error") else 0.0  # one image, at least
    spread = math.sqrt(2) * max(math.sqrt(variance.mean()), least)
    words = "{} reference runs, spread {:.2g}".format(len(references), spread)
    # Epochs of one run are not independent: a fifth of them counts.
    degrees = (len(references) - 1) * max(1, len(epochs) // LAST)
    return Noise(0.0, degrees, words, sampling=spread)


def _late(rows: List[Row]) -> int:
    """Return how many of the last epochs had the last learning rate; a quarter if not recorded."""
    rates = [row.get("learning_rate") for row in rows]
    if None in rates:
        return max(min(ENOUGH_EPOCHS, len(rows)), len(rows) // 4)
    late = next((i for i, rate in enumerate(reversed(rates)) if rate != rates[-1]), len(rows))
    return late if late >= ENOUGH_EPOCHS else len(rows)


def check_text(check: Check) -> str:
    """Return `final test_error: 0.003 apart, tolerance 0.012 (...)`."""
    return "{}: {:.4g} apart, tolerance {:.4g} ({})".format(
        check.what, check.value, check.tolerance, check.derivation
    )


def _headline(common, schedule, checks, failed, enough: bool) -> str:
    """Return the finding in one line."""
    epochs = plural(len(common[0]), "epoch")
    if schedule:
        return "schedules differ: {}".format(schedule[0])
    if failed:
        text = "{} outside the tolerance: {}".format(
            plural(len(failed), "figure"), check_text(failed[0])
        )
        return text if enough else text + "; {} give no spread to judge by".format(epochs)
    errors = [rows[-1].get("test_error") for rows in common]
    if None in errors or not checks:
        return "{}, within tolerance".format(epochs)
    return "{}, within tolerance: final test_error {:.4g} | {:.4g}".format(epochs, *errors)


def speed_ratios(a: List[Row], b: List[Row]) -> List[str]:
    """Return the ratios of training speed and inference time, in words; they decide nothing."""
    lines = []
    for column in ("images_per_second", "epoch_seconds", "inference_seconds"):
        of_a, of_b = _median(a, column), _median(b, column)
        if of_a is not None and of_b is not None:
            lines.append(
                "({}: {:.4g} | {:.4g}, B / A = {:.3f})".format(
                    column, of_a, of_b, ratio(of_b, of_a)
                )
            )
    return lines


def _median(rows: List[Row], column: str) -> Optional[float]:
    """Return the median after the first epoch, which includes the platform's start, or None."""
    values = [row[column] for row in rows[1:] or rows if column in row]
    return statistics.median(values) if values else None
