"""The normal form of a graph, without the known differences between versions and platforms.

After the steps, ops that compute the same are merged: networks that compute the same have the same
normal form.
"""

import collections
import dataclasses
import hashlib
import re
from typing import Dict, List, Optional, Set, Tuple

from common.tf_stack import tf

import numpy as np

from comparison.graph.constants import digest
from comparison.graph.folding import not_computed
from comparison.graph.nodes import read_ops
from comparison.graph.ops import RANDOM, Op, Ops, in_order, users_of
from comparison.graph.steps import GRADIENTS, STEPS
from run_directory.checkpoints import project_name


@dataclasses.dataclass(eq=False)
class Node:
    """A distinct computation: `key` is equal for equal ones, whatever the names.

    names: of the ops that perform it, training before inference; part: see PARTS
    is_run: whether a training step or a group of ops runs it
    """

    key: bytes
    type: str
    inputs: Tuple[Tuple["Node", int], ...]
    attributes: Dict[str, object]
    shapes: List[Optional[Tuple[int, ...]]]
    value: Optional[np.ndarray]
    names: List[str]
    part: str
    is_run: bool

    @property
    def name(self) -> str:
        """Return the first of its names."""
        return self.names[0]


@dataclasses.dataclass
class NormalGraph:
    """Distinct computations, inputs first.

    applied: how often each normalisation was
    not_computed: types of ops of constants alone that were left as they are, counted
    """

    nodes: List[Node]
    applied: Dict[str, int]
    not_computed: Dict[str, int]


def normal_form(graph: tf.GraphDef) -> NormalGraph:
    """Return the distinct computations of a graph, and how often each normalisation applied.

    Raises Malformed.
    """
    ops = read_ops(graph)
    run = run_by_others(ops)
    applied = {reason: step(ops) for reason, step in STEPS}
    nodes, merged = merge_identical(ops, run)
    applied["ops that repeat the computation of another one"] = merged
    return NormalGraph(nodes, applied, not_computed(ops))


PARTS = (
    "network", "inference", "moving statistics", "gradient", "optimizer", "initial values",
)  # fmt: skip
INFERENCE = re.compile(r"(^|/)(tower-pred\S*?|InferenceTower)/")


def parts_of(ops: Ops, order: List[str]) -> Dict[str, str]:
    """Return which of PARTS each op belongs to.

    An op that the network reads belongs to the network, whatever else reads it.
    order: names, inputs first
    """
    parts: Dict[str, str] = {}
    after_gradient = set()
    for name in order:
        op = ops[name]
        if any(s in after_gradient or parts.get(s) == "gradient" for s, _ in op.inputs):
            after_gradient.add(name)
        if GRADIENTS.search(name):
            parts[name] = "gradient"
        elif op.type.startswith("Apply") or name in after_gradient:
            parts[name] = "optimizer"
        elif op.type == "Assign":
            parts[name] = "initial values"
        elif op.type.startswith("Assign"):
            parts[name] = "moving statistics"
    # An op that one part alone reads belongs to that part.
    users = users_of(ops)
    for name in reversed(order):
        if name in parts:
            continue
        served = {parts[user] for user in users[name]}
        if len(served) == 1 and ops[name].type != "Placeholder":
            parts[name] = served.pop()
        else:
            parts[name] = "inference" if INFERENCE.search(name) else "network"
    return parts


def run_by_others(ops: Ops) -> Set[str]:
    """Return the ops that a training step or a group of ops runs.

    Others run only when fetched: an update of moving statistics among them is never run, which
    shows in no result.
    """
    reads = {op.name: [s for s, _ in op.inputs] + op.controls for op in ops.values()}
    readers = collections.defaultdict(list)
    for name, sources in reads.items():
        for source in sources:
            readers[source].append(name)
    steps = _reached([name for name, op in ops.items() if op.type.startswith("Apply")
                      or op.type.startswith("ResourceApply")], readers)  # fmt: skip
    groups = [name for name, op in ops.items() if op.type == "NoOp"]
    return _reached(list(steps) + groups, reads)


def _reached(start: List[str], edges) -> Set[str]:
    """Return the names that can be reached along edges, with those to start from."""
    pending, seen = list(start), set(start)
    while pending:
        for name in edges.get(pending.pop(), ()):
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return seen


def merge_identical(ops: Ops, run: Set[str]) -> Tuple[List[Node], int]:
    """Return the distinct computations, and how many ops repeat that of another op."""
    order = in_order(ops)
    parts = parts_of(ops, order)
    ambiguous = _ambiguous_placeholders(ops)
    by_key: Dict[bytes, Node] = {}
    by_name: Dict[str, Node] = {}
    for name in order:
        op = ops[name]
        inputs = tuple((by_name[s], port) for s, port in op.inputs if s in by_name)
        node = Node(
            _key(op, inputs, ambiguous), op.type, inputs, op.attributes, op.shapes, op.value,
            [project_name(name)], parts[name], name in run,
        )  # fmt: skip
        by_name[name] = same = by_key.setdefault(node.key, node)
        if same is not node:
            same.names.append(node.name)
            same.is_run |= node.is_run
            same.part = min(same.part, node.part, key=PARTS.index)
    for node in by_key.values():
        node.names.sort(key=lambda name: bool(INFERENCE.search(name)))
    return list(by_key.values()), len(by_name) - len(by_key)


def _ambiguous_placeholders(ops: Ops) -> set:
    """Return the attributes that several placeholders share, so that names distinguish them."""
    counts = collections.Counter(
        repr(sorted(op.attributes.items())) for op in ops.values() if op.type == "Placeholder"
    )
    return {attributes for attributes, count in counts.items() if count > 1}


def _key(op: Op, inputs, ambiguous: set) -> bytes:
    """Return a digest, equal for ops that compute the same from the same variables and inputs."""
    attributes = repr(sorted(op.attributes.items(), key=lambda item: item[0]))
    parts = [op.type, attributes]
    if op.type == "VariableV2" or op.type.startswith(RANDOM) or attributes in ambiguous:
        parts.append(project_name(op.name))
    if op.value is not None:
        parts.append(digest(op.value))
    sources = [(node.key.hex(), port) for node, port in inputs]
    parts.append(repr(sorted(sources) if op.type in COMMUTATIVE else sources))
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


COMMUTATIVE = ("AddN", "AddV2", "Mul", "Maximum", "Minimum")
