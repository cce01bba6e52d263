"""Compare loss and top-1 error by epoch: are two runs as close as two of one platform would be?"""

import math
import statistics
from typing import List, Optional, Sequence, Tuple

import numpy as np

from comparison.curve_reading import CURVES, align, read_curves, read_noted
from comparison.findings import DIFFERENT, REPORTED, SAME, Part, Thresholds, absent, plural, ratio
from comparison.records import same_value
from comparison.sources import Source
from comparison.spread import (
    ENOUGH_EPOCHS,
    FEWEST_REFERENCES,
    Check,
    checks_of,
    figures_of,
    first_steps_checks,
    growth_figure,
)
from comparison.weight_norms import log_growths
from run_directory.record import hold_out_of
from run_directory.table import HELD_OUT, TEST, Row
from sparsenet.errors import UserError

DEFAULT_TEST_IMAGES = 10000
FLOAT32 = ("float32", "must_keep_origin_dtype", "force_fp32")  # precisions in run.json


@np.errstate(all="ignore")  # figures that are not finite are judged as such
def compare_curve_files(
    a: Source, b: Source, references: Sequence[Source], thresholds: Thresholds,
    test_images: Optional[int],
) -> Part:  # fmt: skip
    """Compare the curves of two runs by the spread of the references, or from epoch to epoch."""
    if a.curves is None or b.curves is None:
        lacking = a if a.curves is None else b
        return absent("curves", "no table or log with an epoch in {}".format(lacking.path))
    curves = [read_noted(path) for path in (a.curves, b.curves)]
    *runs, shifts = align(*(each.rows for each in curves))
    notes = ["{}: {}".format(side, n) for side, each in zip("AB", curves) for n in each.notes]
    notes += shifts
    spread_of = read_references(references)
    epochs = set.intersection(*({row["epoch"] for row in rows} for rows in runs))
    if not epochs:
        return absent("curves", "no epoch in common")
    common = [[row for row in rows if row["epoch"] in epochs] for rows in runs]
    held_out = [hold_out_of(each.record or {}) for each in (a, b)]
    notes += held_out_notes(held_out)
    if held_out[0] != held_out[1]:
        common = [without_test(rows) for rows in common]
    images, stated = _test_images(a, b, test_images, what_of(held_out))
    schedule = schedule_differences(*common)
    require_one_recipe(references, spread_of, common, held_out)
    train_images = _images_of(a, b, "train") or images
    figures = figures_of(common, spread_of, {"train": train_images, "test": images})
    growths = log_growths([a, b, *references]) if references else None
    figures += [growth_figure(*growths)] if growths else []
    checks = checks_of(figures, thresholds.sigmas)
    if start_of(a) is not None and start_of(a) == start_of(b):
        checks += first_steps_checks(common)
    checks.sort(key=lambda check: -check.excess)
    failed = [check for check in checks if not check.holds]
    held = [check for check in checks if check.holds]
    enough = len(epochs) >= ENOUGH_EPOCHS or bool(spread_of)
    speeds = speed_ratios(*runs)
    return Part(
        "curves",
        verdict_of(schedule, failed, enough),
        _headline(common, schedule, checks, failed, enough, what_of(held_out)),
        judged_by(len(checks), len(spread_of), stated),
        schedule + [check_text(each) for each in failed + held] + speeds,
        always=["({})".format(note) for note in notes],
        data={
            "files": [a.curves, b.curves],
            "rows": runs,
            "references": spread_of,
            "held_out": [side for side, count in zip("AB", held_out) if count is not None],
            "checks": checks,
            "schedule": schedule,
            "speed": speeds,
            "notes": notes,
        },
    )


def held_out_notes(held_out: Sequence[Optional[int]]) -> List[str]:
    """Return which runs were not tested on the test set, in words.

    held_out: how many training images A and B were tested on in its place; None for the test set
    """
    notes = [
        "{}: test_* are of {:,} held-out training images, not of the test set".format(side, count)
        for side, count in zip("AB", held_out)
        if count is not None
    ]
    if held_out[0] != held_out[1]:
        notes.append("test_* of A and B are of different images, and are not compared")
    return notes


def without_test(rows: Sequence[Row]) -> List[Row]:
    """Return rows with the columns of training alone."""
    return [{name: row[name] for name in row if not name.startswith("test_")} for row in rows]


def what_of(held_out: Sequence[Optional[int]]) -> str:
    """Return what the images are that both runs were tested on: `test` or `held-out`."""
    return TEST if None in held_out else HELD_OUT


def start_of(source: Source) -> Optional[list]:
    """Return what the first weights and batches of a run follow from.

    None if not all of it is recorded, or if the run rounds more than float32 does.
    """
    record = source.record or {}
    start = [record.get(name) for name in ("seed", "data", "preprocessing", "steps_per_epoch")]
    if None in start or record.get("precision") not in FLOAT32:
        return None
    devices, settings = record.get("devices"), record.get("settings")
    return start + [
        len(devices) if isinstance(devices, list) else 1,
        record.get("workers", 1),
        settings.get("load") if isinstance(settings, dict) else None,
    ]


def read_references(references: Sequence[Source]) -> List[List[Row]]:
    """Return the tables of --reference: none, or enough of them; UserError if they are too few."""
    found = [read_curves(source.curves) for source in references if source.curves]
    if references and len(found) < FEWEST_REFERENCES:
        raise UserError(
            "--reference {}; accepted: at least {} runs of one recipe with other seeds, for their "
            "spread".format(" ".join(source.path for source in references), FEWEST_REFERENCES)
        )
    return found


def verdict_of(schedule: List[str], failed: List[Check], enough: bool) -> str:
    """Return DIFFERENT or SAME; REPORTED if a check failed and the epochs are too few to judge."""
    if schedule:
        return DIFFERENT
    if not failed:
        return SAME
    return DIFFERENT if enough else REPORTED


def require_one_recipe(
    references: Sequence[Source], tables: Sequence[List[Row]], common: Sequence[List[Row]],
    held_out: Sequence[Optional[int]],
) -> None:  # fmt: skip
    """Raise UserError for a reference that lacks an epoch of both runs or has another schedule.

    So does one that diverged, or is there twice, which would make the spread smaller than it is, or
    that was tested on other images than both runs.
    """
    with_curves = [source.path for source in references if source.curves]
    tested_on = [hold_out_of(source.record or {}) for source in references if source.curves]
    known = [curves_of(rows) for rows in tables]
    for index, (path, rows) in enumerate(zip(with_curves, tables)):
        found = {row["epoch"]: row for row in rows}
        absent_epochs = [row["epoch"] for row in common[0] if row["epoch"] not in found]
        if absent_epochs:
            problem = "it lacks epoch {:.0f}".format(absent_epochs[0])
        elif not_finite(rows):
            problem = "its {} is not finite".format(not_finite(rows))
        elif tested_on[index] not in held_out:
            problem = "it was tested on other images than A and B"
        elif curves_of(rows) in known[:index]:
            problem = "it is {} again".format(with_curves[known.index(curves_of(rows))])
        else:
            same_epochs = [found[row["epoch"]] for row in common[0]]
            differences = [schedule_differences(each, same_epochs) for each in common]
            if not all(differences):
                continue
            problem = differences[0][0]
        raise UserError(
            "--reference {}: {}; accepted: runs of the recipe that is compared, each once, with "
            "all its epochs".format(path, problem)
        )


def curves_of(rows: Sequence[Row]) -> List[List[Optional[float]]]:
    """Return the curves alone: another run of one seed takes another time, and shows no spread."""
    return [[row.get(name) for name in CURVES] for row in rows]


def not_finite(rows: Sequence[Row]) -> Optional[str]:
    """Return the first curve that is NaN or infinite at an epoch; None if there is none."""
    return next(
        (name for name in CURVES for row in rows if not math.isfinite(row.get(name, 0.0))), None
    )


def judged_by(figures: int, references: int, images: str) -> str:
    """Return the rule in words."""
    spread = "by spread and number of images, since two runs alone do not show how seeds differ"
    if references:
        spread = "by the spread of {}".format(plural(references, "reference run"))
    return "{}, {}; {}".format(plural(figures, "tolerance"), spread, images)


def _test_images(a: Source, b: Source, given: Optional[int], tested_on: str) -> Tuple[int, str]:
    """Return the number of images tested on, and the same in words with where it is known from."""
    count, known_from = given, "given"
    if count is None:
        count, known_from = _images_of(a, b, "test"), "run.json"
    if count is None:
        count, known_from = DEFAULT_TEST_IMAGES, "assumed; --test_images"
    return count, "{:,} {} images ({})".format(count, tested_on, known_from)


def _images_of(a: Source, b: Source, name: str) -> Optional[int]:
    """Return the number of images of a set, `train` or `test`; None if it is not recorded."""
    for source in (a, b):
        data = (source.record or {}).get("data")
        described = data.get(name) if isinstance(data, dict) else None
        images = described.get("images") if isinstance(described, dict) else None
        if isinstance(images, int) and images > 0:
            return images
    return None


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


def check_text(check: Check) -> str:
    """Return `train_loss, epochs 1 to 5: 12% apart, tolerance 9% (...)`."""
    return "{}: {:.3g}% apart, tolerance {:.3g}% ({})".format(
        check.what, 100 * check.value, 100 * check.tolerance, check.derivation
    )


def _headline(common, schedule, checks, failed, enough: bool, tested_on: str) -> str:
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
    text = "{}, within tolerance: final test_error {:.4g} | {:.4g}".format(epochs, *errors)
    return text if tested_on == TEST else "{}, on {} images".format(text, tested_on)


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
