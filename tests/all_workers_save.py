"""main_gpu.py of which every worker, not the first one alone, writes its variables at the end."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from common.tf_stack import tf  # noqa: I001

import numpy as np
from tensorpack.callbacks import Callback

import main_gpu
from training import trainer
from sparsenet.errors import exit_code_of

make_callbacks = trainer.make_callbacks


class SaveOwn(Callback):
    _chief_only = False

    def __init__(self, rank):
        self._rank = rank

    def _after_train(self):
        values = tf.get_default_session().run({v.op.name: v for v in tf.global_variables()})
        folder = os.environ["SPARSENET_TEST_FOLDER"]
        np.savez(os.path.join(folder, "worker-{}.npz".format(self._rank)), **values)


def with_own(run, *others):
    return make_callbacks(run, *others) + [SaveOwn(run.platform.workers.rank)]


trainer.make_callbacks = with_own

if __name__ == "__main__":
    sys.exit(exit_code_of(main_gpu.main))
