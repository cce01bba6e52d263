"""What is computed of a graph: pure ops alone, small results alone, and the same as TensorFlow."""

import re

from common.tf_stack import tf

import numpy as np
import pytest
from tensorflow.python.framework import op_def_registry

from comparison.graph.arithmetic import LARGEST, OPERATIONS, computed
from comparison.graph.shapes import RULES
from comparison.graph.structure import definition_of


def ints(*values):
    return np.array(values, np.int32)


def floats(*values):
    return np.array(values, np.float32)


def one(value):
    return np.array(value, np.int32)


MATRIX = np.arange(12, dtype=np.int32).reshape(3, 4)
CUBE = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
SIGNS = [ints(7, -7, 7, -7), ints(2, 2, -2, -2)]
FLOATS = [floats(7.5, -7.5, 2), floats(2, 2, -3)]
CASES = [
    *[(name, SIGNS, {}) for name in (
        "Add", "AddV2", "Sub", "Mul", "Div", "TruncateDiv", "FloorDiv", "FloorMod", "Mod",
        "TruncateMod", "Maximum", "Minimum", "SquaredDifference", "Equal", "NotEqual", "Less",
        "LessEqual", "Greater", "GreaterEqual")],
    *[(name, FLOATS, {}) for name in ("RealDiv", "Div", "FloorDiv", "FloorMod", "Mod")],
    *[(name, SIGNS[:1], {}) for name in ("Neg", "Abs", "Sign", "Square", "ZerosLike", "OnesLike",
                                         "Identity", "StopGradient")],
    *[(name, [floats(0.5, 2, 9)], {}) for name in ("Sqrt", "Floor", "Ceil", "Rint", "Reciprocal")],
    ("Add", [ints(1, 2), MATRIX[:, :1]], {}),
    ("AddN", [ints(1, 2), ints(3, 4), ints(5, 6)], {"N": 3}),
    ("LogicalAnd", [np.array([True, False]), np.array([True, True])], {}),
    ("LogicalOr", [np.array([True, False]), np.array([True, True])], {}),
    ("LogicalNot", [np.array([True, False])], {}),
    ("SelectV2", [np.array([True, False]), ints(1, 2), one(5)], {}),
    ("Cast", [floats(1.5, -1.5)], {"DstT": tf.int32}),
    ("Cast", [ints(1, 0)], {"DstT": tf.float16}),
    *[(name, [CUBE, ints(0, -1)], {"keep_dims": kept})
      for name in ("Prod", "Sum", "Max", "Min") for kept in (True, False)],
    ("Sum", [CUBE, one(1)], {}),
    ("Max", [CUBE, ints()], {}),
    ("Mean", [floats(1, 2, 4), ints(0)], {}),
    ("All", [np.array([True, False]), ints(0)], {}),
    ("Any", [np.array([True, False]), ints(0)], {}),
    ("Fill", [ints(2, 3), one(7)], {}),
    ("Range", [one(0), one(10), one(3)], {}),
    ("Range", [one(10), one(0), one(-3)], {}),
    ("Reshape", [MATRIX, ints(2, -1)], {}),
    ("ExpandDims", [MATRIX, one(-1)], {}),
    ("Squeeze", [np.zeros((1, 2, 1), np.int32)], {"squeeze_dims": [-1]}),
    ("Squeeze", [np.zeros((1, 2, 1), np.int32)], {}),
    ("Transpose", [MATRIX, ints(1, 0)], {}),
    ("InvertPermutation", [ints(2, 0, 1)], {}),
    ("Tile", [MATRIX, ints(2, 1)], {}),
    ("BroadcastTo", [ints(1, 2), ints(3, 2)], {}),
    ("Pack", [ints(1, 2), ints(3, 4)], {"N": 2, "axis": 1}),
    ("Unpack", [MATRIX], {"num": 4, "axis": 1}),
    ("Concat", [one(0), ints(1), ints(2, 3)], {"N": 2}),
    ("ConcatV2", [ints(1), ints(2, 3), one(0)], {"N": 2}),
    ("Split", [one(0), ints(1, 2, 3, 4)], {"num_split": 2}),
    ("SplitV", [ints(1, 2, 3, 4), ints(1, 3), one(0)], {"num_split": 2, "Tlen": tf.int32}),
    ("Slice", [ints(1, 2, 3, 4), ints(1), ints(-1)], {}),
    ("Slice", [MATRIX, ints(1, 0), ints(2, 2)], {}),
    ("StridedSlice", [ints(1, 2, 3, 4), ints(1), ints(2), ints(1)], {"shrink_axis_mask": 1}),
    ("StridedSlice", [ints(1, 2, 3, 4), ints(0), ints(0), ints(-1)],
     {"begin_mask": 1, "end_mask": 1}),
    ("StridedSlice", [CUBE, ints(0, 0, 1), ints(0, 0, 2), ints(1, 1, 1)],
     {"ellipsis_mask": 1, "new_axis_mask": 2}),
    ("Gather", [MATRIX, ints(2, 0)], {}),
    ("GatherV2", [MATRIX, ints(2, 0), one(1)], {}),
    ("DynamicStitch", [ints(0, 2), one(1), MATRIX[:2], MATRIX[2]], {"N": 2}),
    ("BroadcastArgs", [ints(2, 1, 3), ints(5, 1)], {}),
    *[("BroadcastGradientArgs", [ints(*a), ints(*b)], {}) for a, b in (
        ((2, 1, 3), (2, 5, 1)), ((2, 1, 3), (2, 1, 3)), ((3,), (1, 1, 3)), ((), (4, 1)),
        ((1, 3), (2, 1, 1, 3)))],
    ("ConcatOffset", [one(1), ints(2, 3), ints(2, 4), ints(2, 1)], {"N": 3}),
]  # fmt: skip


def with_types(definition, values, attributes):
    """Return attributes with the types of the values, by the places that these are read at."""
    found = dict(attributes)
    places = iter(values)
    for argument in definition.input_arg:
        count = found[argument.number_attr] if argument.number_attr else 1
        dtypes = [next(places).dtype for _ in range(count)]
        if argument.type_attr and dtypes:
            found.setdefault(argument.type_attr, tf.as_dtype(dtypes[0]))
    return found


def of_tensorflow(name, values, attributes):
    """Return what TensorFlow makes of the same values."""
    with tf.Graph().as_default(), tf.Session() as session:
        graph = tf.GraphDef()
        node = graph.node.add(name="op", op=name)
        fed = {}
        for place, value in enumerate(values):
            key = "input{}".format(place)
            fed[key] = tf.constant(value)
            node.input.append(key)
            graph.node.add(name=key, op="Placeholder").attr["dtype"].CopyFrom(
                tf.AttrValue(type=tf.as_dtype(value.dtype).as_datatype_enum)
            )
        for key, value in with_types(definition_of(name), values, attributes).items():
            if isinstance(value, tf.DType):
                node.attr[key].type = value.as_datatype_enum
            elif isinstance(value, bool):
                node.attr[key].b = value
            elif isinstance(value, int):
                node.attr[key].i = value
            else:
                node.attr[key].list.i.extend(value)
        (operation,) = tf.import_graph_def(graph, fed, return_elements=["op"])
        return session.run(list(operation.outputs))


def plain(attributes):
    return {
        key: value.name if isinstance(value, tf.DType) else value
        for key, value in attributes.items()
    }


@pytest.mark.parametrize("name, values, attributes", CASES)
def test_an_op_computes_what_it_does_in_tensorflow(name, values, attributes):
    found = computed(name, values, plain(attributes))
    expected = of_tensorflow(name, values, attributes)
    assert found is not None and len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def test_every_op_of_the_table_is_compared_with_tensorflow():
    assert {name for name, _, _ in CASES} == set(OPERATIONS)


# What has an effect, or a result that depends on more than the values read.
NOT_PURE = re.compile(
    "File|Read|Write|Save|Restore|Load|Debug|Py|Print|Summary|Dataset|Iterator|Queue|Random|Rpc|"
    "Variable|Assign|Send|Recv|Remote|Map|Dequeue|Stage|Lookup|Table|Variant|Resource|Decode|Call|"
    "If|While|Case|Cond|Placeholder|Host|Xla|Tpu|TPU|Nccl|Collective|Timestamp|Assert|Abort|Barrier"
)


def all_registered():
    if hasattr(op_def_registry, "get_registered_ops"):  # TensorFlow 1.15
        return op_def_registry.get_registered_ops()
    from tensorflow.core.framework.op_def_pb2 import OpList
    from tensorflow.python.client import pywrap_tf_session

    found = OpList()
    found.ParseFromString(pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList()))
    return {each.name: each for each in found.op}


def test_no_op_with_an_effect_is_in_the_table():
    """Of all that TensorFlow has: none that is stateful, or that is more than arithmetic."""
    registered = all_registered()
    assert len(registered) > 1000
    stateful = {name for name, each in registered.items() if each.is_stateful}
    suspicious = {name for name in registered if NOT_PURE.search(name)}
    assert {"ReadFile", "WriteFile", "PyFunc"} <= stateful | suspicious
    assert not (stateful | suspicious) & set(OPERATIONS)
    for name in OPERATIONS:
        arguments = [*registered[name].input_arg, *registered[name].output_arg]
        kinds = {each.type for each in arguments} - {0}
        assert not any(each.is_ref for each in arguments), name
        assert not kinds & {tf.string.as_datatype_enum, tf.resource.as_datatype_enum,
                            tf.variant.as_datatype_enum}, name  # fmt: skip


def test_no_op_has_a_rule_for_its_shape_by_mistake():
    """A rule under a name that TensorFlow does not have would never be asked."""
    later = {"Gelu", "SelectV2", "StatelessRandomGetKeyCounter"}
    for name in set(RULES) - later:
        if not name.endswith("V2"):
            assert definition_of(name) is not None, name


MANY = np.zeros(LARGEST, np.int32)


@pytest.mark.parametrize(
    "name, values",
    [
        ("Fill", [ints(2000000000), one(0)]),
        ("Fill", [ints(1 << 20, 1 << 20), one(0)]),
        ("Fill", [ints(-1), one(0)]),
        ("Tile", [MANY, ints(1 << 30)]),
        ("Tile", [MATRIX, ints(1 << 30, 1 << 30)]),
        ("BroadcastTo", [one(0), ints(1 << 30, 1 << 30)]),
        ("Range", [one(0), one(1 << 30), one(1)]),
        ("Range", [one(0), one(1), one(0)]),
        ("Add", [MANY.reshape(-1, 1), MANY.reshape(1, -1)]),
        ("ConcatV2", [MANY, MANY, one(0)]),
        ("Pack", [MANY] * 1000),
        ("GatherV2", [MANY.reshape(1, -1), np.zeros(LARGEST, np.int32), one(0)]),
        ("DynamicStitch", [ints(1 << 30), ints(5)]),
        ("FloorDiv", [one(1), one(0)]),
        ("GatherV2", [MATRIX, ints(-1), one(0)]),
        ("Reshape", [MATRIX, ints(5)]),
        ("Sum", [MATRIX, ints(7)]),
        ("Slice", [MATRIX, ints(0), ints(1)]),
        ("Split", [one(0), MATRIX]),
        ("Cast", [MATRIX]),
        ("Add", [MATRIX, floats(1)]),
        ("Add", [np.array([b"text"], object)] * 2),
        ("Identity", [np.array([b"text"], object)]),
        ("Add", [MATRIX]),
        ("Add", []),
        ("ReadFile", [ints(1)]),
    ],
)
def test_what_is_too_large_or_wrong_is_not_computed(name, values):
    assert computed(name, values, {}) is None


def test_chains_that_double_end():
    value = ints(1)
    for _ in range(64):
        value = (computed("ConcatV2", [value, value, one(0)], {}) or [None])[0]
        if value is None:
            return
        assert value.size <= LARGEST
    raise AssertionError("it went on")
