"""train_keras.py with batch norm in inference form, as frozen_statistics.py is main_gpu.py."""

import os
import sys

CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [CHECKOUT, os.path.join(CHECKOUT, "scripts")]

import train_keras  # noqa: E402

from common.keras_stack import choose_backend  # noqa: E402
from sparsenet.errors import exit_code_of  # noqa: E402

choose_backend("jax")

from training.keras_model import BatchNormalization  # noqa: E402

in_both_forms = BatchNormalization.call


def with_frozen_statistics(self, inputs, training=None, mask=None):
    return in_both_forms(self, inputs, training=False, mask=mask)


BatchNormalization.call = with_frozen_statistics

if __name__ == "__main__":
    sys.exit(exit_code_of(train_keras.main))
