"""Keep the messages of libraries off the terminal, where they hide the lines that matter."""

import contextlib
import os
import sys
import tempfile

from sparsenet.errors import UserError


@contextlib.contextmanager
def stderr_kept_back():
    """Hold back what is written to file descriptor 2, and show it if the body fails.

    Libraries print messages from C++ while they are imported, before their log level takes effect.
    A UserError says all there is to say: nothing else is shown then.
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
        except UserError:
            raise
        except Exception:
            kept.seek(0)
            stderr.write(kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr.fileno(), 2)
