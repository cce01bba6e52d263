"""Is a graph one that can be worked with? What later steps rely on is checked here, once."""

import collections
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from tensorflow.python.framework import op_def_registry

MOST_OUTPUTS = 1 << 20  # of one op


class Malformed(ValueError):
    """What is wrong with a graph, in words."""


def definition_of(op_type: str):
    """Return this TensorFlow's OpDef of a type of op; None if it has no such op."""
    if hasattr(op_def_registry, "get"):
        return op_def_registry.get(op_type)
    return op_def_registry.get_registered_ops().get(op_type)  # TensorFlow 1.15


def require_well_formed(graph) -> None:
    """Raise Malformed unless a graph is one.

    Each op has a name of its own, reads outputs that there are, as many as its type does, and has
    attributes of the kinds that its type has; no op depends on itself, but for the loops that
    NextIteration closes, and no function calls itself.
    """
    nodes: Dict[str, Any] = {}
    for node in graph.node:
        if node.name in nodes:
            raise Malformed("two ops are called {!r}".format(node.name))
        nodes[node.name] = node
    functions = {each.signature.name for each in graph.library.function}
    outputs: Dict[str, Optional[int]] = {}
    for node in nodes.values():
        definition = None if node.op in functions else definition_of(node.op)
        outputs[node.name] = None if definition is None else _count(node, definition.output_arg)
        if definition is not None:
            _require_kinds(node, definition)
    for node in nodes.values():
        _require_inputs(node, outputs)
        if node.op not in functions and definition_of(node.op) is not None:
            _require_arity(node)
    dependencies_first(
        {name: _sources(node) for name, node in nodes.items() if node.op not in LOOPS},
        "{!r} depends on itself",
    )
    functions_in_order(graph.library)


LOOPS = ("NextIteration", "RefNextIteration")


def output_of(text: str) -> Tuple[str, int]:
    """Return the op and the number of its output that an input names; -1 for `^op`, a control."""
    if text.startswith("^"):
        return text[1:], -1
    name, _, port = text.partition(":")
    if port and not (port.isdigit() and len(port) < 10):
        raise Malformed("{!r} is no output of an op".format(text))
    return name, int(port or 0)


def _sources(node) -> List[str]:
    return [output_of(text)[0] for text in node.input]


def _require_inputs(node, outputs: Mapping[str, Optional[int]]) -> None:
    for text in node.input:
        name, port = output_of(text)
        if name not in outputs:
            raise Malformed("{!r} reads {!r}, which is not there".format(node.name, name))
        count = outputs[name]
        if port >= (MOST_OUTPUTS if count is None else count):
            raise Malformed("{!r} reads {!r}, which is not there".format(node.name, text))


def _require_arity(node) -> None:
    wanted = _count(node, definition_of(node.op).input_arg)
    found = sum(not text.startswith("^") for text in node.input)
    if wanted is not None and wanted != found:
        raise Malformed(
            "{!r} reads {} outputs, and {} reads {}".format(node.name, found, node.op, wanted)
        )


def _count(node, arguments) -> Optional[int]:
    """Return how many inputs or outputs an op has; None if it does not say."""
    count = 0
    for each in arguments:
        attribute = each.number_attr or each.type_list_attr
        if not attribute:
            count += 1
        elif attribute not in node.attr:
            return None
        elif each.number_attr:
            count += max(0, node.attr[attribute].i)
        else:
            count += len(node.attr[attribute].list.type)
    return count


KINDS = {
    "string": "s", "int": "i", "float": "f", "bool": "b", "type": "type", "shape": "shape",
    "tensor": "tensor", "func": "func",
}  # fmt: skip


def _require_kinds(node, definition) -> None:
    for each in definition.attr:
        if each.name in node.attr:
            kind = node.attr[each.name].WhichOneof("value")
            wanted = "list" if each.type.startswith("list") else KINDS.get(each.type)
            if kind != wanted:
                raise Malformed(
                    "{!r} of {!r} is of kind {}, and that of {} is {}".format(
                        each.name, node.name, kind, node.op, wanted
                    )
                )


def functions_in_order(library) -> List[str]:
    """Return the names of a library's functions, called ones first; Malformed if one calls itself.

    Also if two have one name.
    """
    functions = {each.signature.name: each for each in library.function}
    if len(functions) < len(library.function):
        raise Malformed("two functions have one name")
    calls = {name: called_by(each) & set(functions) for name, each in functions.items()}
    return dependencies_first(calls, "function {!r} calls itself")


def called_by(function) -> Set[str]:
    """Return the types of op and the functions that a function's body names."""
    found = set()
    for node in function.node_def:
        found.add(node.op)
        for value in node.attr.values():
            found.add(value.func.name)
            found.update(each.name for each in value.list.func)
    return found


def dependencies_first(edges: Mapping[str, Iterable[str]], problem: str) -> List[str]:
    """Return the keys so that each comes after those among its edges; Malformed if none can."""
    waiting = {name: len({each for each in sources if each in edges})
               for name, sources in edges.items()}  # fmt: skip
    readers: Dict[str, List[str]] = collections.defaultdict(list)
    for name, sources in edges.items():
        for each in set(sources):
            readers[each].append(name)
    ready = [name for name, count in waiting.items() if not count]
    for name in ready:  # which grows
        for reader in readers[name]:
            waiting[reader] -= 1
            if not waiting[reader]:
                ready.append(reader)
    if len(ready) < len(edges):
        # Of those that are left, some only depend on a cycle: going back leads into it.
        left = set(edges) - set(ready)
        name, seen = min(left), set()
        while name not in seen:
            seen.add(name)
            name = min(each for each in edges[name] if each in left)
        raise Malformed(problem.format(name))
    return ready
