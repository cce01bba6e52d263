"""The runs that the comparison of curves is calibrated with: short ones, with and without faults.

Each fault is planted in the code, as a fault of another platform would be: the command line and
run.json know nothing of it.
"""

import contextlib
import copy
import dataclasses
import io
import os
import tempfile
from typing import Callable, Dict, List, Sequence, Tuple
from unittest import mock

from common.tf_stack import tf

import numpy as np
from calibration import NO_FAULT, OTHER_STACK
from tensorpack.callbacks import Callback

import sparsenet_model
from cifar_data import ImageSet
from comparison.weight_norms import log_growth
from platforms import gpu
from run_directory.checkpoints import find_checkpoint
from run_directory.table import Row, read_rows, table_path
from training import trainer
from training.callbacks import Checkpoints, LearningRate
from training.command_line import parse
from training.prepare import Run
from training.run import train


def patch_input(change: Callable[[Run], Run]):
    """Train on the input of a run that `change` returns."""
    make_input = trainer.make_input
    return mock.patch.object(
        trainer, "make_input", lambda run, faults: make_input(change(run), faults)
    )


def with_wrong_labels(run: Run) -> Run:
    """Return the run with another label on 5 % of its training images."""
    stream = np.random.RandomState(run.settings.seed)
    labels = run.data.train.labels.copy()
    wrong = stream.permutation(len(labels))[: len(labels) // 20]
    labels[wrong] = (labels[wrong] + stream.randint(1, 10, len(wrong))) % 10
    data = copy.copy(run.data)
    data.train = ImageSet(run.data.train.images, labels)
    return dataclasses.replace(run, data=data)


class TrainAgain(Callback):
    """Train on every tenth batch once more; no step counts it."""

    def _before_run(self, _):
        inputs = [self.trainer.sess.graph.get_tensor_by_name(n) for n in ("image:0", "label:0")]
        return tf.train.SessionRunArgs(inputs)

    def _after_run(self, context, values):
        if self.global_step % 10 == 9:
            feed = dict(zip(("image:0", "label:0"), values.results))
            context.session.run(self.trainer.train_op, feed)


def without_mirroring(run: Run) -> Run:
    """Return the run with images that are only cropped."""
    return dataclasses.replace(run, preprocessing=dict(run.preprocessing, mirror=False))


def without_decay():
    """Build the model with a weight decay of 0."""
    make_model = trainer.make_model

    def make(run):
        model = make_model(run)
        model.weight_decay = 0.0
        return model

    return mock.patch.object(trainer, "make_model", make)


def without_drops():
    """Keep the learning rate of the first epoch."""
    return mock.patch.object(
        LearningRate, "_get_value_to_set", lambda setter: setter.recipe.learning_rate
    )


def with_batches_twice():
    """Train on one batch in ten twice."""
    make_callbacks = trainer.make_callbacks
    return mock.patch.object(
        trainer, "make_callbacks", lambda *run: [*make_callbacks(*run), TrainAgain()]
    )


FAULTS: Dict[str, Callable] = {
    NO_FAULT: contextlib.nullcontext,
    OTHER_STACK: contextlib.nullcontext,
    "no weight decay": without_decay,
    "no mirroring": lambda: patch_input(without_mirroring),
    "learning rate not dropped": without_drops,
    "batch-norm momentum 0.99": lambda: mock.patch.object(sparsenet_model, "BN_MOMENTUM", 0.99),
    "5 % of labels wrong": lambda: patch_input(with_wrong_labels),
    "one batch in ten twice": with_batches_twice,
}


def save_the_last(checkpoints: Checkpoints) -> None:
    """Save the last epoch's checkpoint only: no other is looked at, and saving takes time."""
    if checkpoints.epoch_num == checkpoints.trainer.max_epoch:
        checkpoints._save()


def run_once(flags: Sequence[str], fault: str, seed: int) -> Tuple[List[Row], float]:
    """Return the table of a new run, and log_growth of its kernels."""
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(tempfile.TemporaryDirectory())
        stack.enter_context(mock.patch.object(Checkpoints, "_trigger_epoch", save_the_last))
        stack.enter_context(FAULTS[fault]())
        stack.enter_context(tf.Graph().as_default())
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        settings = parse([*flags, "--seed", str(seed), "--log_dir", root, "--name", "run"])
        assert settings is not None
        train(settings, gpu.platform)
        directory = os.path.join(root, "run")
        growth = log_growth(os.path.join(directory, "model-0"), find_checkpoint(directory))
        return read_rows(table_path(directory, "cpu")), growth
