"""Load trained networks, test them, predict with them and save their activations.

trained_network.py loads one, from a run directory or from any checkpoint and flags that describe
it. logits.py chooses what computes it, graph.py or keras_models.py; evaluate.py runs it over a test
set, and confusion.py draws the result. image_files.py reads images, and predictions.py finds their
classes. graph_activations.py and keras_activations.py compute the activations and gradients of one
batch, and activations.py saves them. frozen.py and keras_exports.py write exports, and exports.py
opens them. timing.py measures how long an image takes.
"""
