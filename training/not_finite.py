"""Which layer is the first one whose output is NaN or infinite."""

from typing import Iterable, List, Mapping, Optional, Tuple

import numpy as np

from sparsenet.config import SparseNetConfig
from sparsenet.plan import variable_shapes

MOVING_MEAN = "/mean/EMA"
STATISTICS = (MOVING_MEAN, "/variance/EMA")  # what the names of moving statistics end in


def first_by_statistics(
    config: SparseNetConfig, variables: Mapping[str, np.ndarray], of_whole_batch: bool = True
) -> Optional[str]:
    """Return the first layer whose output was not finite in a step, after that step.

    By then all weights are NaN. But the moving mean of a batch normalisation is not finite exactly
    if what it read in the step was not: the layer is the convolution before the first one of these.

    variables:      moving means by name, and maybe others
    of_whole_batch: whether the statistics are those of all images; if not, and if they are finite,
                    the layer is not known: None
    """
    before: List[str] = []  # layers since the last batch normalisation whose input was finite
    for layer in layers_of(config):
        mean = variables.get(layer + MOVING_MEAN)
        if mean is None:
            before.append(layer)
        elif np.isfinite(mean).all():
            before = []
        else:
            return before[0] if before else layer
    return before[0] if of_whole_batch and before else None


def layers_of(config: SparseNetConfig) -> List[str]:
    """Return the scopes of the layers with variables, in the order of the computation."""
    names = (name for name in variable_shapes(config) if not name.endswith(STATISTICS))
    return list(dict.fromkeys(name.rpartition("/")[0] for name in names))


def first_by_outputs(outputs: Iterable[Tuple[str, np.ndarray]]) -> Optional[str]:
    """Return the name of the first output, in the order of the computation, that is not finite."""
    return next((name for name, values in outputs if not np.isfinite(values).all()), None)
