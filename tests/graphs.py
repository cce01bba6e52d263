"""Graphs for tests: a model with a session, and the shapes of a network's variables."""

from common.tf_stack import tf

import numpy as np
from tensorpack.tfutils.tower import TowerContext

from sparsenet.initial_weights import initial_weights
from sparsenet_model import SparseNet

PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


class Built:
    """The graph of a model, with a session that holds its initial weights."""

    def __init__(self, config, batch_size=4, is_training=False, normalization=PLAIN, **options):
        self.graph = tf.Graph()
        with self.graph.as_default():
            model = SparseNet(config, normalization=normalization, batch_size=batch_size, **options)
            self.inputs = [tf.placeholder(s.dtype, s.shape, s.name) for s in model.inputs()]
            with TowerContext("", is_training=is_training):
                self.cost = model.build_graph(*self.inputs)
                if is_training:
                    optimizer = model.get_optimizer()
                    gradients = optimizer.compute_gradients(self.cost)
                    self.gradients = {v.op.name: g for g, v in gradients if g is not None}
                    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
                    self.step = tf.group(optimizer.apply_gradients(gradients), *updates)
            self.session = tf.Session()
            self.session.run(tf.global_variables_initializer())
            self.load(initial_weights(config, seed=0))

    def variables(self):
        """Return the variables of the graph by name."""
        return {v.op.name: v for v in self.graph.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)}

    def load(self, weights):
        """Give variables the values of `weights`, by name."""
        with self.graph.as_default():
            for name, variable in self.variables().items():
                if name in weights:
                    variable.load(weights[name], self.session)

    def run(self, fetches, *fed):
        """Return the values of `fetches`, with `fed` as the inputs in order."""
        return self.session.run(fetches, dict(zip(self.inputs, fed)))


def batch(count=4, classes=10, seed=0, size=32):
    """Return random images, uint8 [count, size, size, 3], and labels, int32 [count]."""
    stream = np.random.RandomState(seed)
    images = stream.randint(0, 256, (count, size, size, 3)).astype(np.uint8)
    return images, stream.randint(0, classes, count).astype(np.int32)


def graph_shapes(config):
    """Return names and shapes of the graph's variables, and the number of trainable parameters."""
    with tf.Graph().as_default():
        model = SparseNet(config, normalization=PLAIN, batch_size=2)
        inputs = [tf.placeholder(s.dtype, s.shape, s.name) for s in model.inputs()]
        with TowerContext("", is_training=False):
            model.build_graph(*inputs)
        shapes = {v.op.name: tuple(v.shape.as_list()) for v in tf.global_variables()}
        trainable = sum(int(np.prod(v.shape.as_list())) for v in tf.trainable_variables())
        return shapes, trainable


def disturbed_weights(config, seed=3):
    """Return weights as a trained network could have: no scale is 1, no statistic is 0 or 1."""
    stream = np.random.RandomState(seed)
    return {
        name: value + 0.1 * stream.uniform(size=value.shape).astype(np.float32)
        for name, value in initial_weights(config, seed).items()
    }


def relative_difference(a, b):
    """Return ||a - b|| / ||b|| of whole arrays; 0 if they are equal.

    Single elements are not compared: rounding, which every processor does in an order of its own,
    turns single ReLUs on or off, and each moves a few elements far beyond the others.
    """
    apart = np.linalg.norm(a - b)
    return apart / np.linalg.norm(b) if apart else 0.0
