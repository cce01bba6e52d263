"""Epochs on JAX: the training set in device memory, and the steps in one compiled loop."""

from typing import Callable, Iterator, List, Sequence, Tuple

import jax
import jax.numpy as jnp
import keras
import numpy as np

from cifar_data import Augmentation, draw_epoch
from sparsenet.keras import preprocess_input
from training.keras_model import NesterovSGD
from training.prepare import Run

LONGEST_PART = 200  # steps of one compiled call: between two calls, progress is shown
SHORTEST_PART = 20  # below it, an epoch is one call
TEST_BATCH = 250

Sums = Sequence[np.ndarray]  # losses and errors


class JaxEpochs:
    """Train and test a model on JAX with the images of a Dataset of small images.

    With several devices each takes an equal part of a batch; batch normalisation is over the whole
    batch, and all devices have the same weights.
    """

    def __init__(self, run: Run, model: keras.Model, optimizer: NesterovSGD):
        self.run = run
        self.model = model
        self.optimizer = optimizer
        self.augmentation = Augmentation(*(run.preprocessing[k] for k in Augmentation._fields))
        self.devices = Devices()
        train, test = run.data.train, run.data.test
        padded = _padded(train.images, self.augmentation)
        self.train_set = [self.devices.placed(each) for each in (padded, train.labels)]
        self.test_set = [self.devices.placed(each) for each in (test.images, test.labels)]
        # Inside of a compiled loop, XLA's convolutions on a CPU are some 20 times slower.
        loop = self.devices.call_by_call if run.platform.name == "cpu" else self.devices.in_one_loop
        self._train_part = loop(self._train_step, donated=True)
        self._test_part = loop(self._test_step, donated=False)

    def train(self, epoch: int, advance: Callable[[int], object]) -> Iterator[Sums]:
        """Train for an epoch; yield sums of losses and of errors over each step, part by part.

        advance: told of the steps of each part
        """
        steps, batch = self.run.steps_per_epoch, self.run.recipe.batch_size
        draws = draw_epoch(
            len(self.run.data.train.labels), self.run.settings.seed, epoch, self.augmentation
        )
        by_step = [each[: steps * batch].reshape(steps, batch) for each in draws]
        size = part_size(steps)
        for start in range(0, steps, size):
            part = [each[start : start + size] for each in by_step]
            self._before = jax.tree.map(jnp.copy, self._state()), part
            state, sums = self._train_part(self._state(), self.train_set, part)
            self._keep(state)
            advance(len(sums[0]))
            yield sums

    def go_back(self, steps: int) -> None:
        """Give the model the state that it had after some steps of the part trained last."""
        state, part = self._before
        step = self.devices.call_by_call(self._train_step, donated=False)
        state, _ = step(state, self.train_set, [each[:steps] for each in part])
        self._keep(state)

    def test(self) -> Sums:
        """Return losses and errors of the test images, in order."""
        count, devices = len(self.run.data.test.labels), self.run.platform.total_devices
        batch = -(-min(TEST_BATCH, count) // devices) * devices
        # The last batch is filled up with the first image, which does not count.
        numbers = np.concatenate([np.arange(count), np.zeros(-count % batch, int)])
        _, results = self._test_part(self._state(), self.test_set, [numbers.reshape(-1, batch)])
        losses, errors = (each.reshape(-1)[:count] for each in results)
        return losses, errors

    def _state(self) -> Tuple[List, List, List]:
        """Return the values of all variables, to be given to a compiled function."""
        return (
            [each.value for each in self.model.trainable_variables],
            [each.value for each in self.model.non_trainable_variables],
            [each.value for each in self.optimizer.variables],
        )

    def _keep(self, state) -> None:
        """Give the variables the values that a compiled function returned."""
        kinds = (
            self.model.trainable_variables,
            self.model.non_trainable_variables,
            self.optimizer.variables,
        )
        for variables, values in zip(kinds, state):
            for variable, value in zip(variables, values):
                variable._value = value  # `assign` would copy it

    def _train_step(self, state, train_set, draws):
        """Return the state after a step, and the sums of its losses and errors."""
        trainable, others, slots = state
        order, rows, columns, mirrored = draws
        images = _augmented(train_set[0][order], rows, columns, mirrored, self.augmentation.pad)
        images, labels = self._normalized(images), train_set[1][order]

        def cost(trainable):
            logits, after = self.model.stateless_call(trainable, others, images, training=True)
            losses = cross_entropy(logits, labels)
            return losses.mean(), (losses, incorrect(logits, labels), after)

        gradients, (losses, errors, others) = jax.grad(cost, has_aux=True)(trainable)
        trainable, slots = self.optimizer.stateless_apply(slots, gradients, trainable)
        return (trainable, others, slots), (losses.sum(), errors.sum())

    def _test_step(self, state, test_set, numbers):
        """Return the state as it is, and losses and errors of images."""
        trainable, others, _ = state
        images, labels = (each[numbers[0]] for each in test_set)
        logits, _ = self.model.stateless_call(
            trainable, others, self._normalized(images), training=False
        )
        return state, (cross_entropy(logits, labels), incorrect(logits, labels))

    def _normalized(self, images):
        return preprocess_input(images, preprocessing=self.run.preprocessing)


class Devices:
    """Where arrays are: on the one device, or on all that Keras distributes over."""

    def __init__(self):
        self.distribution = keras.distribution.distribution()

    def placed(self, array: np.ndarray, *cut: bool):
        """Return an array on all devices, in equal parts along the axes where `cut` is true."""
        if self.distribution is None:
            return jnp.asarray(array)
        sharding = self._sharding(*cut)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def call_by_call(self, step: Callable, donated: bool) -> Callable:
        """Return a function that calls a compiled step on each row of some arrays."""
        compiled = self._compiled(step, donated)

        def loop(state, data, rows):
            found = []
            for row in zip(*rows):
                state, results = compiled(state, data, [self.placed(each, True) for each in row])
                found.append(results)
            return state, [_stacked(each) for each in zip(*found)]

        return loop

    def in_one_loop(self, step: Callable, donated: bool) -> Callable:
        """Return a function that calls a step on each row of some arrays, compiled as one."""

        def scan(state, data, rows):
            return jax.lax.scan(lambda state, row: step(state, data, row), state, rows)

        compiled = self._compiled(scan, donated)

        def loop(state, data, rows):
            placed = [self.placed(each, False, True) for each in rows]
            state, results = compiled(state, data, placed)
            return state, [np.asarray(each, np.float64) for each in results]

        return loop

    def _compiled(self, function: Callable, donated: bool) -> Callable:
        """Return a function compiled, with results that all devices have alike."""
        same = None if self.distribution is None else self._sharding()
        return jax.jit(function, donate_argnums=0 if donated else (), out_shardings=same)

    def _sharding(self, *cut: bool):
        axis, mesh = self.distribution.batch_dim_name, self.distribution.device_mesh.backend_mesh
        axes = [axis if each else None for each in cut]
        return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*axes))


def _stacked(results: Sequence) -> np.ndarray:
    """Return the results of calls as one array, once all of them are there."""
    return np.stack([np.asarray(each, np.float64) for each in results])


def part_size(steps: int) -> int:
    """Return how many steps one part of an epoch has: all have as many, for one program to do."""
    size = max(each for each in range(1, LONGEST_PART + 1) if steps % each == 0)
    return size if size >= SHORTEST_PART else steps


def cross_entropy(logits, labels):
    """Return the loss of each image: logits [N, classes], labels [N] -> [N]."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1)[:, 0]


def incorrect(logits, labels):
    """Return 1.0 where the largest logit is not the label's, else 0.0: [N]."""
    return (logits.argmax(axis=1) != labels).astype(jnp.float32)


def _padded(images: np.ndarray, augmentation: Augmentation) -> np.ndarray:
    """Return images with a border: uint8 [N, H, W, 3] -> [N, H + 2 pad, W + 2 pad, 3]."""
    count, height, width, colours = images.shape
    pad = augmentation.pad
    padded = np.empty((count, height + 2 * pad, width + 2 * pad, colours), np.uint8)
    padded[:] = augmentation.pad_value
    padded[:, pad : pad + height, pad : pad + width] = images
    return padded


def _augmented(padded, rows, columns, mirrored, pad: int):
    """Return crops of padded images, some mirrored: uint8 [B, H + 2 pad, ...] -> [B, H, ...]."""
    height, width = (side - 2 * pad for side in padded.shape[1:3])

    def crop(image, row, column):
        return jax.lax.dynamic_slice(image, (row, column, 0), (height, width, image.shape[2]))

    crops = jax.vmap(crop)(padded, rows, columns)
    return jnp.where(mirrored[:, None, None, None], crops[:, :, ::-1], crops)
