"""The steps of the normalisation: each removes one known difference between graphs.

A step changes the ops in place and returns how many places it changed. STEPS is the list of them.
"""

import functools
import re
from typing import Callable, Dict

import numpy as np

from comparison.graph.constants import Constants
from comparison.graph.folding import fold_constants
from comparison.graph.nodes import plain_attribute
from comparison.graph.ops import (
    RANDOM,
    SAVER_CALL,
    SHAPES_OF,
    Op,
    Ops,
    Output,
    changes_state,
    drop,
    drop_with_feeders,
    in_order,
    read_by,
    read_split_off,
    shape_of,
    split_off,
    users_of,
)
from comparison.graph.reductions import broadcast_gradients_of_sums, name_divisors_of_means
from comparison.graph.structure import definition_of
from run_directory.checkpoints import project_name


def drop_devices(ops: Ops) -> int:
    """Count the device strings, which nothing compares: each platform has its own."""
    return sum(bool(op.device) for op in ops.values())


def drop_control_dependencies(ops: Ops) -> int:
    """Drop the control dependencies: they order ops and compute nothing."""
    found = sum(len(op.controls) for op in ops.values())
    for op in ops.values():
        op.controls = []
    return found


def drop_internal_attributes(ops: Ops) -> int:
    """Drop the attributes that start with an underscore: they are hints for the runtime."""
    return _drop_attributes(ops, lambda op, name: name.startswith("_"))


INEFFECTIVE_ATTRIBUTES = {
    "shared_name", "container", "debug_name", "allowed_devices", "use_locking", "validate_shape",
    "use_cudnn_on_gpu", "message", "parallel_iterations", "swap_memory", "grad_a", "grad_b",
    "grad_x", "grad_y",
    # Types that only one version of an op lets choose: of a batch norm's statistics, of a seed.
    "U", "Tseed",
}  # fmt: skip


def drop_ineffective_attributes(ops: Ops) -> int:
    """Drop the attributes that name memory or say how to compute, not what."""
    return _drop_attributes(ops, lambda op, name: name in INEFFECTIVE_ATTRIBUTES)


def drop_default_attributes(ops: Ops) -> int:
    """Drop the attributes at their default: an older version may not have them."""

    def is_default(op, name):
        defaults = default_attributes(op.type)
        return name in defaults and defaults[name] == op.attributes[name]

    return _drop_attributes(ops, is_default)


# Of attributes that TensorFlow 1.15 does not have: it reads what later versions wrote as well.
LATER_DEFAULTS = {
    "exponential_avg_factor": 1.0, "explicit_paddings": (), "bad_indices_policy": "",
    "sparse_gradient": False, "multiply_linear_by_lr": False, "Tsegmentids": "int32",
    "Tk": "int32", "index_type": "int32", "Treal": "float32", "Tcomplex": "complex64",
}  # fmt: skip


@functools.lru_cache(maxsize=None)
def default_attributes(op_type: str) -> Dict[str, object]:
    """Return the default values of the attributes of a type of op."""
    definition = definition_of(op_type)
    defaults: Dict[str, object] = dict(LATER_DEFAULTS)
    for attribute in definition.attr if definition is not None else ():
        defaults.pop(attribute.name, None)
        if attribute.HasField("default_value"):
            defaults[attribute.name] = plain_attribute(attribute.default_value, Constants())
    return defaults


def drop_seeds(ops: Ops) -> int:
    """Drop the seeds of ops: they derive from an op's number, and versions count differently."""
    return _drop_attributes(
        ops, lambda op, name: name in ("seed", "seed2") and op.type.startswith(RANDOM)
    )


def _drop_attributes(ops: Ops, is_dropped: Callable[[Op, str], bool]) -> int:
    found = 0
    for op in ops.values():
        for name in [name for name in op.attributes if is_dropped(op, name)]:
            del op.attributes[name]
            found += 1
    return found


def use_reference_variables(ops: Ops) -> int:
    """Turn resource variables (TensorFlow 2) into reference variables (TensorFlow 1)."""
    handles = [op for op in ops.values() if op.type == "VarHandleOp"]
    for op in ops.values():
        if op.type == "ReadVariableOp":
            op.become("Identity", op.inputs, T=op.attributes.get("dtype"))
        elif op.type.startswith("Assign") and op.type.endswith("VariableOp"):
            type_ = op.type[: -len("VariableOp")]
            op.become(type_, op.inputs, T=op.attributes.get("dtype"))
        elif op.type.startswith("ResourceApply"):
            op.type = op.type[len("Resource") :]
    for op in handles:
        op.type = "VariableV2"
        op.shapes = [op.attributes.get("shape")]
    return len(handles)


NEWEST_VERSION = {
    "Variable": "VariableV2",
    "Add": "AddV2",
    "BatchMatMul": "BatchMatMulV2",
    "FusedBatchNorm": "FusedBatchNormV3",
    "FusedBatchNormV2": "FusedBatchNormV3",
    "FusedBatchNormGrad": "FusedBatchNormGradV3",
    "FusedBatchNormGradV2": "FusedBatchNormGradV3",
    "Select": "SelectV2",
}


def use_newest_op_versions(ops: Ops) -> int:
    """Turn ops into their newest versions, which compute the same in the forms used here."""
    found = 0
    for op in ops.values():
        if op.type.startswith("Stateless") and op.type.endswith("V2") and len(op.inputs) == 4:
            found += _take_seed(op, ops)
        if op.type in NEWEST_VERSION:
            op.type = NEWEST_VERSION[op.type]
            found += 1
    return found


def _take_seed(op: Op, ops: Ops) -> bool:
    """Make a stateless random op read its seed, not the key and counter that version 2 derives."""
    shape, (source, _) = op.inputs[:2]
    if ops[source].type != "StatelessRandomGetKeyCounter" or not ops[source].inputs:
        return False
    op.type, op.inputs = op.type[: -len("V2")], [shape, ops[source].inputs[0]]
    return True


def drop_unused_batch_norm_inputs(ops: Ops) -> int:
    """Drop the moving statistics that TensorFlow 2 passes to batch norm in training: unused."""
    found = 0
    for op in ops.values():
        training = op.attributes.get("is_training", True)  # True is the default
        whole_batch = op.attributes.get("exponential_avg_factor", 1.0) == 1.0
        if op.type == "FusedBatchNormV3" and training and whole_batch and len(op.inputs) == 5:
            del op.inputs[3:]
            found += 1
    return found


ASKED_EPSILON, LEAST_EPSILON = 1e-5, 1.001e-5


def raise_epsilon(ops: Ops) -> int:
    """Raise an epsilon of 1e-5 to the minimum of cuDNN, 1.001e-5, as TensorFlow 1 does."""
    found = 0
    for op in ops.values():
        epsilon = op.attributes.get("epsilon")
        if isinstance(epsilon, float) and abs(epsilon - ASKED_EPSILON) < 1e-10:
            op.attributes["epsilon"] = float(np.float32(LEAST_EPSILON))
            found += 1
    return found


INPUT_PIPELINE = ("QueueDequeue", "IteratorGetNext")  # how types of op begin
PIPELINE = ("Queue", "Iterator", "Dataset")


def use_placeholders(ops: Ops) -> int:
    """Turn the inputs from queues and tf.data into placeholders: the network is the same."""
    sources = {op.name for op in ops.values() if op.type.startswith(INPUT_PIPELINE)}
    outputs = {each for op in ops.values() for each in op.inputs if each[0] in sources}
    for name, port in sorted(outputs):
        source = ops[name].attributes
        types = source.get("component_types") or source.get("output_types") or ()
        placeholder = split_off(ops, (name, port))
        placeholder.become(
            "Placeholder",
            dtype=types[port] if port < len(types) else None,
            shape=placeholder.shapes[0],
        )
    read_split_off(ops, outputs)
    drop_with_feeders(
        ops, lambda op: op.name in sources or any(word in op.type for word in PIPELINE)
    )
    return len(outputs)


PASS_THROUGH = ("Identity", "IdentityN", "PreventGradient", "Snapshot", "CheckNumerics", "Print")


def bypass_identities(ops: Ops) -> int:
    """Remove the ops that pass on their input: reads of variables, names of layers."""
    return _bypass(ops, lambda op: op.type in PASS_THROUGH and bool(op.inputs))


LONGEST_SHAPE = 64  # sizes


def bypass_trivial_sums(ops: Ops) -> int:
    """Remove sums over no axis and reshapes to the same shape, which gradients may contain."""

    def is_trivial(op):
        operand = read_by(ops, op, 1)
        if operand is None or operand.value is None or operand.value.size > LONGEST_SHAPE:
            return False
        if op.type == "Sum":
            return operand.value.size == 0
        shape = shape_of(ops, op.inputs[0])
        return op.type == "Reshape" and shape == tuple(operand.value.ravel().tolist())

    return _bypass(ops, is_trivial)


def _bypass(ops: Ops, is_bypassed: Callable[[Op], bool]) -> int:
    """Remove ops: their readers read their inputs instead."""
    bypassed = {name for name, op in ops.items() if is_bypassed(op)}

    def source(each: Output) -> Output:
        while each[0] in bypassed:
            op = ops[each[0]]
            each = op.inputs[each[1] if op.type == "IdentityN" else 0]
        return each

    # What is read first: so each way through others is gone once.
    for name in in_order(ops):
        ops[name].inputs = [source(each) for each in ops[name].inputs]
    for name in bypassed:
        del ops[name]
    return len(bypassed)


def drop_kept_dimensions(ops: Ops) -> int:
    """Drop the `keep_dims` of a reduction that only a reshape reads: it makes no difference."""
    users = users_of(ops)
    found = 0
    for name, op in ops.items():
        reshapes = [ops[user] for user in users[name]]
        is_reshaped = reshapes and all(
            user.type == "Reshape"
            and [source == name for source, _ in user.inputs] == [True, False]
            for user in reshapes
        )
        if op.attributes.get("keep_dims") and is_reshaped:
            del op.attributes["keep_dims"]
            op.shapes = [None]
            found += 1
    return found


SAVERS = ("Save", "Restore", SAVER_CALL, "ShardedFilename", "MergeV2Checkpoints")
CHECKS = ("VarIsInitializedOp", "IsVariableInitialized", "Assert", "PrintV2", "NoOp")


def drop_summaries(ops: Ops) -> int:
    """Drop the summaries: they log what is computed and compute nothing else."""
    return drop(
        ops,
        lambda op: op.type.endswith(("Summary", "SummaryV2")) or "SummaryWriter" in op.type,
    )


def drop_savers(ops: Ops) -> int:
    """Drop the ops that write and read checkpoints, and those that make their files' names."""
    types = _types_passed_on(ops)
    restoring = {
        op.name
        for op in ops.values()
        if op.type in ("Assign",) + PASS_THROUGH
        and any(types[name].startswith(SAVERS) for name, _ in op.inputs)
    }
    return drop_with_feeders(ops, lambda op: op.name in restoring or op.type.startswith(SAVERS))


def drop_checks(ops: Ops) -> int:
    """Drop checks, prints, and ops that only group others."""
    return drop(ops, lambda op: op.type in CHECKS)


def _types_passed_on(ops: Ops) -> Dict[str, str]:
    """Return the type of each op; of an identity, the type of the op that it passes on."""
    types: Dict[str, str] = {}
    for name in in_order(ops):
        op = ops[name]
        is_passed = op.type in PASS_THROUGH and bool(op.inputs)
        types[name] = types.get(op.inputs[0][0], op.type) if is_passed else op.type
    return types


GRADIENTS = re.compile(r"(^|/)gradients(_\d+)?/")
LEAVES = ("Const", "VariableV2", "StatelessRandomGetKeyCounter") + SHAPES_OF  # no results


def drop_unused(ops: Ops) -> int:
    """Drop what neither changes a variable nor is a result: leftovers from building the graph."""
    consumed = {name for op in ops.values() for name, _ in op.inputs}
    pending = [
        op.name for op in ops.values()
        if changes_state(op.type)
        or (op.name not in consumed and op.type not in LEAVES and not GRADIENTS.search(op.name))
    ]  # fmt: skip
    used = set()
    while pending:
        name = pending.pop()
        if name not in used:
            used.add(name)
            pending.extend(source for source, _ in ops[name].inputs)
    return drop(ops, lambda op: op.name not in used)


def rename_originals(ops: Ops) -> int:
    """Count the variables with names of the public TensorFlow codes, which project_name maps."""
    return sum(op.type == "VariableV2" and project_name(op.name) != op.name for op in ops.values())


STEPS = [
    ("device strings", drop_devices),
    ("control dependencies", drop_control_dependencies),
    ("internal attributes (_...)", drop_internal_attributes),
    ("attributes that change no result", drop_ineffective_attributes),
    ("attributes at their default", drop_default_attributes),
    ("seeds of ops", drop_seeds),
    ("resource variables read as reference variables", use_reference_variables),
    ("op versions", use_newest_op_versions),
    ("moving statistics given to batch norm in training", drop_unused_batch_norm_inputs),
    ("epsilon of batch norm raised to 1.001e-5", raise_epsilon),
    ("inputs from queues or tf.data read as placeholders", use_placeholders),
    ("summary ops", drop_summaries),
    ("saver ops", drop_savers),
    ("checks and groupings", drop_checks),
    ("identity and read ops", bypass_identities),
    ("shapes and factors computed at run time", fold_constants),
    ("gradients of sums by tiling read as broadcasts", broadcast_gradients_of_sums),
    ("divisors of means at run time", name_divisors_of_means),
    ("dimensions kept before a reshape", drop_kept_dimensions),
    ("sums over nothing, reshapes to the same shape", bypass_trivial_sums),
    ("ops without effect", drop_unused),
    ("variables with the names of the original code", rename_originals),
]
