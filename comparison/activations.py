"""Compare activations and gradients for one batch: where do two platforms first differ?"""

import dataclasses
import json
import zipfile
from typing import Dict, List, Optional, Tuple

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
from comparison.records import flatten, same_value, short
from comparison.sources import Source
from run_directory.record import ABOUT
from sparsenet.errors import UserError

ROUNDING = 1e-4  # of the median size of a stage's arrays: float32, sums of many terms
STAGES = ("inference", "training", "gradient")


@dataclasses.dataclass
class Layer:
    """An array of either file.

    problem: why it can't be compared: absent, another shape or dtype; else None
    is_noise: the difference is too small, relative to the stage's arrays, to have a direction
    """

    name: str
    problem: Optional[str] = None
    distance: Optional[Distance] = None
    is_noise: bool = False


class Dump:
    """A file written by scripts/activations.py, or any .npz; its arrays are read one at a time."""

    def __init__(self, path: str):
        try:
            self._file = np.load(path, allow_pickle=False)
            names = self._file.files
            self.about = json.loads(str(self._file[ABOUT])) if ABOUT in names else {}
            if not isinstance(self.about, dict):
                raise ValueError("`{}` is not an object".format(ABOUT))
        except (OSError, ValueError, AttributeError, zipfile.BadZipFile, EOFError) as error:
            raise UserError("{} can't be read as activations: {}".format(path, error))
        self.path = path
        self.names = [name for name in self._file.files if name != ABOUT]
        if not self.names:
            raise UserError("{} holds no array".format(path))

    def read(self, name: str) -> np.ndarray:
        """Return one array; UserError if it can't be read."""
        try:
            return self._file[name]
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise UserError("{}: {} can't be read: {}".format(self.path, name, error))


def compare_activation_files(a: Source, b: Source, thresholds: Thresholds) -> Part:
    """Compare the arrays of two runs by their cosine; judged if weights and images are equal."""
    if a.activations is None or b.activations is None:
        lacking = a if a.activations is None else b
        return absent("activations", "no activations*.npz in {}".format(lacking.path))
    dumps = [Dump(path) for path in (a.activations, b.activations)]
    names = list(dict.fromkeys(dumps[0].names + dumps[1].names))
    layers = [compare_layer(name, *dumps) for name in names]
    mark_noise(layers, dumps[0])
    if not any(layer.distance for layer in layers):
        raise UserError("{} and {} have no array in common".format(a.activations, b.activations))
    unequal = [field for field in ("images", "weights") if differs(dumps, field)]
    bad = [layer for layer in layers if is_under(layer, thresholds.cosine)]
    lines = [layer_text(layer) for layer in bad] + _noise_line(layers)
    return Part(
        "activations",
        REPORTED if unequal else DIFFERENT if bad else SAME,
        _headline(layers, bad),
        judged_by(unequal, thresholds.cosine),
        lines + _worst_lines(layers, bad) + _notes(dumps),
        data={
            "files": [a.activations, b.activations],
            "layers": layers,
            "first": bad[0].name if bad else None,
        },
    )


def is_under(layer: Layer, least_cosine: float) -> bool:
    """Return whether an array can't be compared, or differs by more than noise."""
    if layer.distance is None:
        return True
    return not (layer.is_noise or layer.distance.cosine >= least_cosine)


def judged_by(unequal: List[str], least_cosine: float) -> str:
    """Return the rule in words; unequal: which of the inputs differ."""
    if unequal:
        return "not judged, since the {} differ".format(" and the ".join(unequal))
    return "cosine of at least {:g}, from equal weights and images".format(least_cosine)


def compare_layer(name: str, a: Dump, b: Dump) -> Layer:
    """Return how far apart the arrays of one name are, or why they can't be compared."""
    for dump, label in ((a, "A"), (b, "B")):
        if name not in dump.names:
            return Layer(name, "absent in {}".format(label))
    values = a.read(name), b.read(name)
    if values[0].shape != values[1].shape:
        return Layer(name, "shape {} | {}".format(*(list(value.shape) for value in values)))
    if any(value.dtype.kind not in "fiub" for value in values):
        return Layer(name, "dtype {} | {}".format(*(value.dtype for value in values)))
    return Layer(name, distance=distance(*values))


def mark_noise(layers: List[Layer], a: Dump) -> None:
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
    """Return the first part of a name: `gradient` of `gradient/conv0/W`."""
    return name.partition("/")[0]


def differs(dumps: List[Dump], field: str) -> bool:
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
    lines = []
    for stage in STAGES:
        within = [x for x in layers if x.name.startswith(stage + "/") and x not in bad]
        if within:
            farthest, _ = max(measured(within), key=lambda each: each[1].relative_distance)
            lines.append(
                "({}: {} within the threshold, farthest {})".format(
                    stage, len(within), layer_text(farthest)
                )
            )
    return lines


def _notes(dumps: List[Dump]) -> List[str]:
    """Return the fields that the files record of themselves, where they differ."""
    recorded = [flatten(dump.about) for dump in dumps]
    return [
        "({}: {} | {})".format(name, *(short(each.get(name)) for each in recorded))
        for name in sorted(set(recorded[0]) | set(recorded[1]))
        if not same_value(recorded[0].get(name), recorded[1].get(name))
    ]
