"""The functions of keras-SparseNet (Keras 2), with its arguments as its docstring explains them.

Where its code and its docstring differ, the docstring holds: `nb_filter` of -1 is twice the growth
rate (its code: once), and weight decay is on all kernels (its code leaves out the 3x3 ones of the
blocks). A model computes what the network of the same config computes everywhere in this project.
"""

from typing import Optional, Sequence, Tuple, Union

import keras

from sparsenet.config import SparseNetConfig
from sparsenet.errors import require
from sparsenet.keras.build import build

Numbers = Union[int, Sequence[int]]

LEAST_SIDE = 8


def SparseNet(
    input_shape: Optional[Sequence[Optional[int]]] = None,
    depth: int = 40,
    nb_dense_block: int = 3,
    growth_rate: Numbers = 12,
    nb_filter: int = -1,
    nb_layers_per_block: Numbers = -1,
    bottleneck: bool = False,
    reduction: float = 0.0,
    dropout_rate: float = 0.0,
    weight_decay: float = 1e-4,
    subsample_initial_block: bool = False,
    include_top: bool = True,
    weights: Optional[str] = None,
    input_tensor=None,
    classes: int = 10,
    activation: str = "softmax",
) -> keras.Model:
    """Return the model that keras-SparseNet's function of this name describes.

    input_shape:    of one image, with sides of at least 8
    depth:          3n + 4; ignored where nb_layers_per_block says the layers
    nb_dense_block: number of blocks
    growth_rate:    one number, or one for each block
    nb_filter:      channels of conv0; -1 for 2 x growth_rate
    nb_layers_per_block: layers of each block; -1 for those that follow from the depth, and a list
                    for one number a block, nb_dense_block of them, or nb_dense_block + 1
    bottleneck:     1x1 convolutions in front of the 3x3 ones
    reduction:      1 - compression of the transitions
    dropout_rate:   fraction dropped after each convolution
    weight_decay:   factor of an L2 regulariser of all kernels
    subsample_initial_block: 7x7 convolution with stride 2 and 3x3 max pooling, as for ImageNet
    include_top:    without it the model returns the channel means before the classifier
    weights:        None, or a file of weights as build takes it
    input_tensor:   output of keras.Input to use as the images
    classes:        number of classes
    activation:     softmax, or sigmoid for a single class

    Raises UserError, a ValueError, for what no network can have.
    """
    require(activation in ("softmax", "sigmoid"), "activation", activation, "softmax, sigmoid")
    is_usual = activation != "sigmoid" or classes == 1
    require(is_usual, "classes", classes, "1 with activation sigmoid")
    require(weights != "imagenet", "weights", weights, "None, a file: there are none for ImageNet")
    require(0 <= reduction < 1, "reduction", reduction, "a number from 0 to below 1")
    for side in () if input_shape is None else input_shape:
        is_side = side is None or side >= LEAST_SIDE or side == 3  # 3: the channels
        require(is_side, "input_shape", input_shape, "sides of at least {}".format(LEAST_SIDE))
    layers = _layers(depth, nb_dense_block, nb_layers_per_block, bottleneck)
    growth = _by_block("growth_rate", growth_rate, len(layers))
    config = SparseNetConfig(
        layers=layers,
        growth_rate=growth,
        unit="bottleneck" if bottleneck else "single",
        compression=1.0 - reduction,
        dropout=dropout_rate or 0.0,
        stem="imagenet" if subsample_initial_block else "cifar",
        stem_channels=2 * growth[0] if nb_filter == -1 else nb_filter,
        classes=classes,
    )
    return build(
        config,
        include_top=include_top,
        weights=weights,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling="avg",
        classifier_activation=activation,
        kernel_regularizer=keras.regularizers.L2(weight_decay) if weight_decay else None,
    )


def _layers(
    depth: int, blocks: int, layers_per_block: Numbers, bottleneck: bool
) -> Tuple[int, ...]:
    """Return the layers of each block; UserError for a depth or a list that gives none."""
    require(isinstance(blocks, int) and blocks >= 1, "nb_dense_block", blocks, "1 or more")
    if not isinstance(layers_per_block, int):
        layers = tuple(layers_per_block)
        accepted = "a number for each block, {0} or {0} + 1 of them".format(blocks)
        fits = len(layers) in (blocks, blocks + 1)
        require(fits, "nb_layers_per_block", layers, accepted)
        return layers
    if layers_per_block != -1:
        return (layers_per_block,) * blocks
    count, remainder = divmod(depth - 4, 3)
    if bottleneck:
        count //= 2
    require(count >= 1 and not remainder, "depth", depth, "3n + 4, such as 40 or 100")
    return (count,) * blocks


def _by_block(name: str, numbers: Numbers, blocks: int) -> Tuple[int, ...]:
    """Return one number for each block."""
    if isinstance(numbers, int):
        return (numbers,) * blocks
    require(len(numbers) == blocks, name, numbers, "a number, or one for each block")
    return tuple(numbers)


def _imagenet(depth: int, layers: Tuple[int, ...], growth: int, stem_channels: int):
    """Return the function of one of its networks for ImageNet."""

    def application(
        input_shape: Optional[Sequence[Optional[int]]] = None,
        bottleneck: bool = True,
        reduction: float = 0.5,
        dropout_rate: float = 0.0,
        weight_decay: float = 1e-4,
        include_top: bool = True,
        weights: Optional[str] = None,
        input_tensor=None,
        classes: int = 1000,
        activation: str = "softmax",
    ) -> keras.Model:
        return SparseNet(
            input_shape, depth, len(layers), growth, stem_channels, layers, bottleneck, reduction,
            dropout_rate, weight_decay, True, include_top, weights, input_tensor, classes,
            activation,
        )  # fmt: skip

    application.__name__ = application.__qualname__ = "SparseNetImageNet{}".format(depth)
    application.__doc__ = "Return keras-SparseNet's network of depth {}; see SparseNet.".format(
        depth
    )
    return application


SparseNetImageNet121 = _imagenet(121, (6, 12, 24, 16), 32, 64)
SparseNetImageNet161 = _imagenet(161, (6, 12, 36, 24), 48, 96)
SparseNetImageNet169 = _imagenet(169, (6, 12, 32, 32), 32, 64)
SparseNetImageNet201 = _imagenet(201, (6, 12, 48, 32), 32, 64)
SparseNetImageNet264 = _imagenet(264, (6, 12, 64, 48), 32, 64)
