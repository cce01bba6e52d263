"""The Keras model that is trained, and its optimizer: what the TensorFlow graph computes."""

from typing import Any, Dict

import keras
import numpy as np
from keras import layers, ops

from sparsenet.arrays import fitting
from sparsenet.config import SparseNetConfig
from sparsenet.keras.network import connect, default_shape
from sparsenet.keras.weights import set_variables, variables
from sparsenet.recipes import Recipe

MOMENTUM = 0.9
SLOT = "/Momentum"  # of a variable, as TensorFlow names it


class BatchNormalization(layers.BatchNormalization):
    """Batch normalisation whose moving variance is of the unbiased kind.

    That is what TensorFlow's graph has, and PyTorch: the batch's variance times n / (n - 1), with n
    values a channel. Keras's own has it without. The batch itself is normalised alike.
    """

    def call(self, inputs, training=None, mask=None):
        """Return the normalised inputs; the shape is kept."""
        kept = self.momentum * ops.convert_to_tensor(self.moving_variance)
        outputs = super().call(inputs, training=training, mask=mask)
        if training and self.trainable:
            now = ops.convert_to_tensor(self.moving_variance)
            values = ops.cast(ops.size(inputs) // inputs.shape[self.axis], now.dtype)
            self.moving_variance.assign(now + (now - kept) / ops.maximum(values - 1, 1))
        return outputs


class NesterovSGD(keras.optimizers.Optimizer):
    """SGD with Nesterov momentum and weight decay, in the form of TensorFlow and PyTorch.

    With gradient g (and decay * w added to it), a = m a + g and w -= rate (g + m a). Keras's own
    SGD has the rate inside of a: after a milestone it goes on with the old rate for a while.

    decays: whether weight decay acts on a variable
    """

    def __init__(self, learning_rate, decay: float, decays, **options):
        super().__init__(learning_rate=learning_rate, name="nesterov_sgd", **options)
        self.decay = decay
        self.decays = decays

    def build(self, variables):
        """Make the accumulated gradient of each variable."""
        if not self.built:
            super().build(variables)
            self.accumulated = [
                self.add_variable_from_reference(variable, name="momentum")
                for variable in variables
            ]

    def update_step(self, gradient, variable, learning_rate):
        """Change one variable."""
        rate, gradient = (ops.cast(each, variable.dtype) for each in (learning_rate, gradient))
        accumulated = self.accumulated[self._get_variable_index(variable)]
        if self.decays(variable):
            gradient = gradient + self.decay * ops.convert_to_tensor(variable)
        now = MOMENTUM * ops.convert_to_tensor(accumulated) + gradient
        self.assign(accumulated, now)
        self.assign_sub(variable, rate * (gradient + MOMENTUM * now))


class Rates(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of each step of a recipe."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int):
        steps = range(recipe.epochs * steps_per_epoch)
        rates = [recipe.learning_rate_after(step / steps_per_epoch) for step in steps]
        self.rates = ops.convert_to_tensor(np.array(rates, np.float32))

    def __call__(self, step):
        return ops.take(self.rates, step)


def training_model(config: SparseNetConfig) -> keras.Model:
    """Return the model from normalised images to logits, as it is trained."""
    images = keras.Input(default_shape(config), name="images")
    logits = connect(config, images, batch_normalization=BatchNormalization)
    return keras.Model(images, logits, name="sparsenet")


def make_optimizer(model: keras.Model, recipe: Recipe, steps_per_epoch: int) -> NesterovSGD:
    """Return the optimizer of a recipe, built for a model."""
    kernels = {id(each) for name, each in variables(model).items() if name.endswith("/W")}
    decays_all = recipe.weight_decay_scope == "all"
    optimizer = NesterovSGD(
        Rates(recipe, steps_per_epoch),
        recipe.weight_decay,
        lambda variable: decays_all or id(variable) in kernels,
    )
    optimizer.build(model.trainable_variables)
    return optimizer


def slots(model: keras.Model, optimizer: NesterovSGD) -> Dict[str, Any]:
    """Return the accumulated gradients by their names in a checkpoint of TensorFlow."""
    by_variable = dict(zip(map(id, model.trainable_variables), optimizer.accumulated))
    return {
        name + SLOT: by_variable[id(variable)]
        for name, variable in variables(model).items()
        if id(variable) in by_variable
    }


def get_state(
    model: keras.Model, optimizer: NesterovSGD, step: int, learning_rate: float
) -> Dict[str, np.ndarray]:
    """Return weights, slots, step and learning rate as a checkpoint of TensorFlow has them."""
    held = dict(variables(model), **slots(model, optimizer))
    state = {name: ops.convert_to_numpy(variable.value) for name, variable in held.items()}
    state["learning_rate"] = np.float32(learning_rate)
    state["global_step"] = np.int64(step)
    return state


def set_state(
    model: keras.Model, optimizer: NesterovSGD, config: SparseNetConfig, arrays, source: str
) -> None:
    """Give a model and its optimizer the state of a checkpoint; slots that it lacks become 0."""
    set_variables(model, fitting(arrays, config, source))
    for name, slot in slots(model, optimizer).items():
        slot.assign(arrays.get(name, np.zeros(tuple(slot.shape), np.float32)))


def seed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Let the masks of an epoch be a function of seed, epoch and layer, resumed or not."""
    dropouts = [each for each in model.layers if isinstance(each, layers.Dropout)]
    for place, layer in enumerate(dropouts):
        state = np.random.RandomState([seed, epoch, place]).randint(2**31, size=2)
        layer.seed_generator.state.assign(state.astype(np.uint32))
