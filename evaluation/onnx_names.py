"""Names of an ONNX graph by the layers of its network: block1/layer2/conv1, block1/layer2/bn1/Mul.

tf2onnx names nodes by the path of the TensorFlow operation, such as
`sparsenet_40_24_1/block1_layer2_bn1_1/batchnorm/mul_1`.
"""

import re
from collections import Counter
from typing import Dict, List, Set

import onnx

BATCH = "batch"  # name of the dimension that is not fixed

# (operator, place of an input) -> what the weights there are called in a checkpoint.
WEIGHTS = {("Conv", 1): "/W", ("Conv", 2): "/b", ("MatMul", 1): "/W"}


def name_by_layers(model: onnx.ModelProto, layers: Set[str], name: str) -> onnx.ModelProto:
    """Return a graph of one input and one output, which keep their names, with others renamed.

    layers: names of the Keras layers; name: of the graph. Shapes of all tensors are part of it.
    """
    graph = model.graph
    graph.name, graph.doc_string = name, ""
    ends = [*graph.input, *graph.output]
    taken = {each.name for each in ends}
    scopes = [_scope(node.name, layers) for node in graph.node]
    _name_nodes(graph, scopes, taken)
    names = _names_of_tensors(graph, scopes, taken)
    names.update((each.name, each.name) for each in ends)
    _rename(graph, names)
    for each in ends:
        each.type.tensor_type.shape.dim[0].dim_param = BATCH
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _name_nodes(graph: onnx.GraphProto, scopes: List[str], taken: Set[str]) -> None:
    """Name nodes by their layers, and by their operators too where a layer has several."""
    # A convolution is the node of its layer even where its input is transposed first.
    sizes = Counter(s for node, s in zip(graph.node, scopes) if node.op_type != "Transpose")
    for node, scope in zip(graph.node, scopes):
        is_alone = sizes[scope] == 1 and node.op_type != "Transpose"
        node.name = _unique(scope if is_alone else "{}/{}".format(scope, node.op_type), taken)


def _names_of_tensors(graph: onnx.GraphProto, scopes: List[str], taken: Set[str]) -> Dict[str, str]:
    """Return the new name of each output of a node, and of each constant by who reads it first."""
    constants = {each.name for each in graph.initializer}
    names: Dict[str, str] = {}
    for node, scope in zip(graph.node, scopes):
        for place, source in enumerate(node.input):
            if source in constants and source not in names:
                weights = WEIGHTS.get((node.op_type, place))
                name = scope + weights if weights else node.name + "/constant"
                names[source] = _unique(name, taken)
        for place, target in enumerate(node.output):
            names[target] = node.name if place == 0 else "{}/{}".format(node.name, place)
    return names


def _scope(path: str, layers: Set[str]) -> str:
    """Return the scope of the layer that a node belongs to, by the path of its operation."""
    for part in path.split("/"):
        # TensorFlow numbers the scope of a layer when it is called again.
        for layer in (part, re.sub(r"_\d+$", "", part)):
            if layer in layers:
                is_nested = layer.startswith(("block", "transition"))
                return layer.replace("_", "/") if is_nested else layer.replace("_relu", "/relu")
    return re.sub(r"(?<!_)_+\d+$", "", path.split("/")[0])


def _unique(name: str, taken: Set[str]) -> str:
    """Return `name`, with a number if it is taken already, and add it to those taken."""
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = "{}_{}".format(name, number)
    taken.add(candidate)
    return candidate


def _rename(graph: onnx.GraphProto, names: Dict[str, str]) -> None:
    """Give the tensors of a graph other names; the shapes that it has of them are dropped."""
    for node in graph.node:
        node.input[:] = [names.get(each, each) for each in node.input]
        node.output[:] = [names.get(each, each) for each in node.output]
    for constant in graph.initializer:
        constant.name = names.get(constant.name, constant.name)
    del graph.value_info[:]
