"""requirements.txt of a run directory: the packages that were installed when the run began."""

import os
from typing import List

from common.files import write_whole

REQUIREMENTS = "requirements.txt"


def installed() -> List[str]:
    """Return what is installed beside this Python, as lines `name==version`, sorted."""
    try:
        from importlib.metadata import distributions
    except ImportError:  # Python 3.7
        import pkg_resources

        found = {each.project_name: each.version for each in pkg_resources.working_set}
    else:
        found = {each.metadata["Name"]: each.version for each in distributions()}
    named = {name: version for name, version in found.items() if name}
    return ["{}=={}".format(name, named[name]) for name in sorted(named, key=str.lower)]


def write_requirements(directory: str) -> None:
    """Write requirements.txt, by which pip installs the same."""
    write_whole(os.path.join(directory, REQUIREMENTS), "\n".join(installed()) + "\n")
