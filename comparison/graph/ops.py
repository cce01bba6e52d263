"""The ops of a graph as plain records, which the steps of the normalisation change in place."""

import collections
import dataclasses
import hashlib
from typing import Any, Callable, Container, Dict, List, Optional, Set, Tuple

from common.tf_stack import tf

import numpy as np
from tensorflow.python.framework import op_def_registry

Output = Tuple[str, int]  # name of an op, number of its output
RANDOM = ("Random", "TruncatedNormal", "ParameterizedTruncatedNormal", "Multinomial")


@dataclasses.dataclass
class Op:
    """An op of a graph.

    attributes: plain values, without the value of a constant and without shapes
    shapes:     of each output; None for an unknown shape, -1 for an open dimension
    value:      of a constant, else None
    """

    name: str
    type: str
    inputs: List[Output]
    controls: List[str]
    attributes: Dict[str, Any]
    shapes: List[Optional[Tuple[int, ...]]]
    definition: tf.NodeDef
    value: Optional[np.ndarray] = None

    def become(self, type_: str, inputs=(), **attributes) -> None:
        """Turn into an op of another type, with other inputs and attributes."""
        self.type, self.inputs, self.attributes = type_, list(inputs), attributes

    def become_constant(self, value: np.ndarray) -> None:
        """Turn into a constant."""
        self.become("Const", dtype=tf.as_dtype(value.dtype).name)
        self.value = value
        self.shapes = [value.shape]


Ops = Dict[str, Op]


def read_ops(graph: tf.GraphDef) -> Ops:
    """Return the ops of a graph by name."""
    if not any("_output_shapes" in node.attr for node in graph.node):
        graph = with_shapes(graph)
    functions = _digests_of_functions(graph)
    return {node.name: _read_op(node, functions) for node in graph.node}


def with_shapes(graph: tf.GraphDef) -> tf.GraphDef:
    """Return `graph` with the shapes that this TensorFlow infers; unchanged if it can't load it.

    An op that it does not know, of another platform or version, is first taken to keep the shape
    of what it reads, as most do, and if that fits nowhere, to have no known shape.
    """
    for keeps_shape in (True, False):
        loaded = tf.Graph()
        try:
            with loaded.as_default():
                tf.import_graph_def(_importable(graph, keeps_shape), name="")
        except (ValueError, TypeError, KeyError, tf.errors.OpError):
            continue
        found = {node.name: node.attr for node in loaded.as_graph_def(add_shapes=True).node}
        result = tf.GraphDef()
        result.CopyFrom(graph)
        for node in result.node:
            if "_output_shapes" in found[node.name]:
                node.attr["_output_shapes"].CopyFrom(found[node.name]["_output_shapes"])
        return result
    return graph


def definition_of(op_type: str):
    """Return this TensorFlow's OpDef of a type of op; None if it has no such op."""
    if hasattr(op_def_registry, "get"):
        return op_def_registry.get(op_type)
    return op_def_registry.get_registered_ops().get(op_type)  # TensorFlow 1.15


def drop_unknown_attributes(node: tf.NodeDef) -> None:
    """Drop the attributes that this TensorFlow does not know, with which it refuses an op."""
    definition = definition_of(node.op)
    if definition is not None:
        known = {attribute.name for attribute in definition.attr}
        for name in [name for name in node.attr if name not in known and name[0] != "_"]:
            del node.attr[name]


def _importable(graph: tf.GraphDef, keeps_shape: bool) -> tf.GraphDef:
    """Return `graph` with other ops in place of those that can't be loaded, and without queues."""
    result = _without_queues(graph)
    functions = {each.signature.name for each in graph.library.function}
    outputs: Dict[str, int] = collections.Counter()
    for node in result.node:
        for name, _, port in (text.partition(":") for text in node.input):
            outputs[name] = max(outputs[name], int(port or 0) + 1)
    for node in result.node:
        if definition_of(node.op) is not None:
            drop_unknown_attributes(node)
        elif node.op not in functions:
            _replace_unknown(node, outputs[node.name], keeps_shape)
    return result


def _replace_unknown(node: tf.NodeDef, outputs: int, keeps_shape: bool) -> None:
    """Turn an op into one that returns its first input, or values of no known shape."""
    types = [value.type for _, value in sorted(node.attr.items()) if value.type]
    source = next((name for name in node.input if not name.startswith("^")), None)
    is_identity = keeps_shape and source is not None
    node.op = "IdentityN" if is_identity else "Unstage"
    node.input[:] = [source] * max(1, outputs) if is_identity else []
    node.attr.clear()
    node.attr["T" if is_identity else "dtypes"].list.type.extend(
        [types[0] if types else tf.float32.as_datatype_enum] * max(1, outputs)
    )


def _without_queues(graph: tf.GraphDef) -> tf.GraphDef:
    """Return `graph` with inputs in place of queues, whose outputs have no known shapes."""
    result = tf.GraphDef()
    result.CopyFrom(graph)
    enqueued = {
        node.input[0]: node for node in result.node
        if node.op in ("QueueEnqueue", "QueueEnqueueV2")
    }  # fmt: skip
    for node in result.node:
        if node.op in ("QueueDequeue", "QueueDequeueV2") and node.input[0] in enqueued:
            source = enqueued[node.input[0]]
            types = source.attr["Tcomponents"]
            node.op, node.input[:] = "IdentityN", source.input[1:]
            node.attr.clear()
            node.attr["T"].CopyFrom(types)
    return result


SAVER_CALL = "SaverCall"  # of a function that writes or reads a checkpoint, in a SavedModel


def _digests_of_functions(graph: tf.GraphDef) -> Dict[str, str]:
    """Return the digest of the body of each function in a graph's library, by name.

    SAVER_CALL in place of a digest for one that saves or restores.
    """
    bodies = {each.signature.name: each for each in graph.library.function}
    digests: Dict[str, str] = {}

    def digest(name: str) -> str:
        if name not in digests:
            digests[name] = name  # for a function that calls itself
            body = bodies[name].node_def
            called = {node.op for node in body} | {
                value.func.name for node in body for value in node.attr.values()
            }
            inner = {each: digest(each) for each in sorted(called) if each in bodies}
            digests[name] = _digest(bodies[name], inner)
        return digests[name]

    return {name: digest(name) for name in bodies}


def _digest(function, inner: Dict[str, str]) -> str:
    """Return the digest of a function, which depends on no name of its ops.

    inner: the digests of the functions that it calls
    """
    body = function.node_def
    if any(node.op in ("SaveV2", "RestoreV2") for node in body):
        return SAVER_CALL
    number = {node.name: str(index) for index, node in enumerate(body)}

    def numbered(text: str) -> List[str]:  # `conv:output:0`
        name, *rest = text.split(":")
        return [number.get(name, name), *rest[1:]]

    described = [
        (inner.get(node.op, node.op), [numbered(text) for text in node.input],
         _attributes(node, inner))
        for node in body
    ]  # fmt: skip
    returned = [numbered(function.ret[each.name]) for each in function.signature.output_arg]
    return hashlib.blake2b(repr((described, returned)).encode(), digest_size=8).hexdigest()


def _attributes(node: tf.NodeDef, functions: Dict[str, str]) -> Dict[str, Any]:
    """Return the attributes of an op; a function as its body's digest, as its name is numbered."""
    return {
        name: functions.get(value.func.name, value.func.name)
        if value.HasField("func")
        else plain_attribute(value)
        for name, value in sorted(node.attr.items())
    }


def _read_op(node: tf.NodeDef, functions: Dict[str, str]) -> Op:
    attributes = _attributes(node, functions)
    shapes = attributes.pop("_output_shapes", ())
    value = None
    if node.op == "Const":
        value = tf.make_ndarray(node.attr["value"].tensor)
        del attributes["value"]
    inputs, controls = [], []
    for text in node.input:
        if text.startswith("^"):
            controls.append(text[1:])
        else:
            name, _, port = text.partition(":")
            inputs.append((name, int(port or 0)))
    calls_saver = attributes.get("f") == SAVER_CALL
    return Op(
        node.name,
        SAVER_CALL if calls_saver else functions.get(node.op, node.op),
        inputs,
        controls,
        attributes,
        list(shapes),
        node,
        value,
    )


def plain_attribute(attribute) -> object:
    """Return an AttrValue as a value that can be compared, sorted and shown."""
    kind = attribute.WhichOneof("value")
    if kind == "list":
        return tuple(
            _plain_part(value, is_type=field.name == "type")
            for field, values in attribute.list.ListFields()
            for value in values
        )
    return _plain_part(getattr(attribute, kind) if kind else None, is_type=kind == "type")


def _plain_part(value, is_type: bool = False) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if is_type:
        return tf.as_dtype(value).name
    if hasattr(value, "unknown_rank"):
        return None if value.unknown_rank else tuple(dim.size for dim in value.dim)
    if hasattr(value, "tensor_content"):
        return tuple(tf.make_ndarray(value).ravel().tolist())
    if hasattr(value, "attr"):
        return value.name
    return value


def shape_of(ops: Ops, output: Output) -> Optional[Tuple[int, ...]]:
    """Return the shape of an output; None for an unknown shape, -1 for an open dimension."""
    name, port = output
    shapes = ops[name].shapes if name in ops else []
    return shapes[port] if port < len(shapes) else None


def users_of(ops: Ops) -> Dict[str, Set[str]]:
    """Return the names of the ops that read each op."""
    users = collections.defaultdict(set)
    for op in ops.values():
        for source, _ in op.inputs:
            users[source].add(op.name)
    return users


def split_off(ops: Ops, output: Output) -> Op:
    """Add and return an op that stands for one output of another; see :func:`read_split_off`."""
    source = ops[output[0]]
    name = "{}:{}".format(*output)
    ops[name] = dataclasses.replace(source, name=name, shapes=[shape_of(ops, output)])
    return ops[name]


def read_split_off(ops: Ops, outputs: Container[Output]) -> None:
    """Make the readers of these outputs read the ops that stand for them."""
    for op in ops.values():
        op.inputs = [("{}:{}".format(*each), 0) if each in outputs else each for each in op.inputs]


def changes_state(op_type: str) -> bool:
    """Return whether an op of this type writes a variable."""
    return op_type.startswith(("Assign", "Apply", "Scatter"))


def drop(ops: Ops, is_dropped: Callable[[Op], object]) -> int:
    """Drop ops, and with them the inputs of their readers; return how many."""
    dropped = [name for name, op in ops.items() if is_dropped(op)]
    for name in dropped:
        del ops[name]
    for op in ops.values():
        op.inputs = [each for each in op.inputs if each[0] in ops]
    return len(dropped)


def drop_with_feeders(ops: Ops, is_dropped: Callable[[Op], object]) -> int:
    """Drop ops and all that feeds them alone; return how many."""
    users = users_of(ops)
    gone = {name for name, op in ops.items() if is_dropped(op)}
    pending = list(gone)
    while pending:
        name = pending.pop()
        for source, _ in ops[name].inputs:
            is_unused = source not in gone and users[source] <= gone
            if is_unused and not changes_state(ops[source].type):
                gone.add(source)
                pending.append(source)
    return drop(ops, lambda op: op.name in gone)


def in_order(ops: Ops) -> List[str]:
    """Return the names of the ops, inputs first, except where the graph has a loop."""
    order, seen = [], set()
    for root in sorted(ops):
        pending = [(root, False)]
        while pending:
            name, inputs_done = pending.pop()
            if inputs_done:
                order.append(name)
            elif name not in seen and name in ops:
                seen.add(name)
                pending.append((name, True))
                pending.extend((source, False) for source, _ in reversed(ops[name].inputs))
    return order
