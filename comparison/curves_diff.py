"""Loss and error by epoch: are two runs as close as two runs of one platform would be?"""

import dataclasses
import math
import statistics
from typing import List, Optional, Sequence, Tuple

import numpy as np
from scipy import stats

from comparison.curve_reading import CURVES, read_curves
from comparison.findings import DIFFERENT, REPORTED, SAME, Part, Thresholds, absent, plural, ratio
from comparison.records import same_value
from comparison.sources import Source
from errors import UserError
from run_directory import Row

LAST = 5  # epochs
ENOUGH_EPOCHS = 4  # three differences from epoch to epoch: fewer give no spread
DEFAULT_TEST_IMAGES = 10000
ROUNDING = 1e-4  # relative: what tables are printed with is no difference


@dataclasses.dataclass
class Check:
    """One number that decides: `value` has to be at most `tolerance`, in the unit of `what`."""

    what: str
    value: float
    tolerance: float
    derivation: str

    @property
    def holds(self) -> bool:
        """Whether it is small enough; NaN is not."""
        return self.value <= self.tolerance


def compare_curve_files(
    a: Source, b: Source, references: Sequence[Source], thresholds: Thresholds,
    test_images: Optional[int],
) -> Part:  # fmt: skip
    """The distance of two runs' curves, against the spread of one platform's runs."""
    for source in (a, b):
        if source.curves is None:
            return absent("curves", "no loss+perf_*.txt or stats.json in {}".format(source.path))
    runs = [read_curves(source.curves) for source in (a, b)]
    spread_of = [read_curves(source.curves) for source in references if source.curves]
    if references and len(spread_of) < 2:
        raise UserError(
            "--reference {}; accepted: at least two runs of one platform, their spread is "
            "asked for".format(" ".join(source.path for source in references))
        )
    common = [align(rows, set.intersection(*({r["epoch"] for r in x} for x in runs)))
              for rows in runs]  # fmt: skip
    if not common[0]:
        return absent("curves", "no epoch that both have")
    images, stated = _test_images(a, b, test_images)
    schedule = schedule_differences(*common)
    checks = curve_checks(common, spread_of, thresholds.sigmas, images)
    failed = [check for check in checks if not check.holds]
    enough = len(common[0]) >= ENOUGH_EPOCHS or bool(spread_of)
    verdict = DIFFERENT if schedule or (failed and enough) else SAME
    if failed and not enough and not schedule:
        verdict = REPORTED
    speeds = speed_ratios(*runs)
    return Part(
        "curves",
        verdict,
        _headline(common, schedule, checks, failed, enough),
        "{:g} standard deviations of the difference of two runs; {}; {}".format(
            thresholds.sigmas,
            "spread of {}".format(plural(len(spread_of), "reference run"))
            if spread_of
            else "spread from epoch to epoch",
            stated,
        ),
        schedule
        + [check_text(check) for check in failed]
        + [check_text(check) for check in checks if check.holds]
        + speeds,
        data={
            "files": [a.curves, b.curves],
            "rows": runs,
            "references": spread_of,
            "checks": checks,
            "schedule": schedule,
            "speed": speeds,
        },
    )


def align(rows: List[Row], epochs: set) -> List[Row]:
    """The rows of these epochs."""
    return [row for row in rows if row["epoch"] in epochs]


def _test_images(a: Source, b: Source, given: Optional[int]) -> Tuple[int, str]:
    """How many test images an error is a share of, and where that is known from."""
    if given is not None:
        return given, "{:,} test images (given)".format(given)
    for source in (a, b):
        data = (source.record or {}).get("data")
        images = data.get("test", {}).get("images") if isinstance(data, dict) else None
        if isinstance(images, int) and images > 0:
            return images, "{:,} test images (run.json)".format(images)
    return DEFAULT_TEST_IMAGES, "{:,} test images (assumed; --test_images)".format(
        DEFAULT_TEST_IMAGES
    )


def schedule_differences(a: List[Row], b: List[Row]) -> List[str]:
    """Epochs at which the steps taken or the learning rate are not the same: the first of each."""
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


def curve_checks(common, references: List[List[Row]], sigmas: float, images: int) -> List[Check]:
    """Final and median-of-last-five test error, and the distance of each curve."""
    checks = []
    late = _late(common[0])
    for name in CURVES:
        both = [(x[name], y[name]) for x, y in zip(*common) if name in x and name in y]
        if not both:
            continue
        series = np.array(both, float).T
        if references:
            noises = [_noise_of_references(name, references, images, n)
                      for n in (len(common[0]), LAST)]  # fmt: skip
        else:
            noises = [_noise([each[-n:] for each in series], name, images)
                      for n in (len(common[0]), late)]  # fmt: skip
        if name == "test_error":
            # Fewer epochs than give a spread: what the number of test images allows.
            noise = noises[1] or Noise(0.0, 1000, "binomial alone", binomial(series, images))
            checks += _final_checks(series, noise, sigmas)
        if noises[0] is not None:
            apart = float(np.median(np.abs(series[0] - series[1])))
            checks.append(
                Check(
                    name + ", median distance over the epochs", apart,
                    noises[0].tolerance(sigmas), noises[0].words,
                )
            )  # fmt: skip
    return checks


@dataclasses.dataclass
class Noise:
    """By how much the curves of two runs that do the same differ at an epoch.

    spread:   standard deviation of the difference, estimated with so many degrees of freedom
    sampling: what the number of test images adds to it; in `spread` already where runs were given
    """

    spread: float
    degrees: int
    words: str
    sampling: float = 0.0

    def tolerance(self, sigmas: float) -> float:
        """What the difference may be: beyond it lies as much as beyond `sigmas` normally."""
        deviation = math.hypot(self.spread, self.sampling)
        return float(stats.t.isf(stats.norm.sf(sigmas), self.degrees)) * deviation


def _noise(series, name: str, images: int) -> Optional[Noise]:
    """From the two runs themselves: how their difference moves from epoch to epoch.

    What both do, falling or dropping with the learning rate, is not in the difference.
    """
    difference = series[0] - series[1]
    if len(difference) < ENOUGH_EPOCHS:
        return None
    spread = 1.4826 * float(np.median(np.abs(difference - np.median(difference))))
    spread = max(spread, ROUNDING * float(np.median(np.abs(series[0]))))
    sampling = binomial(series, images) if name == "test_error" else 0.0
    words = "epoch to epoch {:.2g}".format(spread)
    words += ", binomial {:.2g}".format(sampling) if sampling else ""
    return Noise(spread, len(difference) - 1, words, sampling)


def binomial(series, images: int) -> float:
    """Standard deviation of the difference of two errors measured on so many images."""
    share = float(np.mean([values[-1] for values in series]))
    return math.sqrt(2 * max(share * (1 - share), 1 / images) / images)


def _noise_of_references(name: str, references: List[List[Row]], images: int, last: int):
    """From several runs of one platform: their spread at each of the last epochs, pooled."""
    epochs = sorted(set.intersection(*({row["epoch"] for row in rows} for rows in references)))
    values = [
        [row[name] for row in rows if row["epoch"] in epochs and name in row] for rows in references
    ]
    if not epochs or any(len(each) != len(epochs) for each in values):
        return None
    variance = np.var(np.array(values), axis=0, ddof=1)[-last:]
    least = 1 / images if name.endswith("error") else 0.0  # one image, at least
    spread = math.sqrt(2) * max(math.sqrt(variance.mean()), least)
    words = "{} reference runs, spread {:.2g}".format(len(references), spread)
    return Noise(spread, (len(references) - 1) * len(variance), words)


def _late(rows: List[Row]) -> int:
    """How many of the last epochs had the last learning rate; all where too few or unknown."""
    rates = [row.get("learning_rate") for row in rows]
    late = next((i for i, rate in enumerate(reversed(rates)) if rate != rates[-1]), len(rows))
    return late if late >= ENOUGH_EPOCHS else len(rows)


def _final_checks(series, noise: Noise, sigmas: float) -> List[Check]:
    last = [values[-1] for values in series]
    medians = [float(np.median(values[-LAST:])) for values in series]
    found = (
        ("final test_error", last),
        ("median test_error of the last {}".format(plural(min(LAST, len(series[0])), "epoch")),
         medians),
    )  # fmt: skip
    return [
        Check(what, abs(values[0] - values[1]), noise.tolerance(sigmas), noise.words)
        for what, values in found
    ]


def check_text(check: Check) -> str:
    """`final test_error: 0.003 apart, tolerance 0.012 (...)`."""
    return "{}: {:.4g} apart, tolerance {:.4g} ({})".format(
        check.what, check.value, check.tolerance, check.derivation
    )


def _headline(common, schedule, checks, failed, enough: bool) -> str:
    epochs = plural(len(common[0]), "epoch")
    if schedule:
        return "another schedule: {}".format(schedule[0])
    if failed:
        text = "{} outside: {}".format(plural(len(failed), "figure"), check_text(failed[0]))
        return text if enough else text + "; {} give no spread to judge by".format(epochs)
    errors = [rows[-1].get("test_error") for rows in common]
    if None in errors or not checks:
        return "{}, within tolerance".format(epochs)
    return "{}, within tolerance: final test_error {:.4g} | {:.4g}".format(epochs, *errors)


def speed_ratios(a: List[Row], b: List[Row]) -> List[str]:
    """Training speed and time of inference as ratios; they decide nothing."""
    lines = []
    for column in ("images_per_second", "epoch_seconds", "inference_seconds"):
        medians = []
        for rows in (a, b):
            # The first epoch holds a platform's start.
            values = [row[column] for row in rows[1:] or rows if column in row]
            medians.append(statistics.median(values) if values else None)
        if None not in medians:
            lines.append(
                "({}: {:.4g} | {:.4g}, B / A = {:.3f})".format(
                    column, *medians, ratio(medians[1], medians[0])
                )
            )
    return lines
