"""Load the data of a recipe, whichever module reads them."""

import dataclasses
from typing import Optional

import cifar_data
import folder_data
import imagenet_data
from cifar_data import Dataset
from sparsenet.errors import UserError
from sparsenet.recipes import Recipe


def load(
    recipe: Recipe,
    directory: Optional[str],
    verify: bool = True,
    fake_seed: Optional[int] = None,
    extra: bool = True,
) -> Dataset:
    """Return the data set of a recipe from `directory`.

    fake_seed: use random images of this seed instead, for smoke tests
    extra:     use SVHN's extra training images too

    Raises UserError if files are missing or damaged.
    """
    name = recipe.dataset
    if name == "folder":
        if fake_seed is not None:
            raise UserError("--fake; accepted: with a data set whose classes are known")
        return folder_data.load(directory, recipe.config.image_size)
    if name == "imagenet":
        return imagenet_data.load(directory) if fake_seed is None else imagenet_data.fake(fake_seed)
    if fake_seed is not None:
        return cifar_data.fake(name, fake_seed)
    return cifar_data.load(name, directory, verify, extra)


def with_classes(recipe: Recipe, count: int) -> Recipe:
    """Return a recipe whose network tells `count` classes apart."""
    config = dataclasses.replace(recipe.config, classes=count)
    return dataclasses.replace(recipe, config=config)
