"""One functional Keras model per config, which computes what sparsenet_model.py computes.

Keras allows no slash in a layer's name: the layer of the variable scope `block1/layer0/conv1` is
`block1_layer0_conv1`.
"""

from typing import Any, List, Optional, Sequence, Tuple

import keras
from keras import layers, ops

from sparsenet.config import UNITS, SparseNetConfig
from sparsenet.errors import require
from sparsenet.fetch import Slice
from sparsenet.plan import (
    BN_MOMENTUM,
    IMAGE_CHANNELS,
    MAP_SIDE,
    Block,
    Layer,
    blocks,
    bn_epsilon,
    projects,
    se_width,
)

Shape = Tuple[Optional[int], ...]  # of one image; None for a side that may vary


def connect(
    config: SparseNetConfig,
    images,
    include_top: bool = True,
    pooling: Optional[str] = None,
    classifier_activation=None,
    kernel_regularizer=None,
    batch_normalization=layers.BatchNormalization,
):
    """Return what the network makes of symbolic images; for the arguments, see build.build.

    batch_normalization: the class of those layers
    """
    shape = tuple(images.shape[1:])
    builder = _Builder(config, shape, kernel_regularizer, batch_normalization)
    return builder.head(builder.features(images), include_top, pooling, classifier_activation)


def default_shape(config: SparseNetConfig) -> Shape:
    """Return the shape of an image of the network's data, in Keras's image data format."""
    sides = (config.image_size, config.image_size)
    return (IMAGE_CHANNELS, *sides) if _is_channels_first() else (*sides, IMAGE_CHANNELS)


def check_shape(config: SparseNetConfig, shape: Sequence) -> None:
    """Raise UserError for the shape of an image that the network can't read."""
    least = 2 ** (len(config.layers) - 1)
    if config.stem == "imagenet":
        least *= 4
    place = "(3, H, W)" if _is_channels_first() else "(H, W, 3)"
    accepted = "{} with sides of at least {}".format(place, least)
    require(len(shape) == 3, "input_shape", shape, accepted)
    channel = 0 if _is_channels_first() else 2
    sides = [side for i, side in enumerate(shape) if i != channel]
    is_large = all(side is None or side >= least for side in sides)
    require(shape[channel] == IMAGE_CHANNELS and is_large, "input_shape", shape, accepted)


def _is_channels_first() -> bool:
    return keras.config.image_data_format() == "channels_first"


def layer_name(scope: str) -> str:
    """Return the name of the Keras layer of a variable scope."""
    return scope.replace("/", "_")


class _Builder:
    """Layers of one network, wired as sparsenet_model.py wires the TensorFlow graph."""

    def __init__(
        self, config: SparseNetConfig, input_shape: Shape, kernel_regularizer, batch_normalization
    ):
        self.config = config
        self.is_channels_first = _is_channels_first()
        self.axis = 1 if self.is_channels_first else 3
        self.input_shape = input_shape
        self.kernel_regularizer = kernel_regularizer
        self.batch_normalization = batch_normalization

    # Single layers, each under the name of its scope

    def conv(self, scope: str, x, channels: int, kernel: int, strides: int = 1, bias=None):
        """Return a convolution; He's initialiser by fan out, as the paper's code has it."""
        return layers.Conv2D(
            channels, kernel, strides=strides, padding="same",
            use_bias=self.config.bias if bias is None else bias,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_out", "untruncated_normal"
            ),
            kernel_regularizer=self.kernel_regularizer,
            name=layer_name(scope),
        )(x)  # fmt: skip

    def bn(self, scope: str, x):
        """Return batch normalisation; the shape is kept."""
        return self.batch_normalization(
            axis=self.axis,
            momentum=BN_MOMENTUM,
            epsilon=bn_epsilon(self.config),
            name=layer_name(scope),
        )(x)

    def relu(self, scope: str, x):
        """Return ReLU; the shape is kept."""
        return layers.ReLU(name=layer_name(scope))(x)

    def bn_relu(self, scope: str, x):
        """Return batch normalisation followed by ReLU."""
        return self.relu(scope + "/relu", self.bn(scope, x))

    def dropout(self, scope: str, x):
        """Return dropout, where the network has it."""
        rate = self.config.dropout
        return layers.Dropout(rate, name=layer_name(scope + "/dropout"))(x) if rate else x

    # The network

    def features(self, x):
        """Return the maps of the last block: [N, H, W, 3] -> [N, H', W', C]."""
        x = self.stem(x)
        for index, plan in enumerate(blocks(self.config), start=1):
            x = self.block(x, plan)
            if plan.transition is not None:
                x = self.transition("transition{}".format(index), x, plan.transition)
        return x

    def stem(self, x):
        """Return the output of the stem; ImageNet's divides the sides by 4."""
        config = self.config
        if config.stem == "imagenet":
            x = self.bn_relu("bn0", self.conv("conv0", x, config.stem_width, 7, strides=2))
            return layers.MaxPooling2D(3, 2, padding="same", name="pool0")(x)
        x = self.conv("conv0", x, config.stem_width, 3)
        return self.relu("conv0/relu", x) if config.stem_relu else x

    def block(self, x, plan: Block):
        """Return a block's output."""
        aggregation = _Aggregation(plan.scope, self.config.combine, self.axis)
        for index, layer in enumerate(plan.layers):
            read = x if index == 0 else aggregation.read(layer.scope + "/read", layer.reads)
            active = self.bn(layer.scope + "/bn1", read)
            if self.config.unit != "bottleneck" or self.config.bottleneck_relu:
                active = self.relu(layer.scope + "/bn1/relu", active)
            if index == 0:
                aggregation.append(self.shortcut(x, active, plan) if plan.shortcut else x)
            aggregation.append(self.attention(layer, self.unit(active, layer)))
        return aggregation.read(plan.scope + "/output", plan.block_output)

    def unit(self, x, layer: Layer):
        """Return a layer's output, from its pre-activation."""
        stride_left = layer.stride  # the first 3x3 convolution takes it
        for number, convolution in enumerate(UNITS[self.config.unit], start=1):
            scope = "{}/conv{}".format(layer.scope, number)
            if number > 1:
                x = self.bn_relu("{}/bn{}".format(layer.scope, number), x)
            strides = 1
            if convolution.kernel == 3:
                strides, stride_left = stride_left, 1
            width = convolution.width * layer.growth
            x = self.dropout(scope, self.conv(scope, x, width, convolution.kernel, strides))
        return x

    def shortcut(self, x, active, plan: Block):
        """Return y_0 of a residual block whose input has another shape."""
        stride, scope = plan.layers[0].stride, plan.layers[0].scope + "/shortcut"
        if projects(self.config, plan):
            return self.conv(scope, active, plan.in_channels, 1, strides=stride)
        if stride > 1:  # every second pixel
            x = layers.AveragePooling2D(1, stride, name=layer_name(scope + "/stride"))(x)
        missing = plan.in_channels - plan.block_in_channels
        if not missing:
            return x
        padding = [(0, 0)] * 4
        padding[self.axis] = (0, missing)
        return ops.pad(x, padding)

    def attention(self, layer: Layer, x):
        """Return a layer's output after the attention module of the network, if it has one."""
        kind, scope = self.config.attention, layer.scope + "/attention"
        if kind == "none":
            return x
        channels = layer.out_channels
        mean = layers.GlobalAveragePooling2D(keepdims=True, name=layer_name(scope + "/mean"))(x)
        if kind == "se":
            inner = self.conv(scope + "/conv1", mean, se_width(channels), 1, bias=True)
            inner = self.relu(scope + "/conv1/relu", inner)
            scale = self.conv(scope + "/conv2", inner, channels, 1, bias=True)
        else:
            excited = self.conv(scope + "/conv1", self.bn_relu(scope + "/bn1", mean), channels, 1)
            both = layers.Concatenate(axis=self.axis, name=layer_name(scope + "/both"))(
                [excited, mean]
            )
            scale = self.conv(scope + "/conv2", self.bn_relu(scope + "/bn2", both), channels, 1)
        scale = layers.Activation("sigmoid", name=layer_name(scope + "/scale"))(scale)
        scaled = layers.Multiply(name=layer_name(scope + "/scaled"))([x, scale])
        if kind == "se":
            return scaled
        return layers.Add(name=layer_name(scope + "/output"))([x, scaled])

    def transition(self, scope: str, x, channels: int):
        """Return the input of the next block: half the sides."""
        x = self.conv(scope + "/conv1", self.bn_relu(scope + "/bn1", x), channels, 1)
        if self.config.transition_relu:
            x = self.relu(scope + "/conv1/relu", x)
        x = self.dropout(scope + "/conv1", x)
        return layers.AveragePooling2D(2, name=layer_name(scope + "/pool"))(x)

    def head(self, x, include_top: bool, pooling: Optional[str], activation):
        """Return the output of the model."""
        x = self.bn_relu("bn_last", x)
        if not include_top:
            if pooling is None:
                return x
            pool = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
            return pool(name="pool_last")(x)
        if self.config.head == "map3x3":
            x = layers.AveragePooling2D(2, name="pool_last")(x)  # 7x7 -> 3x3
            sides = x.shape[2:4] if self.is_channels_first else x.shape[1:3]
            is_map = sides == (MAP_SIDE, MAP_SIDE)
            accepted = "sides that end as {} or {}, such as {}".format(
                2 * MAP_SIDE, 2 * MAP_SIDE + 1, self.config.image_size
            )
            require(is_map, "input_shape", self.input_shape, accepted)
            x = layers.Flatten(name="flatten")(x)  # channels last, whatever the format
        else:
            x = layers.GlobalAveragePooling2D(name="gap")(x)
        return layers.Dense(
            self.config.classes, activation=activation, name="linear",
            kernel_initializer=keras.initializers.HeNormal(),
            kernel_regularizer=self.kernel_regularizer,
            dtype=keras.config.floatx(),  # full precision where the network has mixed precision
        )(x)  # fmt: skip


class _Aggregation:
    """The outputs y_0, y_1, ... of a block so far, from which its layers read."""

    def __init__(self, scope: str, combine: str, axis: int):
        self.scope = scope
        self.combine = combine
        self.axis = axis
        self.outputs: List[Any] = []
        self.total = None  # sum of all outputs so far: a ResNet's layers read it, one addition each

    def append(self, output) -> None:
        """Add the output of the next layer."""
        if self.total is None:
            self.total = output
        elif self.combine == "sum":
            name = layer_name("{}/sum{}".format(self.scope, len(self.outputs)))
            self.total = layers.Add(name=name)([self.total, output])
        self.outputs.append(output)

    def read(self, scope: str, slices: Sequence[Slice]):
        """Return what a layer reads: [N, H, W, C] each -> [N, H, W, sum of C, or C with `sum`]."""
        if self.combine == "sum" and len(slices) == len(self.outputs):
            return self.total
        parts = [self._part(s) for s in slices]
        if len(parts) == 1:
            return parts[0]
        if self.combine == "sum":
            return layers.Add(name=layer_name(scope))(parts)
        return layers.Concatenate(axis=self.axis, name=layer_name(scope))(parts)

    def _part(self, s: Slice):
        output = self.outputs[s.output]
        if s.stop - s.start == output.shape[self.axis]:
            return output
        channels = slice(s.start, s.stop)
        return output[:, channels] if self.axis == 1 else output[..., channels]
