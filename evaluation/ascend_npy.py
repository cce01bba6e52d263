"""Write the outputs of a graph's ops in the form that Ascend's accuracy comparison reads.

msaccucmp.py takes as its benchmark side a folder with one file for each output of each op:
`{op_name}.{output_index}.{timestamp}.npy`.
"""

import os
import re
import time
from typing import Dict

import numpy as np

from common.files import written_beside
from sparsenet.errors import UserError


def save_ascend_npy(folder: str, outputs: Dict[str, np.ndarray]) -> None:
    """Write a file for each output, by `op:index`, whole or not at all.

    folder: that is absent, or empty

    The timestamps, in microseconds, grow in the order of the outputs.
    """
    start = time.time_ns() // 1000
    names = file_names(outputs, start)
    with written_beside(os.path.abspath(folder)) as partial:
        os.mkdir(partial)
        for output, array in outputs.items():
            np.save(os.path.join(partial, names[output]), array)


def file_names(outputs: Dict[str, np.ndarray], start: int) -> Dict[str, str]:
    """Return the file name of each output; UserError if two ops have one name there.

    start: the first timestamp, 16 digits
    """
    names: Dict[str, str] = {}
    owners: Dict[str, str] = {}
    for place, output in enumerate(outputs):
        op, _, index = output.rpartition(":")
        name = re.sub(r"[/.\\\s]", "_", op)
        if owners.setdefault(name, op) != op:
            raise UserError(
                "the ops {} and {} have one name in Ascend's files: {}".format(
                    owners[name], op, name
                )
            )
        names[output] = "{}.{}.{}.npy".format(name, index, start + place)
    return names
