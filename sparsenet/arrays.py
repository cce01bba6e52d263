"""The weights of a network as arrays by their names in a checkpoint: do they fit it?"""

import re
import zipfile
from collections import OrderedDict
from typing import Dict, Iterable, List, Mapping

import numpy as np

from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError
from sparsenet.plan import variable_shapes

NAMED = 3  # variables that a message names; a wrong network differs in hundreds
NETWORK_SCOPES = re.compile(r"(conv0|bn0|block\d+|transition\d+|bn_last|linear)/")
# The optimizer's slots of a variable are saved under the variable's name.
SLOTS = re.compile(r"/(Momentum|Adam|Adam_1|RMSProp(_1)?|Adagrad|ExponentialMovingAverage)$")


def size_of(shape: Iterable[int]) -> int:
    """Return the number of elements of a shape; as large as it is, where numpy's would overflow."""
    size = 1
    for each in shape:
        size *= each
    return size


def read_npz(path: str) -> Dict[str, np.ndarray]:
    """Return the arrays of a .npz file; UserError if it can't be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise UserError("{} can't be read: {}".format(path, str(error) or type(error).__name__))


def fitting(
    found: Mapping[str, np.ndarray], config: SparseNetConfig, source: str
) -> Dict[str, np.ndarray]:
    """Return the variables of a network, in the order of the graph.

    Variables elsewhere than in the network, and the optimizer's, are left out. Raises UserError
    that names `source` and the first few variables that are missing, have another shape, or are
    there beside them.
    """
    wanted = variable_shapes(config)
    misfits = misfits_of(found, wanted)
    for name in sorted(found):
        # A surplus layer means another network.
        if name not in wanted and NETWORK_SCOPES.match(name) and not SLOTS.search(name):
            misfits.append("{} is there, wanted absent".format(name))
    if misfits:
        misfits.sort(key=lambda text: "/W is " not in text)  # kernels say most
        named = "; ".join(misfits[:NAMED] + ["..."] * (len(misfits) > NAMED))
        raise UserError(
            "{} does not fit the network, {} of {} variables differ: {}".format(
                source, len(misfits), len(wanted), named
            )
        )
    return OrderedDict((name, found[name]) for name in wanted)


def misfits_of(found: Mapping[str, np.ndarray], wanted: Mapping[str, tuple]) -> List[str]:
    """Return in words which variables are missing or have another shape than wanted."""
    misfits = []
    for name, shape in wanted.items():
        there = list(found[name].shape) if name in found else "absent"
        if there != list(shape):
            misfits.append("{} is {}, wanted {}".format(name, there, list(shape)))
    return misfits
