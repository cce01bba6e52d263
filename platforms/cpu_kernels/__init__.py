"""Kernels for training on the CPU, where TensorFlow's own are slow.

Batch normalisation, ReLU and convolution of the feature maps that a layer reads are one op, in
C++ (norm_relu_conv.h, on convolution.h, vectors.h and team.h; ops.cc makes TensorFlow ops of it).
build.py compiles it when it is needed first, and fuse.py puts it in place of the standard ops of a
graph, which stay what is written down and compared.
"""
