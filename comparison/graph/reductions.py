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

from typing import Optional, Tuple

from comparison.graph.ops import Op, Ops, Output, shape_of, users_of


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
        reshape = _input(ops, op, 0) if op.type == "BroadcastTo" else None
        if reshape is not None and reshape.type == "Reshape" and _keeps_rank(ops, reshape):
            op.inputs[0] = reshape.inputs[0]
            found += 1
    return found


def _tiled_to(ops: Ops, op: Op) -> Optional[Output]:
    """Return the output that holds the shape to which a gradient of a sum is tiled, else None."""
    reshape, division = _input(ops, op, 0), _input(ops, op, 1)
    if op.type != "Tile" or reshape is None or division is None:
        return None
    divisor = _input(ops, division, 1)
    is_gradient = (
        reshape.type == "Reshape"
        and division.type == "FloorDiv"
        and divisor is not None
        and divisor.type == "Maximum"
        and reshape.inputs[1] in divisor.inputs
    )
    return division.inputs[0] if is_gradient else None


def _keeps_rank(ops: Ops, reshape: Op) -> bool:
    kept = ops[reshape.inputs[1][0]]
    before, length = shape_of(ops, reshape.inputs[0]), shape_of(ops, reshape.inputs[1])
    return kept.type == "DynamicStitch" and before is not None and length == (len(before),)


def name_divisors_of_means(ops: Ops) -> int:
    """Turn the number of elements that a mean is taken over into one op, with the axes."""
    found = 0
    for op in list(ops.values()):
        source = _gathered_size_of(ops, op) or _quotient_of_sizes(ops, op)
        if source is not None:
            output, axes = source
            op.become("SizeOfAxes", [output], axes=axes)
            found += 1
    return found


Source = Tuple[Output, Tuple[int, ...]]  # what a mean is taken of, and over which axes


def _gathered_size_of(ops: Ops, op: Op) -> Optional[Source]:
    """Return the source of a divisor of TensorFlow 2, None for any other op."""
    gather = _input(ops, op, 0)
    if op.type != "Prod" or gather is None or gather.type != "GatherV2":
        return None
    shape, axes = _input(ops, gather, 0), _input(ops, gather, 1)
    if shape is None or shape.type != "Shape" or axes is None or axes.value is None:
        return None
    return shape.inputs[0], _axes(ops, shape.inputs[0], axes)


def _quotient_of_sizes(ops: Ops, op: Op) -> Optional[Source]:
    """Return the source of a divisor of TensorFlow 1.15, None for any other op."""
    product = _input(ops, op, 0)
    shape = _input(ops, product, 0) if product is not None else None
    if op.type != "FloorDiv" or product is None or product.type != "Prod":
        return None
    if shape is None or shape.type != "Shape":
        return None
    mean = _mean_of(ops, shape.inputs[0], op.name)
    axes = _input(ops, mean, 1) if mean is not None else None
    if axes is None or axes.value is None:
        return None
    return shape.inputs[0], _axes(ops, shape.inputs[0], axes)


def _mean_of(ops: Ops, output: Output, name: str) -> Optional[Op]:
    """Return the mean of an output; of several, the one after which its gradient is named."""
    means = [ops[user] for user in sorted(users_of(ops)[output[0]]) if ops[user].type == "Mean"]
    means = [mean for mean in means if mean.inputs[0] == output]
    named = [mean for mean in means if mean.name + "_grad/" in name]
    return means[0] if len(means) == 1 else named[0] if len(named) == 1 else None


def _axes(ops: Ops, output: Output, constant: Op) -> Tuple[int, ...]:
    """Return axes counted from the first one, in order."""
    assert constant.value is not None
    shape = shape_of(ops, output)
    axes = constant.value.ravel().tolist()
    return tuple(sorted(axis % len(shape) if shape else axis for axis in axes))


def _input(ops: Ops, op: Op, place: int) -> Optional[Op]:
    """Return the op that an op reads at a place; None if it reads nothing there."""
    return ops.get(op.inputs[place][0]) if place < len(op.inputs) else None
