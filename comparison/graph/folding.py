"""Fold constants: one version computes them when it builds a graph, another when it runs it."""

import contextlib
from typing import Dict, List, Optional, Tuple

from common.tf_stack import tf

import numpy as np

from comparison.graph.ops import (
    RANDOM,
    Op,
    Ops,
    Output,
    drop_unknown_attributes,
    drop_with_feeders,
    in_order,
    read_split_off,
    shape_of,
    split_off,
    users_of,
)

SHAPES_OF = ("Shape", "ShapeN", "Size", "Rank")
LARGEST_FOLDED = 4096  # elements: a constant that is larger is data, not arithmetic of shapes
STATEFUL = ("Placeholder", "Variable", "Restore", "Save") + RANDOM


def fold_constants(ops: Ops) -> int:
    """Replace the shapes and factors that depend on constants alone by their values."""
    found = fold_static_shapes(ops)
    foldable = _constant_ops(ops)
    constant = set(foldable)
    results = {
        each
        for op in ops.values()
        if op.name not in constant
        for each in op.inputs
        if each[0] in constant and ops[each[0]].type != "Const"
    }
    values = _run(ops, foldable, sorted(results))
    _replace(ops, values)
    folded = {name for name, _ in values} - set(users_of(ops))
    drop_with_feeders(ops, lambda op: op.name in folded)
    return found + len(values)


def _replace(ops: Ops, values: Dict[Output, np.ndarray]) -> None:
    """Make the readers of these outputs read constants, one for each output."""
    for output, value in values.items():
        split_off(ops, output).become_constant(value)
    read_split_off(ops, values)


def fold_static_shapes(ops: Ops) -> int:
    """Replace the ops that return a shape, size or rank that is known by constants."""
    values = {}
    for name, port in sorted({each for op in ops.values() for each in op.inputs}):
        shape = _static_shape_read(ops, name, port)
        if shape is not None:
            op = ops[name]
            value = {"Size": int(np.prod(shape)), "Rank": len(shape)}.get(op.type, shape)
            values[name, port] = np.array(value, op.attributes.get("out_type", "int32"))
    _replace(ops, values)
    return len(values)


def _static_shape_read(ops: Ops, name: str, port: int) -> Optional[Tuple[int, ...]]:
    """Return the shape that output `port` of a shape op returns; None if unknown or no such op."""
    op = ops.get(name)
    if op is None or op.type not in SHAPES_OF or port >= len(op.inputs):
        return None
    shape = shape_of(ops, op.inputs[port])
    return None if shape is None or -1 in shape else shape


def _constant_ops(ops: Ops) -> List[str]:
    """Return the names of the constants and of what depends on them alone, inputs first."""
    constant: Dict[str, bool] = {}
    for name in in_order(ops):
        op = ops[name]
        size = max((int(np.prod(s)) for s in op.shapes if s is not None), default=0)
        constant[name] = (op.type == "Const" or bool(op.inputs)) and (
            size <= LARGEST_FOLDED
            and not op.type.startswith(STATEFUL)
            and all(constant.get(source, False) for source, _ in op.inputs)
        )
    return [name for name in constant if constant[name]]


def _run(ops: Ops, foldable: List[str], results: List[Output]) -> Dict[Output, np.ndarray]:
    """Return the values of ops that depend on constants alone, where this TensorFlow runs them."""
    graph = tf.Graph()
    tensors: Dict[str, list] = {}
    with graph.as_default(), tf.device("/cpu:0"):
        for name in foldable:
            # An op of another platform or version is left as it is, with what depends on it.
            with contextlib.suppress(ValueError, TypeError, KeyError, tf.errors.OpError):
                tensors[name] = _build(ops[name], tensors)
    values = {}
    with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0})) as session:
        for name, port in results:
            with contextlib.suppress(KeyError, tf.errors.OpError):
                values[name, port] = session.run(tensors[name][port])
    return values


def _build(op: Op, tensors: Dict[str, list]) -> list:
    """Add an op to the current graph and return its outputs."""
    if op.type == "Const":
        return [tf.constant(op.value)]
    node = tf.NodeDef(op=op.definition.op, name="op")
    for name, value in op.definition.attr.items():
        if not name.startswith("_"):
            node.attr[name].CopyFrom(value)
    drop_unknown_attributes(node)
    inputs = {"input{}".format(i): tensors[name][port] for i, (name, port) in enumerate(op.inputs)}
    graph = tf.GraphDef()
    graph.node.extend([node])
    for key, tensor in inputs.items():
        placeholder = graph.node.add(op="Placeholder", name=key)
        placeholder.attr["dtype"].type = tensor.dtype.as_datatype_enum
        graph.node[0].input.append(key)
    (operation,) = tf.import_graph_def(graph, inputs, return_elements=["op"])
    return list(operation.outputs)
