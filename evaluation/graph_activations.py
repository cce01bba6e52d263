"""The activations of every layer, and the gradients of one training step, by TensorFlow's graph."""

from typing import Dict, Iterable, Sequence, Tuple

from common.tf_stack import tf

import numpy as np
from tensorpack import logger
from tensorpack.tfutils.sessinit import DictRestore
from tensorpack.tfutils.tower import TowerContext

from evaluation.trained_network import TrainedNetwork
from sparsenet_model import CROSS_ENTROPY, SparseNet

OUTPUT = "/output"  # the name that tensorpack gives to the activation of each of its layers

Arrays = Dict[str, np.ndarray]


def compute_activations(
    network: TrainedNetwork,
    batch: Sequence[np.ndarray],
    gradients: bool,
    session_config: tf.ConfigProto,
) -> Arrays:
    """Return the arrays of a batch (images, labels) by name, in the order of the computation.

    `inference/<layer>` are activations with moving statistics; with `gradients` there are also
    `training/<layer>`, those of the same batch in training form, and `gradient/<variable>`, the
    gradients of the cost.
    """
    logger.setLevel("ERROR")
    arrays = _run(network, batch, "inference", False, session_config)
    if gradients:
        arrays.update(_run(network, batch, "training", True, session_config))
    return arrays


def _run(network: TrainedNetwork, batch, stage: str, is_training: bool, session_config) -> Arrays:
    """Return the activations of one form of the network; in training form, the gradients too."""
    recipe = network.recipe
    model = SparseNet(
        recipe.config,
        normalization=network.preprocessing,
        batch_size=len(batch[0]),
        weight_decay=recipe.weight_decay,
        weight_decay_scope=recipe.weight_decay_scope,
    )  # fmt: skip
    with tf.Graph().as_default() as graph:
        signature = model.get_input_signature()
        inputs = [tf.placeholder(each.dtype, each.shape, each.name) for each in signature]
        with TowerContext("", is_training=is_training):
            cost = model.build_graph(*inputs)
        fetches = dict(_activations(graph, stage))
        if is_training:
            variables = tf.trainable_variables()
            found = tf.gradients(cost, variables, gate_gradients=True)
            fetches.update(
                ("gradient/" + variable.op.name, gradient)
                for variable, gradient in zip(variables, found)
            )
        # Besides image and label, the input is the step, which dropout masks depend on: the first.
        values = list(batch) + [0] * (len(inputs) - len(batch))
        with tf.Session(config=session_config) as session:
            session.run(tf.global_variables_initializer())
            DictRestore(network.weights).init(session)
            results = session.run(list(fetches.values()), dict(zip(inputs, values)))
    return dict(zip(fetches, results))


def _activations(graph: tf.Graph, stage: str) -> Iterable[Tuple[str, tf.Tensor]]:
    """Yield name and activation of each layer, and the losses of the images."""
    for operation in graph.get_operations():
        if operation.type == "Identity" and operation.name.endswith(OUTPUT):
            yield "{}/{}".format(stage, operation.name[: -len(OUTPUT)]), operation.outputs[0]
    yield "{}/{}".format(stage, CROSS_ENTROPY), graph.get_tensor_by_name(CROSS_ENTROPY + ":0")
