"""Small networks of other kinds, exported and checked: `export_networks.py FOLDER`."""

import dataclasses
import os
import sys

import export
import numpy as np
from keras_networks import NETWORKS, SMALL

from evaluation.exports import ENDINGS, open_export
from sparsenet.initial_weights import initial_weights
from sparsenet.published import RECIPES

# Summation and strides; attention and parts of outputs; ImageNet's stem and head; dropout.
CONFIGS = {name: NETWORKS[name] for name in ("residual_bottleneck", "liu_zeng_scripts", "map3x3")}
CONFIGS["dropout"] = dataclasses.replace(SMALL, dropout=0.2, growth_rate=(3, 5, 7))
FORMATS = {"map3x3": ["onnx", "tflite"]}


def trained(config, stream):
    """Return weights in which no batch normalisation is like another, as after training."""
    weights = initial_weights(config, 0)
    for name, value in weights.items():
        if name.endswith(("gamma", "variance/EMA")):
            weights[name] = stream.uniform(0.5, 1.5, value.shape).astype(np.float32)
        elif name.endswith(("beta", "mean/EMA")):
            weights[name] = stream.normal(0, 0.3, value.shape).astype(np.float32)
    return weights


def main(folder):
    export.prepare("onnx")
    stream = np.random.RandomState(1)
    for kind, config in CONFIGS.items():
        recipe = dataclasses.replace(RECIPES["digits"], name=kind, config=config)
        side = config.image_size
        weights = trained(config, stream)
        images = stream.randint(0, 256, (5, side, side, 3)).astype(np.uint8)
        # A mean for each pixel, as in the original codes.
        preprocessing = {"mean": stream.uniform(100, 150, (side, side, 3)).tolist(), "std": 255.0}
        scaled = export.normalized(images, preprocessing)
        expected = export.logits_of(recipe, weights, scaled)
        for format in FORMATS.get(kind, ["onnx"]):
            path = os.path.join(folder, kind + ENDINGS[format])
            export.write(format, path, recipe, weights, preprocessing)
            export.check(open_export(path), images, expected, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
