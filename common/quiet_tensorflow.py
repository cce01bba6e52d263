"""TensorFlow, imported without its messages and otherwise as it is."""

import os
import warnings

from common.garbage import none_collected
from common.quiet import stderr_kept_back

# The runtime's messages hide the lines that matter; what is fatal also raises an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)

with stderr_kept_back(), none_collected():
    import tensorflow  # noqa: F401
