"""Find the image files that a command names."""

import os
from typing import Iterable, List, Tuple

from image_folders import ACCEPTED, images_below
from sparsenet.errors import UserError


def find_images(paths: Iterable[str]) -> Tuple[List[str], List[UserError]]:
    """Return the files that paths name, and what is wrong with paths that name none.

    A folder stands for the images anywhere below it, in the order of their names; hidden ones are
    left out.
    """
    found: List[str] = []
    errors = []
    for path in paths:
        files = images_below(path) if os.path.isdir(path) else [path] * os.path.isfile(path)
        found += files
        if not files:
            kind = "folder holds no image" if os.path.isdir(path) else "there is no such file"
            errors.append(UserError("{}: {}; accepted: {}".format(path, kind, ACCEPTED)))
    return found, errors
