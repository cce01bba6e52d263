"""The activations of every layer, and the gradients of one training step, by TensorFlow's graph."""

from functools import partial
from typing import Callable, Dict, Sequence

from common.tf_stack import tf

import numpy as np
from tensorpack import logger
from tensorpack.tfutils.sessinit import DictRestore
from tensorpack.tfutils.tower import TowerContext

from evaluation.trained_network import TrainedNetwork
from sparsenet_model import CROSS_ENTROPY, INCORRECT, SparseNet

OUTPUT = "/output"  # the name that tensorpack gives to the activation of each of its layers
WITHOUT_VALUES = (tf.resource, tf.variant, tf.string)

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
    arrays = _run(network, batch, False, session_config, partial(_fetches, "inference"))
    if gradients:
        arrays.update(_run(network, batch, True, session_config, partial(_fetches, "training")))
    return arrays


def compute_outputs(
    network: TrainedNetwork,
    batch: Sequence[np.ndarray],
    gradients: bool,
    session_config: tf.ConfigProto,
) -> Arrays:
    """Return every output of every op by `op:index`, in the order of the computation.

    They are those of inference or, with `gradients`, of the network in training form and of the
    gradients of its cost.
    """
    logger.setLevel("ERROR")
    return _run(network, batch, gradients, session_config, _outputs)


Fetches = Dict[str, tf.Tensor]


def _run(
    network: TrainedNetwork,
    batch,
    is_training: bool,
    session_config,
    fetches_of: Callable[[tf.Graph, tf.Tensor, Fetches], Fetches],
) -> Arrays:
    """Return what is fetched of one form of the network.

    fetches_of: returns it by name, of a graph, its cost and the gradients by variable
    """
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
        gradients = {}
        if is_training:
            variables = tf.trainable_variables()
            found = tf.gradients(cost, variables, gate_gradients=True)
            gradients = {v.op.name: gradient for v, gradient in zip(variables, found)}
        fetches = fetches_of(graph, cost, gradients)
        # Besides image and label, the input is the step, which dropout masks depend on: the first.
        values = list(batch) + [0] * (len(inputs) - len(batch))
        with tf.Session(config=session_config) as session:
            session.run(tf.global_variables_initializer())
            DictRestore(network.weights).init(session)
            results = session.run(list(fetches.values()), dict(zip(inputs, values)))
    return dict(zip(fetches, results))


def _fetches(stage: str, graph: tf.Graph, _: tf.Tensor, gradients: Fetches) -> Fetches:
    """Return the activation of each layer, the losses of the images, and the gradients."""
    fetches = {
        "{}/{}".format(stage, operation.name[: -len(OUTPUT)]): operation.outputs[0]
        for operation in graph.get_operations()
        if operation.type == "Identity" and operation.name.endswith(OUTPUT)
    }
    fetches["{}/{}".format(stage, CROSS_ENTROPY)] = graph.get_tensor_by_name(CROSS_ENTROPY + ":0")
    fetches.update(("gradient/" + name, gradient) for name, gradient in gradients.items())
    return fetches


def _outputs(graph: tf.Graph, cost: tf.Tensor, gradients: Fetches) -> Fetches:
    """Return every tensor that cost, error and gradients depend on, as the graph was built.

    Others, such as those of the variables' initial values, would change what is computed.
    """
    ends = [cost.op.name, INCORRECT] + [gradient.op.name for gradient in gradients.values()]
    needed = tf.graph_util.extract_sub_graph(graph.as_graph_def(), ends).node
    return {
        "{}:{}".format(node.name, index): output
        for node in needed
        for index, output in enumerate(graph.get_operation_by_name(node.name).outputs)
        if output.dtype.base_dtype not in WITHOUT_VALUES and graph.is_fetchable(output)
    }
