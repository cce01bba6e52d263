"""Outputs of every layer for one batch (and gradients): where two platforms first part."""

import dataclasses
import json
import zipfile
from typing import List, Optional

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

ROUNDING = 1e-4  # of the usual size of a stage's arrays, in float32 and sums of many terms
STAGES = ("inference", "training", "gradient")


@dataclasses.dataclass
class Layer:
    """An array that both files have, or that has a problem.

    is_noise: what differs is too small beside the stage's arrays to have a direction
    """

    name: str
    problem: Optional[str] = None
    distance: Optional[Distance] = None
    is_noise: bool = False


class Dump:
    """A file that scripts/activations.py has written, or any .npz; arrays are read one by one."""

    def __init__(self, path: str):
        try:
            self._file = np.load(path, allow_pickle=False)
            names = self._file.files
            self.about = json.loads(str(self._file[ABOUT])) if ABOUT in names else {}
            if not isinstance(self.about, dict):
                raise ValueError("`{}` is no object".format(ABOUT))
        except (OSError, ValueError, AttributeError, zipfile.BadZipFile, EOFError) as error:
            raise UserError("{} can't be read as activations: {}".format(path, error))
        self.path = path
        self.names = [name for name in self._file.files if name != ABOUT]
        if not self.names:
            raise UserError("{} holds no array".format(path))

    def read(self, name: str) -> np.ndarray:
        """One array."""
        try:
            return self._file[name]
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise UserError("{}: {} can't be read: {}".format(self.path, name, error))


def compare_activation_files(a: Source, b: Source, thresholds: Thresholds) -> Part:
    """From equal weights and images the outputs have to point the same way, layer by layer."""
    for source in (a, b):
        if source.activations is None:
            return absent("activations", "no activations*.npz in {}".format(source.path))
    dumps = [Dump(source.activations) for source in (a, b)]
    names = list(dict.fromkeys(dumps[0].names + dumps[1].names))
    layers = [compare_layer(name, *dumps) for name in names]
    mark_noise(layers, dumps[0])
    if not any(layer.distance for layer in layers):
        raise UserError("{} and {} have no array in common".format(a.activations, b.activations))
    grounds = [about_text(dumps, field) for field in ("images", "weights")]
    unequal = [text for text in grounds if text]
    bad = [
        layer for layer in layers
        if layer.problem
        or not (layer.is_noise or layer.distance.cosine >= thresholds.cosine)
    ]  # fmt: skip
    verdict = REPORTED if unequal else DIFFERENT if bad else SAME
    return Part(
        "activations",
        verdict,
        _headline(layers, bad, unequal),
        "judged by nothing: the {} are not the same".format(" and the ".join(unequal))
        if unequal
        else "cosine of at least {:g}, from equal weights and images".format(thresholds.cosine),
        [layer_text(layer) for layer in bad]
        + _noise_line(layers)
        + _worst_lines(layers, bad)
        + _notes(dumps),
        data={"files": [a.activations, b.activations], "layers": layers,
         "first": bad[0].name if bad else None},
    )  # fmt: skip


def compare_layer(name: str, a: Dump, b: Dump) -> Layer:
    """One layer's output in both files."""
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
    """Find the arrays that rounding alone fills, by the size of the arrays of their stage.

    The gradient of a bias in front of a batch norm is 0, but for rounding: it has no direction.
    """
    sizes = {}
    for layer in layers:
        if layer.distance:
            largest = float(np.abs(a.read(layer.name)).max(initial=0))
            sizes.setdefault(stage_of(layer.name), []).append(largest)
    for layer in layers:
        if layer.distance:
            usual = float(np.median(sizes[stage_of(layer.name)]))
            layer.is_noise = layer.distance.max_abs <= ROUNDING * usual


def stage_of(name: str) -> str:
    """`gradient` of `gradient/conv0/W`."""
    return name.partition("/")[0]


def about_text(dumps, field: str) -> Optional[str]:
    """The field, where both files tell it and it differs."""
    told = [dump.about.get(field) for dump in dumps]
    return field if None not in told and told[0] != told[1] else None


def layer_text(layer: Layer) -> str:
    """`inference/block1/layer0/bn1: cosine 0.9, distance 0.1, largest 0.3`."""
    if layer.problem:
        return "{}: {}".format(layer.name, layer.problem)
    found = layer.distance
    return "{}: cosine {:.6f}, distance {:.3g}, largest {:.3g}".format(
        layer.name, found.cosine, found.relative_distance, found.max_abs
    )


def _headline(layers: List[Layer], bad: List[Layer], unequal: List[str]) -> str:
    if bad:
        return "{} of {} under the threshold; first {}".format(
            len(bad), plural(len(layers), "array"), layer_text(bad[0])
        )
    judged = [layer for layer in layers if not layer.is_noise] or layers
    ranked = sorted(judged, key=lambda layer: layer.distance.cosine)
    return "{}, none under the threshold; lowest {}".format(
        plural(len(layers), "array"), layer_text(ranked[0])
    )


def _noise_line(layers: List[Layer]) -> List[str]:
    low = [x for x in layers if x.is_noise and x.distance.cosine < 0.999]
    return ["({} of rounding alone, not judged)".format(plural(len(low), "array"))] if low else []


def _worst_lines(layers: List[Layer], bad: List[Layer]) -> List[str]:
    """The farthest of each stage, where it is not told yet."""
    lines = []
    for stage in STAGES:
        found = [x for x in layers if x.name.startswith(stage + "/") and x not in bad]
        if found:
            farthest = max(found, key=lambda layer: layer.distance.relative_distance)
            lines.append(
                "({}: {} within, farthest {})".format(stage, len(found), layer_text(farthest))
            )
    return lines


def _notes(dumps) -> List[str]:
    """What else the files say of themselves, where it differs."""
    told = [flatten(dump.about) for dump in dumps]
    return [
        "({}: {} | {})".format(name, *(short(each.get(name)) for each in told))
        for name in sorted(set(told[0]) | set(told[1]))
        if not same_value(told[0].get(name), told[1].get(name))
    ]
