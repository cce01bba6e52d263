"""Fold constants: one version computes them when it builds a graph, another when it runs it."""

import collections
from typing import Dict, Optional

import numpy as np

from comparison.graph.arithmetic import outputs_of, value_of_shape
from comparison.graph.ops import (
    RANDOM,
    SHAPES_OF,
    Ops,
    Output,
    drop_with_feeders,
    in_order,
    read_split_off,
    shape_of,
    split_off,
    users_of,
)

MOST_FOLDED = 1 << 20  # elements of all values that are computed for one graph


def fold_constants(ops: Ops) -> int:
    """Replace the shapes and factors that depend on constants alone by their values."""
    found = fold_static_shapes(ops)
    values = _computed(ops)
    results = {
        each: values[each] for op in ops.values() for each in op.inputs
        if each in values and ops[each[0]].type != "Const" and (op.name, 0) not in values
    }  # fmt: skip
    _replace(ops, results)
    folded = {name for name, _ in results} - set(users_of(ops))
    drop_with_feeders(ops, lambda op: op.name in folded)
    return found + len(results)


def _replace(ops: Ops, values: Dict[Output, np.ndarray]) -> None:
    """Make the readers of these outputs read constants, one for each output."""
    for output, value in sorted(values.items(), key=lambda each: each[0]):
        split_off(ops, output).become_constant(value)
    read_split_off(ops, values)


def fold_static_shapes(ops: Ops) -> int:
    """Replace the ops that return a shape, size or rank that is known by constants."""
    values = {}
    for name, port in sorted({each for op in ops.values() for each in op.inputs}):
        value = _static_shape_read(ops, name, port)
        if value is not None:
            values[name, port] = value
    _replace(ops, values)
    return len(values)


def _static_shape_read(ops: Ops, name: str, port: int) -> Optional[np.ndarray]:
    """Return the shape that output `port` of a shape op returns; None if unknown or no such op."""
    op = ops.get(name)
    if op is None or op.type not in SHAPES_OF or port >= len(op.inputs):
        return None
    return value_of_shape(op.type, shape_of(ops, op.inputs[port]), op.attributes)


def _computed(ops: Ops) -> Dict[Output, np.ndarray]:
    """Return the values of the small constants, and of what is computed from them alone."""
    values: Dict[Output, np.ndarray] = {}
    left = MOST_FOLDED
    for name in in_order(ops):
        op = ops[name]
        if op.value is None and left <= 0:
            continue
        found = outputs_of(op, [values.get(each) for each in op.inputs])
        left -= sum(each.size for each in found) if op.value is None else 0
        values.update(((name, port), value) for port, value in enumerate(found))
    return values


VARYING = (*RANDOM, "Placeholder")


def not_computed(ops: Ops) -> Dict[str, int]:
    """Count, by type, the ops that read constants alone and are left as they are.

    They are of types that arithmetic.py does not have, or what they read or return is large. What
    is meant to be random, or may be fed, is left out.
    """
    values = _computed(ops)
    counts: Dict[str, int] = collections.Counter()
    for op in ops.values():
        is_fed = bool(op.inputs) and all(
            each in values or ops[each[0]].value is not None for each in op.inputs
        )
        if is_fed and (op.name, 0) not in values and not op.type.startswith(VARYING):
            counts[op.type] += 1
    return counts
