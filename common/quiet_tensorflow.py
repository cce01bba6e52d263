"""TensorFlow, imported without its messages and otherwise as it is."""

import contextlib
import os
import sys
import tempfile
import warnings

# The runtime's messages hide the lines that matter; what is fatal also raises an exception.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
warnings.filterwarnings("ignore", category=FutureWarning)
warnings.filterwarnings("ignore", category=DeprecationWarning)


@contextlib.contextmanager
def stderr_kept_back():
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


with stderr_kept_back():
    import tensorflow  # noqa: F401
