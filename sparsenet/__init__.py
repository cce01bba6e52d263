"""A network as data: which earlier outputs its layers read, and all that follows from it.

fetch.py has the rule, config.py the record of one network, plan.py its layers, operations and
variables, costs.py what they cost, initial_weights.py what training starts from. recipes.py says
how a network is trained, published.py what the papers print; keras.py makes a Keras 3 model of a
network. The package can be used without the rest of the checkout and imports neither TensorFlow
nor tensorpack.
"""
