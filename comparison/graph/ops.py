"""The ops of a graph as plain records, which the steps of the normalisation change in place."""

import collections
import dataclasses
from typing import Any, Callable, Container, Dict, List, Optional, Set, Tuple

import numpy as np

Output = Tuple[str, int]  # name of an op, number of its output
SAVER_CALL = "SaverCall"  # of a function that writes or reads a checkpoint, in a SavedModel
SHAPES_OF = ("Shape", "ShapeN", "Size", "Rank")
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
    device: str
    value: Optional[np.ndarray] = None

    def become(self, type_: str, inputs=(), **attributes) -> None:
        """Turn into an op of another type, with other inputs and attributes."""
        self.type, self.inputs, self.attributes = type_, list(inputs), attributes

    def become_constant(self, value: np.ndarray) -> None:
        """Turn into a constant."""
        self.become("Const", dtype=value.dtype.name)
        self.value = value
        self.shapes = [value.shape]


Ops = Dict[str, Op]


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


def read_by(ops: Ops, op: Op, place: int) -> Optional[Op]:
    """Return the op that an op reads at a place; None if it reads nothing there."""
    return ops.get(op.inputs[place][0]) if place < len(op.inputs) else None


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
    readers = {name: len(users) for name, users in users_of(ops).items()}
    gone = {name for name, op in ops.items() if is_dropped(op)}
    pending = list(gone)
    while pending:
        for source in {source for source, _ in ops[pending.pop()].inputs}:
            readers[source] -= 1
            is_unused = source not in gone and not readers[source]
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
