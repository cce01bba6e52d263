"""The Keras twin against the TensorFlow graph of the same networks.

Keras 3 and tensorpack's TensorFlow don't go together in one process: arrays cross in files.
"""

import os
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, run_python
from graphs import Built, batch, disturbed_weights, relative_difference
from keras_networks import NETWORKS

from sparsenet.costs import parameters
from sparsenet.initial_weights import initial_weights
from sparsenet_model import LOGITS

pytestmark = pytest.mark.skipif(sys.version_info < (3, 10), reason="Keras 3 needs Python 3.10")


def weights_of(config):
    """Return initial kernels, and all else as training could have moved it.

    Moved kernels, all one way, would let the logits of a network with many inputs overflow.
    """
    kernels = {name: v for name, v in initial_weights(config, 3).items() if name.endswith("/W")}
    return dict(disturbed_weights(config), **kernels)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder with weights and images of each network, and the twins' answers."""
    path = tmp_path_factory.mktemp("keras")
    for kind, config in NETWORKS.items():
        images, _ = batch(size=config.image_size)
        arrays = dict(weights_of(config), images=(images / 255).astype(np.float32))
        np.savez(str(path / (kind + ".npz")), **arrays)
    environment = {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(CHECKOUT)}
    program = os.path.join(os.path.dirname(__file__), "keras_networks.py")
    done = run_python(program, path, env=environment)
    assert done.code == 0, done.err
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_the_twin_has_the_logits_and_parameters_of_the_graph(folder, kind):
    config = NETWORKS[kind]
    images, labels = batch(size=config.image_size)
    scaled = Built(config, normalization={"mean": [0.0] * 3, "std": [255.0] * 3})
    scaled.load(weights_of(config))
    with np.load(str(folder / (kind + ".out.npz"))) as twin:
        expected = scaled.run(LOGITS + ":0", images, labels)
        assert np.isfinite(expected).all() and expected.std() > 0.1
        assert relative_difference(twin["logits"], expected) < 1e-5
        assert np.array_equal(twin["loaded"], twin["logits"])
        assert twin["parameters"] == parameters(config)
