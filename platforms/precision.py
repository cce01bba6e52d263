"""In which precisions TensorFlow can compute on a device, and what has to be asked of it for them.

In a mixed precision TensorFlow itself rewrites the graph just before it runs it: convolutions and
matrix products, and what lies between them, get 16 bits, with casts around them. The graph that is
written down stays as it is, and variables stay float32.

TensorFlow is not imported: it reads some of the environment while it is.
"""

import os
from typing import Dict, Mapping, NamedTuple, Optional

from run_directory.settings import MIXED_BFLOAT16, MIXED_FLOAT16


class Rewriting(NamedTuple):
    """A pass of TensorFlow over the graph.

    field:       its switch in RewriterConfig; some versions do not have it
    dtype:       of 16 bits, that it gives to operations
    environment: variables that it reads, and their values
    """

    field: str
    dtype: str
    environment: Mapping[str, str] = {}


# By platform and precision; none gives bfloat16 to a GPU. That of bfloat16 is left out, without a
# word, where oneDNN is off, as it is by default on processors without certain extensions. That of
# float16 on a CPU chooses the operations that a GPU's does; by default it only rounds what they
# read and write, and TensorFlow 2.21 then crashes on the gradients of a network.
REWRITINGS: Dict[str, Dict[str, Rewriting]] = {
    "cpu": {
        MIXED_BFLOAT16: Rewriting(
            "auto_mixed_precision_onednn_bfloat16", "bfloat16", {"TF_ENABLE_ONEDNN_OPTS": "1"}
        ),
        MIXED_FLOAT16: Rewriting(
            "auto_mixed_precision_cpu",
            "float16",
            {"TF_AUTO_MIXED_PRECISION_GRAPH_REWRITE_EMULATE_FP16": "0"},
        ),
    },
    "gpu": {MIXED_FLOAT16: Rewriting("auto_mixed_precision", "float16")},
}
TF32_CAPABILITY = (8, 0)  # the least compute capability of a GPU that has TensorFloat-32


def before_tensorflow(precision: Optional[str]) -> None:
    """Set the environment that a precision needs, before TensorFlow is imported."""
    for rewritings in REWRITINGS.values():
        if precision in rewritings:
            os.environ.update(rewritings[precision].environment)
