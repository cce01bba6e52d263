"""The callbacks of a run: measure, show progress, test, record, save."""

import contextlib
import os
import sys
import time
from typing import Any, Callable, Dict, Optional, Tuple

from common.tf_stack import tf

import numpy as np
from tensorpack.callbacks import Callback, HyperParamSetter, MonitorBase, TFEventWriter
from tqdm import tqdm

from cifar_data import Dataset
from common.files import write_whole
from common.metrics import incorrect
from platforms.workers import Workers
from run_directory.checkpoints import CHECKPOINT_PREFIX, keep
from run_directory.graph_text import meta_graph_text
from run_directory.record import GRAPH
from run_directory.table import TOP_5, UNTIMED_STEPS, WHOLE, Row, Table, write_stats
from sparsenet.arrays import NETWORK_SCOPES
from sparsenet.config import SparseNetConfig
from sparsenet.errors import RunFailed
from sparsenet.recipes import Recipe
from sparsenet_model import CROSS_ENTROPY, INCORRECT, LOGITS
from training.asked import together
from training.not_finite import STATISTICS, first_by_outputs, first_by_statistics
from training.records import check_finite, reason_of
from training.screen import print_epoch, print_header, show

SECONDS_BETWEEN_LINES = 60
STEPS_PER_POINT = 10  # of the loss by step in TensorBoard
LAYER_OUTPUT = "/output"  # tensorpack's name of a layer's output, in the layer's scope


class TrainingMeter(Callback):
    """Measure loss and error over an epoch's training batches, and the time of its steps.

    It fetches the same tensors in every step: for an NPU, another set of fetches would mean another
    compilation.

    config: of the network
    """

    _chief_only = False  # every worker trains on a part of the images

    def __init__(self, workers: Workers, config: SparseNetConfig):
        self._workers = workers
        self._config = config

    def _setup_graph(self):
        towers = self.trainer.towers.training()
        self._fetches = [
            [tower.get_tensor(name + ":0") for tower in towers]
            for name in (CROSS_ENTROPY, INCORRECT)
        ]
        if self._workers.mean is not None:
            with tf.name_scope("training_meter"):
                self._own = tf.placeholder(tf.float32, [2], "own")
                self._mean = self._workers.mean(self._own)

    def _before_train(self):
        self._untimed_steps = min(UNTIMED_STEPS, self.trainer.steps_per_epoch // 2)

    def _before_epoch(self):
        self._loss_sum = self._incorrect_sum = 0.0
        self._images = 0
        self._restart_clock()

    def _restart_clock(self):
        self._start = time.perf_counter()
        self._images_untimed = self._images

    def _before_run(self, _):
        return tf.train.SessionRunArgs(self._fetches)

    def _after_run(self, _, values):
        losses, incorrect = (np.concatenate(parts).astype(np.float64) for parts in values.results)
        self._loss_sum += losses.sum()
        self._incorrect_sum += incorrect.sum()
        self._images += len(losses)

    def _trigger_step(self):
        check_finite(
            "training", self._loss_sum, self.global_step, self.epoch_num, self._first_layer
        )
        if self._untimed_steps:
            self._untimed_steps -= 1
            self._restart_clock()

    def _first_layer(self) -> Optional[str]:
        is_alone = len(self.trainer.towers.training()) * self._workers.world_size == 1
        values = tf.get_default_session().run(moving_statistics())
        return first_by_statistics(self._config, values, of_whole_batch=is_alone)

    def _after_epoch(self):
        seconds = time.perf_counter() - self._start
        timed = (self._images - self._images_untimed) * self._workers.world_size
        self.images_per_second = timed / seconds
        self._loss, self._error = self._loss_sum / self._images, self._incorrect_sum / self._images
        if self._workers.mean is not None:
            session = tf.get_default_session()
            own = {self._own: [self._loss, self._error]}
            self._loss, self._error = session.run(self._mean, own).tolist()

    @property
    def so_far(self) -> Tuple[int, float]:
        """Return the number of this process's images in this epoch, and the sum of their losses."""
        return self._images, self._loss_sum

    def results(self) -> Row:
        """Return the columns of the table that training fills, for the epoch that has ended."""
        return {
            "train_loss": self._loss,
            "train_error": self._error,
            "epoch_seconds": self._images * self._workers.world_size / self.images_per_second,
            "images_per_second": self.images_per_second,
        }


class TestSetEvaluator(Callback):
    """Compute loss and error over every image of the test set, with the current weights.

    with_top_5: the top-5 error too
    """

    def __init__(self, data: Dataset, batch_size: int, with_top_5: bool = False):
        self.data = data
        self.batch_size = batch_size
        self.with_top_5 = with_top_5

    def _setup_graph(self):
        fetches = [CROSS_ENTROPY, INCORRECT] + [LOGITS] * self.with_top_5
        self._predict = self.trainer.get_predictor(["image", "label"], fetches)

    def evaluate(self) -> Row:
        """Return the columns of the table that the test set fills; the time is in seconds."""
        start = time.perf_counter()
        sums = np.zeros(2 + self.with_top_5)
        self._bad_batch = None
        for batch, count in self.data.test_batches(self.batch_size):
            by_image = self._predict(*batch)
            if self._bad_batch is None and not np.isfinite(by_image[0][:count]).all():
                self._bad_batch = batch
            if self.with_top_5:
                by_image[2] = incorrect(by_image[2], batch.labels, 5)
            sums += [each[:count].sum(dtype=np.float64) for each in by_image]
        names = ("test_loss", "test_error", TOP_5)
        means = zip(names, (sums / len(self.data.test.labels)).tolist())
        return dict(means, inference_seconds=time.perf_counter() - start)

    def first_layer(self) -> Optional[str]:
        """Return the first layer whose output is not finite, for images whose loss is not."""
        if self._bad_batch is None:
            return None
        prefix = self._predict.output_tensors[0].op.name[: -len(CROSS_ENTROPY)]
        outputs = [
            op.outputs[0]
            for op in tf.get_default_graph().get_operations()
            if op.name.startswith(prefix) and op.name.endswith(LAYER_OUTPUT)
        ]
        feed = dict(zip(self._predict.input_tensors, self._bad_batch))
        values = tf.get_default_session().run(outputs, feed)
        names = [each.op.name[len(prefix) : -len(LAYER_OUTPUT)] for each in outputs]
        return first_by_outputs(zip(names, values))


class LearningRate(HyperParamSetter):
    """Set the learning rate: before the first epoch, and after each one or after each step."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int):
        super().__init__("learning_rate")
        self.recipe = recipe
        self.steps_per_epoch = steps_per_epoch

    def _get_value_to_set(self):
        return self.recipe.learning_rate_after(self.global_step / self.steps_per_epoch)

    def _trigger_step(self):
        if self.recipe.lr_moves:
            self.trigger()


class EpochReport(Callback):
    """Write one row per epoch to the table, to stats.json and to the events."""

    def __init__(
        self, meter: TrainingMeter, test_set: TestSetEvaluator, table: Table, recipe: Recipe
    ):
        self.meter = meter
        self.test_set = test_set
        self.table = table
        self.recipe = recipe

    def _trigger_epoch(self):
        row = {
            "epoch": self.epoch_num,
            "global_step": self.global_step,
            "learning_rate": self.recipe.learning_rate_at(self.epoch_num),
        }
        row.update(self.meter.results())
        row.update(self.test_set.evaluate())
        check_finite(
            self.table.tested_on, row["test_loss"], self.global_step, self.epoch_num,
            self.test_set.first_layer,
        )  # fmt: skip
        self.table.append(row)
        for name in row:
            if name not in WHOLE:
                self.trainer.monitors.put_scalar(name, row[name])


class Stats(MonitorBase):
    """Write the figures of each epoch to stats.json, whole or not at all.

    tensorpack's JSONWriter sets aside a file that does not end just before the epoch that it starts
    with, and does not wait for the disk.
    """

    def __init__(self, directory: str, table: Table):
        self.directory = directory
        self.table = table
        self._figures: Dict[str, float] = {}

    def process_scalar(self, name, value):
        """Keep a figure of the epoch."""
        self._figures[name] = float(value)

    def _trigger_epoch(self):
        write_stats(self.directory, self.table.rows, self._figures)
        self._figures = {}


class Events(TFEventWriter):
    """Write TensorBoard's events; leave it to a failing checkpoint to report a failure.

    Beside what each epoch gives to all monitors, that is the graph and what EventDetails adds.
    """

    def add(self, *values: tf.Summary.Value) -> None:
        """Write values of the step that was done last."""
        self.process_summary(tf.Summary(value=values))

    # A thread writes the events: what it is told is told as a whole.

    @together()
    def process_summary(self, summary):
        """Write a summary of the step that was done last."""
        super().process_summary(summary)

    @together()
    def _trigger(self):
        super()._trigger()

    @together()
    def _after_train(self):
        with contextlib.suppress(Exception):  # TensorFlow raises built-in ones of many kinds
            super()._after_train()


class EventDetails(Callback):
    """Write to TensorBoard the loss by step, and once, the first training images as augmented.

    images:          the first ones, uint8 [N, H, W, 3]; None for a resumed run, which has them
    with_histograms: of all weights too, before the first step and after each epoch
    """

    def __init__(
        self,
        events: Events,
        meter: TrainingMeter,
        images: Optional[np.ndarray],
        with_histograms: bool,
    ):
        self._events = events
        self._meter = meter
        self._images = images
        self._with_histograms = with_histograms
        self._done = (0, 0.0)  # images and sum of losses, when the last point was written

    def _setup_graph(self):
        if self._with_histograms:
            with tf.name_scope("weights/"):
                histograms = [
                    tf.summary.histogram(weights.op.name, weights, collections=[])
                    for weights in tf.trainable_variables()
                ]
                self._histograms = tf.summary.merge(histograms, collections=[])

    def _before_train(self):
        if self._images is not None:
            grid = tf.Summary.Image(encoded_image_string=png_of(image_grid(self._images)))
            self._events.add(tf.Summary.Value(tag="training_images", image=grid))
        self._write_histograms()

    def _trigger_step(self):
        last_step = self.local_step == self.trainer.steps_per_epoch - 1
        if self.local_step % STEPS_PER_POINT == STEPS_PER_POINT - 1 or last_step:
            images, loss_sum = self._meter.so_far
            loss = (loss_sum - self._done[1]) / (images - self._done[0])
            self._events.add(tf.Summary.Value(tag="train_loss_by_step", simple_value=loss))
            self._done = (0, 0.0) if last_step else (images, loss_sum)

    def _trigger_epoch(self):
        self._write_histograms()

    def _write_histograms(self):
        if self._with_histograms:
            self._events.process_summary(tf.get_default_session().run(self._histograms))


def image_grid(images: np.ndarray) -> np.ndarray:
    """Return images in rows, as one: uint8 [N, H, W, 3] -> [rows H, columns W, 3].

    It is about a square; what N images don't fill is black.
    """
    count, height, width, colours = images.shape
    columns = int(np.ceil(count**0.5))
    rows = -(-count // columns)
    grid = np.zeros((rows * columns, height, width, colours), np.uint8)
    grid[:count] = images
    grid = grid.reshape(rows, columns, height, width, colours).transpose(0, 2, 1, 3, 4)
    return grid.reshape(rows * height, columns * width, colours)


def png_of(image: np.ndarray) -> bytes:
    """Return an image, uint8 [H, W, 3], as a PNG file."""
    import cv2

    return cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


class ProgressPrinter(Callback):
    """Print a line per epoch, and the progress within it.

    On a terminal that is a bar with images/s and the time left; elsewhere, a plain line now and
    then.
    """

    def __init__(self, table: Table, batch_size: int):
        self.table = table
        self.batch_size = batch_size
        self._bar: Any = None

    def _before_train(self):
        print_header(self.table.tested_on)
        self._start = time.perf_counter()

    def _before_epoch(self):
        self._bar = tqdm(
            total=self.trainer.steps_per_epoch * self.batch_size,
            desc="epoch {}/{}".format(self.epoch_num, self.trainer.max_epoch),
            unit=" images",
            leave=False,
            dynamic_ncols=True,
            file=sys.stdout,
            disable=not sys.stdout.isatty(),
        )
        self._epoch_start = self._last_line = time.perf_counter()

    def _trigger_step(self):
        self._bar.update(self.batch_size)
        if self._bar.disable and time.perf_counter() - self._last_line > SECONDS_BETWEEN_LINES:
            self._print_progress()

    def _print_progress(self):
        self._last_line = time.perf_counter()
        done = self.local_step + 1
        elapsed = self._last_line - self._epoch_start
        left = elapsed / done * (self.trainer.steps_per_epoch - done)
        show(
            "epoch {}/{}: step {} of {}, {:.0f} images/s, {} left".format(
                self.epoch_num, self.trainer.max_epoch, done, self.trainer.steps_per_epoch,
                done * self.batch_size / elapsed, tqdm.format_interval(left),
            )
        )  # fmt: skip

    def _after_epoch(self):
        self._bar.close()

    def _trigger_epoch(self):
        done = self.epoch_num - self.trainer.starting_epoch + 1
        seconds = (time.perf_counter() - self._start) / done
        print_epoch(self.table.rows[-1], self.trainer.max_epoch, seconds)

    def _after_train(self):
        if self._bar is not None:
            self._bar.close()


class Checkpoints(Callback):
    """Save `graph.pbtxt`, `model-0` before the first step, and the models of the newest few epochs.

    fusion: what the platform did to the graph, see Platform

    tensorpack's ModelSaver swallows write errors; here they end the run.
    """

    def __init__(self, directory: str, is_new_run: bool, fusion: Optional[Any] = None):
        self.directory = directory
        self.is_new_run = is_new_run
        self.fusion = fusion

    def _setup_graph(self):
        self._saver = tf.train.Saver(tf.global_variables(), save_relative_paths=True)

    def _before_train(self):
        if self.is_new_run:
            self._write_graph()
            self._save()

    def _trigger_epoch(self):
        self._save()

    def _write_graph(self):
        """Write the graph as a text MetaGraphDef that loads on any machine.

        It is without devices, and with the standard ops where others take their place here.
        """
        meta_graph = self._saver.export_meta_graph()
        if self.fusion is not None:
            self.fusion.undo(meta_graph)
        for node in meta_graph.graph_def.node:
            node.device = ""
        write_whole(os.path.join(self.directory, GRAPH), meta_graph_text(meta_graph))

    def _save(self):
        prefix = os.path.join(self.directory, CHECKPOINT_PREFIX)
        # Its own list of checkpoints, and what it drops, is no use here: it takes paths for
        # patterns, and drops the old ones before the new one is on the disk.
        try:
            saved = self._saver.save(
                self.trainer.sess, prefix, self.global_step, write_meta_graph=False,
                write_state=False,
            )  # fmt: skip
        except (tf.errors.OpError, ValueError) as error:
            # ValueError: what it makes of a folder that is gone. A file over the size limit is an
            # OutOfRangeError, which tensorpack takes for the end of the data.
            raise RunFailed(reason_of(error))
        keep(saved)


def moving_statistics() -> Dict[str, tf.Variable]:
    """Return the moving means and variances of the network by name.

    The collection of model variables has them on TensorFlow 1.15 alone.
    """
    names = {each.op.name: each for each in tf.global_variables()}
    return {
        name: variable
        for name, variable in names.items()
        if NETWORK_SCOPES.match(name) and name.endswith(STATISTICS)
    }


class BroadcastVariables(Callback):
    """Give all workers the variables of the chief, before the first step."""

    _chief_only = False

    def __init__(self, make_broadcast: Callable[[], tf.Operation]):
        self._make_broadcast = make_broadcast

    def _setup_graph(self):
        self._broadcast = self._make_broadcast()

    def _before_train(self):
        self._broadcast.run()


class AverageStatistics(Callback):
    """Give all workers the mean of their moving means and variances, after each epoch.

    Each worker has seen only its own part of the images; what is tested and saved reflects all.
    """

    _chief_only = False

    def __init__(self, workers: Workers):
        self._workers = workers

    def _setup_graph(self):
        mean = self._workers.mean or tf.identity
        with tf.name_scope("average_statistics"):
            self._average = tf.group(*[tf.assign(v, mean(v)) for v in moving_statistics().values()])

    def _trigger_epoch(self):
        self._average.run()
