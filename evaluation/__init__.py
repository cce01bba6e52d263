"""Load trained networks, test them and save their activations.

trained_network.py loads one, evaluate.py runs it over a test set, and activations.py computes the
activations and gradients of one batch. A network comes from a run directory, or from any
checkpoint and flags that describe it.
"""
