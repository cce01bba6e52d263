"""How much the kernels of runs have grown, which shows what the loss of a short run does not.

Weight decay, learning rate and the number of updates move it; seeds hardly do, once what they start
from is divided out.
"""

import math
from typing import Mapping, Optional, Sequence, Tuple

import numpy as np

from comparison.sources import Source
from run_directory.checkpoints import read_arrays
from sparsenet.arrays import SLOTS


def log_growths(sources: Sequence[Source]) -> Optional[Tuple[int, np.ndarray]]:
    """Return the newest step that all sources saved, and log_growth up to it of each.

    None if they have no step in common beside 0, or not that.
    """
    steps = set.intersection(*(set(source.checkpoints) for source in sources))
    step = max(steps, default=0)
    if 0 not in steps or step == 0:
        return None
    growths = [log_growth(each.checkpoints[0], each.checkpoints[step]) for each in sources]
    return step, np.array(growths)


def log_growth(start: str, end: str) -> float:
    """Return the logarithm of how many times the Euclidean norm of all kernels has grown."""
    return math.log(kernels_norm(read_arrays(end)) / kernels_norm(read_arrays(start)))


def kernels_norm(arrays: Mapping[str, np.ndarray]) -> float:
    """Return the Euclidean norm of all variables of two or more dimensions; 1 if all are 0."""
    squares = [
        float(np.sum(np.square(value, dtype=np.float64))) for name, value in arrays.items()
        if np.ndim(value) > 1 and value.dtype.kind == "f" and not SLOTS.search(name)
    ]  # fmt: skip
    return math.sqrt(sum(squares)) or 1.0
