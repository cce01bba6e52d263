"""Write a trained network for others' runtimes, from its Keras model on TensorFlow.

A file reads images `images` and returns their `logits`, for any number of images at a time. With
a preprocessing the images are uint8, from 0 to 255; without one they are normalised float32.
"""

import os
import tempfile
from typing import Callable, Dict, Optional

from common.quiet_tensorflow import tensorflow as tf

import keras
import numpy as np

from common.files import written_whole
from evaluation.exports import OPSET, SIGNATURE
from evaluation.keras_models import trained_model
from evaluation.onnx_names import name_by_layers
from sparsenet.recipes import Recipe

INPUT, OUTPUT = "images", "logits"

Weights = Dict[str, np.ndarray]


def write_saved_model(
    path: str, recipe: Recipe, weights: Weights, preprocessing: Optional[dict]
) -> None:
    """Write the folder of a SavedModel."""
    model = trained_model(recipe, weights)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        SIGNATURE, _logits_of(model, preprocessing), input_signature=[_images(model, preprocessing)]
    )
    archive.write_out(path, verbose=False)


def write_tflite(
    path: str, recipe: Recipe, weights: Weights, preprocessing: Optional[dict]
) -> None:
    """Write a .tflite file: float32, not quantised."""
    with tempfile.TemporaryDirectory() as folder:
        saved = os.path.join(folder, "model")
        write_saved_model(saved, recipe, weights, preprocessing)
        content = tf.lite.TFLiteConverter.from_saved_model(saved).convert()
    with written_whole(path, "wb") as stream:
        stream.write(content)


def write_onnx(path: str, recipe: Recipe, weights: Weights, preprocessing: Optional[dict]) -> None:
    """Write a .onnx file whose nodes have the names of the layers, and check it as a whole."""
    import onnx
    import tf2onnx

    model = trained_model(recipe, weights)
    signature = [_images(model, preprocessing)]
    function = tf.function(_logits_of(model, preprocessing), input_signature=signature)
    graph, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=OPSET)
    onnx.save(name_by_layers(graph, {layer.name for layer in model.layers}, recipe.name), path)
    onnx.checker.check_model(path, full_check=True)


def _logits_of(model: keras.Model, preprocessing: Optional[dict]) -> Callable:
    """Return the function from the images that an export reads to the logits."""

    def logits_of(images):
        if preprocessing is not None:
            # As constants of the graph; those of a Keras layer would become inputs of ONNX's.
            with tf.name_scope("normalize"):
                mean, std = (np.float32(preprocessing[name]) for name in ("mean", "std"))
                images = (tf.cast(images, tf.float32) - mean) / std
        return {OUTPUT: model(images, training=False)}

    return logits_of


def _images(model: keras.Model, preprocessing: Optional[dict]) -> tf.TensorSpec:
    """Return type, shape and name of the images that an export reads."""
    dtype = tf.float32 if preprocessing is None else tf.uint8
    return tf.TensorSpec([None, *model.input_shape[1:]], dtype, INPUT)
