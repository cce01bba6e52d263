"""What a part of the comparison found, and the verdict of all of them."""

import dataclasses
import math
from typing import Dict, List, Optional, Sequence

import numpy as np

SAME = "same"
DIFFERENT = "different"
REPORTED = "reported"  # compared, with nothing to judge it by
ABSENT = "not compared"  # one side does not have it


@dataclasses.dataclass
class Part:
    """One part of the comparison.

    headline:  the finding in one line
    judged_by: the rule that decided, or why none did
    lines:     details, worst first; the terminal shows the first few
    always:    details that the terminal always shows
    data:      all that was found, for the JSON file and the page
    """

    name: str
    verdict: str
    headline: str
    judged_by: str = ""
    lines: List[str] = dataclasses.field(default_factory=list)
    always: List[str] = dataclasses.field(default_factory=list)
    data: dict = dataclasses.field(default_factory=dict)


def absent(name: str, why: str) -> Part:
    """Return a part that could not be compared."""
    return Part(name, ABSENT, why)


def verdict(parts: Sequence[Part]) -> Optional[str]:
    """Return DIFFERENT if a part is, else SAME if a part is; None if no part decides."""
    found = {part.verdict for part in parts}
    return DIFFERENT if DIFFERENT in found else SAME if SAME in found else None


@dataclasses.dataclass(frozen=True)
class Thresholds:
    """From which values on a difference counts.

    distance: largest relative Euclidean distance of a variable
    cosine:   least cosine of an activation or gradient
    sigmas:   tolerance of the curves, in standard deviations of the difference of two runs
    """

    distance: float = 1e-4
    cosine: float = 0.98
    sigmas: float = 3.0


@dataclasses.dataclass(frozen=True)
class Distance:
    """How far array B is from array A."""

    cosine: float
    relative_distance: float  # ||b - a|| / ||a||
    max_abs: float
    mean_abs: float
    rms: float
    max_relative: float  # of |b - a| / |a| over the elements; infinite where only a is 0
    not_finite: int  # elements that are NaN or infinite in one of the two


def distance(a: np.ndarray, b: np.ndarray) -> Distance:
    """Return the distance of two arrays of one shape, over all elements, in float64."""
    a, b = (np.asarray(x, np.float64).ravel() for x in (a, b))
    if not a.size:
        return Distance(1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    finite = np.isfinite(a) & np.isfinite(b)
    if not finite.all():
        count = int(np.sum(~finite))
        return Distance(math.nan, math.inf, math.inf, math.inf, math.inf, math.inf, count)
    # In units of the largest value: the square of a large float64 would overflow.
    scale = max(float(np.abs(a).max()), float(np.abs(b).max())) or 1.0
    a, b = a / scale, b / scale
    difference = np.abs(b - a)
    norm_a, norm_b, apart = (float(np.linalg.norm(x)) for x in (a, b, difference))
    with np.errstate(divide="ignore", invalid="ignore"):
        relative = np.where(difference == 0, 0.0, difference / np.abs(a))
    return Distance(
        cosine=cosine_of(float(a @ b), norm_a, norm_b),
        relative_distance=ratio(apart, norm_a),
        max_abs=float(difference.max()) * scale,
        mean_abs=float(difference.mean()) * scale,
        rms=apart / math.sqrt(a.size) * scale,
        max_relative=float(relative.max()),
        not_finite=0,
    )


def cosine_of(product: float, norm_a: float, norm_b: float) -> float:
    """Return the cosine of two vectors; 1 if both are zero, 0 if one is."""
    if norm_a == 0 or norm_b == 0:
        return float(norm_a == norm_b)
    return min(1.0, product / norm_a / norm_b)


def ratio(a: float, b: float) -> float:
    """Return a / b; 0 / 0 is 0, any other number over 0 infinite."""
    if b == 0:
        return 0.0 if a == 0 else math.inf
    return a / b


def plain(value):
    """Return `value` as plain data for JSON: dataclasses as objects, non-finite numbers as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (np.floating, np.integer)):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def plural(count: int, one: str, many: Optional[str] = None) -> str:
    """Return `1 variable` or `1,234 variables`."""
    return "{:,} {}".format(count, one if count == 1 else many or one + "s")


def count_words(counts: Dict[str, int]) -> str:
    """Return `2 added, 1 changed`, without zeros."""
    return ", ".join("{:,} {}".format(count, name) for name, count in counts.items() if count)
