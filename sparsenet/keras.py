"""The networks in Keras 3: one functional model per config, on TensorFlow, JAX or PyTorch.

A model computes what the TensorFlow graph of the same config computes. Keras allows no slash in a
layer's name: the layer of the variable scope `block1/layer0/conv1` is `block1_layer0_conv1`.
"""

from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

import keras
import numpy as np
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
from sparsenet.recipes import Recipe

POOLINGS = (None, "avg", "max")

# Last part of a variable's name in a checkpoint -> attribute of the Keras layer that holds it.
ATTRIBUTES = {
    "W": "kernel",
    "b": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "mean/EMA": "moving_mean",
    "variance/EMA": "moving_variance",
}

Shape = Tuple[Optional[int], ...]  # of one image; None for a side that may vary


def build(
    network: Union[Recipe, SparseNetConfig],
    *,
    include_top: bool = True,
    input_shape: Optional[Shape] = None,
    pooling: Optional[str] = None,
    classifier_activation: Optional[str] = "softmax",
    name: Optional[str] = None,
) -> keras.Model:
    """Return the functional model of a network, with Keras's own random initial weights.

    It reads normalised images, float [N, H, W, 3] (or [N, 3, H, W], where Keras's image data format
    is channels_first), and returns [N, classes]: what `classifier_activation` makes of the logits,
    which None returns as they are. Without `include_top` it returns the maps before the classifier,
    or [N, channels] after the `pooling` of them, `avg` or `max`.

    Raises UserError for an image that is too small for the network, and for an unknown pooling.
    """
    config = network.config if isinstance(network, Recipe) else network
    require(pooling in POOLINGS, "pooling", pooling, "avg, max, None")
    builder = _Builder(config, input_shape)
    images = keras.Input(builder.input_shape, name="images")
    x = builder.head(builder.features(images), include_top, pooling, classifier_activation)
    return keras.Model(images, x, name=name or "sparsenet")


def set_variables(model: keras.Model, arrays: Dict[str, np.ndarray]) -> None:
    """Give a model the weights `arrays`, by their names in a checkpoint; other names are ignored.

    Raises UserError, naming the variable, if one of the model's is missing or has another shape.
    """
    for name, variable in variables(model).items():
        require(name in arrays, "variable", name, "a file that holds it")
        shape = tuple(arrays[name].shape)
        require(shape == tuple(variable.shape), name, list(shape), str(list(variable.shape)))
        variable.assign(arrays[name])


def get_variables(model: keras.Model) -> Dict[str, np.ndarray]:
    """Return the weights of a model by their names in a checkpoint, as float32 arrays."""
    return {
        name: ops.convert_to_numpy(variable.value).astype(np.float32)
        for name, variable in variables(model).items()
    }


def variables(model: keras.Model) -> Dict[str, Any]:
    """Return the variables of a model by their names in a checkpoint, in the order of the graph."""
    found = {}
    for layer in model.layers:
        for suffix, attribute in ATTRIBUTES.items():
            variable = getattr(layer, attribute, None)
            if variable is not None:
                found[_scope(layer.name) + "/" + suffix] = variable
    return found


def _scope(name: str) -> str:
    """Return the variable scope of a layer with weights: of these only `bn_last` has a `_`."""
    return name if name == "bn_last" else name.replace("_", "/")


def layer_name(scope: str) -> str:
    """Return the name of the Keras layer of a variable scope."""
    return scope.replace("/", "_")


class _Builder:
    """Layers of one network, wired as sparsenet_model.py wires the TensorFlow graph."""

    def __init__(self, config: SparseNetConfig, input_shape: Optional[Shape]):
        self.config = config
        self.is_channels_first = keras.config.image_data_format() == "channels_first"
        self.axis = 1 if self.is_channels_first else 3
        self.input_shape = self._checked(input_shape)

    def _checked(self, shape: Optional[Shape]) -> Shape:
        """Return the shape of an image, by default the data's; UserError if it is too small."""
        channel = self.axis - 1
        if shape is None:
            sides: List[Optional[int]] = [self.config.image_size] * 2
            shape = tuple(sides[:channel] + [IMAGE_CHANNELS] + sides[channel:])
        least = 2 ** (len(self.config.layers) - 1)
        if self.config.stem == "imagenet":
            least *= 4
        is_image = len(shape) == 3 and shape[channel] == IMAGE_CHANNELS
        is_large = all(
            side is None or side >= least for i, side in enumerate(shape) if i != channel
        )
        place = "(3, H, W)" if self.is_channels_first else "(H, W, 3)"
        accepted = "{} with sides of at least {}".format(place, least)
        require(is_image and is_large, "input_shape", shape, accepted)
        return tuple(shape)

    # Single layers, each under the name of its scope

    def conv(self, scope: str, x, channels: int, kernel: int, strides: int = 1, bias=None):
        """Return a convolution; He's initialiser by fan out, as the paper's code has it."""
        return layers.Conv2D(
            channels, kernel, strides=strides, padding="same",
            use_bias=self.config.bias if bias is None else bias,
            kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "normal"),
            name=layer_name(scope),
        )(x)  # fmt: skip

    def bn(self, scope: str, x):
        """Return batch normalisation; the shape is kept."""
        return layers.BatchNormalization(
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

    def head(self, x, include_top: bool, pooling: Optional[str], activation: Optional[str]):
        """Return the output of the model."""
        x = self.bn_relu("bn_last", x)
        if not include_top:
            if pooling is None:
                return x
            pool = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
            return pool(name="pool_last")(x)
        if self.config.head == "map3x3":
            x = layers.AveragePooling2D(2, name="pool_last")(x)  # 7x7 -> 3x3
            if self.is_channels_first:
                x = layers.Permute((2, 3, 1), name="channels_last")(x)
            is_map = x.shape[1:3] == (MAP_SIDE, MAP_SIDE)
            accepted = "sides that end as {} or {}, such as {}".format(
                2 * MAP_SIDE, 2 * MAP_SIDE + 1, self.config.image_size
            )
            require(is_map, "input_shape", self.input_shape, accepted)
            x = layers.Flatten(name="flatten")(x)
        else:
            x = layers.GlobalAveragePooling2D(name="gap")(x)
        return layers.Dense(
            self.config.classes, activation=activation, name="linear",
            kernel_initializer=keras.initializers.HeNormal(), dtype="float32",
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
