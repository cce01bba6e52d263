"""The data sets by name, whatever room they are read in."""

from typing import Optional

import cifar_data
import imagenet_data
from cifar_data import Dataset


def load(name: str, directory: Optional[str], verify: bool) -> Dataset:
    """The data set `name` (a key of recipes.CLASSES) from `directory`; UserError if it can't be."""
    if name == "imagenet":
        return imagenet_data.load(directory)
    return cifar_data.load(name, directory, verify)


def fake(name: str, seed: int) -> Dataset:
    """Random images in place of the data set's."""
    return imagenet_data.fake(seed) if name == "imagenet" else cifar_data.fake(name, seed)
