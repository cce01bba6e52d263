"""Load any data set by name, whichever module reads it."""

from typing import Optional

import cifar_data
import imagenet_data
from cifar_data import Dataset


def load(
    name: str, directory: Optional[str], verify: bool = True, fake_seed: Optional[int] = None
) -> Dataset:
    """Return the data set `name` (a key of recipes.CLASSES) from `directory`.

    fake_seed: use random images of this seed instead, for smoke tests

    Raises UserError if files are missing or damaged.
    """
    if name == "imagenet":
        return imagenet_data.load(directory) if fake_seed is None else imagenet_data.fake(fake_seed)
    if fake_seed is not None:
        return cifar_data.fake(name, fake_seed)
    return cifar_data.load(name, directory, verify)
