"""The activations of every layer, and the gradients of one training step, by the Keras model.

Names and arrays are those of graph_activations.py, but for a network with dropout, whose masks
differ.
"""

from typing import Dict, Sequence

import keras
import numpy as np
from keras import layers

from common.metrics import cross_entropy
from evaluation.exports import normalized
from evaluation.keras_models import trained_model
from evaluation.trained_network import TrainedNetwork
from sparsenet.keras.weights import scope_of, variables

Arrays = Dict[str, np.ndarray]
WITH_OUTPUT = (layers.Conv2D, layers.BatchNormalization, layers.MaxPooling2D, layers.Dense)


def versions() -> Dict[str, str]:
    """Return the version of Keras, and its backend."""
    return {"keras": keras.version(), "backend": keras.backend.backend()}


def compute_activations(
    network: TrainedNetwork, batch: Sequence[np.ndarray], gradients: bool
) -> Arrays:
    """Return the arrays of a batch (images, labels) by name, in the order of the computation.

    For their names and meaning see graph_activations.compute_activations.
    """
    keras.config.set_image_data_format("channels_last")
    model = trained_model(network.recipe, network.weights)
    images, labels = normalized(batch[0], network.preprocessing), batch[1]
    arrays = _activations(model, images, labels, "inference", False)
    if gradients:
        arrays.update(_activations(model, images, labels, "training", True))
        arrays.update(_gradients(model, images, labels, network))
    return arrays


def _activations(model, images, labels, stage: str, is_training: bool) -> Arrays:
    """Return the outputs of the layers that the graph names, and the losses of the images."""
    named = {scope_of(layer): layer.output for layer in model.layers if _has_name(layer)}
    outputs = keras.Model(model.inputs[0], named)(images, training=is_training)
    arrays = {name: keras.ops.convert_to_numpy(outputs[name]) for name in named}
    losses = cross_entropy(arrays["linear"], labels).astype(np.float32)
    return {
        "{}/{}".format(stage, name): array
        for name, array in dict(arrays, cross_entropy=losses).items()
    }


def _has_name(layer: keras.Layer) -> bool:
    is_halving = isinstance(layer, layers.AveragePooling2D) and layer.pool_size == (2, 2)
    return is_halving or isinstance(layer, WITH_OUTPUT)


def _gradients(model: keras.Model, images, labels, network: TrainedNetwork) -> Arrays:
    """Return the gradients of the cost, weight decay included, by `gradient/<variable>`."""
    # At rate 1 the first momentum is the gradient, negated. The step changes the weights: only
    # `network` has those that the gradients are of.
    optimizer = keras.optimizers.SGD(1.0, momentum=0.5)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.train_on_batch(images, labels)
    momentums = dict(zip(map(id, model.trainable_variables), optimizer.momentums))
    recipe, arrays = network.recipe, {}
    for name, variable in variables(model).items():
        if id(variable) in momentums:
            gradient = -keras.ops.convert_to_numpy(momentums[id(variable)].value)
            if recipe.weight_decay_scope == "all" or name.endswith("/W"):
                gradient = gradient + recipe.weight_decay * network.weights[name]
            arrays["gradient/" + name] = gradient.astype(np.float32)
    return arrays
