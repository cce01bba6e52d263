"""Compare activations and gradients for one batch: where do two platforms first differ?"""

import dataclasses
import os
from typing import Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from common import json_text
from comparison.ascend_npy import AscendFolder, in_shape
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
from comparison.records import flatten, same_value, short
from comparison.sources import Source
from run_directory.record import ABOUT
from sparsenet.arrays import ArrayFile
from sparsenet.errors import UserError

ROUNDING = 1e-4  # of the median size of a stage's arrays: float32, sums of many terms
STAGES = ("inference", "training", "forward", "gradient")


@dataclasses.dataclass
class Layer:
    """An array of either file.

    problem: why it can't be compared: absent, another shape or dtype; else None
    is_noise: the difference is too small, relative to the stage's arrays, to have a direction
    layout: of the one side that has another than the other, and which side: `NC1HWC0 in B`
    """

    name: str
    problem: Optional[str] = None
    distance: Optional[Distance] = None
    is_noise: bool = False
    layout: Optional[str] = None


class Dump:
    """A file written by scripts/activations.py, or any .npz; its arrays are read one at a time."""

    def __init__(self, path: str):
        self._file = ArrayFile(path)
        self.about = about_of(self._file)
        self.names = [name for name in self._file.names if name != ABOUT]
        if not self.names:
            raise UserError("{} holds no array".format(path))

    def read(self, name: str) -> np.ndarray:
        """Return one array; UserError if it can't be read."""
        return self._file.read(name)


def about_of(file: ArrayFile) -> dict:
    """Return what a file says that its activations were computed from; empty if it does not."""
    if ABOUT not in file.names:
        return {}
    try:
        about = json_text.parse(str(file.read(ABOUT)))
        if not isinstance(about, dict):
            raise ValueError("it is not an object")
    except ValueError as error:
        raise UserError("{} can't be read as activations: `{}`: {}".format(file.path, ABOUT, error))
    return about


Arrays = Union[Dump, AscendFolder]


def open_arrays(path: str) -> Arrays:
    """Return the arrays of a file, or of a folder with a file for each."""
    return AscendFolder(path) if os.path.isdir(path) else Dump(path)


@np.errstate(all="ignore")  # values that are not finite are told
def compare_activation_files(a: Source, b: Source, thresholds: Thresholds) -> Part:
    """Compare the arrays of two runs by their cosine; judged if weights and images are equal."""
    if a.activations is None or b.activations is None:
        lacking = a if a.activations is None else b
        return absent("activations", "no activations*.npz in {}".format(lacking.path))
    dumps = [open_arrays(path) for path in (a.activations, b.activations)]
    names, alone = names_to_compare(*dumps)
    layers = [compare_layer(name, *dumps) for name in names]
    mark_noise(layers, dumps[0])
    if not any(layer.distance for layer in layers):
        raise UserError(
            "{} and {} have no array in common; they have such as {} | {}".format(
                a.activations, b.activations, *(dump.names[0] for dump in dumps)
            )
        )
    unequal = [field for field in ("images", "weights") if differs(dumps, field)]
    bad = [layer for layer in layers if is_under(layer, thresholds.cosine)]
    lines = [layer_text(layer) for layer in bad] + _noise_line(layers)
    return Part(
        "activations",
        REPORTED if unequal else DIFFERENT if bad else SAME,
        _headline(layers, bad),
        judged_by(unequal, thresholds.cosine, any(dump.about for dump in dumps)),
        lines + _worst_lines(layers, bad) + _notes(dumps),
        always=alone + _layout_lines(layers),
        data={
            "files": [a.activations, b.activations],
            "layers": layers,
            "first": bad[0].name if bad else None,
        },
    )


def names_to_compare(a: Arrays, b: Arrays) -> Tuple[List[str], List[str]]:
    """Return the names of the arrays to compare, and a line on those that are not.

    They are in A's order. An op that one side lacks is a difference, except between folders of
    ops: a compiler fuses some and adds others.
    """
    names = list(dict.fromkeys(a.names + b.names))
    if not (isinstance(a, AscendFolder) and isinstance(b, AscendFolder)):
        return names, []
    in_a, in_b = set(a.names), set(b.names)
    alone = [[name for name in x.names if name not in y] for x, y in ((a, in_b), (b, in_a))]
    lines = [
        "(only in {}: {}, such as {}: not judged)".format(
            side, plural(len(found), "array"), ", ".join(found[:3])
        )
        for side, found in zip("AB", alone)
        if found
    ]
    return [name for name in names if name in in_a and name in in_b], lines


def is_under(layer: Layer, least_cosine: float) -> bool:
    """Return whether an array can't be compared, or differs by more than noise."""
    if layer.distance is None:
        return True
    return not (layer.is_noise or layer.distance.cosine >= least_cosine)


def judged_by(unequal: List[str], least_cosine: float, is_recorded: bool) -> str:
    """Return the rule in words.

    unequal: which of the inputs differ; is_recorded: whether either side says what they were
    """
    if unequal:
        return "not judged, since the {} differ".format(" and the ".join(unequal))
    if not is_recorded:
        return "cosine of at least {:g}; of which weights and images, they don't say".format(
            least_cosine
        )
    return "cosine of at least {:g}, from equal weights and images".format(least_cosine)


def compare_layer(name: str, a: Arrays, b: Arrays) -> Layer:
    """Return how far apart the arrays of one name are, or why they can't be compared."""
    for dump, label in ((a, "A"), (b, "B")):
        if name not in dump.names:
            return Layer(name, "absent in {}".format(label))
    values, layout = in_one_layout(a.read(name), b.read(name))
    if values[0].shape != values[1].shape:
        return Layer(name, "shape {} | {}".format(*(list(value.shape) for value in values)))
    if any(value.dtype.kind not in "fiub" for value in values):
        return Layer(name, "dtype {} | {}".format(*(value.dtype for value in values)))
    return Layer(name, distance=distance(*values), layout=layout)


def in_one_layout(a: np.ndarray, b: np.ndarray) -> Tuple[Tuple[np.ndarray, ...], Optional[str]]:
    """Return two arrays in one layout, if they differ in that alone, and which one had another."""
    if a.shape != b.shape:
        found = in_shape(b, a.shape)
        if found is not None:
            return (a, found[0]), "{} in B".format(found[1])
        found = in_shape(a, b.shape)
        if found is not None:
            return (found[0], b), "{} in A".format(found[1])
    return (a, b), None


def mark_noise(layers: List[Layer], a: Arrays) -> None:
    """Mark the arrays that differ by rounding alone, judged by the size of their stage's arrays.

    The gradient of a bias before a batch norm is 0 up to rounding: it has no direction.
    """
    sizes: Dict[str, List[float]] = {}
    for layer in layers:
        if layer.distance:
            largest = float(np.abs(a.read(layer.name)).max(initial=0))
            sizes.setdefault(stage_of(layer.name), []).append(largest)
    for layer in layers:
        if layer.distance:
            usual = float(np.median(sizes[stage_of(layer.name)]))
            layer.is_noise = layer.distance.max_abs <= ROUNDING * usual


def stage_of(name: str) -> str:
    """Return which of STAGES an array is of: `gradient` of `gradient/conv0/W`."""
    stage, slash, _ = name.partition("/")
    if slash:
        return stage
    return "gradient" if name.startswith("gradients_") else "forward"


def differs(dumps: Sequence[Arrays], field: str) -> bool:
    """Return whether both files record a field, with different values."""
    recorded = [dump.about.get(field) for dump in dumps]
    return None not in recorded and recorded[0] != recorded[1]


def measured(layers: List[Layer]) -> List[Tuple[Layer, Distance]]:
    """Return the arrays that can be compared, each with its distance."""
    return [(layer, layer.distance) for layer in layers if layer.distance is not None]


def layer_text(layer: Layer) -> str:
    """Return `inference/block1/layer0/bn1: cosine 0.9, distance 0.1, largest 0.3`."""
    found = layer.distance
    if found is None:
        return "{}: {}".format(layer.name, layer.problem)
    if found.not_finite:
        return "{}: NaN or infinite in {}".format(layer.name, plural(found.not_finite, "element"))
    return "{}: cosine {:.6f}, distance {:.3g}, largest {:.3g}".format(
        layer.name, found.cosine, found.relative_distance, found.max_abs
    )


def _headline(layers: List[Layer], bad: List[Layer]) -> str:
    """Return the finding in one line: the first array under the threshold, or the lowest."""
    if bad:
        return "{} of {} under the threshold; first {}".format(
            len(bad), plural(len(layers), "array"), layer_text(bad[0])
        )
    found = measured(layers)
    judged = [(layer, apart) for layer, apart in found if not layer.is_noise] or found
    ranked = sorted(judged, key=lambda each: each[1].cosine)
    return "{}, none under the threshold; lowest {}".format(
        plural(len(layers), "array"), layer_text(ranked[0][0])
    )


def _noise_line(layers: List[Layer]) -> List[str]:
    """Return a line, or none, for the low cosines that are not judged."""
    low = [x for x, apart in measured(layers) if x.is_noise and apart.cosine < 0.999]
    return ["({} of rounding alone: not judged)".format(plural(len(low), "array"))] if low else []


def _worst_lines(layers: List[Layer], bad: List[Layer]) -> List[str]:
    """Return the farthest array within the threshold of each stage."""
    lines, names = [], {layer.name for layer in bad}
    for stage in STAGES:
        within = [x for x in layers if stage_of(x.name) == stage and x.name not in names]
        if within:
            farthest, _ = max(measured(within), key=lambda each: each[1].relative_distance)
            lines.append(
                "({}: {} within the threshold, farthest {})".format(
                    stage, len(within), layer_text(farthest)
                )
            )
    return lines


def _layout_lines(layers: List[Layer]) -> List[str]:
    """Return a line for each layout that one side has and the other has not."""
    layouts = dict.fromkeys(layer.layout for layer in layers if layer.layout)
    return [
        "({}: {}, such as {}, compared in the other's layout)".format(
            layout, plural(len(found), "array"), found[0]
        )
        for layout in layouts
        for found in [[layer.name for layer in layers if layer.layout == layout]]
    ]


def _notes(dumps: Sequence[Arrays]) -> List[str]:
    """Return the fields that the files record of themselves, where they differ."""
    recorded = [flatten(dump.about) for dump in dumps]
    return [
        "({}: {} | {})".format(name, *(short(each.get(name)) for each in recorded))
        for name in sorted(set(recorded[0]) | set(recorded[1]))
        if not same_value(recorded[0].get(name), recorded[1].get(name))
    ]
