"""Keras models of trained networks, with the normalisation of the images inside or outside."""

from typing import Callable, Dict

import keras
import numpy as np

from sparsenet.keras import build, set_variables
from sparsenet.recipes import Recipe


def trained_model(
    recipe: Recipe, weights: Dict[str, np.ndarray], preprocessing=None, activation=None
) -> keras.Model:
    """Return the Keras model of a network with its weights.

    preprocessing: `mean` and `std`, to be part of the model: it then reads images from 0 to 255,
                   uint8 or float; None for a model that reads normalised images
    activation:    what is made of the logits, such as softmax; None for nothing
    """
    tensor = None if preprocessing is None else normalized_input(recipe, preprocessing)
    name = recipe.name.replace("-", "_")
    model = build(recipe, input_tensor=tensor, classifier_activation=activation, name=name)
    set_variables(model, weights)
    return model


def logits_of(
    recipe: Recipe, weights: Dict[str, np.ndarray], preprocessing: dict, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from images, uint8 [batch_size, H, W, 3], to their logits."""
    keras.config.set_image_data_format("channels_last")  # as images are, whatever keras.json says
    model = trained_model(recipe, weights, preprocessing)
    side = recipe.config.image_size
    # Compiled now, and not when the first images are there.
    model.predict_on_batch(np.zeros((batch_size, side, side, 3), np.uint8))
    return lambda images: np.asarray(model.predict_on_batch(images))


def normalized_input(recipe: Recipe, preprocessing: dict):
    """Return symbolic images (x - mean) / std, of an input of uint8 images of the recipe's size."""
    is_first = keras.config.image_data_format() == "channels_first"
    side = recipe.config.image_size
    shape = (3, side, side) if is_first else (side, side, 3)
    mean, std = (np.asarray(preprocessing[key], np.float32) for key in ("mean", "std"))
    is_image = max(mean.ndim, std.ndim) == 3  # a number for each value, not by colour
    shape_of_constants = (side, side, 3) if is_image else (3,)
    mean, std = (np.broadcast_to(each, shape_of_constants) for each in (mean, std))
    if is_image and is_first:
        mean, std = (each.transpose(2, 0, 1) for each in (mean, std))
    images = keras.Input(shape, dtype="uint8", name="images")
    return keras.layers.Normalization(
        axis=(1, 2, 3) if is_image else (1 if is_first else 3),
        mean=mean.tolist(),
        variance=np.square(std, dtype=np.float64).tolist(),
        name="normalize",
    )(images)
