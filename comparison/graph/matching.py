"""Which op of one graph corresponds to which op of another.

Equal computations have equal keys. A difference at one op, however, changes the keys of all ops
that follow it; these are matched by the variables they use, along the edges and by name, in the
order of PASSES. An op without a partner was added or removed.
"""

import collections
from typing import Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from comparison.graph.normal_form import Node, NormalGraph
from comparison.graph.steps import GRADIENTS

Pair = Tuple[Node, Node]  # of A, of B


class Matching:
    """Pairs of nodes of graph A and graph B, each node in one pair at most.

    counts: how many pairs each of PASSES found, by its name
    """

    def __init__(self, a: NormalGraph, b: NormalGraph):
        self.a, self.b = a, b
        self.readers_a, self.readers_b = readers_of(a), readers_of(b)
        self._b_of: Dict[Node, Node] = {}
        self._a_of: Dict[Node, Node] = {}
        self.counts: Dict[str, int] = {}
        for each in PASSES:
            before = len(self._b_of)
            each.run(self)
            self.counts[each.name] = len(self._b_of) - before

    def pair(self, a: Node, b: Node) -> None:
        """Record that `a` and `b` correspond."""
        self._b_of[a], self._a_of[b] = b, a

    def b_of(self, node: Node) -> Optional[Node]:
        """Return the partner in B of a node of A, or None."""
        return self._b_of.get(node)

    def a_of(self, node: Node) -> Optional[Node]:
        """Return the partner in A of a node of B, or None."""
        return self._a_of.get(node)

    def are_free(self, a: Node, b: Node) -> bool:
        """Return whether neither node has a partner yet."""
        return a not in self._b_of and b not in self._a_of

    def pairs(self) -> List[Pair]:
        """Return all pairs found so far."""
        return list(self._b_of.items())


Readers = Mapping[Node, Mapping[Node, Tuple[int, ...]]]


def readers_of(graph: NormalGraph) -> Readers:
    """Return the nodes that read each node, in the order of the computation, each with where."""
    readers: Dict[Node, Dict[Node, Tuple[int, ...]]] = collections.defaultdict(dict)
    for node in graph.nodes:
        places: Dict[Node, List[int]] = collections.defaultdict(list)
        for place, (source, _) in enumerate(node.inputs):
            places[source].append(place)
        for source, found in places.items():
            readers[source][node] = tuple(found)
    return readers


# Passes ----------------------------------------------------------------------------------------


def pair_equal(matching: Matching) -> None:
    """Pair the nodes whose keys are equal."""
    keys_b = {node.key: node for node in matching.b.nodes}
    for node in matching.a.nodes:
        if node.key in keys_b:
            matching.pair(node, keys_b[node.key])


def pair_variables(matching: Matching) -> None:
    """Pair the variables of the same name."""
    pair_unique(matching, lambda node: node.type == "VariableV2" and node.name)


def pair_uses_of_variables(matching: Matching) -> None:
    """Pair the only ops that use the same variables in the same way."""
    pair_unique(matching, use_of_variables)


def use_of_variables(node: Node):
    """Return how an op uses variables, which identifies its layer; None if it uses none."""
    variables = tuple((i, s.name) for i, (s, _) in enumerate(node.inputs) if s.type == "VariableV2")
    if not variables:
        return None
    is_gradient = any(GRADIENTS.search(name) for name in node.names)
    return node.type, node.part, variables, is_gradient


def pair_names_and_types(matching: Matching) -> None:
    """Pair the ops of the same name and type."""
    pair_unique(matching, lambda node: (node.name, node.type))


def pair_names(matching: Matching) -> None:
    """Pair the ops of the same name that read a pair."""
    pair_unique(matching, lambda node: node.name, only_after_pairs=True)


def pair_unique(matching: Matching, label: Callable, only_after_pairs: bool = False) -> None:
    """Pair the ops that alone, of those left in their graphs, have a label; no constants.

    label: returns what identifies a node, or a false value for a node to leave out
    only_after_pairs: only if an input of the one is the partner of an input of the other
    """
    found = []
    for graph, partner_of in ((matching.a, matching.b_of), (matching.b, matching.a_of)):
        labelled = collections.defaultdict(list)
        for node in graph.nodes:
            if partner_of(node) is None and node.type != "Const" and label(node):
                labelled[label(node)].append(node)
        found.append(labelled)
    for each, nodes in found[0].items():
        others = found[1].get(each, ())
        if len(nodes) == len(others) == 1 and (
            not only_after_pairs or have_paired_inputs(matching, nodes[0], others[0])
        ):
            matching.pair(nodes[0], others[0])


def have_paired_inputs(matching: Matching, a: Node, b: Node) -> bool:
    """Return whether an input of `a` is the partner of an input of `b`."""
    sources = {source for source, _ in b.inputs}
    return any(matching.b_of(source) in sources for source, _ in a.inputs)


def pair_along_edges(matching: Matching) -> None:
    """Pair what paired ops read in the same place, and what alone reads them in the same way."""
    pending = matching.pairs()
    while pending:
        pair = pending.pop()
        for new in [*free_inputs(matching, *pair), *free_readers(matching, *pair)]:
            if matching.are_free(*new):
                matching.pair(*new)
                pending.append(new)


def free_inputs(matching: Matching, a: Node, b: Node) -> Iterator[Pair]:
    """Yield the inputs in the same place that have no partner and may correspond."""
    if len(a.inputs) == len(b.inputs):
        for (x, _), (y, _) in zip(a.inputs, b.inputs):
            if matching.are_free(x, y) and may_correspond(x, y):
                yield x, y


def may_correspond(a: Node, b: Node) -> bool:
    """Return whether one op may be the other with a change; a constant is part of its reader."""
    return a.type == b.type != "Const" and a.part == b.part


def free_readers(matching: Matching, a: Node, b: Node) -> Iterator[Pair]:
    """Yield the readers without a partner that alone read `a` and `b` in the same way."""
    found = []
    for readers, node, partner_of in (
        (matching.readers_a, a, matching.b_of),
        (matching.readers_b, b, matching.a_of),
    ):
        ways = collections.defaultdict(list)
        for reader, slots in readers[node].items():
            if partner_of(reader) is None:
                ways[(reader.type, reader.part, slots)].append(reader)
        found.append(ways)
    for way, nodes in found[0].items():
        others = found[1].get(way, ())
        if len(nodes) == len(others) == 1:
            yield nodes[0], others[0]


def pair_replaced(matching: Matching) -> None:
    """Pair ops of any name and type that stand between the same inputs and the same reader."""
    for node in matching.a.nodes:
        if matching.b_of(node) is not None:
            continue
        for reader, slots in matching.readers_a[node].items():
            other = matching.b_of(reader)
            if other is None or len(other.inputs) != len(reader.inputs):
                continue
            for y in [other.inputs[slot][0] for slot in slots]:
                is_free = matching.are_free(node, y) and "Const" not in (node.type, y.type)
                if is_free and have_paired_inputs(matching, node, y):
                    matching.pair(node, y)
                    break


class Pass(NamedTuple):
    """One way to find pairs among the nodes that the passes before it left."""

    name: str
    run: Callable[[Matching], None]
    reason: str  # why this pass comes at this place


# The surest evidence first: a pair is never taken back.
PASSES = [
    Pass("equal keys", pair_equal,
         "the same computation, whatever the names; all that is left lies at or after a "
         "difference"),
    Pass("variables", pair_variables,
         "checkpoints know a variable by its name, so it is the same one even if its shape has "
         "changed"),
    Pass("uses of variables", pair_uses_of_variables,
         "a layer is the op that uses its weights, whatever it is called"),
    Pass("edges", pair_along_edges,
         "structure is better evidence than names: one op more shifts all numbered names"),
    Pass("names and types", pair_names_and_types,
         "where the structure is ambiguous, such as two ReLUs that read one op, names decide"),
    Pass("edges from names", pair_along_edges,
         "the pairs found by name give the structure new places to start from"),
    Pass("names", pair_names,
         "an op whose type has changed may keep its name; as a name is weak evidence without the "
         "type, an input has to correspond as well"),
    Pass("replaced ops", pair_replaced,
         "only the place in the graph is compared, neither name nor type: last, so that no op "
         "with better evidence loses its partner"),
    Pass("edges from replaced ops", pair_along_edges,
         "what surrounds the replaced ops and had no partner yet"),
]  # fmt: skip
