"""The logits of a trained network by its TensorFlow graph."""

from typing import Callable, Dict

from common.tf_stack import session_config, tf

import numpy as np
from tensorpack import OfflinePredictor, PredictConfig, logger
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.sessinit import DictRestore

from sparsenet.recipes import Recipe
from sparsenet_model import LOGITS, SparseNet


def logits_of(
    recipe: Recipe, weights: Dict[str, np.ndarray], preprocessing: dict, batch_size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from images, uint8 [batch_size, H, W, 3], to their logits."""
    logger.setLevel("ERROR")
    with tf.Graph().as_default():
        predict = OfflinePredictor(
            PredictConfig(
                model=SparseNet(recipe.config, normalization=preprocessing, batch_size=batch_size),
                session_init=DictRestore(weights),
                input_names=["image"],
                output_names=[LOGITS],
                session_creator=NewSessionCreator(config=session_config()),
            )
        )
    return lambda images: predict(images)[0]
