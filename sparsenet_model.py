"""The one TensorFlow graph of every SparseNet: a tensorpack ModelDesc built from a config.

The same file runs on TensorFlow 1.15 and 2.x and on every platform. Variable scopes are an
interface: `conv0`, `block1/layer0/bn1`, ..., `transition1/conv1`, `bn_last`, `linear` are the
names in checkpoints, and those of sparsenet_config.variable_shapes.
"""

from typing import List, Optional

from tf_stack import tf

import numpy as np
from tensorpack import ModelDesc
from tensorpack.models import (
    AvgPooling,
    BatchNorm,
    Conv2D,
    FullyConnected,
    GlobalAvgPooling,
    regularize_cost,
)
from tensorpack.tfutils.tower import get_current_tower_context

from sparsenet_config import (
    BOTTLENECK_WIDTH,
    IMAGE_CHANNELS,
    IMAGE_SIZE,
    SparseNetConfig,
    fetch,
    transition_width,
)

BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5}
MOMENTUM = 0.9

LOGITS = "linear/output"
CROSS_ENTROPY = "cross_entropy"  # per image, without weight decay: float32 [N]
WRONG = "wrong"  # per image, 1.0 where the largest logit is not the label's: float32 [N]


def convolution(name: str, x: tf.Tensor, channels: int, kernel: int) -> tf.Tensor:
    """[N, H, W, C] -> [N, H, W, channels], no bias; He initialisation by fan out."""
    initializer = tf.random_normal_initializer(stddev=np.sqrt(2.0 / (kernel**2 * channels)))
    return Conv2D(name, x, channels, kernel, use_bias=False, kernel_initializer=initializer)


def bn_relu(name: str, x: tf.Tensor) -> tf.Tensor:
    """Batch normalisation, then ReLU: the pre-activation order of the paper. Shape is kept."""
    return tf.nn.relu(BatchNorm(name, x, **BATCH_NORM))


class Dropout:
    """Dropout whose masks are a function of (seed, step, device, place in the network).

    Masks of a stateful generator would be others after a run is continued, and on another stack.
    `step` is fed with the batch: reading the global step would race with its increment.
    """

    def __init__(self, rate: float, seed: int, step: Optional[tf.Tensor]):
        self.rate = rate if get_current_tower_context().is_training else 0.0
        self.seed = seed
        self.step = step
        self.place = 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Shape is kept; kept values are scaled by 1 / (1 - rate)."""
        if not self.rate:
            return x
        self.place += 1
        stream = hash_seed(self.seed, self.place, get_current_tower_context().index)
        uniform = tf.random.stateless_uniform(tf.shape(x), seed=tf.stack([stream, self.step]))
        return x * tf.cast(uniform >= self.rate, x.dtype) / (1.0 - self.rate)


def hash_seed(*numbers: int) -> int:
    """A 31-bit seed that is another one for other numbers."""
    return int(np.random.RandomState([n % 2**32 for n in numbers]).randint(2**31 - 1))


def layer(name: str, x: tf.Tensor, config: SparseNetConfig, growth: int, dropout) -> tf.Tensor:
    """One unit of a block: [N, H, W, C] -> [N, H, W, growth]."""
    with tf.variable_scope(name):
        if config.unit == "bottleneck":
            x = convolution("conv1", bn_relu("bn1", x), BOTTLENECK_WIDTH * growth, 1)
            x = convolution("conv2", bn_relu("bn2", dropout(x)), growth, 3)
        else:
            x = convolution("conv1", bn_relu("bn1", x), growth, 3)
        return dropout(x)


def block(x: tf.Tensor, config: SparseNetConfig, index: int, dropout) -> tf.Tensor:
    """Block number `index` (from 0): [N, H, W, C] -> [N, H, W, channels handed on]."""
    layers, growth = config.layers[index], config.growth_rate[index]
    outputs = [x]
    with tf.variable_scope("block{}".format(index + 1)):
        for i in range(1, layers + 1):
            x = aggregate(outputs, config, i)
            outputs.append(layer("layer{}".format(i - 1), x, config, growth, dropout))
    return aggregate(outputs, config, layers + 1)


def aggregate(outputs: List[tf.Tensor], config: SparseNetConfig, reader: int) -> tf.Tensor:
    """What layer number `reader` of a block reads of the outputs before it, as one tensor."""
    sources = [outputs[i] for i in fetch(config, reader)]
    return sources[0] if len(sources) == 1 else tf.concat(sources, axis=3)


def transition(name: str, x: tf.Tensor, config: SparseNetConfig, dropout) -> tf.Tensor:
    """Between two blocks: [N, H, W, C] -> [N, H/2, W/2, C * compression]."""
    channels = transition_width(config, int(x.shape[3]))
    with tf.variable_scope(name):
        x = dropout(convolution("conv1", bn_relu("bn1", x), channels, 1))
        return AvgPooling("pool", x, 2)


def network(x: tf.Tensor, config: SparseNetConfig, dropout: Dropout) -> tf.Tensor:
    """Normalised images [N, 32, 32, 3] -> logits [N, classes]."""
    x = convolution("conv0", x, config.stem_width, 3)
    for index in range(len(config.layers)):
        x = block(x, config, index, dropout)
        if index + 1 < len(config.layers):
            x = transition("transition{}".format(index + 1), x, config, dropout)
    x = GlobalAvgPooling("gap", bn_relu("bn_last", x))
    return FullyConnected("linear", x, config.classes)


class SparseNet(ModelDesc):
    """The training and inference graph of a network, from uint8 images to a cost.

    config:         the network
    normalization:  `mean` and `std`, as cifar_data.normalization_constants gives them
    batch_size:     images per step and device: accelerators such as the NPU want fixed shapes
    learning_rate, weight_decay: of the first epoch; on kernels only
    seed:           of the dropout masks
    """

    def __init__(
        self,
        config: SparseNetConfig,
        normalization: dict,
        batch_size: int,
        learning_rate: float = 0.1,
        weight_decay: float = 1e-4,
        seed: int = 0,
        wrap_optimizer=lambda optimizer: optimizer,
    ):
        super().__init__()
        self.config = config
        self.normalization = normalization
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.seed = seed
        self.wrap_optimizer = wrap_optimizer

    def inputs(self):
        """uint8 images [batch_size, 32, 32, 3] and int32 labels; with dropout, the step."""
        image_shape = (self.batch_size, IMAGE_SIZE, IMAGE_SIZE, IMAGE_CHANNELS)
        image = tf.TensorSpec(image_shape, tf.uint8, "image")
        label = tf.TensorSpec((self.batch_size,), tf.int32, "label")
        step = tf.TensorSpec((), tf.int32, "step")
        return [image, label, step] if self.config.dropout else [image, label]

    def build_graph(self, image: tf.Tensor, label: tf.Tensor, step=None) -> tf.Tensor:
        """The cost of a step; names the tensors LOGITS, CROSS_ENTROPY and WRONG on its way."""
        dropout = Dropout(self.config.dropout, self.seed, step)
        logits = network(self.normalize(image), self.config, dropout)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=logits)
        cross_entropy = tf.identity(cross_entropy, CROSS_ENTROPY)
        prediction = tf.argmax(logits, axis=1, output_type=tf.int32)
        tf.cast(tf.not_equal(prediction, label), tf.float32, name=WRONG)
        # Half the sum of squares: its gradient is weight_decay * W, what the paper's SGD adds.
        decay = self.weight_decay * regularize_cost(".*/W", tf.nn.l2_loss)
        return tf.add(tf.reduce_mean(cross_entropy), decay, name="cost")

    def normalize(self, image: tf.Tensor) -> tf.Tensor:
        """uint8 [N, 32, 32, 3] -> float32, (image - mean) / std."""
        with tf.name_scope("normalize"):
            mean = tf.constant(self.normalization["mean"], tf.float32, name="mean")
            std = tf.constant(self.normalization["std"], tf.float32, name="std")
            return (tf.cast(image, tf.float32) - mean) / std

    def optimizer(self):
        """SGD with Nesterov momentum; the learning rate is a variable that the run sets."""
        rate = tf.get_variable("learning_rate", initializer=self.learning_rate, trainable=False)
        return self.wrap_optimizer(tf.train.MomentumOptimizer(rate, MOMENTUM, use_nesterov=True))
