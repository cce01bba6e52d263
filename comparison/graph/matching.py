"""Which op of one graph is which of another, and what differs between them.

Equal computations are equal by their keys. Of the rest, a difference at one op changes the keys of
all that follows; so ops are matched by the variables they use, then along the edges, and compared
one by one. What is left over was added or removed.
"""

import collections
import dataclasses
from typing import Dict, List, Optional, Tuple

import numpy as np

from comparison.graph.normal_form import COMMUTATIVE, PARTS, Node, NormalGraph
from comparison.graph.ops import changes_state
from comparison.graph.steps import GRADIENTS, default_attributes

SHOWN_VALUES = 4


@dataclasses.dataclass
class Difference:
    """An op that only one graph has, or that differs.

    kind: added (only in B), removed (only in A) or changed; details: what, in words
    decides: whether it can change what is trained or what both compute; an op that only looks on,
        such as for a summary, can't
    noticed_by: the first op that both have and that reads an added or removed one
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
    """differences: the network's first, in the order of the computation; sizes: ops of each part.

    reordered: sums and products with the same terms in another order
    """

    differences: List[Difference]
    sizes: Dict[str, Tuple[int, int]]
    reordered: int


def compare_graphs(a: NormalGraph, b: NormalGraph) -> GraphDifferences:
    """What differs from graph A to graph B."""
    matching = Matching(a, b)
    found = _changed(a, matching) + _left_over(a, b, matching)
    found.sort(key=lambda item: (PARTS.index(item[1].part), item[0]))
    sizes = {
        part: tuple(sum(node.part == part for node in graph.nodes) for graph in (a, b))
        for part in PARTS
    }
    return GraphDifferences([each for _, each in found], sizes, _reordered(a, b))


# Matching --------------------------------------------------------------------------------------


class Matching:
    """Pairs (node of A, node of B); `b_of` and `a_of` look the other one up, None without one."""

    def __init__(self, a: NormalGraph, b: NormalGraph):
        self._b_of, self._a_of = {}, {}
        self.users_a, self.users_b = readers_of(a), readers_of(b)
        keys_b = {node.key: node for node in b.nodes}
        for node in a.nodes:
            if node.key in keys_b:
                self._pair(node, keys_b[node.key])
        self._pair_by(a, b, lambda node: node.type == "VariableV2" and node.name)
        self._pair_by(a, b, uses_of_variables)
        self._follow_edges()
        self._pair_by(a, b, lambda node: (node.name, node.type))
        self._follow_edges()
        self._pair_by(a, b, lambda node: node.name, only_between_pairs=True)
        self._pair_replaced(a)
        self._follow_edges()

    def b_of(self, node: Node) -> Optional[Node]:
        """The op of B that `node` of A is."""
        return self._b_of.get(node)

    def a_of(self, node: Node) -> Optional[Node]:
        """The op of A that `node` of B is."""
        return self._a_of.get(node)

    def pairs(self) -> List[Tuple[Node, Node]]:
        """All pairs."""
        return list(self._b_of.items())

    def _pair(self, a: Node, b: Node) -> None:
        self._b_of[a], self._a_of[b] = b, a

    def _pair_by(self, a, b, label, only_between_pairs: bool = False) -> None:
        """Pair the ops that are the only ones of their graph, of those left, with a label."""
        found = []
        for graph, paired in ((a, self._b_of), (b, self._a_of)):
            labelled = collections.defaultdict(list)
            for node in graph.nodes:
                if node not in paired and node.type != "Const" and label(node):
                    labelled[label(node)].append(node)
            found.append(labelled)
        for each, nodes in found[0].items():
            others = found[1].get(each, ())
            if len(nodes) == len(others) == 1 and (
                not only_between_pairs or self._has_paired_input(nodes[0], others[0])
            ):
                self._pair(nodes[0], others[0])

    def _has_paired_input(self, a: Node, b: Node) -> bool:
        sources = {source for source, _ in b.inputs}
        return any(self._b_of.get(source) in sources for source, _ in a.inputs)

    def _follow_edges(self) -> None:
        """Pair what pairs read in the same place, and what alone reads them in the same way."""
        pending = self.pairs()
        while pending:
            pair = pending.pop()
            for new in self._inputs_to_pair(*pair) + self._users_to_pair(*pair):
                if new[0] not in self._b_of and new[1] not in self._a_of:
                    self._pair(*new)
                    pending.append(new)

    def _inputs_to_pair(self, a: Node, b: Node) -> List[Tuple[Node, Node]]:
        if len(a.inputs) != len(b.inputs):
            return []
        return [
            (x, y)
            for (x, _), (y, _) in zip(a.inputs, b.inputs)
            if x not in self._b_of and y not in self._a_of and similar(x, y)
        ]

    def _users_to_pair(self, a: Node, b: Node) -> List[Tuple[Node, Node]]:
        uses = []
        for users, node, paired in (
            (self.users_a, a, self._b_of),
            (self.users_b, b, self._a_of),
        ):
            ways = collections.defaultdict(list)
            for user in users[node]:
                if user not in paired:
                    slots = tuple(i for i, (source, _) in enumerate(user.inputs) if source is node)
                    ways[(user.type, user.part, slots)].append(user)
            uses.append(ways)
        return [
            (nodes[0], uses[1][way][0])
            for way, nodes in uses[0].items()
            if len(nodes) == 1 and len(uses[1].get(way, ())) == 1
        ]

    def _pair_replaced(self, a: NormalGraph) -> None:
        """An op that stands where another one stood: between the same inputs and users."""
        for node in a.nodes:
            if node in self._b_of:
                continue
            for user in self.users_a[node]:
                other = self._b_of.get(user)
                if other is None or len(other.inputs) != len(user.inputs):
                    continue
                for (x, _), (y, _) in zip(user.inputs, other.inputs):
                    is_free = y not in self._a_of and "Const" not in (x.type, y.type)
                    if x is node and is_free and self._has_paired_input(x, y):
                        self._pair(x, y)
                        break


def similar(a: Node, b: Node) -> bool:
    """Whether two ops may be one that has changed; constants are told by those that read them."""
    return a.type == b.type != "Const" and a.part == b.part


def uses_of_variables(node: Node):
    """How an op uses variables: what tells a layer from all others, whatever it is called."""
    variables = tuple((i, s.name) for i, (s, _) in enumerate(node.inputs) if s.type == "VariableV2")
    if not variables:
        return None
    gradient = [name for name in node.names if GRADIENTS.search(name)]
    return node.type, node.part, variables, bool(gradient)


def readers_of(graph: NormalGraph) -> Dict[Node, List[Node]]:
    """The ops that read each op, in the order of the computation."""
    users = collections.defaultdict(list)
    for node in graph.nodes:
        for source in dict.fromkeys(source for source, _ in node.inputs):
            users[source].append(node)
    return users


# Differences -----------------------------------------------------------------------------------


def _changed(graph_a: NormalGraph, matching: Matching) -> List[Tuple[int, Difference]]:
    """The pairs that differ: in themselves or in what they read."""
    found = []
    for place, a in enumerate(graph_a.nodes):
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
            found.append((place, difference))
    return found


def _either(a: str, b: str) -> str:
    return a if a == b else "{} -> {}".format(a, b)


def _run_changes(a: Node, b: Node) -> List[str]:
    """An update of a moving statistic that a step runs in one graph only."""
    if a.part != "moving statistics" or not changes_state(a) or a.is_run == b.is_run:
        return []
    return ["nothing runs it in {}".format("B" if a.is_run else "A")]


def _own_changes(a: Node, b: Node) -> List[str]:
    details = []
    if a.type != b.type:
        details.append("op {} -> {}".format(a.type, b.type))
    if a.type == "VariableV2" and a.name != b.name:
        details.append("another name, by which checkpoints know it")
    for name in sorted(set(a.attributes) | set(b.attributes)):
        values = [
            node.attributes.get(name, default_attributes(node.type).get(name, "absent"))
            for node in (a, b)
        ]
        if values[0] != values[1]:
            details.append("{} {} -> {}".format(name, *map(_shown, values)))
    return details


def _shown(value) -> str:
    return "{:.6g}".format(value) if isinstance(value, float) else str(value)


def _input_changes(a: Node, b: Node, matching: Matching) -> List[str]:
    """What B reads where A reads something else."""
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
    gone, new = (before - after).elements(), (after - before).elements()
    if before == after:
        return ["reads other outputs of the same ops"]
    gone, new = list(gone), list(new)
    texts = reads_text(new), reads_text(gone)
    if texts[0] == texts[1]:  # one does for training and inference what are two in the other
        texts = reads_text(new, last=True), reads_text(gone, last=True)
    text = "reads {} instead of {}".format(*texts)
    kept = list((before & after).elements())
    return ["{} (beside {})".format(text, reads_text(kept)) if kept else text]


def reads_text(nodes, last: bool = False) -> str:
    """Names of ops, the last of each if asked for; values of constants."""
    place = -1 if last else 0
    texts = [value_text(node) if node.type == "Const" else node.names[place] for node in nodes]
    return ", ".join(texts) or "nothing"


def _same_terms(wanted, reads) -> bool:
    return collections.Counter(wanted) == collections.Counter(reads)


def _left_over(a, b, matching: Matching) -> List[Tuple[int, Difference]]:
    """What only one of the graphs has."""
    order = {node: index for index, node in enumerate(a.nodes)}
    found = []
    for graph, kind, other_of, users in (
        (a, "removed", matching.b_of, matching.users_a),
        (b, "added", matching.a_of, matching.users_b),
    ):
        places = {}
        deciding = _deciding(graph, users, other_of)
        for node in graph.nodes:
            other = other_of(node)
            if kind == "removed":
                places[node] = order[node]
            elif other is not None:
                places[node] = order[other]
            else:  # after what it reads
                places[node] = max([places[s] for s, _ in node.inputs if s in places] or [0])
            if other is None and node.type != "Const":
                details = ["reads " + reads_text(s for s, _ in node.inputs)] if node.inputs else []
                difference = Difference(
                    kind, node.part, node.type, node.name, shape_text(node),
                    attributes_text(node), details, _first_known(node, users, other_of),
                    node in deciding,
                )  # fmt: skip
                found.append((places[node], difference))
    return found


def _deciding(graph: NormalGraph, users, other_of) -> set:
    """The ops of one graph alone from which a way leads to an op that both have, or to a variable.

    A graph that changes no variable is there for its results: all of them decide.
    """
    changing = [node for node in graph.nodes if changes_state(node)]
    found = set()
    for node in reversed(graph.nodes):
        if other_of(node) is not None:
            continue
        trains = changes_state(node) and (
            node.type.startswith("Apply") or other_of(node.inputs[0][0]) is not None
        )
        on_the_way = any(other_of(user) is not None or user in found for user in users[node])
        if trains or on_the_way or not changing:
            found.add(node)
    return found


def _first_known(node: Node, users, other_of) -> Optional[str]:
    """The nearest op, on the way on from `node`, that both graphs have."""
    pending, seen = collections.deque(users[node]), set()
    while pending:
        user = pending.popleft()
        if other_of(user) is not None:
            return user.name
        if user not in seen:
            seen.add(user)
            pending.extend(users[user])
    return None


def _reordered(a: NormalGraph, b: NormalGraph) -> int:
    nodes = {node.key: node for node in b.nodes}
    return sum(
        [s.key for s, _ in node.inputs] != [s.key for s, _ in nodes[node.key].inputs]
        for node in a.nodes
        if node.type in COMMUTATIVE and node.key in nodes
    )


def shape_text(node: Node) -> Optional[str]:
    """`[64, 32, 32, 12]`, a `?` where a dimension is open; None where the shape is unknown."""
    shape = node.shapes[0] if node.shapes else None
    if shape is None:
        return None
    return "[{}]".format(", ".join("?" if size == -1 else str(size) for size in shape))


def attributes_text(node: Node) -> str:
    """`T float32, strides (1, 2, 2, 1)`."""
    return ", ".join("{} {}".format(k, _shown(v)) for k, v in sorted(node.attributes.items()))


def value_text(node: Node) -> str:
    """The first values of a constant."""
    values = node.value.ravel()
    shown = ", ".join(
        "{:.6g}".format(v) if isinstance(v, np.floating) else str(v) for v in values[:SHOWN_VALUES]
    )
    more = ", ..." if values.size > SHOWN_VALUES else ""
    return shown + more if node.value.shape == () else "[{}{}]".format(shown, more)
