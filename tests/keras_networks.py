"""A small network of each kind, and what Keras makes of them: `keras_networks.py FOLDER`.

The command reads FOLDER/<kind>.npz (variables, and normalised `images`) and writes
FOLDER/<kind>.out.npz: the logits, and those of the model after it was saved and loaded again.
"""

import dataclasses
import os
import sys

from sparsenet.config import SparseNetConfig
from sparsenet.published import RECIPES

SMALL = SparseNetConfig(layers=(4, 2, 2), growth_rate=(4, 4, 4))


def small(name, layers, **changes):
    """Return a recipe's network with few layers and ten classes."""
    return dataclasses.replace(RECIPES[name].config, layers=layers, classes=10, **changes)


NETWORKS = {
    "single": SMALL,
    "growing": dataclasses.replace(SMALL, growth_rate=(2, 4, 6)),
    "dense": dataclasses.replace(SMALL, fetch="dense"),
    "bottleneck": dataclasses.replace(SMALL, unit="bottleneck", compression=0.5),
    "sum": dataclasses.replace(SMALL, combine="sum"),
    "residual_basic": small("resnet-110", (2, 2, 2)),
    "residual_bottleneck": small("resnet-164", (2, 2, 2)),
    "liu_zeng": small("liu-zeng-abc-v1", (4, 2, 2), nearest=1, farthest=1),
    "liu_zeng_scripts": small("liu-zeng-abc-v1-scripts", (4, 3, 3), nearest=1, farthest=1),
    "squeeze": small("liu-zeng-se-v1", (2, 2, 2)),
    "official": small("official", (2, 2, 2)),
    "map3x3": small("sparsenet-121-32", (2, 1, 1, 1)),
    "gap": small("keras-121", (1, 2, 1, 1)),
}


def main(folder):
    import keras
    import numpy as np

    from sparsenet.keras import build, get_variables, set_variables

    for kind, config in NETWORKS.items():
        with np.load(os.path.join(folder, kind + ".npz")) as file:
            arrays = dict(file)
        images = arrays.pop("images")
        model = build(config, classifier_activation=None)
        set_variables(model, arrays)
        kept = get_variables(model)
        assert set(kept) == set(arrays), (kind, set(kept) ^ set(arrays))
        assert all(np.array_equal(kept[name], arrays[name]) for name in kept), kind
        path = os.path.join(folder, kind + ".keras")
        model.save(path)
        np.savez(
            os.path.join(folder, kind + ".out.npz"),
            logits=keras.ops.convert_to_numpy(model(images)),
            loaded=keras.ops.convert_to_numpy(keras.saving.load_model(path)(images)),
            parameters=sum(int(np.prod(v.shape)) for v in model.trainable_variables),
        )


if __name__ == "__main__":
    main(sys.argv[1])
