"""Models in the manner of keras.applications: of any recipe, and functions for well-known ones."""

import dataclasses
from typing import Optional, Sequence, Union

import keras

from sparsenet.config import SparseNetConfig
from sparsenet.errors import require
from sparsenet.keras.network import check_shape, connect, default_shape
from sparsenet.keras.weights import load_weights
from sparsenet.published import RECIPES
from sparsenet.recipes import Recipe

POOLINGS = (None, "avg", "max")


def build(
    network: Union[str, Recipe, SparseNetConfig],
    *,
    include_top: bool = True,
    weights: Optional[str] = None,
    input_tensor=None,
    input_shape: Optional[Sequence[Optional[int]]] = None,
    pooling: Optional[str] = None,
    classes: Optional[int] = None,
    classifier_activation="softmax",
    kernel_regularizer=None,
    name: Optional[str] = None,
) -> keras.Model:
    """Return the functional model of a network.

    It reads normalised images, float [N, H, W, 3] (or [N, 3, H, W], where Keras's image data format
    is channels_first), see preprocess_input, and returns [N, classes].

    network:      name of a recipe, such as "sparsenet-40-24"; a recipe; or a config
    include_top:  without it the model returns the maps [N, H', W', C] before the classifier, or
                  [N, C] after the `pooling` of them
    weights:      None for random initial weights, or a file of weights, see weights.load_weights
    input_tensor: output of keras.Input to use as the images; it may come from other layers
    input_shape:  of one image, with None for a side that may vary; by default that of the data
    pooling:      None, "avg" or "max"
    classes:      by default as many as the network's data have
    classifier_activation: what is made of the logits, which None returns as they are
    kernel_regularizer: of all kernels, as in keras.layers
    name:         of the model

    Raises UserError, a ValueError, for an argument that no network can have, an image that is too
    small, and weights that do not fit.
    """
    config = _config_of(network)
    require(pooling in POOLINGS, "pooling", pooling, "avg, max, None")
    if classes is not None:
        config = dataclasses.replace(config, classes=classes)
    images = _images(config, input_tensor, input_shape)
    outputs = connect(
        config, images, include_top, pooling, classifier_activation, kernel_regularizer
    )
    model = keras.Model(_sources(images), outputs, name=name or "sparsenet")
    if weights is not None:
        load_weights(model, str(weights))
    return model


def _config_of(network: Union[str, Recipe, SparseNetConfig]) -> SparseNetConfig:
    """Return the config of a network; UserError for a name that no recipe has."""
    if isinstance(network, str):
        require(network in RECIPES, "network", network, ", ".join(RECIPES))
        network = RECIPES[network]
    return network.config if isinstance(network, Recipe) else network


def _images(config: SparseNetConfig, tensor, shape: Optional[Sequence[Optional[int]]]):
    """Return the symbolic images that a model reads; UserError if it can't read their shape."""
    if tensor is None:
        shape = default_shape(config) if shape is None else tuple(shape)
        check_shape(config, shape)
        return keras.Input(shape, name="images")
    if not keras.backend.is_keras_tensor(tensor):
        tensor = keras.Input(tensor=tensor, name="images")
    check_shape(config, tuple(tensor.shape[1:]))
    return tensor


def _sources(images):
    """Return what the images come from: themselves, or the inputs of other layers."""
    sources = keras.utils.get_source_inputs(images)
    return sources[0] if len(sources) == 1 else sources


def _application(name: str, recipe: str):
    """Return the function that builds the network of a recipe, as keras.applications has them."""
    default = RECIPES[recipe].config.classes

    def application(
        include_top: bool = True,
        weights: Optional[str] = None,
        input_tensor=None,
        input_shape: Optional[Sequence[Optional[int]]] = None,
        pooling: Optional[str] = None,
        classes: int = default,
        classifier_activation="softmax",
        name: str = name.lower(),
    ) -> keras.Model:
        return build(
            recipe,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
        )

    application.__name__ = application.__qualname__ = name
    application.__doc__ = "Return the model of recipe {}; for the arguments, see build.".format(
        recipe
    )
    return application


# Zhu et al. 2018, CIFAR table
SparseNet40_24 = _application("SparseNet40_24", "sparsenet-40-24")
SparseNet100_24 = _application("SparseNet100_24", "sparsenet-100-24")
SparseNet100_36 = _application("SparseNet100_36", "sparsenet-100-36")
SparseNetBC100_24 = _application("SparseNetBC100_24", "sparsenet-bc-100-24")
SparseNetBC100_36 = _application("SparseNetBC100_36", "sparsenet-bc-100-36")
# Zhu et al. 2018, ImageNet table. The classifier reads a 3x3 map: other sides than 224 have
# include_top=False or recipes with global average pooling, such as "sparsenet-121-32-gap".
SparseNet121 = _application("SparseNet121", "sparsenet-121-32")
SparseNet169 = _application("SparseNet169", "sparsenet-169-32")
SparseNet201 = _application("SparseNet201", "sparsenet-201-32")
# keras-SparseNet alone has these two.
SparseNet161 = _application("SparseNet161", "keras-161")
SparseNet264 = _application("SparseNet264", "keras-264")
