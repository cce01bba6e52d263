"""Graphs that were damaged or crafted: one sentence, or read; nothing in them is ever run."""

import os
import random

from common.tf_stack import tf

import numpy as np
import pytest
from google.protobuf import text_format

from comparison import findings, sources
from comparison.graph.nodes import read_ops
from comparison.graph.reading import read_graph
from comparison.graph.text_form import DEEPEST, NotParsed, parse
from comparison.graph.verdict import compare_graph_files
from sparsenet.errors import UserError


def part_of(path, other=None):
    return compare_graph_files(sources.find(str(path)), sources.find(str(other or path)))


def written(folder, content, name="graph.pbtxt"):
    path = folder / name
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def node(name, op, *inputs, **attributes):
    lines = ["name: {!r}".format(name), "op: {!r}".format(op)]
    lines += ["input: {!r}".format(each) for each in inputs]
    lines += ["attr {{ key: {!r} value {{ {} }} }}".format(*each) for each in attributes.items()]
    return "node {{ {} }}\n".format(" ".join(lines))


def constant(name, values="int_val: 1", shape="", type_="DT_INT32"):
    dims = "".join("dim {{ size: {} }}".format(each) for each in shape.split())
    tensor = "tensor {{ dtype: {} tensor_shape {{ {} }} {} }}".format(type_, dims, values)
    return node(name, "Const", dtype="type: " + type_, value=tensor)


INT = "type: DT_INT32"


# Nothing is run --------------------------------------------------------------------------------


def test_files_are_neither_read_nor_written(tmp_path, monkeypatch):
    """A path, what is in that file, and an op that would send it away; a file to be written."""
    secret, target = written(tmp_path, "secret", "secret"), tmp_path / "target"
    text = (
        constant("path", 'string_val: "{}"'.format(secret), type_="DT_STRING")
        + constant("target", 'string_val: "{}"'.format(target), type_="DT_STRING")
        + node("read", "ReadFile", "path")
        + node("write", "WriteFile", "target", "read")
        + node("sent", "DebugIdentity", "read", T="type: DT_STRING",
               debug_urls='list {{ s: "file:///{}/sent" }}'.format(tmp_path))
        + node("length", "StringLength", "sent")
        + node("x", "Placeholder", dtype="type: DT_FLOAT")
        + node("y", "Reshape", "x", "length", T="type: DT_FLOAT", Tshape=INT)
        + node("py", "PyFunc", "path", Tin="list { type: DT_STRING }",
               Tout="list { type: DT_INT32 }", token='s: "pyfunc_0"')
        + node("z", "Reshape", "x", "py", T="type: DT_FLOAT", Tshape=INT)
    )  # fmt: skip
    monkeypatch.setattr(tf, "Session", None)
    monkeypatch.setattr(tf, "import_graph_def", None)
    part = part_of(written(tmp_path, text))
    assert part.verdict == findings.SAME
    (line,) = [line for line in part.always if "not computed" in line]
    # The others read no constants, but what these two would give.
    assert line.endswith("in A | in B: PyFunc 1 | 1; ReadFile 1 | 1")
    assert sorted(os.listdir(str(tmp_path))) == ["graph.pbtxt", "secret"]


def test_what_is_left_as_it_is_is_said(tmp_path):
    text = constant("size", "int_val: 2000000000", "1") + constant("zero", "int_val: 0")
    fill = node("fill", "Fill", "size", "zero", T=INT, index_type=INT)
    part = part_of(written(tmp_path, text + fill + node("end", "Neg", "fill", T=INT)))
    assert "in A | in B: Fill 1 | 1" in " ".join(part.always)


def doubling(op, length):
    """A chain in which each op makes twice as much of what the one before it made."""
    text = (
        constant("x0", shape="1")
        + constant("twice", "int_val: 2", "1")
        + constant("axis", "int_val: 0")
    )
    for place in range(length):
        name, source = "x{}".format(place + 1), "x{}".format(place)
        if op == "ConcatV2":
            text += node(name, op, source, source, "axis", N="i: 2", T=INT, Tidx=INT)
        elif op == "Tile":
            text += node(name, op, source, "twice", T=INT, Tmultiples=INT)
        else:
            text += node(name, op, source, source, T=INT)
    return text


@pytest.mark.parametrize("op", ["ConcatV2", "Tile", "Mul"])
def test_chains_are_folded_as_far_as_they_are_small(tmp_path, op):
    part = part_of(written(tmp_path, doubling(op, 3000)))
    assert part.verdict == findings.SAME


# Refused ---------------------------------------------------------------------------------------


def library(**calls):
    """Functions, each of which calls another one."""
    functions = [
        "function {{ signature {{ name: {!r} }} node_def {{ name: 'n' op: {!r} }} }}".format(*each)
        for each in calls.items()
    ]
    return "library {{ {} }}\n".format(" ".join(functions))


A = node("a", "NoOp")
CHAIN = {"f{}".format(i): "f{}".format(i + 1) for i in range(3000)}


@pytest.mark.parametrize(
    "text, words",
    [
        (A + library(f="f"), "function 'f' calls itself"),
        (A + library(f="g", g="f"), "function 'f' calls itself"),
        (A + library(f="g", g="h", h="i", i="g"), "function 'g' calls itself"),
        (A + "library { function { } function { } }", "two functions have one name"),
        (A + A, "two ops are called 'a'"),
        (node("b", "Neg", "a", T=INT), "'b' reads 'a', which is not there"),
        (A + node("b", "Neg", "a:0", T=INT), "'b' reads 'a:0', which is not there"),
        (A + node("b", "Foo", "a:" + "9" * 5000), "is no output of an op"),
        (A + node("b", "Foo", "^c"), "'b' reads 'c', which is not there"),
        (node("b", "Neg", "b", T=INT), "'b' depends on itself"),
        (node("b", "Neg", "c", T=INT) + node("c", "Neg", "b", T=INT), "depends on itself"),
        (node("b", "Identity", "c", T=INT) + node("c", "Identity", "b", T=INT), "on itself"),
        (node("b", "Foo", "^c") + node("c", "Foo", "^b"), "depends on itself"),
        (node("b", "Neg", T=INT), "'b' reads 0 outputs, and Neg reads 1"),
        (constant("b") + node("c", "Reshape", "b", T=INT), "'c' reads 1 outputs, and Reshape"),
        (constant("b") + node("c", "Neg", "b", T="i: 3"), "'T' of 'c' is of kind i"),
        (node("b", "Const", dtype=INT), "a constant is of type 0"),
        (node("b", "Const", value="i: 3"), "'value' of 'b' is of kind i"),
        (constant("b", shape="-2"), r"of shape \[-2\]"),
        (constant("b", shape="4611686018427387904 4"), "of shape"),
        (constant("b", shape="1 " * 40), "of shape"),
        (constant("b", "int_val: [1, 2, 3]", "2"), "has 3 values"),
        (constant("b", "int_val: [1, 2]", "2000000000"), "repeat over"),
        (constant("b", 'tensor_content: "abc"', "1"), "ends within a value"),
        (constant("b", 'tensor_content: "abcd"', "2"), "has 1 values"),
        (constant("b", "", "", "DT_RESOURCE"), "is of resource"),
        (constant("b", "", "", "DT_FLOAT_REF"), "is of float32_ref"),
        (
            "node { name: 'b' op: 'Const' attr { key: 'value' value { tensor { dtype: 977 } } } }",
            "is of type 977",
        ),
        ("library { function { signature { attr { " * 40, "nested deeper than 100|not expected"),
        ("node { attr { key: 'a' value { func { attr { key: 'a' value { " * 100, "nested deeper"),
        ("a { " * 300, "holds no graph"),
        ("node { b { " + "a { " * 300, "nested deeper than 100"),
        ("node { b [" + "[" * 300, "not expected"),
        ("node { name: 'a", "not expected"),
        ("node { name: 5 }", "line 1: '5' is not expected"),
        ("node { name: 'a' } node { op: 'a'\n} }", "line 2: '}' is not expected"),
        ("node { device 'a'", "the end is not expected"),
        ("node { attr { key: 'a' value { i: %s } } }" % ("9" * 5000), "not expected"),
        ("node { attr { key: 'a' value { i: 9223372036854775808 } } }", "not expected"),
        ("node { attr { key: 'a' value { type: DT_OF_TOMORROW } } }", "not expected"),
        ("#" * 40, "holds no graph"),
        ("#" * 40 + "\nnode {", "the end is not expected"),
        ("x" * 100000, "holds no graph"),
        ("", "holds no graph"),
        ("node {} " * 30000, "ops, too many for its size"),
        ("node { %s }" % ("input: 'b' " * 45000), "inputs, too many for its size"),
        ("node { attr { value { list { f: [" + "1," * 110000 + "] } } } }", "too many values"),
    ],
)
def test_a_malformed_text_is_refused(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        part_of(written(tmp_path, text))


@pytest.mark.parametrize(
    "text",
    [
        A + library(**CHAIN),
        constant("b", 'string_val: "a"', "", "DT_STRING") + node("c", "Foo", "b"),
        constant("b", "", "0 5"),
        constant("b", "int_val: 3", "1000000 1000000"),  # without the memory for it
        constant("b", 'string_val: "a"', "1000000000", "DT_STRING"),
        node("b", "Placeholder", dtype=INT, shape="shape { dim { size: -5 } }"),
        node("b", "Foo", _output_shapes="i: 3"),
        node("b", "Foo", _output_shapes="list { shape { dim { size: 9000000000000000000 } } }")
        + node("c", "Size", "b", T=INT, out_type=INT) + node("d", "Neg", "c", T=INT),
        node("b", "Foo", _output_shapes="list { shape { dim { size: -7 } } }")
        + node("c", "Shape", "b", T=INT, out_type="type: 977") + node("d", "Neg", "c", T=INT),
        node("q", "FIFOQueueV2", component_types="list { type: DT_INT32 }")
        + node("b", "QueueDequeueV2", "q", component_types="list { type: DT_INT32 }"),
        node("a", "AssignOfTomorrow") + node("b", "QueueDequeueOfTomorrow"),
        node("b", "FusedBatchNormOfTomorrow", epsilon="s: 'text'"),
        node("s", "MergeSummary", "x", N="i: 1") + constant("x")
        + node("r", "Reshape", "x", "s", T=INT, Tshape=INT) + node("e", "Neg", "r", T=INT),
        node("i", "Placeholder", dtype=INT) + node("e", "Enter", "i", T=INT, frame_name="s: 'f'")
        + node("m", "Merge", "e", "n", T=INT, N="i: 2") + node("n", "NextIteration", "m", T=INT),
        constant("b", "int_val: [" + "1, " * 5 + "2]", "6"),
    ],
)  # fmt: skip
def test_an_unusual_graph_is_read(tmp_path, text):
    assert part_of(written(tmp_path, text)).verdict == findings.SAME


def test_equal_constants_are_equal_however_they_are_written(tmp_path):
    splat = constant("b", "int_val: 7", "2 3")
    listed = constant("b", "int_val: [7, 7]", "2 3")
    content = constant("b", 'tensor_content: "{}"'.format("\\007\\000\\000\\000" * 6), "2 3")
    other = constant("b", "int_val: [7, 7, 7, 7, 7, 8]", "2 3")
    user = node("c", "Foo", "b")
    paths = [written(tmp_path, each + user, "{}.pbtxt".format(i))
             for i, each in enumerate((splat, listed, content, other))]  # fmt: skip
    verdicts = [part_of(paths[0], each).verdict for each in paths]
    assert verdicts == [findings.SAME] * 3 + [findings.DIFFERENT]


# The text form ---------------------------------------------------------------------------------


def test_texts_are_parsed_as_protobuf_does(tmp_path):
    meta = tf.MetaGraphDef()
    each = meta.graph_def.node.add(name="a\n\"'\\ü", op="x", input=["b", "^c"])
    each.attr["s"].s = bytes(range(256))
    each.attr["f"].f = float("-inf")
    each.attr["n"].f = float("nan")
    each.attr["l"].list.f.extend([1e-5, 1e30, -0.0])
    each.attr["e"].list.SetInParent()
    each.attr["t"].type = 1
    each.attr["b"].b = True
    each.attr["u"].shape.unknown_rank = True
    each.attr["g"].func.name = "q"
    each.attr["g"].func.attr["T"].type = 3
    function = meta.graph_def.library.function.add()
    function.signature.name, function.ret["x"] = "q", "y"
    for options in ({}, {"as_one_line": True}, {"pointy_brackets": True}, {"as_utf8": True},
                    {"use_short_repeated_primitives": True}):  # fmt: skip
        found = tf.MetaGraphDef()
        parse(text_format.MessageToString(meta, **options), found)
        assert text_format.MessageToString(found) == text_format.MessageToString(meta)


def test_other_ways_to_write_a_text_are_parsed():
    graph = tf.GraphDef()
    parse("""# a comment
        node: < name: "a" 'b' op: 'c', input: ["d", 'e'], > ; # another
        node { [type.googleapis.com/x] { y: 1 } tomorrow: [1, {a: 2}] other: -inf more: 'x' 'y' }
        versions { producer: 0x1F } # the last""", graph)  # fmt: skip
    first, second = graph.node
    assert (first.name, first.op, list(first.input)) == ("ab", "c", ["d", "e"])
    assert not second.ListFields() and graph.versions.producer == 31


def test_depth_is_that_of_the_binary_form():
    for depth, is_parsed in ((DEEPEST, True), (DEEPEST + 1, False)):
        text = "a {" * depth + "}" * depth
        if is_parsed:
            parse(text, tf.GraphDef())
        else:
            with pytest.raises(NotParsed):
                parse(text, tf.GraphDef())


# Binary files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [b"\x0a\x00" * 100000, b"\x0a\x04\x1a\x02\x1a\x00" * 50000, b"\x12" * 1000, b"\x0b" * 1000,
     b"\x0a\xff\xff\xff\xff\x0f", b"\x0a" * 3000, bytes(range(256)), b"\0" * 1000],
)  # fmt: skip
def test_bytes_that_are_no_graph_are_refused(tmp_path, content):
    with pytest.raises(UserError, match="holds no graph"):
        part_of(written(tmp_path, content, "graph.pb"))


def test_changed_bytes_are_refused_or_read(tmp_path):
    """Nothing but a UserError, whatever is changed in a real graph."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4], "x")
        y = tf.reshape(tf.matmul(x, tf.ones([4, 2])), [-1, 2]) + tf.reduce_mean(x)
        tf.concat([y, tf.tile(y, [1, 2])], 1)
        content = graph.as_graph_def().SerializeToString()
        text = text_format.MessageToString(graph.as_graph_def()).encode()
    stream = random.Random(0)
    for name, original in (("graph.pb", content), ("graph.pbtxt", text)):
        for _ in range(150):
            changed = bytearray(original)
            for _ in range(stream.choice([1, 3])):
                changed[stream.randrange(len(changed))] = stream.randrange(256)
            path = written(tmp_path, bytes(changed), name)
            try:
                part_of(path)
            except UserError as error:
                assert name in str(error)


# Shapes ----------------------------------------------------------------------------------------


def test_shapes_are_those_that_tensorflow_infers():
    """Of ops that no network here has; those of networks are compared in test_compare.py."""
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 8, 8, 3], "x")
        fixed = tf.placeholder(tf.float32, [4, 9, 7, 3], "fixed")
        kernel = tf.ones([3, 3, 3, 2])
        for each in (x, fixed):
            for padding in ("SAME", "VALID"):
                tf.nn.conv2d(each, kernel, 2, padding)
                tf.nn.conv2d(each, kernel, 1, padding, dilations=2)
                tf.nn.depthwise_conv2d(each, kernel, [1, 2, 2, 1], padding)
                tf.nn.max_pool2d(each, 3, 2, padding)
            tf.nn.conv2d(each, kernel, 1, [[0, 0], [1, 2], [0, 1], [0, 0]])
            tf.split(each, 3, 3)
            tf.split(each, [1, 2], 3)
            tf.transpose(each, [0, 3, 1, 2])
            tf.pad(each, [[0, 0], [1, 1], [2, 0], [0, 0]])
            tf.one_hot(tf.argmax(each, 3), 5)
            tf.stack([each, each], 1)
            tf.unstack(each, axis=3)
            tf.expand_dims(each, -1)
            tf.squeeze(each[:, :1, :1], [1, 2])
            tf.gather(each, [1, 0], axis=3)
            tf.reduce_max(each, [1, 2], keepdims=True)
            tf.tile(each, [1, 2, 1, 1])
            tf.image.resize_nearest_neighbor(each, [4, 5])
            tf.nn.fused_batch_norm(each, tf.ones([3]), tf.ones([3]))
            tf.where(each > 0, each, tf.zeros_like(each))
            tf.matmul(each, each, transpose_b=True)
            tf.slice(each, [0, 1, 0, 0], [-1, 2, -1, 3])
        tf.reshape(fixed, [-1, 3])
        fixed[1:3, ::2, -1]
        fixed[..., tf.newaxis, 0]
        expected = read_ops(graph.as_graph_def(add_shapes=True))
        found = read_ops(graph.as_graph_def())
    known = 0
    for name, op in expected.items():
        for port, shape in enumerate(op.shapes):
            ours = found[name].shapes[port] if port < len(found[name].shapes) else None
            # Less may be known, but nothing else.
            assert ours is None or len(ours) == len(shape), (op, ours)
            assert ours is None or all(a in (b, -1) for a, b in zip(ours, shape)), (op, ours)
            known += ours == shape
    assert known >= 0.9 * sum(len(op.shapes) for op in expected.values())


def test_a_graph_is_read_from_a_file_of_any_name(tmp_path):
    assert len(read_graph(str(written(tmp_path, A, "x.pb"))).node) == 1
    assert np.array_equal(read_ops(read_graph(str(written(tmp_path, constant("b")))))["b"].value, 1)
