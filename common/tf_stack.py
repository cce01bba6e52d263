"""TensorFlow as this project uses it, set up in this one place.

Python 3.7 has TensorFlow 1.15, Python 3.10 to 3.13 a current TensorFlow with tf-keras. Modules that
use TensorFlow import it from here (`from common.tf_stack import tf`), so that the switches below
are set before TensorFlow is imported for the first time.
"""

import contextlib
import logging
import os
import sys
import tempfile
import warnings

# tensorpack's layers are those of tf.layers, which current TensorFlow has in tf-keras only.
os.environ["TF_USE_LEGACY_KERAS"] = "1"
# The runtime's messages hide the lines that matter; what is fatal also raises an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)


@contextlib.contextmanager
def _stderr_kept_back():
    """Hold back what is written to file descriptor 2, and show it if the body raises.

    TensorFlow prints messages from C++ while it is imported, before its log level takes effect.
    """
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as kept, os.fdopen(saved, "wb") as stderr:
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except Exception:
            kept.seek(0)
            stderr.write(kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), 2)


with _stderr_kept_back():
    import tensorflow
    import tensorpack  # noqa: F401  (imports further parts of TensorFlow)
    from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

tf = tensorflow.compat.v1
tf.logging.set_verbosity(tf.logging.FATAL)
tf.disable_eager_execution()

VERSION = tensorflow.__version__

# tensorpack calls `logger.error("...", value)` with no placeholder for the value; the traceback
# that logging prints about that would bury the error itself.
logging.raiseExceptions = False


def session_config() -> tensorflow.compat.v1.ConfigProto:
    """Return the session config that all sessions here start from.

    Soft placement is on: tensorpack's test tower asks for a GPU. Remapping is off, as an NPU needs
    it: fused ops round differently, and platforms are to compute the same. (On the CPU, training is
    a tenth faster without remapping.)
    """
    config = tf.ConfigProto(allow_soft_placement=True)
    config.graph_options.rewrite_options.remapping = RewriterConfig.OFF
    return config
