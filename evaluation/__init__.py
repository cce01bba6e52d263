"""Trained networks: found (trained_network.py), tested (evaluate.py), looked into (activations.py).

A network comes from a run directory, or from any checkpoint together with flags that describe it.
"""
