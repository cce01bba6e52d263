"""How long a network takes for an image."""

import statistics
import time

import numpy as np

from sparsenet.initial_weights import initial_weights
from sparsenet.recipes import Recipe

WARM_UP, RUNS = 3, 10
AS_IT_IS = {"mean": [0.0, 0.0, 0.0], "std": 1.0}


def milliseconds_of(recipe: Recipe) -> float:
    """Return the milliseconds that TensorFlow's graph takes for one image, by itself.

    That is the median of ten, after three that set up memory and kernels.
    """
    from evaluation import graph

    side = recipe.config.image_size
    image = np.random.RandomState(0).randint(0, 256, (1, side, side, 3)).astype(np.uint8)
    run = graph.logits_of(recipe, initial_weights(recipe.config, 0), AS_IT_IS, 1)
    seconds = []
    for _ in range(WARM_UP + RUNS):
        start = time.perf_counter()
        run(image)
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[WARM_UP:])
