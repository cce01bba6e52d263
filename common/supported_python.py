"""Refuse, in one sentence, a Python that neither TensorFlow stack supports, or without docstrings.

Every command imports this first, and so missing_modules.py, which reports what the others lack. Any
Python from 2.7 on has to be able to read this file, or the sentence would never be printed.
"""

import sys

ACCEPTED = "3.7 (with TensorFlow 1.15) or 3.10 to 3.13 (with TensorFlow 2.x)"


def is_supported(version):
    """Return whether a stack exists for a version (major, minor)."""
    return version == (3, 7) or (3, 10) <= version <= (3, 13)


if not is_supported(tuple(sys.version_info[:2])):
    sys.stderr.write(
        "error: this is Python {}.{}; accepted: {}\n".format(
            sys.version_info[0], sys.version_info[1], ACCEPTED
        )
    )
    sys.exit(2)

if sys.flags.optimize > 1:
    sys.stderr.write(
        "error: this Python drops docstrings, which TensorFlow needs; accepted: neither -OO nor "
        "PYTHONOPTIMIZE=2\n"
    )
    sys.exit(2)

import common.missing_modules  # noqa: E402, F401
