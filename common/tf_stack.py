"""TensorFlow as this project uses it, set up in this one place.

Python 3.7 has TensorFlow 1.15, Python 3.10 to 3.13 a current TensorFlow with tf-keras. Modules that
use TensorFlow import it from here (`from common.tf_stack import tf`), so that the switches below
are set before TensorFlow is imported for the first time.
"""

import logging
import os
from typing import Dict

# tensorpack's layers are those of tf.layers, which current TensorFlow has in tf-keras only.
os.environ["TF_USE_LEGACY_KERAS"] = "1"

from common.quiet_tensorflow import tensorflow  # noqa: E402

from common.garbage import none_collected  # noqa: E402
from common.quiet import stderr_kept_back  # noqa: E402

with stderr_kept_back(), none_collected():
    import tensorpack  # it imports further parts of TensorFlow
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

tf = tensorflow.compat.v1
tf.logging.set_verbosity(tf.logging.FATAL)
tf.disable_eager_execution()
# In a graph, tensors and variables are compared by identity in any case. Said once, it spares
# asking whether this is a graph at each comparison: half of the time that a graph takes to build.
tf.disable_tensor_equality()

VERSION = tensorflow.__version__

# tensorpack calls `logger.error("...", value)` with no placeholder for the value; the traceback
# that logging prints about that would bury the error itself.
logging.raiseExceptions = False


def versions() -> Dict[str, str]:
    """Return the versions of the libraries that compute, for run.json."""
    return {"tensorflow": VERSION, "tensorpack": tensorpack.__version__}


def session_config() -> tensorflow.compat.v1.ConfigProto:
    """Return the session config that all sessions here start from.

    Soft placement is on: tensorpack's test tower asks for a GPU. Remapping is off, as an NPU needs
    it: fused ops round differently, and platforms are to compute the same. (On the CPU, training is
    a tenth faster without remapping.)
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.remapping = RewriterConfig.OFF
    return config
