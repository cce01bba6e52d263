"""Read folders of op outputs, one .npy file each, as Ascend's accuracy comparison names them.

Its benchmark side has `{op_name}.{output_index}.{timestamp}.npy`; what it has converted of an
NPU's dumps, `{op_type}.{op_name}.{task_id}[.{stream_id}].{timestamp}.output.{index}.npy`.
"""

import collections
import os
import re
from typing import Dict, List, Optional, Sequence, Tuple

import numpy as np

from sparsenet.arrays import NOT_READ, read_npy
from sparsenet.errors import UserError

BENCHMARK = re.compile(r"(?P<op>[^.]+)\.(?P<index>\d+)\.(?P<numbers>\d{16})\.npy")
# Where ops are cut into threads, further numbers follow the timestamp.
CONVERTED = re.compile(
    r"[^.]+\.(?P<op>[^.]+)\.(?P<numbers>\d+(\.\d+)+)\.output\.(?P<index>\d+)\.npy"
)
NOT_CONVERTED = re.compile(r"[^.]+\.[^.]+(\.\d+){1,2}\.\d{16}(\.\d+)*")
# What batch norm keeps for its gradient: each device has something else there.
RESERVED = re.compile(r"FusedBatchNorm(Grad)?(V\d)?(_\d+)?\.[3-9]")


class AscendFolder:
    """A folder of op outputs, in the order of their timestamps.

    names: `op.index`, then `op.index #2` for the next step that has it, and so on
    """

    about: Dict[str, object] = {}  # nothing is recorded

    def __init__(self, path: str):
        self.path = path
        self._files: Dict[str, str] = {}
        steps: Dict[str, int] = collections.Counter()
        for _, output, file in sorted(_outputs(path)):
            steps[output] += 1
            step = " #{}".format(steps[output]) if steps[output] > 1 else ""
            self._files[output + step] = file
        self.names = list(self._files)

    def read(self, name: str) -> np.ndarray:
        """Return one array; UserError if it can't be read."""
        path = os.path.join(self.path, self._files[name])
        try:
            with open(path, "rb") as stream:
                return read_npy(stream, os.path.getsize(path))
        except NOT_READ as error:
            raise UserError("{} can't be read: {}".format(path, error))


def _outputs(path: str) -> List[Tuple[int, str, str]]:
    """Return (timestamp, `op.index`, file name) of each output in a folder."""
    found = []
    for file in os.listdir(path):
        match = BENCHMARK.fullmatch(file) or CONVERTED.fullmatch(file)
        if match:
            output = "{}.{}".format(match.group("op"), match.group("index"))
            numbers = match.group("numbers").split(".")
            time = next((each for each in numbers if len(each) == 16), numbers[-1])
            if not RESERVED.search(output):
                found.append((int(time), output, file))
    return found


def is_ascend_folder(path: str) -> bool:
    """Return whether a folder holds outputs of ops; UserError if they have to be converted."""
    files = os.listdir(path)
    if any(BENCHMARK.fullmatch(file) or CONVERTED.fullmatch(file) for file in files):
        return True
    if any(NOT_CONVERTED.fullmatch(file) for file in files):
        raise UserError(
            "{} holds an NPU's dumps as they were written; accepted: the .npy files that "
            "`msaccucmp.py convert -d {} -out FOLDER` makes of them".format(path, path)
        )
    return False


def in_shape(value: np.ndarray, shape: Sequence[int]) -> Optional[Tuple[np.ndarray, str]]:
    """Return an array in another shape, and the layout that it had; None if more than that differs.

    The layouts are NCHW, NHWC, and the NPU's NC1HWC0: groups of 16 channels, the last one filled up
    with zeros.
    """
    shape = tuple(shape)
    if value.ndim == 5 and len(shape) == 4:
        count, groups, height, width, size = value.shape
        whole = value.transpose(0, 2, 3, 1, 4).reshape(count, height, width, groups * size)
        for order in ((0, 1, 2, 3), (0, 3, 1, 2)):
            channels = shape[order.index(3)]
            found = whole[..., :channels].transpose(order)
            if found.shape == shape and (groups - 1) * size < channels:
                return found, "NC1HWC0"
    if value.ndim == len(shape) == 4:
        for order, layout in (((0, 2, 3, 1), "NCHW"), ((0, 3, 1, 2), "NHWC")):
            if value.transpose(order).shape == shape:
                return value.transpose(order), layout
    if [n for n in value.shape if n != 1] == [n for n in shape if n != 1]:
        return value.reshape(shape), "sides of 1"
    return None
