"""What differs between two graphs, once it is known which op corresponds to which."""

import collections
import dataclasses
import math
from typing import Dict, List, Optional, Tuple

import numpy as np

from comparison.graph.matching import Matching
from comparison.graph.normal_form import COMMUTATIVE, PARTS, Node, NormalGraph
from comparison.graph.ops import changes_state
from comparison.graph.steps import default_attributes
from comparison.records import short

SHOWN_VALUES = 4
SHOWN_LETTERS = 30  # of a string


@dataclasses.dataclass
class Difference:
    """An op that only one graph has, or that differs.

    kind: added (only in B), removed (only in A) or changed; details: what, in words
    decides: whether it can change what is trained or what both graphs compute; an op that only
        observes, such as for a summary, can't
    noticed_by: the first op in both graphs that an added or removed one affects
    """

    kind: str
    part: str
    op: str
    name: str
    shape: Optional[str]
    attributes: str
    details: List[str]
    noticed_by: Optional[str]
    decides: bool = True


@dataclasses.dataclass
class GraphDifferences:
    """The differences of two graphs, the network's first, in the order of the computation.

    sizes: how many ops of each part A and B have
    reordered: how many sums and products have the same terms in another order
    """

    differences: List[Difference]
    sizes: Dict[str, Tuple[int, int]]
    reordered: int


def compare_graphs(a: NormalGraph, b: NormalGraph) -> GraphDifferences:
    """Return what differs from graph A to graph B."""
    matching = Matching(a, b)
    places = _places(a, b, matching)
    found = _changed(a, matching, places) + _left_over(a, b, matching, places)
    found.sort(key=lambda item: (PARTS.index(item[1].part), item[0]))
    sizes = {part: (_size(a, part), _size(b, part)) for part in PARTS}
    return GraphDifferences([each for _, each in found], sizes, _reordered(a, b))


Places = Dict[Node, float]


def _places(a: NormalGraph, b: NormalGraph, matching: Matching) -> Places:
    """Return where the ops of both graphs stand in the computation of A, what causes others first.

    An op that only B has comes right after its inputs. A variable comes right before the first op
    that uses it: its shape follows from what else that op reads.
    """
    places: Places = {node: float(index) for index, node in enumerate(a.nodes)}
    for node in b.nodes:
        other = matching.a_of(node)
        inputs = [places[source] for source, _ in node.inputs if source.type != "VariableV2"]
        places[node] = max(inputs, default=0.0) if other is None else places[other]
    for graph, readers in ((a, matching.readers_a), (b, matching.readers_b)):
        for node in graph.nodes:
            if node.type == "VariableV2":
                uses = [places[each] for each in readers[node] if each.type != "Assign"]
                places[node] = min(uses, default=math.inf) - 0.5
    return places


def _size(graph: NormalGraph, part: str) -> int:
    return sum(node.part == part for node in graph.nodes)


def _reordered(a: NormalGraph, b: NormalGraph) -> int:
    nodes = {node.key: node for node in b.nodes}
    return sum(
        [s.key for s, _ in node.inputs] != [s.key for s, _ in nodes[node.key].inputs]
        for node in a.nodes
        if node.type in COMMUTATIVE and node.key in nodes
    )


# Changed ops -----------------------------------------------------------------------------------


def _changed(
    graph_a: NormalGraph, matching: Matching, places: Places
) -> List[Tuple[float, Difference]]:
    """Return the pairs that differ, in themselves or in what they read, each with its place."""
    found = []
    for a in graph_a.nodes:
        b = matching.b_of(a)
        if b is None:
            continue
        details = _run_changes(a, b)
        if a.key != b.key:
            details += _own_changes(a, b) + _input_changes(a, b, matching)
        if details:
            difference = Difference(
                "changed", a.part, _either(a.type, b.type), _either(a.name, b.name),
                shape_text(a), attributes_text(a), details, None,
            )  # fmt: skip
            found.append((places[a], difference))
    return found


def _either(a: str, b: str) -> str:
    return a if a == b else "{} -> {}".format(a, b)


def _run_changes(a: Node, b: Node) -> List[str]:
    """Return that only one graph runs an update of a moving statistic, in words, if so."""
    if a.part != "moving statistics" or not changes_state(a.type) or a.is_run == b.is_run:
        return []
    return ["never run in {}".format("B" if a.is_run else "A")]


def _own_changes(a: Node, b: Node) -> List[str]:
    """Return what differs in the type, name and attributes of an op, in words."""
    details = []
    if a.type != b.type:
        details.append("op {} -> {}".format(a.type, b.type))
    if a.type == "VariableV2" and a.name != b.name:
        details.append("checkpoints have it under another name")
    for name in sorted(set(a.attributes) | set(b.attributes)):
        values = [
            node.attributes.get(name, default_attributes(node.type).get(name, "absent"))
            for node in (a, b)
        ]
        if values[0] != values[1]:
            details.append("{} {} -> {}".format(name, *map(_shown, values)))
    return details


def _input_changes(a: Node, b: Node, matching: Matching) -> List[str]:
    """Return what B reads where A reads something else, in words."""
    wanted = [(matching.b_of(source), port) for source, port in a.inputs]
    reads = list(b.inputs)
    if wanted == reads or (a.type in COMMUTATIVE and _same_terms(wanted, reads)):
        return []
    if None not in [source for source, _ in wanted] and _same_terms(wanted, reads):
        return [
            "reads the same in another order: {} -> {}".format(
                *(reads_text(source for source, _ in node.inputs) for node in (a, b))
            )
        ]
    before = collections.Counter(source for source, _ in a.inputs)
    after = collections.Counter(matching.a_of(source) or source for source, _ in b.inputs)
    if before == after:
        return ["reads other outputs of the same ops"]
    gone, new = list((before - after).elements()), list((after - before).elements())
    texts = reads_text(new), reads_text(gone)
    if texts[0] == texts[1]:  # one op serves training and inference where the other graph has two
        texts = reads_text(new, last=True), reads_text(gone, last=True)
    text = "reads {} instead of {}".format(*texts)
    kept = list((before & after).elements())
    return ["{} (along with {})".format(text, reads_text(kept)) if kept else text]


def _same_terms(wanted, reads) -> bool:
    return collections.Counter(wanted) == collections.Counter(reads)


# Added and removed ops -------------------------------------------------------------------------


def _left_over(
    a: NormalGraph, b: NormalGraph, matching: Matching, places: Places
) -> List[Tuple[float, Difference]]:
    """Return the ops that only one of the graphs has, each with its place."""
    found = []
    for graph, kind, other_of, readers in (
        (a, "removed", matching.b_of, matching.readers_a),
        (b, "added", matching.a_of, matching.readers_b),
    ):
        deciding = _deciding(graph, readers, other_of)
        noticed_by = _first_common(graph, readers, other_of)
        for node in graph.nodes:
            if other_of(node) is None and node.type != "Const":
                details = ["reads " + reads_text(s for s, _ in node.inputs)] if node.inputs else []
                difference = Difference(
                    kind, node.part, node.type, node.name, shape_text(node),
                    attributes_text(node), details, noticed_by.get(node),
                    node in deciding,
                )  # fmt: skip
                found.append((places[node], difference))
    return found


def _deciding(graph: NormalGraph, readers, other_of) -> set:
    """Return the ops of one graph alone that affect an op of both graphs, or a variable.

    A graph that changes no variable exists for its results: all of its ops decide.
    """
    changing = [node for node in graph.nodes if changes_state(node.type)]
    found = set()
    for node in reversed(graph.nodes):
        if other_of(node) is not None:
            continue
        trains = changes_state(node.type) and (
            node.type.startswith("Apply")
            or any(other_of(source) is not None for source, _ in node.inputs[:1])
        )
        is_upstream = any(
            other_of(reader) is not None or reader in found for reader in readers[node]
        )
        if trains or is_upstream or not changing:
            found.add(node)
    return found


def _first_common(graph: NormalGraph, readers, other_of) -> Dict[Node, str]:
    """Return the name of the nearest op downstream of each node that both graphs have."""
    nearest: Dict[Node, Tuple[int, str]] = {}
    for node in reversed(graph.nodes):
        found = [
            (0, reader.name)
            if other_of(reader) is not None
            else (1 + nearest[reader][0], nearest[reader][1])
            for reader in readers[node]
            if other_of(reader) is not None or reader in nearest
        ]
        if found:
            nearest[node] = min(found, key=lambda each: each[0])
    return {node: name for node, (_, name) in nearest.items()}


# Words -----------------------------------------------------------------------------------------


def reads_text(nodes, last: bool = False) -> str:
    """Return the first name of each op, or with `last` the last one; values of constants."""
    place = -1 if last else 0
    texts = [node.names[place] if node.value is None else value_text(node.value) for node in nodes]
    return ", ".join(texts) or "nothing"


def shape_text(node: Node) -> Optional[str]:
    """Return `[64, 32, 32, 12]`, with `?` for an open dimension; None for an unknown shape."""
    shape = node.shapes[0] if node.shapes else None
    if shape is None:
        return None
    return "[{}]".format(", ".join("?" if size == -1 else str(size) for size in shape))


def attributes_text(node: Node) -> str:
    """Return `T float32, strides (1, 2, 2, 1)`."""
    return ", ".join("{} {}".format(k, _shown(v)) for k, v in sorted(node.attributes.items()))


def _shown(value) -> str:
    return "{:.6g}".format(value) if isinstance(value, float) else str(value)


def value_text(value: np.ndarray) -> str:
    """Return the first values of a constant."""
    shown = ", ".join(
        "{:.6g}".format(float(v)) if isinstance(v, np.floating) else short(str(v), SHOWN_LETTERS)
        for v in value.flat[:SHOWN_VALUES]
    )
    more = ", ..." if value.size > SHOWN_VALUES else ""
    return shown + more if value.shape == () else "[{}{}]".format(shown, more)
