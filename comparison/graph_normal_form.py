"""A graph without what differs for known reasons between versions and platforms.

Each reason is a named step that says how often it applied; none is silent. What is left is merged
into a graph of distinct computations: two networks that compute the same have equal ones.
"""

import collections
import dataclasses
import hashlib
import re
from typing import Callable, Dict, List, Optional, Tuple

from tf_stack import tf

import numpy as np
from tensorflow.python.framework import op_def_registry

from checkpoints import project_name

Output = Tuple[str, int]  # name of an op, number of its output


@dataclasses.dataclass
class Op:
    """An op of a graph, as the steps below find and leave it.

    attributes: plain values, without those of a constant and of the shapes
    shapes:     of each output, None where unknown (a dimension: -1)
    value:      of a constant
    """

    name: str
    type: str
    inputs: List[Output]
    controls: List[str]
    attributes: Dict[str, object]
    shapes: List[Optional[Tuple[int, ...]]]
    definition: tf.NodeDef
    value: Optional[np.ndarray] = None

    def become(self, type_: str, inputs=(), **attributes) -> None:
        """Be another op with other inputs and attributes."""
        self.type, self.inputs, self.attributes = type_, list(inputs), attributes

    def become_constant(self, value: np.ndarray) -> None:
        """Be a constant."""
        self.become("Const", dtype=tf.as_dtype(value.dtype).name)
        self.value = value
        self.shapes = [value.shape]


Ops = Dict[str, Op]


@dataclasses.dataclass(eq=False)
class Node:
    """A distinct computation: `key` is equal for equal ones, whatever the names.

    names: of the ops that do it, training before inference; part: see PARTS
    """

    key: bytes
    type: str
    inputs: Tuple[Tuple["Node", int], ...]
    attributes: Dict[str, object]
    shapes: List[Optional[Tuple[int, ...]]]
    value: Optional[np.ndarray]
    names: List[str]
    part: str

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]


@dataclasses.dataclass
class NormalGraph:
    """nodes: in an order in which inputs come first; applied: reason -> how often."""

    nodes: List[Node]
    applied: Dict[str, int]


def normal_form(graph: tf.GraphDef) -> NormalGraph:
    """The distinct computations of a graph, and what was passed over to get there."""
    ops = read_ops(graph)
    applied = {reason: step(ops) for reason, step in STEPS}
    nodes, merged = merge_identical(ops)
    applied["ops that repeat the computation of another one"] = merged
    return NormalGraph(nodes, applied)


# Reading ---------------------------------------------------------------------------------------


def read_ops(graph: tf.GraphDef) -> Ops:
    """The ops of a graph by name."""
    if not any("_output_shapes" in node.attr for node in graph.node):
        graph = with_shapes(graph)
    return {node.name: _read_op(node) for node in graph.node}


def with_shapes(graph: tf.GraphDef) -> tf.GraphDef:
    """`graph` with the shapes that this TensorFlow infers, or as it is where it can't load it."""
    loaded = tf.Graph()
    try:
        with loaded.as_default():
            tf.import_graph_def(graph, name="")
    except (ValueError, tf.errors.OpError):  # ops of another platform or version
        return graph
    return loaded.as_graph_def(add_shapes=True)


def _read_op(node: tf.NodeDef) -> Op:
    attributes = {name: _plain(value) for name, value in node.attr.items()}
    shapes = attributes.pop("_output_shapes", ())
    value = tf.make_ndarray(node.attr["value"].tensor) if node.op == "Const" else None
    attributes.pop("value" if node.op == "Const" else "", None)
    inputs, controls = [], []
    for text in node.input:
        if text.startswith("^"):
            controls.append(text[1:])
        else:
            name, _, port = text.partition(":")
            inputs.append((name, int(port or 0)))
    return Op(node.name, node.op, inputs, controls, attributes, list(shapes), node, value)


def _plain(attribute) -> object:
    """An AttrValue as a value that can be compared, sorted and shown."""
    kind = attribute.WhichOneof("value")
    if kind == "list":
        lists = [values for _, values in attribute.list.ListFields()]
        return tuple(_plain_part(value) for values in lists for value in values)
    return _plain_part(getattr(attribute, kind) if kind else None, is_type=kind == "type")


def _plain_part(value, is_type: bool = False) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if is_type:
        return tf.as_dtype(value).name
    if hasattr(value, "unknown_rank"):
        return None if value.unknown_rank else tuple(dim.size for dim in value.dim)
    if hasattr(value, "tensor_content"):
        return tuple(tf.make_ndarray(value).ravel().tolist())
    if hasattr(value, "attr"):
        return value.name
    return value


# The steps: each changes the ops and says how many places it changed ---------------------------


def drop_devices(ops: Ops) -> int:
    """Where an op runs is the platform's matter."""
    return sum(bool(op.definition.device) for op in ops.values())


def drop_control_dependencies(ops: Ops) -> int:
    """They order ops; they compute nothing."""
    found = sum(len(op.controls) for op in ops.values())
    for op in ops.values():
        op.controls = []
    return found


def drop_internal_attributes(ops: Ops) -> int:
    """Attributes that start with an underscore are hints of the runtime."""
    return _drop_attributes(ops, lambda op, name: name.startswith("_"))


INEFFECTIVE_ATTRIBUTES = {
    "shared_name", "container", "debug_name", "allowed_devices", "use_locking", "validate_shape",
    "use_cudnn_on_gpu", "message", "parallel_iterations", "swap_memory", "grad_a", "grad_b",
}  # fmt: skip


def drop_ineffective_attributes(ops: Ops) -> int:
    """Names of memory and ways to compute, not what is computed."""
    return _drop_attributes(ops, lambda op, name: name in INEFFECTIVE_ATTRIBUTES)


def drop_default_attributes(ops: Ops) -> int:
    """A newer version writes attributes that an older one does not have: at their default."""

    def is_default(op, name):
        definition = op_def_registry.get(op.type)
        for attribute in definition.attr if definition is not None else ():
            if attribute.name == name and attribute.HasField("default_value"):
                return _plain(attribute.default_value) == op.attributes[name]
        return False

    return _drop_attributes(ops, is_default)


def drop_seeds(ops: Ops) -> int:
    """TensorFlow derives an op's seed from the op's number, which versions count differently."""
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


RANDOM = ("Random", "TruncatedNormal", "ParameterizedTruncatedNormal", "Multinomial")


def use_reference_variables(ops: Ops) -> int:
    """TensorFlow 2 keeps variables as resources, TensorFlow 1 as references: same variables."""
    handles = [op for op in ops.values() if op.type == "VarHandleOp"]
    for op in ops.values():
        if op.type == "ReadVariableOp":
            op.become("Identity", op.inputs, T=op.attributes.get("dtype"))
        elif op.type.startswith("Assign") and op.type.endswith("VariableOp"):
            op.become(
                op.type[: -len("VariableOp")], op.inputs, T=op.attributes.get("dtype")
            )  # fmt: skip
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
    "SparseSoftmaxCrossEntropy": "SparseSoftmaxCrossEntropyWithLogits",
}


def use_newest_op_versions(ops: Ops) -> int:
    """An op's later version that computes the same in the forms used here."""
    found = 0
    for op in ops.values():
        if op.type in NEWEST_VERSION:
            op.type = NEWEST_VERSION[op.type]
            found += 1
        if op.type.startswith("FusedBatchNorm"):
            op.attributes.pop("U", None)  # the first version has no such attribute
    return found


def drop_unused_batch_norm_inputs(ops: Ops) -> int:
    """Batch norm in training ignores the moving statistics that TensorFlow 2 gives it."""
    found = 0
    for op in ops.values():
        training = op.attributes.get("is_training", True)  # True is the default
        whole_batch = op.attributes.get("exponential_avg_factor", 1.0) == 1.0
        if op.type == "FusedBatchNormV3" and training and whole_batch and len(op.inputs) == 5:
            del op.inputs[3:]
            found += 1
    return found


LEAST_EPSILON = 1.001e-5


def raise_epsilon(ops: Ops) -> int:
    """TensorFlow 1 raises a batch norm's epsilon to the least that cuDNN takes, 1.001e-5."""
    found = 0
    for op in ops.values():
        if 0.0 < op.attributes.get("epsilon", 0.0) < LEAST_EPSILON * (1 - 1e-6):
            op.attributes["epsilon"] = float(np.float32(LEAST_EPSILON))
            found += 1
    return found


INPUT_PIPELINE = re.compile(r"(Queue(Dequeue\w*)|IteratorGetNext)(V2|Sync)?$")


def use_placeholders(ops: Ops) -> int:
    """Images come from a feed, a queue or tf.data: the network is the same."""
    sources = {op.name for op in ops.values() if INPUT_PIPELINE.match(op.type)}
    outputs = {each for op in ops.values() for each in op.inputs if each[0] in sources}
    for name, port in sorted(outputs):
        source = ops[name]
        types = source.attributes.get("component_types") or source.attributes.get("output_types")
        shape = source.shapes[port] if port < len(source.shapes) else None
        placeholder = "{}:{}".format(name, port)
        ops[placeholder] = Op(
            placeholder, "Placeholder", [], [],
            {"dtype": types[port] if types else None, "shape": shape}, [shape], tf.NodeDef(),
        )  # fmt: skip
    for op in ops.values():
        op.inputs = [("{}:{}".format(*each), 0) if each in outputs else each for each in op.inputs]
    for name in sources:
        del ops[name]
    return len(outputs)


PASSING = ("Identity", "IdentityN", "PreventGradient", "Snapshot", "CheckNumerics")


def pass_identities(ops: Ops) -> int:
    """Reads of variables, names of layers: ops that hand on what they are given."""

    def source(each: Output) -> Output:
        while each[0] in ops and ops[each[0]].type in PASSING and ops[each[0]].inputs:
            op = ops[each[0]]
            each = op.inputs[each[1] if op.type == "IdentityN" else 0]
        return each

    for op in ops.values():
        op.inputs = [source(each) for each in op.inputs]
    passed = [name for name, op in ops.items() if op.type in PASSING and op.inputs]
    for name in passed:
        del ops[name]
    return len(passed)


SHAPES_OF = ("Shape", "ShapeN", "Size", "Rank")
LARGEST_FOLDED = 4096  # elements: a constant that is larger is data, not arithmetic of shapes
STATEFUL = ("Placeholder", "Variable", "Restore", "Save") + RANDOM


def fold_constants(ops: Ops) -> int:
    """One version computes a shape or a factor when it builds the graph, the other when it runs."""
    found = fold_static_shapes(ops)
    foldable = _constant_ops(ops)
    consumed = {
        name for op in ops.values() if op.name not in foldable for name, _ in op.inputs
    }  # fmt: skip
    results = [name for name in foldable if name in consumed and ops[name].type != "Const"]
    values = _run(ops, foldable, results)
    for name, value in values.items():
        ops[name].become_constant(value)
    return found + len(values)


def fold_static_shapes(ops: Ops) -> int:
    """Shapes that are known are constants."""
    found = 0
    # One output of ShapeN is one constant.
    for name, port in sorted({each for op in ops.values() for each in op.inputs}):
        shape = _static_shape_read(ops, name, port)
        if shape is None:
            continue
        op = ops[name]
        out = np.dtype(op.attributes.get("out_type", "int32"))
        value = {"Size": int(np.prod(shape)), "Rank": len(shape)}.get(op.type, shape)
        constant = "{}:{}".format(name, port)
        ops[constant] = dataclasses.replace(op, name=constant)
        ops[constant].become_constant(np.array(value, out))
        found += 1
    for op in ops.values():
        op.inputs = [
            (renamed, 0)
            if renamed in ops and "{}:{}".format(name, port) == renamed
            else (name, port)
            for name, port in op.inputs
            for renamed in ["{}:{}".format(name, port)]
        ]
    return found


def _static_shape_read(ops: Ops, name: str, port: int) -> Optional[Tuple[int, ...]]:
    """The shape that output `port` of a shape op tells, where it is known."""
    op = ops.get(name)
    if op is None or op.type not in SHAPES_OF or port >= len(op.inputs):
        return None
    source, output = op.inputs[port]
    shapes = ops[source].shapes if source in ops else []
    shape = shapes[output] if output < len(shapes) else None
    return None if shape is None or -1 in shape else shape


def _constant_ops(ops: Ops) -> List[str]:
    """Names of the constants and of the ops that depend on nothing else, inputs first."""
    constant = {}
    for name in in_order(ops):
        op = ops[name]
        size = max((np.prod(s) for s in op.shapes if s is not None), default=0)
        constant[name] = (op.type == "Const" or bool(op.inputs)) and (
            size <= LARGEST_FOLDED
            and not op.type.startswith(STATEFUL)
            and all(constant.get(source, False) for source, _ in op.inputs)
        )
    return [name for name in constant if constant[name]]


def _run(ops: Ops, foldable: List[str], results: List[str]) -> Dict[str, np.ndarray]:
    """The values of ops that depend on constants alone; none where this TensorFlow lacks an op."""
    graph = tf.Graph()
    tensors = {}
    try:
        with graph.as_default(), tf.device("/cpu:0"):
            for name in foldable:
                tensors[name] = _build(ops[name], tensors)
        wanted = {name: tensors[name][0] for name in results if len(tensors[name]) == 1}
        with tf.Session(graph=graph, config=tf.ConfigProto(device_count={"GPU": 0})) as session:
            return session.run(wanted) if wanted else {}
    except (ValueError, TypeError, KeyError, tf.errors.OpError):
        return {}


def _build(op: Op, tensors: Dict[str, list]) -> list:
    """The outputs of an op in the current graph."""
    if op.type == "Const":
        return [tf.constant(op.value)]
    node = tf.NodeDef(op=op.definition.op, name="op")
    for name, value in op.definition.attr.items():
        if not name.startswith("_"):
            node.attr[name].CopyFrom(value)
    inputs = {"input{}".format(i): tensors[name][port] for i, (name, port) in enumerate(op.inputs)}
    graph = tf.GraphDef()
    graph.node.extend([node])
    for key, tensor in inputs.items():
        graph.node.add(op="Placeholder", name=key).attr[
            "dtype"
        ].type = tensor.dtype.as_datatype_enum
        graph.node[0].input.append(key)
    (operation,) = tf.import_graph_def(graph, inputs, return_elements=["op"])
    return list(operation.outputs)


def drop_kept_dimensions(ops: Ops) -> int:
    """Whether a reduction keeps its dimensions is nothing to a reshape that follows."""
    users = collections.defaultdict(set)
    for op in ops.values():
        for source, _ in op.inputs[:1]:
            users[source].add(op.type)
        for source, _ in op.inputs[1:]:
            users[source].add("as an operand")
    found = 0
    for name, op in ops.items():
        if op.attributes.get("keep_dims") and users[name] == {"Reshape"}:
            del op.attributes["keep_dims"]
            found += 1
    return found


SUMMARIES = re.compile(r"\w*Summary(V2)?$|MergeSummary$|\w*SummaryWriter\w*$")
SAVERS = re.compile(r"(Save|Restore)\w*$|ShardedFilename$|MergeV2Checkpoints$")
CHECKS = re.compile(r"VarIsInitializedOp$|IsVariableInitialized$|Assert$|Print(V2)?$|NoOp$")


def drop_summaries(ops: Ops) -> int:
    """What is logged is not what is computed."""
    return _drop(ops, lambda op: SUMMARIES.match(op.type))


def drop_savers(ops: Ops) -> int:
    """Ops that write checkpoints and read them."""
    restoring = {
        op.name
        for op in ops.values()
        if op.type in ("Assign",) + PASSING
        and any(SAVERS.match(_type(ops, name)) for name, _ in op.inputs)
    }
    return _drop(ops, lambda op: op.name in restoring or SAVERS.match(op.type))


def drop_checks(ops: Ops) -> int:
    """Checks, prints, and ops that only group others."""
    return _drop(ops, lambda op: CHECKS.match(op.type))


def _type(ops: Ops, name: str) -> str:
    """The type of an op; of what an identity hands on, where it is one."""
    while ops[name].type in PASSING:
        name = ops[name].inputs[0][0]
    return ops[name].type


def _drop(ops: Ops, is_dropped) -> int:
    dropped = [name for name, op in ops.items() if is_dropped(op)]
    for name in dropped:
        del ops[name]
    for op in ops.values():
        op.inputs = [each for each in op.inputs if each[0] in ops]
    return len(dropped)


GRADIENTS = re.compile(r"(^|/)gradients(_\d+)?/")
LEAVES = ("Const", "VariableV2") + SHAPES_OF


def drop_unused(ops: Ops) -> int:
    """What neither changes a variable nor is a result: leftovers of building the graph."""
    consumed = {name for op in ops.values() for name, _ in op.inputs}
    pending = [
        op.name for op in ops.values()
        if changes_state(op)
        or (op.name not in consumed and op.type not in LEAVES and not GRADIENTS.search(op.name))
    ]  # fmt: skip
    used = set()
    while pending:
        name = pending.pop()
        if name not in used:
            used.add(name)
            pending.extend(source for source, _ in ops[name].inputs)
    return _drop(ops, lambda op: op.name not in used)


def changes_state(op: Op) -> bool:
    """Whether an op writes a variable."""
    return op.type.startswith(("Assign", "Apply", "Scatter"))


def rename_originals(ops: Ops) -> int:
    """Variables of the public TensorFlow codes get this project's names."""
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
    ("identity and read ops", pass_identities),
    ("shapes and factors computed at run time", fold_constants),
    ("dimensions kept before a reshape", drop_kept_dimensions),
    ("ops without effect", drop_unused),
    ("variables with the names of the original code", rename_originals),
]


# What is left, as distinct computations --------------------------------------------------------

PARTS = (
    "network", "inference", "moving statistics", "gradient", "optimizer", "initial values",
)  # fmt: skip
INFERENCE = re.compile(r"(^|/)(tower-pred\S*?|InferenceTower)/")


def parts_of(ops: Ops) -> Dict[str, str]:
    """Which of PARTS each op belongs to.

    An op that serves the network is of the network, whatever else reads it.
    """
    parts = {}
    after_gradient = set()
    for name in in_order(ops):
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
    # What only one of these uses belongs to it; what the network uses, to the network.
    users = collections.defaultdict(set)
    for op in ops.values():
        for source, _ in op.inputs:
            users[source].add(op.name)
    for name in reversed(in_order(ops)):
        if name in parts:
            continue
        served = {parts[user] for user in users[name]}
        if len(served) == 1 and ops[name].type != "Placeholder":
            parts[name] = served.pop()
        else:
            parts[name] = "inference" if INFERENCE.search(name) else "network"
    return parts


def in_order(ops: Ops) -> List[str]:
    """The names of the ops, inputs first; an op of a loop comes before one of its inputs."""
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


def merge_identical(ops: Ops) -> Tuple[List[Node], int]:
    """The distinct computations, and how many ops repeat another's."""
    parts = parts_of(ops)
    ambiguous = _ambiguous_placeholders(ops)
    by_key, by_name = {}, {}
    for name in in_order(ops):
        op = ops[name]
        inputs = tuple((by_name[s], port) for s, port in op.inputs if s in by_name)
        node = Node(
            _key(op, inputs, ambiguous), op.type, inputs, op.attributes, op.shapes, op.value,
            [project_name(name)], parts[name],
        )  # fmt: skip
        by_name[name] = same = by_key.setdefault(node.key, node)
        if same is not node:
            same.names.append(node.name)
            same.part = min(same.part, node.part, key=PARTS.index)
    for node in by_key.values():
        node.names.sort(key=lambda name: bool(INFERENCE.search(name)))
    return list(by_key.values()), len(by_name) - len(by_key)


def _ambiguous_placeholders(ops: Ops) -> set:
    """Attributes that several placeholders share: their names tell these apart, and only these."""
    counts = collections.Counter(
        repr(sorted(op.attributes.items())) for op in ops.values() if op.type == "Placeholder"
    )
    return {attributes for attributes, count in counts.items() if count > 1}


def _key(op: Op, inputs, ambiguous: set) -> bytes:
    """Equal for ops that compute the same from the same variables and inputs."""
    attributes = repr(sorted(op.attributes.items(), key=lambda item: item[0]))
    parts = [op.type, attributes]
    if op.type == "VariableV2" or op.type.startswith(RANDOM) or attributes in ambiguous:
        parts.append(project_name(op.name))
    if op.value is not None:
        parts.append("{} {} ".format(op.value.dtype, op.value.shape))
        parts.append(repr(op.value.tobytes() if op.value.dtype != object else op.value.tolist()))
    sources = [(node.key.hex(), port) for node, port in inputs]
    parts.append(repr(sorted(sources) if op.type in COMMUTATIVE else sources))
    return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


COMMUTATIVE = ("AddN", "AddV2", "Mul", "Maximum", "Minimum")
