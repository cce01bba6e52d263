"""Gradients of sums and means over a batch of unknown size, which versions write differently.

What is known when the graph is built becomes a constant in all of them. The rest is computed from
the shapes at run time:

    the gradient g of a sum of x
        TensorFlow 1.15   tile(reshape(g, kept), shape(x) // max(kept, 1))
        TensorFlow 2.x    broadcast_to(reshape(g, kept), shape(x))
    the divisor of a mean y of x
        TensorFlow 1.15   prod(shape(x)) // max(prod(shape(y)), 1)
        TensorFlow 2.x    prod(gather(shape(x), axes))

`kept` is the shape of x with 1 for each axis that is summed over.
"""

import collections
from typing import Dict, List, Mapping, Optional, Tuple

from comparison.graph.ops import Op, Ops, Output, read_by, shape_of
from sparsenet.arrays import HIGHEST_RANK


def broadcast_gradients_of_sums(ops: Ops) -> int:
    """Turn the tiled gradients of sums into broadcast ones, without a reshape that keeps the rank.

    Such a reshape only repeats the shape of the gradient of a sum that kept its axes.
    """
    found = 0
    for op in ops.values():
        shape = _tiled_to(ops, op)
        if shape is not None:
            op.become("BroadcastTo", [op.inputs[0], shape], T=op.attributes.get("T"))
            found += 1
    for op in ops.values():
        reshape = read_by(ops, op, 0) if op.type == "BroadcastTo" else None
        if reshape is not None and reshape.type == "Reshape" and _keeps_rank(ops, reshape):
            op.inputs[0] = reshape.inputs[0]
            found += 1
    return found


def _tiled_to(ops: Ops, op: Op) -> Optional[Output]:
    """Return the output that holds the shape to which a gradient of a sum is tiled, else None."""
    reshape, division = read_by(ops, op, 0), read_by(ops, op, 1)
    if op.type != "Tile" or reshape is None or division is None:
        return None
    divisor = read_by(ops, division, 1)
    is_gradient = (
        reshape.type == "Reshape"
        and division.type == "FloorDiv"
        and divisor is not None
        and divisor.type == "Maximum"
        and any(each in divisor.inputs for each in reshape.inputs[1:])
    )
    return division.inputs[0] if is_gradient else None


def _keeps_rank(ops: Ops, reshape: Op) -> bool:
    kept = read_by(ops, reshape, 1)
    if kept is None or kept.type != "DynamicStitch":
        return False
    before, length = (shape_of(ops, each) for each in reshape.inputs)
    return before is not None and length == (len(before),)


def name_divisors_of_means(ops: Ops) -> int:
    """Turn the number of elements that a mean is taken over into one op, with the axes."""
    found = 0
    means: Dict[Output, List[Op]] = collections.defaultdict(list)
    for op in sorted(ops.values(), key=lambda each: each.name):
        if op.type == "Mean" and op.inputs:
            means[op.inputs[0]].append(op)
    for op in list(ops.values()):
        source = _gathered_size_of(ops, op) or _quotient_of_sizes(ops, op, means)
        if source is not None:
            output, axes = source
            op.become("SizeOfAxes", [output], axes=axes)
            found += 1
    return found


MOST_MEANS = 100  # of one output, among which that of a gradient is looked for
Means = Mapping[Output, List[Op]]  # by the output that they are taken of
Source = Tuple[Output, Tuple[int, ...]]  # what a mean is taken of, and over which axes


def _gathered_size_of(ops: Ops, op: Op) -> Optional[Source]:
    """Return the source of a divisor of TensorFlow 2, None for any other op."""
    gather = read_by(ops, op, 0)
    if op.type != "Prod" or gather is None or gather.type != "GatherV2":
        return None
    shape, axes = read_by(ops, gather, 0), read_by(ops, gather, 1)
    if shape is None or shape.type != "Shape" or axes is None or not _are_axes(axes):
        return None
    if not shape.inputs:
        return None
    return shape.inputs[0], _axes(ops, shape.inputs[0], axes)


def _quotient_of_sizes(ops: Ops, op: Op, means: Means) -> Optional[Source]:
    """Return the source of a divisor of TensorFlow 1.15, None for any other op."""
    product = read_by(ops, op, 0)
    shape = read_by(ops, product, 0) if product is not None else None
    if op.type != "FloorDiv" or product is None or product.type != "Prod":
        return None
    if shape is None or shape.type != "Shape" or not shape.inputs:
        return None
    mean = _mean_of(means.get(shape.inputs[0], []), op.name)
    axes = read_by(ops, mean, 1) if mean is not None else None
    if axes is None or not _are_axes(axes):
        return None
    return shape.inputs[0], _axes(ops, shape.inputs[0], axes)


def _mean_of(means: List[Op], name: str) -> Optional[Op]:
    """Return the mean of an output; of several, the one after which its gradient is named."""
    if len(means) == 1:
        return means[0]
    named = [mean for mean in means[:MOST_MEANS] if mean.name + "_grad/" in name]
    return named[0] if len(named) == 1 else None


def _are_axes(op: Op) -> bool:
    return op.value is not None and op.value.dtype.kind in "iu" and op.value.size <= HIGHEST_RANK


def _axes(ops: Ops, output: Output, constant: Op) -> Tuple[int, ...]:
    """Return axes counted from the first one, in order."""
    assert constant.value is not None
    shape = shape_of(ops, output)
    axes = constant.value.ravel().tolist()
    return tuple(sorted(axis % len(shape) if shape else axis for axis in axes))
