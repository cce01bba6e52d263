"""The epochs of a run: graph, input, trainer and callbacks, put together."""

from typing import Optional

from common.tf_stack import tf

import numpy as np
from tensorpack import FeedInput, QueueInput, SyncMultiGPUTrainerReplicated
from tensorpack.callbacks import HyperParamSetterWithFunc, JSONWriter, RunUpdateOps
from tensorpack.dataflow import DataFromGenerator
from tensorpack.tfutils.sesscreate import NewSessionCreator
from tensorpack.tfutils.sessinit import DictRestore, SaverRestore

from platforms.platform import Platform
from platforms.workers import AverageStatistics, BroadcastVariables
from run_directory import record as records
from sparsenet.initial_weights import initial_weights
from sparsenet_model import SparseNet
from training.callbacks import Checkpoints, EpochReport, Events, Screen, TestSet, TrainingMeter
from training.prepare import Run


def train(this: Run, table: Optional[records.Table]) -> None:
    """Build the graph and run the epochs. Raises RunFailed where the loss is not finite.

    table: None for a worker that writes nothing
    """
    recipe, settings = this.recipe, this.settings
    tf.set_random_seed(settings.seed)
    model = SparseNet(
        recipe.config,
        this.preprocessing,
        recipe.batch_size // this.platform.total_devices,
        recipe.learning_rate,
        recipe.weight_decay,
        recipe.decayed,
        settings.seed,
        this.platform.wrap_optimizer,
        this.platform.workers.rank * len(this.platform.devices),
    )
    trainer = make_trainer(this.platform)
    trainer.setup_graph(
        model.get_input_signature(), make_input(this), model.build_graph,
        model.get_optimizer,
    )  # fmt: skip
    trainer.train(
        callbacks=make_callbacks(this, table),
        monitors=[Events(), JSONWriter()],
        session_creator=NewSessionCreator(config=this.platform.session_config),
        session_init=initial_state(this),
        steps_per_epoch=this.steps,
        starting_epoch=this.first_epoch,
        max_epoch=recipe.epochs,
    )


def make_callbacks(this: Run, table: Optional[records.Table]) -> list:
    """What happens around the steps; a callback comes after those whose results it uses.

    tensorpack leaves out those that only the first worker needs where it is another one.
    """
    recipe, workers = this.recipe, this.platform.workers
    meter = TrainingMeter(workers)
    test_set = TestSet(this.data, recipe.batch_size // this.platform.total_devices)
    return [
        *([BroadcastVariables(workers)] if workers.broadcast is not None else []),
        RunUpdateOps(),
        # Asked at the end of epoch e for the rate of e + 1, and once before the first.
        HyperParamSetterWithFunc(
            "learning_rate", lambda epoch, _: recipe.learning_rate_at(epoch + 1)
        ),
        meter,
        *([AverageStatistics(workers)] if workers.count > 1 else []),
        test_set,
        EpochReport(meter, test_set, table, recipe),
        Checkpoints(this.directory, is_new_run=this.checkpoint is None),
        # Last: whatever becomes of the terminal, the epoch is kept.
        Screen(table, recipe.batch_size),
    ]


def make_trainer(platform: Platform):
    """The trainer for the devices of this process."""
    towers = len(platform.devices)
    if towers == 1:
        trainer = platform.workers.make_trainer()
    else:
        trainer = SyncMultiGPUTrainerReplicated(list(range(towers)))
    trainer.is_chief = platform.workers.is_first
    # Ungated (tensorpack's default), TF 1.15 may update a kernel in place while the gradient of
    # its layer's input is still being computed from it.
    trainer.GATE_GRADIENTS = tf.train.Optimizer.GATE_OP
    return trainer


def make_input(this: Run):
    """Placeholders for one device; for several a queue, of which each takes its part of a batch."""
    towers, workers = len(this.platform.devices), this.platform.workers

    def datapoints():
        batches = this.data.training_batches(
            this.recipe.batch_size, this.settings.seed, this.steps, this.first_epoch,
            this.preprocessing, (workers.rank, workers.count),
        )  # fmt: skip
        for step, batch in enumerate(batches, start=(this.first_epoch - 1) * this.steps):
            for part in zip(*(np.split(array, towers) for array in batch)):
                # Dropout masks are a function of the step.
                yield part + (step,) if this.recipe.config.dropout else part

    flow = DataFromGenerator(datapoints)
    return FeedInput(flow) if towers == 1 else QueueInput(flow)


def initial_state(this: Run):
    """What the variables start from: a checkpoint to continue, loaded weights, or new ones."""
    if this.checkpoint is not None:
        return SaverRestore(this.checkpoint)
    if this.weights is not None:
        return DictRestore(this.weights)
    return DictRestore(initial_weights(this.recipe.config, this.settings.seed))
