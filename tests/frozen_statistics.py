"""main_gpu.py with batch norm in inference form: a batch's gradient is the mean of its parts'.

In training form batch norm makes an image's gradient depend on what else is in its batch.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common.tf_stack import tf  # noqa: F401, I001

from tensorpack.models import BatchNorm
from tensorpack.tfutils.argscope import argscope

import main_gpu
import sparsenet_model
from sparsenet.errors import exit_code_of

network = sparsenet_model.network


def with_frozen_statistics(*arguments):
    with argscope(BatchNorm, training=False):
        return network(*arguments)


sparsenet_model.network = with_frozen_statistics

if __name__ == "__main__":
    sys.exit(exit_code_of(main_gpu.main))
