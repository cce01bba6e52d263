"""Load trained networks, test them, predict with them and save their activations.

trained_network.py loads one, from a run directory or from any checkpoint and flags that describe
it. logits.py chooses what computes it, graph.py or keras_models.py; evaluate.py runs it over a test
set, confusion.py draws the result, and activations.py computes the activations and gradients of one
batch. image_files.py reads images, and predictions.py finds their classes.
"""
