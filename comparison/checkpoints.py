"""Compare two checkpoints, variable by variable.

Trained weights of two platforms are never equal: a relative change of 1e-7 in the initial weights
grows to 0.39 in ten epochs. So the values decide only at step 0, or if stack, device, precision
and seed are the same; which variables of the network there are decides at any step.
"""

import dataclasses
import math
import re
from typing import Dict, List, Optional, Tuple, Union

import numpy as np

from comparison.findings import (
    DIFFERENT,
    REPORTED,
    SAME,
    Distance,
    Part,
    Thresholds,
    absent,
    distance,
    plural,
)
from comparison.object_checkpoints import named_alike
from comparison.records import stack_of
from comparison.sources import UNKNOWN_STEP, Source
from run_directory.checkpoints import project_name, read_arrays
from sparsenet.arrays import SLOTS

KINDS = ("weights", "moving statistics", "slots", "other")
OF_NETWORK = KINDS[:2]  # what the network computes with
# The state of the training itself: it differs with the schedule and the length of a run.
OF_TRAINING = re.compile(
    r"(^|/)(global_step|_?learning_rate|beta[12]_power|loss_scale\w*|good_steps|bad_steps"
    # Of TensorFlow 2 and Keras: an optimizer's numbers, a counter of checkpoints, metrics, dropout.
    r"|iter|_?iterations?|decay|momentum|beta_[12]|save_counter|total|count"
    r"|seed_generator_state\w*)$"
)
OPTIMIZER = re.compile(r"^optimizer/(?!_trainable_variables/)|/\.OPTIMIZER_SLOT/")
NOT_ARRAYS = "OSUV"  # kinds of dtype that have no distance
STATISTICS = re.compile(r"(mean|variance)/EMA$|moving_(mean|variance)$")


@dataclasses.dataclass
class Variable:
    """A variable of one or both checkpoints, under this project's name.

    problem: why its values can't be compared: absent, another shape or dtype; else None
    histogram: counts of b - a in equal bins between `edges`, for the picture
    """

    name: str
    kind: str
    layer: str
    shape: Tuple[int, ...]
    problem: Optional[str] = None
    distance: Optional[Distance] = None
    histogram: Optional[List[int]] = None
    edges: Optional[Tuple[float, float]] = None


Measured = Tuple[Variable, Distance]  # a variable whose values were compared, and their distance


@dataclasses.dataclass
class Comparison:
    """Two checkpoints, with their variables in the order of the network.

    renamed: how many variables had the names of the original code
    judged_by: why their values decide, in words; None if they don't
    """

    step: str
    prefixes: Tuple[str, str]
    variables: List[Variable]
    renamed: int
    judged_by: Optional[str]


@np.errstate(all="ignore")  # values that are not finite are told
def compare_checkpoint_files(
    a: Source, b: Source, thresholds: Thresholds, alone: bool, same_stack: bool
) -> Part:
    """Compare the checkpoints of step 0 if both runs have them, and the newest of a common step.

    alone: nothing else of the runs can be compared, so the values have to decide
    same_stack: stack, device, precision and seed are known to be the same
    """
    for source in (a, b):
        if not source.checkpoints:
            return absent("checkpoints", "no checkpoint in {}".format(source.path))
    same_stack = same_stack or (stack_of(a) is not None and stack_of(a) == stack_of(b))
    comparisons = [
        compare(step, a.checkpoints[step_a], b.checkpoints[step_b], rule)
        for step, step_a, step_b, rule in pairs_to_compare(a, b, alone, same_stack)
    ]
    judged = [each for each in comparisons if each.judged_by]
    bad = {each.step: failures(each, thresholds) for each in comparisons}
    structural = [v for each in comparisons for v in misfits(each)]
    lines = []
    for each in comparisons:
        lines += comparison_lines(each, bad[each.step] if each.judged_by else [])
    return Part(
        "checkpoints",
        verdict_of(judged, bad, structural),
        headline(comparisons, judged, bad, structural, thresholds),
        "; ".join("step {}: {}".format(each.step, each.judged_by) for each in judged)
        or "not judged, since trained weights of two stacks, devices, precisions or seeds "
        "always differ",
        lines,
        data={
            "comparisons": comparisons,
            "failures": {k: [v.name for v, _ in x] for k, x in bad.items()},
        },
    )


def misfits(each: Comparison) -> List[Variable]:
    """Return the variables of the network that one side lacks or has with another shape.

    Another dtype counts only where values are judged: elsewhere it is the precision of a run.
    """
    return [
        v for v in each.variables
        if v.problem and v.kind in OF_NETWORK and (each.judged_by or "dtype" not in v.problem)
    ]  # fmt: skip


def verdict_of(
    judged: List[Comparison], bad: Dict[str, List[Measured]], structural: List[Variable]
) -> str:
    """Return DIFFERENT or SAME, or REPORTED if no values are judged."""
    if structural or any(bad[each.step] for each in judged):
        return DIFFERENT
    values = [v for each in judged for v in each.variables if v.distance and v.kind != "other"]
    return SAME if values else REPORTED


def pairs_to_compare(
    a: Source, b: Source, alone: bool, same_stack: bool
) -> List[Tuple[str, int, int, Optional[str]]]:
    """Return tuples (step in words, step of A, step of B, why its values decide or None)."""
    common = sorted(set(a.checkpoints) & set(b.checkpoints))
    trained = "same stack, device, precision and seed" if same_stack else None
    if alone and trained is None:
        trained = "there is nothing else to compare"
    pairs: List[Tuple[str, int, int, Optional[str]]] = []
    if 0 in common:
        pairs.append(("0", 0, 0, "initial weights have to be equal"))
    if common and common[-1] not in (0, UNKNOWN_STEP):
        pairs.append((str(common[-1]), common[-1], common[-1], trained))
    elif not pairs:
        last = max(a.checkpoints), max(b.checkpoints)
        words = ["?" if step == UNKNOWN_STEP else str(step) for step in last]
        same = last[0] == last[1]
        step = words[0] if same else "{} and {}".format(*words)
        # Two bare files are judged even if their names give different steps.
        pairs.append((step, *last, trained if same or alone else None))
    return pairs


def compare(step: str, prefix_a: str, prefix_b: str, judged_by: Optional[str]) -> Comparison:
    """Compare all variables of two checkpoints."""
    arrays, renamed = [], 0
    for found in named_alike(read_arrays(prefix_a), read_arrays(prefix_b)):
        arrays.append({project_name(name): value for name, value in found.items()})
        renamed += sum(project_name(name) != name for name in found)
    names = sorted(set(arrays[0]) | set(arrays[1]), key=place_in_network)
    variables = [compare_variable(name, arrays[0], arrays[1]) for name in names]
    return Comparison(step, (prefix_a, prefix_b), variables, renamed, judged_by)


def compare_variable(name: str, a: Dict[str, np.ndarray], b: Dict[str, np.ndarray]) -> Variable:
    """Return how far apart the values of a variable are, or why they can't be compared."""
    shape = (a if name in a else b)[name].shape
    kind = kind_of(name, set(a) | set(b))
    variable = Variable(name, kind, layer_of(name), shape)
    if name not in a or name not in b:
        variable.problem = "absent in {}".format("B" if name in a else "A")
        return variable
    values = a[name], b[name]
    if values[0].shape != values[1].shape:
        variable.problem = "shape {} | {}".format(*(list(value.shape) for value in values))
    elif values[0].dtype != values[1].dtype:
        variable.problem = "dtype {} | {}".format(*(value.dtype for value in values))
    elif values[0].dtype.kind not in NOT_ARRAYS:
        numbers = as_real(values[0]), as_real(values[1])
        variable.distance = distance(*numbers)
        variable.histogram, variable.edges = histogram(*numbers)
    elif np.any(values[0] != values[1]):
        variable.problem = "values differ"
    return variable


def as_real(value: np.ndarray) -> np.ndarray:
    """Return numbers as float64; complex ones as their real and imaginary parts, [2, ...]."""
    if value.dtype.kind == "c":
        return np.stack([value.real, value.imag]).astype(np.float64)
    return value.astype(np.float64)


def histogram(a: np.ndarray, b: np.ndarray, bins: int = 41):
    """Return (counts of b - a in each bin, edges of all bins) of two float64 arrays of one shape.

    (None, None) if the arrays are equal, or a difference is not finite or beyond any picture.
    """
    difference = (b - a).ravel()
    largest = np.abs(difference).max() if difference.size else 0.0
    if not np.isfinite(largest) or largest == 0:
        return None, None
    try:
        counts, _ = np.histogram(difference, bins, (-largest, largest))
    except ValueError:  # no 41 bins fit between numbers so small or so large
        return None, None
    return counts.tolist(), (-float(largest), float(largest))


def kind_of(name: str, names) -> str:
    """Return which of KINDS a variable is; names: of all variables."""
    if SLOTS.search(name) and SLOTS.sub("", name) in names:
        return "slots"
    if STATISTICS.search(name):
        return "moving statistics"
    if OPTIMIZER.search(name):
        return "slots"
    return "other" if OF_TRAINING.search(name) else "weights"


def layer_of(name: str) -> str:
    """Return the layer of a variable: `block1/layer0/bn1` of `.../bn1/mean/EMA/Momentum`."""
    name = SLOTS.sub("", name)
    return re.sub(r"/(mean/EMA|variance/EMA|[^/]+)$", "", name)


def place_in_network(name: str) -> Tuple[Tuple[float, bool], list]:
    """Return a sort key in the order of the layers: conv0, block1, transition1, block2, ..."""
    scope = re.match(r"(block|transition)(\d+)", name)
    number, is_transition = math.inf, False
    if scope:
        number, is_transition = float(scope.group(2)), scope.group(1) == "transition"
    elif re.match(r"(conv|bn|pool)0", name):
        number = 0
    parts = re.split(r"([0-9]+)", name)
    # Numbers are compared without being converted: they may be of any length.
    digits = [part.lstrip("0") for part in parts[1::2]]
    key: List[Union[Tuple[int, str], str]] = list(parts)
    key[1::2] = [(len(part), part) for part in digits]
    return (number, is_transition), key


def failures(each: Comparison, thresholds: Thresholds) -> List[Measured]:
    """Return the variables that are too far apart, worst first, without the training's state."""
    return [
        (v, found) for v, found in measured(each.variables)
        if v.kind != "other" and not found.relative_distance <= thresholds.distance
    ]  # fmt: skip


def measured(variables: List[Variable]) -> List[Measured]:
    """Return the variables whose values were compared, each with its distance, worst first."""
    return sorted(((v, v.distance) for v in variables if v.distance is not None), key=badness)


def badness(each: Measured):
    """Return a sort key that puts the worst first."""
    variable, found = each
    return (-found.relative_distance, -found.max_abs, place_in_network(variable.name))


def worst(variables: List[Variable]) -> List[Variable]:
    """Return the variables whose values were compared, worst first."""
    return [variable for variable, _ in measured(variables)]


def headline(
    comparisons: List[Comparison],
    judged: List[Comparison],
    bad: Dict[str, List[Measured]],
    structural: List[Variable],
    thresholds: Thresholds,
) -> str:
    """Return the finding in one line, with the worst variable."""
    if structural:
        return "{} fit; first {}: {}".format(
            plural(len(structural), "variable doesn't", "variables don't"),
            structural[0].name, structural[0].problem,
        )  # fmt: skip
    for each in judged:
        if bad[each.step]:
            return "step {}: {} farther apart than {:g}; worst {}".format(
                each.step, plural(len(bad[each.step]), "variable"), thresholds.distance,
                variable_text(*bad[each.step][0]),
            )  # fmt: skip
    each = (judged or comparisons)[-1]
    ranked = measured([v for v in each.variables if v.kind != "other"])
    if not ranked:
        return "step {}: no variable to compare".format(each.step)
    return "{}; step {}: worst {}".format(
        plural(len(ranked), "variable"), each.step, variable_text(*ranked[0])
    )


def variable_text(variable: Variable, found: Distance) -> str:
    """Return `block1/layer0/conv1/W: distance 1e-2, cosine 0.9999, largest 0.1`."""
    if found.not_finite:
        return "{}: {}".format(
            variable.name, plural(found.not_finite, "element is", "elements are") + " not finite"
        )
    return "{}: distance {:.3g}, cosine {:.6f}, largest {:.3g}".format(
        variable.name, found.relative_distance, found.cosine, found.max_abs
    )


def comparison_lines(each: Comparison, bad: List[Measured]) -> List[str]:
    """Return the problems, the failures and the worst of each kind, for the terminal."""
    lines = ["step {}: {}: {}".format(each.step, v.name, v.problem)
             for v in each.variables if v.problem]  # fmt: skip
    lines += ["step {}: {}".format(each.step, variable_text(*pair)) for pair in bad]
    for kind in KINDS:
        ranked = measured([v for v in each.variables if v.kind == kind])
        if ranked and ranked[0] not in bad:
            lines.append(
                "step {}: {} {}, worst {}".format(
                    each.step, len(ranked), kind, variable_text(*ranked[0])
                )
            )
    if each.renamed:
        lines.append(
            "step {}: {} with names of the original code (mapped)".format(
                each.step, plural(each.renamed, "variable")
            )
        )
    return lines
