"""Refuses, in one sentence, a Python that neither TensorFlow stack exists for.

Every command imports this first. The file has to be readable for any Python from 2.7 on, or the
sentence would never show.
"""

import sys

ACCEPTED = "3.7 (with TensorFlow 1.15) or 3.10 to 3.13 (with TensorFlow 2.x)"


def is_supported(version):
    """Whether a (major, minor) version is one that a stack exists for."""
    return version == (3, 7) or (3, 10) <= version <= (3, 13)


if not is_supported(tuple(sys.version_info[:2])):
    sys.stderr.write(
        "error: this is Python {}.{}; accepted: {}\n".format(
            sys.version_info[0], sys.version_info[1], ACCEPTED
        )
    )
    sys.exit(2)
