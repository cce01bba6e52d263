"""A trained network as one frozen graph of TensorFlow, whose variables are constants."""

from typing import Dict, Optional

from common.tf_stack import session_config, tf

import numpy as np
from tensorpack import logger
from tensorpack.tfutils.sessinit import DictRestore
from tensorpack.tfutils.tower import TowerContext

from sparsenet.config import SparseNetConfig
from sparsenet_model import LOGITS, SparseNet

INPUT = "image"
UNCHANGED = {"mean": 0.0, "std": 1.0}  # the preprocessing of images that are normalised already


def freeze(
    config: SparseNetConfig, weights: Dict[str, np.ndarray], preprocessing: dict, dtype: str,
    batch_size: Optional[int] = None,
) -> tf.GraphDef:  # fmt: skip
    """Return a GraphDef without variables, from INPUT to LOGITS, in inference form.

    dtype:      of the input, such as uint8
    batch_size: None for any number of images
    """
    logger.setLevel("ERROR")
    model = SparseNet(config, normalization=preprocessing, batch_size=batch_size)
    with tf.Graph().as_default() as graph:
        image, label = model.inputs()[:2]
        image = tf.placeholder(dtype, image.shape, INPUT)
        label = tf.placeholder(label.dtype, label.shape, "label")
        step = [tf.constant(0)] if config.dropout else []
        with TowerContext("", is_training=False):
            model.build_graph(image, label, *step)
        with tf.Session(config=session_config()) as session:
            session.run(tf.global_variables_initializer())
            DictRestore(weights).init(session)
            return tf.graph_util.remove_training_nodes(
                tf.graph_util.convert_variables_to_constants(
                    session, graph.as_graph_def(), [LOGITS]
                ),
                protected_nodes=[LOGITS],
            )
