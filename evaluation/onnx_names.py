"""Names of an ONNX graph by the layers of its network: block1/layer2/conv1, block1/layer2/bn1/Mul.

tf2onnx names nodes by the path of the TensorFlow operation, such as
`sparsenet_40_24_1/block1_layer2_bn1_1/batchnorm/mul_1`.
"""

import re
from collections import Counter
from typing import Dict, Iterable, Set

import onnx

BATCH = "batch"  # name of the dimension that is not fixed

# (operator, place of an input) -> how a constant there is called.
CONSTANTS = {
    ("Conv", 1): "W",
    ("Conv", 2): "b",
    ("MatMul", 1): "W",
    ("Gemm", 1): "W",
    ("Gemm", 2): "b",
}


def name_by_layers(model: onnx.ModelProto, layers: Iterable[str], name: str) -> onnx.ModelProto:
    """Return a graph of one input and one output, which keep their names, with others renamed.

    layers: names of the Keras layers; name: of the graph. Shapes of all tensors are part of it.
    """
    graph = model.graph
    graph.name, graph.doc_string = name, ""
    scopes = [_scope(node.name, set(layers)) for node in graph.node]
    # A convolution is the node of its layer even where its input is transposed first.
    nodes_in = Counter(s for node, s in zip(graph.node, scopes) if node.op_type != "Transpose")
    kept = [each.name for each in (*graph.input, *graph.output)]
    renamed = {each: each for each in kept}
    constants = {each.name for each in graph.initializer}
    taken = set(kept)
    for node, scope in zip(graph.node, scopes):
        alone = nodes_in[scope] == 1 and node.op_type != "Transpose"
        node.name = _unique(scope if alone else "{}/{}".format(scope, node.op_type), taken)
        for place, source in enumerate(node.input):
            if source in constants and source not in renamed:
                role = CONSTANTS.get((node.op_type, place), "constant")
                renamed[source] = _unique(
                    "{}/{}".format(scope if alone else node.name, role), taken
                )
        for target in node.output:
            renamed.setdefault(target, node.name)
    _rename(graph, renamed)
    for each in (*graph.input, *graph.output):
        each.type.tensor_type.shape.dim[0].dim_param = BATCH
    return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _scope(path: str, layers: Set[str]) -> str:
    """Return the scope of the layer that a node belongs to, by the path of its operation."""
    for part in path.split("/"):
        # TensorFlow numbers the scope of a layer when it is called again.
        for layer in (part, re.sub(r"_\d+$", "", part)):
            if layer in layers:
                is_nested = layer.startswith(("block", "transition"))
                return layer.replace("_", "/") if is_nested else layer.replace("_relu", "/relu")
    return re.sub(r"_+\d+$", "", path.split("/")[0])


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
