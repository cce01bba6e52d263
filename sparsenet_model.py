"""The TensorFlow graph of every network: a tensorpack ModelDesc built from a config.

The same file runs on TensorFlow 1.15 and 2.x and on every platform. Variable scopes are an
interface: `conv0`, `block1/layer0/bn1`, ..., `transition1/conv1`, `bn_last`, `linear` are the
names in checkpoints, and those of sparsenet.plan.variable_shapes.
"""

from typing import List, Optional, Sequence

from common.tf_stack import tf

import numpy as np
from tensorpack import ModelDesc
from tensorpack.models import (
    AvgPooling,
    BatchNorm,
    Conv2D,
    FullyConnected,
    GlobalAvgPooling,
    MaxPooling,
    regularize_cost,
)
from tensorpack.tfutils.argscope import argscope
from tensorpack.tfutils.tower import get_current_tower_context

from sparsenet.config import SparseNetConfig
from sparsenet.fetch import Slice
from sparsenet.plan import (
    BN_MOMENTUM,
    IMAGE_CHANNELS,
    Block,
    Layer,
    blocks,
    bn_epsilon,
    projects,
    se_width,
)

MOMENTUM = 0.9

WEIGHT_DECAY_SCOPES = {"kernels": ".*/W", "all": ".*"}  # -> pattern of the variables' names

LOGITS = "linear/output"
CROSS_ENTROPY = "cross_entropy"  # per image, without weight decay: float32 [N]
# Per image, 1.0 if the largest logit is not the label's: float32 [N]. The tensor keeps the name
# that it has in every graph.pbtxt so far.
INCORRECT = "wrong"


def convolution(name: str, x: tf.Tensor, channels: int, kernel: int, **options) -> tf.Tensor:
    """Return a convolution: [N, H, W, C] -> [N, H / stride, W / stride, channels].

    Its initialiser is He's, by fan out; options are those of tensorpack's Conv2D.
    """
    initializer = tf.random_normal_initializer(stddev=np.sqrt(2.0 / (kernel**2 * channels)))
    return Conv2D(name, x, channels, kernel, kernel_initializer=initializer, **options)


def bn_relu(name: str, x: tf.Tensor) -> tf.Tensor:
    """Return batch normalisation followed by ReLU, the pre-activation order of the paper.

    The shape is kept.
    """
    return tf.nn.relu(BatchNorm(name, x))


class Dropout:
    """Dropout whose masks are a function of (seed, step, device, place in the network).

    A stateful generator would draw other masks after a run is resumed, and on another stack.
    `step` is fed with the batch: reading the global step would race with its increment.
    """

    def __init__(self, rate: float, seed: int, step: Optional[tf.Tensor], first_device: int = 0):
        self.rate = rate if get_current_tower_context().is_training else 0.0
        self.seed = seed
        self.first_device = first_device
        self.step = step
        self.place = 0

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """Return `x` with some values set to 0 in training, and the others divided by 1 - rate.

        The shape is kept.
        """
        if not self.rate:
            return x
        self.place += 1
        device = self.first_device + get_current_tower_context().index
        stream = hash_seed(self.seed, self.place, device)
        uniform = tf.random.stateless_uniform(x.shape, seed=tf.stack([stream, self.step]))
        return x * tf.cast(uniform >= self.rate, x.dtype) / (1.0 - self.rate)


def hash_seed(*numbers: int) -> int:
    """Return a 31-bit seed that depends on all `numbers`."""
    return int(np.random.RandomState([n % 2**32 for n in numbers]).randint(2**31 - 1))


# Units: from a layer's pre-activation to its output ---------------------------------------------


def single(x: tf.Tensor, layer: Layer, dropout: Dropout) -> tf.Tensor:
    """Return [BN-ReLU-]Conv3x3(k): [N, H, W, C] -> [N, H, W, k]."""
    return dropout(convolution("conv1", x, layer.out_channels, 3))


def bottleneck(x: tf.Tensor, layer: Layer, dropout: Dropout) -> tf.Tensor:
    """Return [BN-ReLU-]Conv1x1(4k), BN-ReLU-Conv3x3(k): [N, H, W, C] -> [N, H, W, k]."""
    x = dropout(convolution("conv1", x, 4 * layer.growth, 1))
    return dropout(convolution("conv2", bn_relu("bn2", x), layer.out_channels, 3))


def residual_basic(x: tf.Tensor, layer: Layer, dropout: Dropout) -> tf.Tensor:
    """Return [BN-ReLU-]Conv3x3(k), BN-ReLU-Conv3x3(k), the stride in the first (He et al. 2016).

    [N, H, W, C] -> [N, H / stride, W / stride, k].
    """
    x = dropout(convolution("conv1", x, layer.out_channels, 3, strides=layer.stride))
    return dropout(convolution("conv2", bn_relu("bn2", x), layer.out_channels, 3))


def residual_bottleneck(x: tf.Tensor, layer: Layer, dropout: Dropout) -> tf.Tensor:
    """Return [BN-ReLU-]Conv1x1(k), BN-ReLU-Conv3x3(k), BN-ReLU-Conv1x1(4k), stride in the second.

    [N, H, W, C] -> [N, H / stride, W / stride, 4k] (He et al. 2016).
    """
    width = layer.growth
    x = dropout(convolution("conv1", x, width, 1))
    x = dropout(convolution("conv2", bn_relu("bn2", x), width, 3, strides=layer.stride))
    return dropout(convolution("conv3", bn_relu("bn3", x), layer.out_channels, 1))


UNITS = {
    "single": single,
    "bottleneck": bottleneck,
    "residual_basic": residual_basic,
    "residual_bottleneck": residual_bottleneck,
}


def liu_zeng_attention(x: tf.Tensor) -> tf.Tensor:
    """Return h + h * s, with s the sigmoid of two BN-ReLU-Conv1x1 on the channel means of h.

    The shape is kept (Liu & Zeng, section 3.3).
    """
    channels = int(x.shape[3])
    mean = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    excited = convolution("conv1", bn_relu("bn1", mean), channels, 1)
    both = tf.concat([excited, mean], axis=3)
    return x + x * tf.nn.sigmoid(convolution("conv2", bn_relu("bn2", both), channels, 1))


def squeeze_and_excitation(x: tf.Tensor) -> tf.Tensor:
    """Return h * s, with s the sigmoid of two layers on the channel means of h (Hu et al. 2018).

    The shape is kept.
    """
    channels = int(x.shape[3])
    mean = tf.reduce_mean(x, axis=[1, 2], keepdims=True)
    inner = tf.nn.relu(convolution("conv1", mean, se_width(channels), 1, use_bias=True))
    return x * tf.nn.sigmoid(convolution("conv2", inner, channels, 1, use_bias=True))


ATTENTIONS = {"liu_zeng": liu_zeng_attention, "se": squeeze_and_excitation}


# The network -----------------------------------------------------------------------------------


def stem(x: tf.Tensor, config: SparseNetConfig) -> tf.Tensor:
    """Return the output of the stem: [N, S, S, 3] -> [N, S, S, stem width].

    ImageNet's stem divides the sides by 4.
    """
    if config.stem == "imagenet":
        x = convolution("conv0", x, config.stem_width, 7, strides=2)
        return MaxPooling("pool0", bn_relu("bn0", x), 3, strides=2, padding="SAME")
    x = convolution("conv0", x, config.stem_width, 3)
    return tf.nn.relu(x) if config.stem_relu else x


def run_block(x: tf.Tensor, plan: Block, config: SparseNetConfig, dropout: Dropout) -> tf.Tensor:
    """Return a block's output: [N, H, W, block_in_channels] -> [N, H', W', out_channels]."""
    aggregation = Aggregation(config)
    for index, layer in enumerate(plan.layers):
        read = x if index == 0 else aggregation.read(layer.reads)
        with tf.variable_scope("layer{}".format(index)):
            active = pre_activation(read, config)
            if index == 0:
                aggregation.append(shortcut(x, active, plan, config) if plan.shortcut else x)
            y = UNITS[config.unit](active, layer, dropout)
            if config.attention != "none":
                with tf.variable_scope("attention"):
                    y = ATTENTIONS[config.attention](y)
        aggregation.append(y)
    return aggregation.read(plan.block_output)


def pre_activation(x: tf.Tensor, config: SparseNetConfig) -> tf.Tensor:
    """Return a layer's input after BN-ReLU; the shape is kept.

    The bottlenecks of Liu & Zeng's scripts lack this ReLU.
    """
    if config.unit == "bottleneck" and not config.bottleneck_relu:
        return BatchNorm("bn1", x)
    return bn_relu("bn1", x)


def shortcut(x: tf.Tensor, active: tf.Tensor, plan: Block, config: SparseNetConfig) -> tf.Tensor:
    """Return y_0 of a residual block whose input x has another shape; `active` is pre-activated x.

    With bottlenecks it is a 1x1 convolution of `active` (He et al. 2016); otherwise every second
    pixel of x, with zeros for the additional channels (He et al. 2015, option A).
    """
    stride = plan.layers[0].stride
    if projects(config, plan):
        return convolution("shortcut", active, plan.in_channels, 1, strides=stride)
    return tf.pad(
        x[:, ::stride, ::stride, :], [[0, 0]] * 3 + [[0, plan.in_channels - plan.block_in_channels]]
    )


class Aggregation:
    """The outputs y_0, y_1, ... of a block so far, from which its layers read."""

    def __init__(self, config: SparseNetConfig):
        self.combine = config.combine
        self.outputs: List[tf.Tensor] = []
        self.total = None  # sum of all outputs so far, which `dense` with `sum` reads

    def append(self, output: tf.Tensor) -> None:
        """Add the output of the next layer."""
        if self.combine == "sum":
            self.total = output if self.total is None else self.total + output
        self.outputs.append(output)

    def read(self, slices: Sequence[Slice]) -> tf.Tensor:
        """Return what a layer reads: [N, H, W, C] each -> [N, H, W, sum of C, or C with `sum`]."""
        if self.combine == "sum" and len(slices) == len(self.outputs):
            return self.total
        parts = [self._part(s) for s in slices]
        if len(parts) == 1:
            return parts[0]
        return tf.add_n(parts) if self.combine == "sum" else tf.concat(parts, axis=3)

    def _part(self, s: Slice) -> tf.Tensor:
        output = self.outputs[s.output]
        whole = s.stop - s.start == int(output.shape[3])
        return output if whole else output[..., s.start : s.stop]


def transition(x: tf.Tensor, channels: int, config: SparseNetConfig, dropout: Dropout) -> tf.Tensor:
    """Return the input of the next block: [N, H, W, C] -> [N, H/2, W/2, channels]."""
    x = convolution("conv1", bn_relu("bn1", x), channels, 1)
    if config.transition_relu:
        x = tf.nn.relu(x)
    return AvgPooling("pool", dropout(x), 2)


def head(x: tf.Tensor, config: SparseNetConfig) -> tf.Tensor:
    """Return the logits: [N, H, W, C] -> [N, classes]."""
    x = bn_relu("bn_last", x)
    if config.head == "map3x3":
        x = AvgPooling("pool_last", x, 2)  # 7x7 -> 3x3, without the last row and column
    else:
        x = GlobalAvgPooling("gap", x)
    return FullyConnected("linear", x, config.classes)


def network(x: tf.Tensor, config: SparseNetConfig, dropout: Dropout) -> tf.Tensor:
    """Return the logits of normalised images: [N, S, S, 3] -> [N, classes]."""
    with argscope(Conv2D, use_bias=config.bias), argscope(
        BatchNorm, momentum=BN_MOMENTUM, epsilon=bn_epsilon(config)
    ):
        x = stem(x, config)
        for index, plan in enumerate(blocks(config), start=1):
            with tf.variable_scope(plan.scope):
                x = run_block(x, plan, config, dropout)
            if plan.transition is not None:
                with tf.variable_scope("transition{}".format(index)):
                    x = transition(x, plan.transition, config, dropout)
        return head(x, config)


class SparseNet(ModelDesc):
    """Build the training and inference graph of a network, from uint8 images to a cost.

    config:         the network
    normalization:  `mean` and `std`, as in the data's preprocessing
    batch_size:     images per step and device, None for any number: accelerators such as the NPU
                    need fixed shapes
    learning_rate:  of the first epoch
    weight_decay:   factor of the weights that is added to their gradient
    weight_decay_scope: variables that decay, a key of WEIGHT_DECAY_SCOPES
    seed:           of the dropout masks
    wrap_optimizer: returns the optimizer with what the platform adds to it
    first_device:   number of this process's first device among those of all workers
    """

    def __init__(
        self,
        config: SparseNetConfig,
        *,
        normalization: dict,
        batch_size: Optional[int],
        learning_rate: float = 0.1,
        weight_decay: float = 1e-4,
        weight_decay_scope: str = "kernels",
        seed: int = 0,
        wrap_optimizer=lambda optimizer: optimizer,
        first_device: int = 0,
    ):
        super().__init__()
        self.config = config
        self.normalization = normalization
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.weight_decay_scope = weight_decay_scope
        self.seed = seed
        self.wrap_optimizer = wrap_optimizer
        self.first_device = first_device

    def inputs(self):
        """Return the inputs: uint8 images [batch_size, S, S, 3] and int32 labels [batch_size].

        With dropout, the int32 step is a third one.
        """
        side = self.config.image_size
        image_shape = (self.batch_size, side, side, IMAGE_CHANNELS)
        image = tf.TensorSpec(image_shape, tf.uint8, "image")
        label = tf.TensorSpec((self.batch_size,), tf.int32, "label")
        step = tf.TensorSpec((), tf.int32, "step")
        return [image, label, step] if self.config.dropout else [image, label]

    def build_graph(self, image: tf.Tensor, label: tf.Tensor, step=None) -> tf.Tensor:
        """Return the cost of a step.

        The graph names the tensors LOGITS, CROSS_ENTROPY and INCORRECT.
        """
        dropout = Dropout(self.config.dropout, self.seed, step, self.first_device)
        logits = network(self.normalize(image), self.config, dropout)
        cross_entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=label, logits=logits)
        cross_entropy = tf.identity(cross_entropy, CROSS_ENTROPY)
        prediction = tf.argmax(logits, axis=1, output_type=tf.int32)
        tf.cast(tf.not_equal(prediction, label), tf.float32, name=INCORRECT)
        # Half the sum of squares: its gradient is weight_decay * W, what the paper's SGD adds.
        names = WEIGHT_DECAY_SCOPES[self.weight_decay_scope]
        decay = self.weight_decay * regularize_cost(names, tf.nn.l2_loss)
        return tf.add(tf.reduce_mean(cross_entropy), decay, name="cost")

    def normalize(self, image: tf.Tensor) -> tf.Tensor:
        """Return (image - mean) / std: uint8 [N, S, S, 3] -> float32."""
        with tf.name_scope("normalize"):
            mean = tf.constant(self.normalization["mean"], tf.float32, name="mean")
            std = tf.constant(self.normalization["std"], tf.float32, name="std")
            return (tf.cast(image, tf.float32) - mean) / std

    def optimizer(self):
        """Return SGD with Nesterov momentum; its learning rate is a variable that the run sets."""
        rate = tf.get_variable("learning_rate", initializer=self.learning_rate, trainable=False)
        return self.wrap_optimizer(tf.train.MomentumOptimizer(rate, MOMENTUM, use_nesterov=True))
