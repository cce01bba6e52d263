"""The networks written plainly in PyTorch, as one of its users would: what to measure against.

Concatenating networks for images of 32 pixels, of either kind of layer and with any rule of what a
layer reads: SparseNet, SparseNet-BC, DenseNet, DenseNet-BC. A module has the scope of the variables
that it holds as its name: `block1/layer0/bn1` is `block1.layer0.bn1`.

Images are float32 [N, 3, H, W], normalised (see to_input), in either of PyTorch's memory formats.
"""

from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from sparsenet import plan
from sparsenet.config import SparseNetConfig
from sparsenet.errors import require

MOMENTUM = 0.9
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
# Fields of a config that have one value here.
ALWAYS = {
    "combine": "concat",
    "dropout": 0.0,
    "attention": "none",
    "head": "gap",
    "stem_relu": False,
    "transition_relu": False,
    "bottleneck_relu": True,
}

Read = Tuple[int, ...]


def conv(in_channels: int, channels: int, kernel: int, bias: bool) -> nn.Conv2d:
    """Return a convolution that keeps the sides of a map, started as He et al. by fan out."""
    layer = nn.Conv2d(in_channels, channels, kernel, padding=kernel // 2, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


class Layer(nn.Module):
    """BN-ReLU-Conv3x3(k), or BN-ReLU-Conv1x1(4k)-BN-ReLU-Conv3x3(k)."""

    def __init__(self, in_channels: int, growth: int, bottleneck: bool, bias: bool, norm):
        super().__init__()
        self.bottleneck = bottleneck
        self.bn1 = norm(in_channels)
        if bottleneck:
            self.conv1 = conv(in_channels, 4 * growth, 1, bias)
            self.bn2 = norm(4 * growth)
            self.conv2 = conv(4 * growth, growth, 3, bias)
        else:
            self.conv1 = conv(in_channels, growth, 3, bias)

    def forward(self, x):
        """Return [N, k, H, W] of [N, C, H, W]."""
        x = self.conv1(functional.relu(self.bn1(x)))
        return self.conv2(functional.relu(self.bn2(x))) if self.bottleneck else x


class Block(nn.Module):
    """Layers, each of which reads some of the outputs before it, concatenated.

    reads: numbers of the outputs that each layer reads, and last those that the block passes on
    """

    def __init__(self, layers: List[Layer], reads: List[Read]):
        super().__init__()
        self.reads = reads
        for index, layer in enumerate(layers):
            self.add_module("layer{}".format(index), layer)

    def forward(self, x):
        """Return [N, C', H, W] of [N, C, H, W]."""
        outputs = [x]
        for layer, read in zip(self.children(), self.reads):
            outputs.append(layer(torch.cat([outputs[i] for i in read], 1)))
        return torch.cat([outputs[i] for i in self.reads[-1]], 1)


class Transition(nn.Module):
    """BN-ReLU-Conv1x1, and the mean of each 2x2 pixels."""

    def __init__(self, in_channels: int, channels: int, bias: bool, norm):
        super().__init__()
        self.bn1 = norm(in_channels)
        self.conv1 = conv(in_channels, channels, 1, bias)

    def forward(self, x):
        """Return [N, C', H/2, W/2] of [N, C, H, W]."""
        return functional.avg_pool2d(self.conv1(functional.relu(self.bn1(x))), 2)


class Network(nn.Sequential):
    """conv0, blocks with transitions between them, bn_last, global average, linear."""

    def forward(self, x):
        """Return the logits [N, classes] of images [N, 3, H, W]."""
        for name, module in self.named_children():
            if name == "linear":
                x = functional.relu(x).mean((2, 3))
            x = module(x)
        return x


def build(config: SparseNetConfig, memory_format: str = "contiguous", compiled: bool = False):
    """Return the network of a config, with random weights.

    memory_format: of its kernels, a key of FORMATS; images should have the same
    compiled:      whether torch.compile makes code of it, when it is first called

    Raises UserError for a network that is not written here.
    """
    _check(config)

    def norm(channels):
        return nn.BatchNorm2d(channels, plan.bn_epsilon(config), momentum=1 - plan.BN_MOMENTUM)

    network = Network()
    network.add_module("conv0", conv(plan.IMAGE_CHANNELS, config.stem_width, 3, config.bias))
    for index, block in enumerate(plan.blocks(config), start=1):
        network.add_module(block.scope, _block(config, block, norm))
        if block.transition is not None:
            transition = Transition(block.out_channels, block.transition, config.bias, norm)
            network.add_module("transition{}".format(index), transition)
    network.add_module("bn_last", norm(block.out_channels))
    network.add_module("linear", nn.Linear(block.out_channels, config.classes))
    network = network.to(memory_format=FORMATS[memory_format])
    if compiled:
        network.compile()
    return network


def _check(config: SparseNetConfig) -> None:
    for field, value in ALWAYS.items():
        require(getattr(config, field) == value, field, getattr(config, field), str(value))
    require(config.stem.startswith("cifar"), "stem", config.stem, "cifar, cifar_narrow")
    require(not config.is_residual, "unit", config.unit, "single, bottleneck")
    rules = "sparse, dense, plain, nearest_farthest"
    require(config.fetch != "channel_window", "fetch", config.fetch, rules)


def _block(config: SparseNetConfig, block: plan.Block, norm) -> Block:
    is_bottleneck = config.unit == "bottleneck"
    layers = [
        Layer(layer.in_channels, layer.growth, is_bottleneck, config.bias, norm)
        for layer in block.layers
    ]
    read = [layer.reads for layer in block.layers] + [block.block_output]
    return Block(layers, [tuple(s.output for s in slices) for slices in read])


# Training --------------------------------------------------------------------------------------


def make_optimizer(
    network: nn.Module, learning_rate: float = 0.1, weight_decay: float = 1e-4
) -> torch.optim.Optimizer:
    """Return SGD with Nesterov momentum; of the parameters, the kernels decay."""
    decaying = [each for each in network.parameters() if each.ndim > 1]
    others = [each for each in network.parameters() if each.ndim == 1]
    groups: List[Dict[str, Any]] = [
        {"params": decaying, "weight_decay": weight_decay}, {"params": others},
    ]  # fmt: skip
    return torch.optim.SGD(groups, learning_rate, MOMENTUM, nesterov=True)


def train_step(network: nn.Module, optimizer: torch.optim.Optimizer, images, labels) -> float:
    """Take a step on images and labels (int64 [N]), and return the mean cross entropy before it."""
    network.train()
    loss = functional.cross_entropy(network(images), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


def to_input(
    images: np.ndarray, normalization: Dict[str, Any], memory_format: str = "contiguous"
) -> torch.Tensor:
    """Return uint8 images [N, H, W, 3] as a network takes them, normalised by `mean` and `std`."""
    mean, std = (np.asarray(normalization[key], np.float32) for key in ("mean", "std"))
    planes = torch.from_numpy((images - mean) / std).permute(0, 3, 1, 2)
    return planes.contiguous(memory_format=FORMATS[memory_format])


# Weights by their names in a checkpoint of this project -------------------------------------------

BATCH_NORM = {
    "weight": "gamma", "bias": "beta", "running_mean": "mean/EMA", "running_var": "variance/EMA",
}  # fmt: skip
OTHERS = {"weight": "W", "bias": "b"}


def set_variables(network: nn.Module, arrays: Dict[str, np.ndarray]) -> None:
    """Give a network the weights `arrays`, by their names in a checkpoint."""
    with torch.no_grad():
        for name, tensor in variables(network):
            value = torch.from_numpy(arrays[name])
            tensor.copy_(value.permute(3, 2, 0, 1) if value.ndim == 4 else value.t_()
                         if value.ndim == 2 else value)  # fmt: skip


def in_our_layout(value: torch.Tensor) -> np.ndarray:
    """Return a kernel as [h, w, in, out], a matrix as [in, out], all else as it is."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(value.ndim, (0,))
    return value.detach().permute(axes).numpy()


def variables(network: nn.Module) -> Iterator[Tuple[str, torch.Tensor]]:
    """Yield name in a checkpoint and tensor of each parameter and moving statistic."""
    for scope, module in network.named_modules():
        names = BATCH_NORM if isinstance(module, nn.BatchNorm2d) else OTHERS
        for attribute, name in names.items():
            tensor = getattr(module, attribute, None)
            if tensor is not None:
                yield "{}/{}".format(scope.replace(".", "/"), name), tensor
