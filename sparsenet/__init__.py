"""The network as data: a SparseNet is a rule (which earlier outputs a layer reads), as a record.

fetch.py holds the rule, config.py the record of one network, plan.py the layers, operations and
variables that follow from it, costs.py what they cost. recipes.py says how a network is trained,
published.py what the papers print. This package is installed alone and imports nothing else of
the checkout: no TensorFlow, no tensorpack.
"""
