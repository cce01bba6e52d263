"""Have the layers of a graph computed by fused ops.

A layer is what the model builds it from: [Concat,] FusedBatchNorm, [Relu,] Conv2D, and in training
their gradients. The fused op is added beside it, and whatever reads the layer's results reads those
of the fused op instead. What nobody reads is not computed. A layer that looks otherwise is left as
it is, so that a graph means the same in any case.
"""

from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

from common.tf_stack import tf

OPS = ("ChannelMoments", "NormReluConv", "NormReluConvGrad")

Tensor = Any  # tf.Tensor; TensorFlow has no type hints
Operation = Any
Pairs = List[Tuple[Tensor, Tensor]]


class Gradients(NamedTuple):
    """What the standard ops compute of a layer's gradients.

    output:  the gradient that comes in, of the convolution's output
    maps, gamma, beta, kernel: those that go out
    """

    output: Tensor
    maps: List[Tensor]
    gamma: Tensor
    beta: Tensor
    kernel: Tensor


class Layer(NamedTuple):
    """A layer of the graph, in its standard ops.

    maps:      that it reads, side by side
    relu:      None if there is none
    gradients: None outside of training
    """

    maps: List[Tensor]
    norm: Operation
    relu: Optional[Operation]
    conv: Operation
    gradients: Optional[Gradients]


class Fusion:
    """Puts fused ops into a graph.

    ops: the module of the library that has them
    """

    def __init__(self, ops: Any):
        self._ops = ops
        self._standard: Dict[str, str] = {}  # name of a tensor of a fused op -> of what it replaced

    def apply(self, graph: Any) -> int:
        """Fuse the layers of a graph that has no session yet; return their number."""
        layers = [layer for op in graph.get_operations() for layer in layers_at(op)]
        moments: Dict[str, Tuple[Tensor, Tensor]] = {}
        with graph.as_default(), tf.control_dependencies(None):
            pairs = [pair for layer in layers for pair in fused(layer, self._ops, moments)]
        for old, new in pairs:
            new.set_shape(old.shape)
            replace(old, new)
            self._standard[as_input(new)] = as_input(old)
        return len(layers)

    def undo(self, meta_graph: Any) -> None:
        """Bring a MetaGraphDef of the graph to what it was before."""
        nodes, known = meta_graph.graph_def.node, meta_graph.meta_info_def.stripped_op_list.op
        remove_where(nodes, lambda node: node.op in OPS)
        remove_where(known, lambda op: op.name in OPS)
        for node in nodes:
            for index, name in enumerate(node.input):
                node.input[index] = self._standard.get(name, name)


# Finding layers ---------------------------------------------------------------------------------


def layers_at(conv: Operation) -> Iterator[Layer]:
    """Yield the layer that ends with an op, if there is one."""
    if conv.type != "Conv2D" or not is_plain(conv):
        return
    active = behind(conv.inputs[0]).op
    relu = active if active.type == "Relu" else None
    norm = active if relu is None else behind(relu.inputs[0]).op
    if norm.type != "FusedBatchNormV3" or norm.get_attr("data_format") != b"NHWC":
        return
    read = behind(norm.inputs[0])
    maps = list(read.op.inputs)[:-1] if read.op.type == "ConcatV2" else [read]
    if not all(each.shape.rank == 4 and each.shape[3] for each in maps):
        return
    if not is_differentiated(conv):
        yield Layer(maps, norm, relu, conv, None)
        return
    gradients = gradients_of(maps, norm, relu, conv) if norm.get_attr("is_training") else None
    if gradients is not None:
        yield Layer(maps, norm, relu, conv, gradients)


def is_plain(conv: Operation) -> bool:
    """Return whether a convolution has stride 1, padding SAME and float32 numbers."""
    ones = [1, 1, 1, 1]
    return (
        conv.get_attr("T") == tf.float32
        and conv.get_attr("data_format") == b"NHWC"
        and conv.get_attr("padding") == b"SAME"
        and list(conv.get_attr("strides")) == ones
        and list(conv.get_attr("dilations")) == ones
    )


def is_differentiated(conv: Operation) -> bool:
    """Return whether the graph has gradients of a convolution."""
    return any(op.type.startswith("Conv2DBackprop") for op in conv.inputs[1].consumers()) or any(
        op.type.startswith("Conv2DBackprop") for op in conv.inputs[0].consumers()
    )


def gradients_of(
    maps: List[Tensor], norm: Operation, relu: Optional[Operation], conv: Operation
) -> Optional[Gradients]:
    """Return the gradients of a layer; None if they are not those of this layer alone."""
    kernels = [op for op in conv.inputs[0].consumers() if op.type == "Conv2DBackpropFilter"]
    inputs = [op for op in conv.inputs[1].consumers() if op.type == "Conv2DBackpropInput"]
    if len(kernels) != 1 or len(inputs) != 1:
        return None
    flowing = gated(inputs[0].outputs[0])
    if relu is not None:
        through = only_reader(flowing, "ReluGrad")
        flowing = None if through is None else gated(through.outputs[0])
    back = only_reader(flowing, "FusedBatchNormGradV3")
    if back is None or back.inputs[1] is not norm.inputs[0]:
        return None
    of_input, gamma, beta = (gated(each) for each in back.outputs[:3])
    of_maps = [of_input] if len(maps) == 1 else parts_of(of_input, len(maps))
    if of_maps is None:
        return None
    return Gradients(kernels[0].inputs[2], of_maps, gamma, beta, gated(kernels[0].outputs[0]))


def parts_of(gradient: Tensor, count: int) -> Optional[List[Tensor]]:
    """Return the parts into which the gradient of a concatenation is cut; None if it is not."""
    readers = gradient.consumers()
    if len(readers) == 1 and readers[0].type == "SplitV":
        return [gated(each) for each in readers[0].outputs]
    if len(readers) != count or any(op.type != "Slice" for op in readers):
        return None
    # Where a slice begins is an output of ConcatOffset, whose outputs are in order.
    readers = sorted(readers, key=lambda op: op.inputs[1].value_index)
    begins = [op.inputs[1] for op in readers]
    if len({each.op for each in begins}) != 1 or begins[0].op.type != "ConcatOffset":
        return None
    return [gated(op.outputs[0]) for op in readers]


def only_reader(tensor: Optional[Tensor], kind: str) -> Optional[Operation]:
    """Return the op that alone reads a tensor, if it is of a kind."""
    readers = [] if tensor is None else tensor.consumers()
    return readers[0] if len(readers) == 1 and readers[0].type == kind else None


def behind(tensor: Tensor) -> Tensor:
    """Return what a tensor is a copy of, by other names."""
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor


def gated(gradient: Tensor) -> Tensor:
    """Return a gradient as others read it: once all gradients of the op are there."""
    readers = gradient.consumers()
    if len(readers) == 1 and readers[0].type == "Identity" and readers[0].control_inputs:
        return readers[0].outputs[0]
    return gradient


# Replacing them ---------------------------------------------------------------------------------


def fused(layer: Layer, ops: Any, moments: Dict[str, Tuple[Tensor, Tensor]]) -> Pairs:
    """Add the fused ops of a layer; return the tensors that they replace, and those in their place.

    moments: of the maps that were read before; several layers read most of them
    """
    is_training = layer.norm.get_attr("is_training")
    if is_training:
        found = [moments_of(each, ops, moments) for each in layer.maps]
        means, variances = ([each[i] for each in found] for i in range(2))
    else:
        means, variances = [layer.norm.inputs[3]], [layer.norm.inputs[4]]
    read = {
        "x": layer.maps,
        "mean": means,
        "variance": variances,
        "gamma": layer.norm.inputs[1],
        "beta": layer.norm.inputs[2],
        "filter": layer.conv.inputs[1],
        "epsilon": layer.norm.get_attr("epsilon"),
        "relu": layer.relu is not None,
    }
    with tf.name_scope(layer.conv.name + "/fused/"):
        forward = ops.NormReluConv(**read)
        pairs = [(layer.conv.outputs[0], forward.y)]
        if is_training:
            statistics = (forward.batch_mean, forward.batch_variance)
            pairs += zip(layer.norm.outputs[1:3], statistics)
        if layer.gradients is not None:
            pairs += fused_gradients(layer.gradients, ops, read)
    return pairs


def fused_gradients(gradients: Gradients, ops: Any, read: Dict[str, Any]) -> Pairs:
    """Add the fused op of a layer's gradients; return as fused does."""
    back = ops.NormReluConvGrad(dy=gradients.output, **read)
    return [
        *zip(gradients.maps, back.x_grad),
        (gradients.gamma, back.gamma_grad),
        (gradients.beta, back.beta_grad),
        (gradients.kernel, back.filter_grad),
    ]


def moments_of(
    x: Tensor, ops: Any, moments: Dict[str, Tuple[Tensor, Tensor]]
) -> Tuple[Tensor, Tensor]:
    """Return mean and variance of the channels of a map, which are computed once."""
    x = behind(x)
    if x.name not in moments:
        with tf.name_scope(x.op.name + "/moments/"):
            moments[x.name] = tuple(ops.ChannelMoments(x=x))
    return moments[x.name]


def remove_where(messages: Any, is_unwanted: Callable[[Any], bool]) -> None:
    """Remove messages from a repeated field."""
    for index in reversed(range(len(messages))):
        if is_unwanted(messages[index]):
            del messages[index]


def as_input(tensor: Tensor) -> str:
    """Return the name by which the nodes of a GraphDef read a tensor."""
    return tensor.op.name if tensor.value_index == 0 else tensor.name


def replace(old: Tensor, new: Tensor) -> None:
    """Have all that reads a tensor read another one."""
    for op in old.consumers():
        for index, tensor in enumerate(op.inputs):
            if tensor is old:
                op._update_input(index, new)
