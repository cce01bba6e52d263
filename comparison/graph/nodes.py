"""Turn the nodes of a GraphDef, which may come from anybody, into ops."""

import hashlib
from typing import Any, Dict, List, Optional, Tuple

from common.tf_stack import tf

from comparison.graph.constants import Constants, digest, name_of_type
from comparison.graph.ops import SAVER_CALL, Op, Ops
from comparison.graph.shapes import infer_shapes
from comparison.graph.structure import functions_in_order, output_of, require_well_formed

SHOWN = 4096  # elements of an array that is an attribute; a larger one is shown by its digest


def read_ops(graph: tf.GraphDef) -> Ops:
    """Return the ops of a graph by name; Malformed if it is no graph to work with."""
    require_well_formed(graph)
    constants = Constants()
    functions = _digests_of_functions(graph, constants)
    ops = {node.name: _read_op(node, functions, constants) for node in graph.node}
    if not any("_output_shapes" in node.attr for node in graph.node):
        infer_shapes(ops)
    return ops


def _digests_of_functions(graph: tf.GraphDef, constants: Constants) -> Dict[str, str]:
    """Return the digest of the body of each function in a graph's library, by name.

    SAVER_CALL in place of a digest for one that saves or restores.
    """
    bodies = {each.signature.name: each for each in graph.library.function}
    digests: Dict[str, str] = {}
    for name in functions_in_order(graph.library):
        digests[name] = _digest(bodies[name], digests, constants)
    return digests


def _digest(function, inner: Dict[str, str], constants: Constants) -> str:
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
         _attributes(node, inner, constants))
        for node in body
    ]  # fmt: skip
    returned = [numbered(function.ret.get(each.name, "")) for each in function.signature.output_arg]
    return hashlib.blake2b(repr((described, returned)).encode(), digest_size=8).hexdigest()


def _attributes(
    node: tf.NodeDef, functions: Dict[str, str], constants: Constants, without: str = ""
) -> Dict[str, Any]:
    """Return the attributes of an op; a function as its body's digest, as its name is numbered."""
    return {
        name: functions.get(value.func.name, value.func.name)
        if value.HasField("func")
        else plain_attribute(value, constants)
        for name, value in sorted(node.attr.items())
        if name != without
    }


def _read_op(node: tf.NodeDef, functions: Dict[str, str], constants: Constants) -> Op:
    is_constant = node.op == "Const"
    value = constants.value(node.attr["value"].tensor) if is_constant else None
    attributes = _attributes(node, functions, constants, "value" if is_constant else "")
    outputs = [output_of(text) for text in node.input]
    calls_saver = attributes.get("f") == SAVER_CALL
    return Op(
        node.name,
        SAVER_CALL if calls_saver else functions.get(node.op, node.op),
        [each for each in outputs if each[1] >= 0],
        [name for name, port in outputs if port < 0],
        attributes,
        _shapes(attributes.pop("_output_shapes", ())),
        node.device,
        value,
    )


def _shapes(recorded: object) -> List[Optional[Tuple[int, ...]]]:
    """Return the shapes that an op records of its outputs; an impossible one is unknown."""
    shapes = recorded if isinstance(recorded, tuple) else ()
    return [
        each if isinstance(each, tuple) and min(each, default=0) >= -1 else None for each in shapes
    ]


def plain_attribute(attribute, constants: Constants) -> object:
    """Return an AttrValue as a value that can be compared, sorted and shown."""
    kind = attribute.WhichOneof("value")
    if kind == "list":
        return tuple(
            _plain_part(value, field.name == "type", constants)
            for field, values in attribute.list.ListFields()
            for value in values
        )
    return _plain_part(getattr(attribute, kind) if kind else None, kind == "type", constants)


def _plain_part(value, is_type: bool, constants: Constants) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if is_type:
        return name_of_type(value)
    if hasattr(value, "unknown_rank"):
        return None if value.unknown_rank else tuple(dim.size for dim in value.dim)
    if hasattr(value, "tensor_content"):
        found = constants.value(value)
        return tuple(found.ravel().tolist()) if found.size <= SHOWN else digest(found)
    if hasattr(value, "attr"):
        return value.name
    return value
