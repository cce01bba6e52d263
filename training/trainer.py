"""The epochs of a run: its graph, input, trainer and callbacks, put together."""

from typing import Callable, Iterator, List, Mapping, Optional

from common.tf_stack import tf

import numpy as np
from tensorpack import FeedInput, QueueInput, SimpleTrainer, SyncMultiGPUTrainerReplicated
from tensorpack.callbacks import RunUpdateOps
from tensorpack.dataflow import DataFromGenerator
from tensorpack.tfutils.sessinit import JustCurrentSession

from cifar_data import Batch
from common.ahead import Ahead
from common.garbage import none_collected
from platforms.platform import Platform
from run_directory.table import TOP_5, Table, columns_of
from sparsenet.errors import RunFailed
from sparsenet.initial_weights import initial_weights
from sparsenet_model import SparseNet
from training.callbacks import (
    AverageStatistics,
    BroadcastVariables,
    Checkpoints,
    EpochReport,
    EventDetails,
    Events,
    LearningRate,
    ProgressPrinter,
    Stats,
    TestSetEvaluator,
    TrainingMeter,
)
from training.loss_scaling import LossScalingMeter
from training.prepare import Run, noting
from training.recompute import RecomputingOptimizer
from training.session import InitializedSession

BATCHES_AHEAD = 2  # prepared while a step runs
SHOWN = 64  # training images, once, in TensorBoard


def run_epochs(run: Run, table: Optional[Table]) -> None:
    """Build the graph and run the epochs. Raises RunFailed if the loss is not finite.

    table: None for a worker that writes nothing
    """
    tf.set_random_seed(run.settings.seed)
    model = make_model(run)
    trainer = make_trainer(run.platform)
    events = Events()
    faults: List[Exception] = []
    with none_collected():
        trainer.setup_graph(
            model.get_input_signature(),
            make_input(run, faults),
            model.build_graph,
            model.get_optimizer,
        )
        trainer.setup_callbacks(
            make_callbacks(run, table, events),
            [events] if table is None else [events, Stats(run.directory, table)],
        )
        trainer.initialize(
            InitializedSession(run.platform, initial_state(run)),
            JustCurrentSession(),
        )
    trainer.main_loop(run.steps_per_epoch, run.first_epoch, run.recipe.epochs)
    if faults:  # the thread that fills a queue ends it, as if there were no more images
        raise faults[0]
    steps = run.recipe.epochs * run.steps_per_epoch
    if trainer.global_step < steps:
        raise RunFailed("training ended at step {} of {}".format(trainer.global_step, steps))


def make_model(run: Run) -> SparseNet:
    """Return the model that builds the graph for one device of this process."""
    recipe, platform = run.recipe, run.platform
    return SparseNet(
        recipe.config,
        normalization=run.preprocessing,
        batch_size=run.device_batch_size,
        learning_rate=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        weight_decay_scope=recipe.weight_decay_scope,
        seed=run.settings.seed,
        wrap_optimizer=wrapping(run),
        first_device=platform.workers.rank * len(platform.devices),
    )


def wrapping(run: Run) -> Callable:
    """Return what adds to the optimizer what platform and settings ask for.

    Fused layers keep nothing that could be computed once more.
    """
    wrap = run.platform.wrap_optimizer
    if not run.settings.recompute or run.platform.fusion is not None:
        return wrap
    return lambda optimizer: wrap(RecomputingOptimizer(optimizer))


def make_callbacks(run: Run, table: Optional[Table], events: Events) -> list:
    """Return the callbacks of a run; each comes after those whose results it uses."""
    recipe, workers = run.recipe, run.platform.workers
    meter = TrainingMeter(workers, recipe.config)
    callbacks = [
        *([BroadcastVariables(workers.broadcast)] if workers.broadcast is not None else []),
        RunUpdateOps(),
        LearningRate(recipe, run.steps_per_epoch),
        meter,
        *([AverageStatistics(workers)] if workers.world_size > 1 else []),
    ]
    scaled = run.platform.loss_scaling
    loss_scaling = [] if scaled is None else [LossScalingMeter(scaled)]
    if table is None:
        return callbacks + loss_scaling
    test_set = TestSetEvaluator(
        run.data, run.device_batch_size, with_top_5=TOP_5 in columns_of(recipe.config)
    )
    return callbacks + [
        test_set,
        EpochReport(meter, test_set, table, recipe),
        EventDetails(
            events,
            meter,
            first_images(run) if run.checkpoint is None else None,
            run.settings.histograms,
        ),
        Checkpoints(run.directory, run.checkpoint is None, run.platform.fusion),
        # Last: the epoch is saved, whatever happens to the terminal.
        ProgressPrinter(table, recipe.batch_size),
        *loss_scaling,
    ]


def first_images(run: Run) -> np.ndarray:
    """Return the images that this process trains on first, as augmented: uint8 [N, H, W, 3]."""
    return next(training_batches(run)).images[:SHOWN]


def training_batches(run: Run) -> Iterator[Batch]:
    """Yield the part of each batch that this process trains on."""
    workers = run.platform.workers
    return run.data.training_batches(
        run.recipe.batch_size, run.settings.seed, run.steps_per_epoch, run.first_epoch,
        run.preprocessing, (workers.rank, workers.world_size),
    )  # fmt: skip


def make_trainer(platform: Platform):
    """Return the trainer for the devices of this process."""
    towers = len(platform.devices)
    if towers == 1:
        trainer = (platform.workers.make_trainer or SimpleTrainer)()
    else:
        trainer = SyncMultiGPUTrainerReplicated(list(range(towers)))
    trainer.is_chief = platform.workers.is_chief
    # Ungated (tensorpack's default), TF 1.15 may update a kernel in place while the gradient of
    # its layer's input is still being computed from it.
    trainer.GATE_GRADIENTS = tf.train.Optimizer.GATE_OP
    return trainer


def make_input(run: Run, faults: List[Exception]):
    """Return the input of the graph: placeholders that are fed, or a queue for several devices.

    From the queue, each device takes its part of a batch.

    faults: gets what goes wrong while the images are read
    """
    towers = len(run.platform.devices)

    def datapoints():
        batches = noting(iter(Ahead(training_batches(run), BATCHES_AHEAD)), faults)
        for step, batch in enumerate(batches, start=(run.first_epoch - 1) * run.steps_per_epoch):
            for part in zip(*(np.split(array, towers) for array in batch)):
                # Dropout masks are a function of the step.
                yield part + (step,) if run.recipe.config.dropout else part

    flow = DataFromGenerator(datapoints)
    return FeedInput(flow) if towers == 1 else QueueInput(flow)


def initial_state(run: Run) -> Mapping[str, np.ndarray]:
    """Return the variables that the run starts with: of a checkpoint to resume, loaded or new."""
    if run.weights is not None:
        return run.weights
    return initial_weights(run.recipe.config, run.settings.seed)
