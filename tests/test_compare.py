"""The comparison has to be able to fail: each seeded fault is found by the part meant for it."""

import dataclasses
import itertools
import json
import math
import re
import shutil

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT, TINY, assert_refused, run_python
from google.protobuf import text_format
from tensorflow.python.framework import function

import cifar_data
import sparsenet_model
from comparison import findings, sources
from comparison.activations import compare_activation_files
from comparison.checkpoints import compare_checkpoint_files
from comparison.curve_reading import read_curves
from comparison.curves import compare_curve_files
from comparison.graph.matching import PASSES, Matching
from comparison.graph.normal_form import normal_form
from comparison.graph.reading import read_graph
from comparison.graph.verdict import compare_graph_files
from comparison.records import compare_records
from platforms import gpu
from run_directory.checkpoints import read_arrays
from run_directory.pack import pack
from sparsenet import plan
from sparsenet.errors import UserError
from training import command_line
from training.run import train

pytestmark = pytest.mark.trains

COMPARE = CHECKOUT / "scripts" / "compare.py"
ACTIVATIONS = CHECKOUT / "scripts" / "activations.py"
SHORT = TINY + ["--max_epoch", "5", "--steps_per_epoch", "3"]


def run_here(root, name, *flags):
    """A run inside this process, so that a fault can be planted in the code."""
    settings = command_line.parse([*SHORT, "--log_dir", str(root), "--name", name, *flags])
    with tf.Graph().as_default():
        train(settings, gpu.platform)
    return root / name


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_here(tmp_path_factory.mktemp("compare"), "run")


def graph_part(a, b):
    return compare_graph_files(sources.find(str(a)), sources.find(str(b)))


def checkpoint_part(a, b, alone=False, **options):
    a, b = sources.find(str(a)), sources.find(str(b))
    options.setdefault("same_stack", False)
    return compare_checkpoint_files(a, b, findings.Thresholds(), alone=alone, **options)


def curve_part(a, b, references=(), images=None):
    found = [sources.find(str(path)) for path in (a, b, *references)]
    return compare_curve_files(*found[:2], found[2:], findings.Thresholds(), images)


def record_part(a, b):
    return compare_records(sources.find(str(a)), sources.find(str(b)))


def write_checkpoint(prefix, arrays):
    with tf.Graph().as_default(), tf.Session() as session:
        variables = {
            name: tf.get_variable("v{}".format(i), initializer=value, use_resource=False)
            for i, (name, value) in enumerate(arrays.items())
        }
        session.run(tf.global_variables_initializer())
        tf.train.Saver(variables).save(session, str(prefix), write_meta_graph=False)


# The same --------------------------------------------------------------------------------------


def test_two_runs_of_one_seed_are_the_same(run, tmp_path):
    again = run_here(tmp_path, "again")
    html, out = tmp_path / "report.html", tmp_path / "report.json"
    result = run_python(COMPARE, run, again, "--html", html, "--json", out)
    assert result.code == 0, result
    assert "verdict: same" in result.out
    report = json.loads(out.read_text())
    verdicts = {name: part["verdict"] for name, part in report["parts"].items()}
    assert verdicts.pop("activations") == "not compared"
    assert set(verdicts.values()) == {"same"}
    # One stack, precision and seed: the trained weights were judged as well.
    judged = [each["judged_by"] for each in report["parts"]["checkpoints"]["data"]["comparisons"]]
    assert len(judged) == 2 and all(judged)
    assert all(len(line) <= 80 for line in result.out.splitlines()[2:]), result.out


def test_another_seed_is_another_run(run, tmp_path):
    other = run_here(tmp_path, "other", "--seed", "1")
    assert record_part(run, other).verdict == findings.DIFFERENT
    assert "seed" in record_part(run, other).headline
    assert graph_part(run, other).verdict == findings.SAME
    part = checkpoint_part(run, other)
    assert part.verdict == findings.DIFFERENT
    # Trained weights of different seeds are reported, and not judged.
    assert [bool(each.judged_by) for each in part.data["comparisons"]] == [True, False]


@pytest.mark.parametrize("field, value", [("devices", ["another"]), ("threads", 77)])
def test_trained_weights_of_another_device_are_not_judged(field, value, run, tmp_path):
    """Rounding differs there."""
    other = tmp_path / "other"
    shutil.copytree(str(run), str(other))
    record = json.loads((run / "run.json").read_text())
    (other / "run.json").write_text(json.dumps(dict(record, **{field: value})))
    part = checkpoint_part(run, other)
    assert [bool(each.judged_by) for each in part.data["comparisons"]] == [True, False]


def test_a_run_stopped_in_its_first_epoch_is_compared_by_what_it_has(run, tmp_path):
    stopped = tmp_path / "stopped"
    stopped.mkdir()
    for name in ("run.json", "graph.pbtxt", "model-0.index", "model-0.data-00000-of-00001"):
        shutil.copy(str(run / name), str(stopped / name))
    table = (run / "loss+perf_cpu.txt").read_text().splitlines(True)
    head = [line for line in table if line[0] == "#" or line.startswith("epoch")]
    (stopped / "loss+perf_cpu.txt").write_text("".join(head))
    (stopped / "model-3.index").write_bytes(b"")  # a checkpoint that was being written
    for pair in ((stopped, run), (run, stopped), (stopped, stopped)):
        result = run_python(COMPARE, *pair, "--html", tmp_path / "report.html")
        assert result.code == 0, result
        assert "decided by records, graph, checkpoints" in " ".join(result.out.split())
        assert "no table or log with an epoch" in " ".join(result.out.split())


def test_a_pack_is_compared_as_its_run(run, tmp_path):
    pack(str(run), str(tmp_path / "run.zip"))
    result = run_python(COMPARE, tmp_path / "run.zip", run)
    assert result.code == 0, result
    assert "decided by records, graph, checkpoints, curves" in " ".join(result.out.split())
    assert str(tmp_path / "run.zip") in result.out


# Seeded faults ---------------------------------------------------------------------------------


def copy_with_weights(run, target, change):
    """A copy of a run whose model-0 has been changed."""
    shutil.copytree(str(run), str(target))
    arrays = read_arrays(str(run / "model-0"))
    change(arrays)
    for path in target.glob("model-0.*"):
        path.unlink()
    write_checkpoint(target / "model-0", arrays)
    return target


def test_a_transposed_kernel_is_found(run, tmp_path):
    name = "block2/layer0/conv1/W"

    def transpose(arrays):
        arrays[name] = np.ascontiguousarray(arrays[name].transpose(1, 0, 2, 3))

    part = checkpoint_part(run, copy_with_weights(run, tmp_path / "b", transpose))
    assert part.verdict == findings.DIFFERENT
    assert part.data["failures"]["0"] == [name]
    assert name in part.headline


def test_a_variable_changed_by_one_percent_is_found(run, tmp_path):
    name = "bn_last/gamma"

    def change(arrays):
        arrays[name] = arrays[name] * np.float32(1.01)

    result = run_python(COMPARE, run, copy_with_weights(run, tmp_path / "b", change))
    assert result.code == 1, result
    assert "{}: distance 0.01".format(name) in " ".join(result.out.split())
    assert "decided by checkpoints" in result.out


def test_a_value_where_the_reference_is_zero_is_not_masked(run, tmp_path):
    name = "block1/layer0/bn1/beta"  # starts at 0

    def change(arrays):
        arrays[name] = arrays[name] + np.float32(1e-6)

    part = checkpoint_part(run, copy_with_weights(run, tmp_path / "b", change))
    assert part.data["failures"]["0"] == [name]
    (variable,) = [v for v in part.data["comparisons"][0].variables if v.name == name]
    assert variable.distance.relative_distance == math.inf
    assert variable.distance.max_relative == math.inf


def test_a_missing_relu_is_found(run, tmp_path, monkeypatch):
    bn_relu = sparsenet_model.bn_relu

    def without_one(name, x):
        if tf.get_variable_scope().name == "block2/layer0":
            return sparsenet_model.BatchNorm(name, x)
        return bn_relu(name, x)

    monkeypatch.setattr(sparsenet_model, "bn_relu", without_one)
    part = graph_part(run, run_here(tmp_path, "b"))
    assert part.verdict == findings.DIFFERENT
    first = part.data["differences"][0]
    assert (first.kind, first.op, first.part) == ("removed", "Relu", "network")
    assert first.name == "block2/layer0/Relu"
    assert first.noticed_by == "block2/layer0/conv1/Conv2D"
    # Nothing of what follows is blamed, but for its gradient.
    assert {d.name.split("/")[-3] for d in part.data["differences"] if d.part == "network"} <= {
        "block2", "layer0",
    }  # fmt: skip


def test_another_epsilon_is_found(run, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "LEAST_BN_EPSILON", 1e-3)
    part = graph_part(run, run_here(tmp_path, "b"))
    changed = [d for d in part.data["differences"] if d.part == "network"]
    batch_norms = 3 + 2 + 1  # layers, transitions, bn_last
    assert [d.op for d in changed] == ["FusedBatchNormV3"] * batch_norms
    assert "epsilon 1.001e-05 -> 0.001" in part.headline


def test_equal_graphs_are_matched_by_their_keys_alone(run):
    graph = normal_form(read_graph(str(run / "graph.pbtxt")))
    counts = Matching(graph, graph).counts
    assert counts.pop("equal keys") == len(graph.nodes)
    assert set(counts.values()) == {0}
    assert len(counts) == len(PASSES) - 1  # no two of a name


def test_layers_swapped_in_a_concat_are_found(tmp_path, monkeypatch):
    flags = ("--depth", "13", "--fetch", "dense")
    read = sparsenet_model.Aggregation.read

    def swapped(self, slices):
        is_there = tf.get_variable_scope().name == "block2" and len(slices) == 3
        return read(self, [slices[1], slices[0], slices[2]] if is_there else slices)

    a = run_here(tmp_path, "a", *flags)
    monkeypatch.setattr(sparsenet_model.Aggregation, "read", swapped)
    part = graph_part(a, run_here(tmp_path, "b", *flags))
    (changed,) = [d for d in part.data["differences"] if d.part == "network"]
    assert (changed.kind, changed.op) == ("changed", "ConcatV2")
    assert changed.name.startswith("block2/concat")
    assert "another order" in changed.details[0]


def test_weight_decay_off_is_found_by_record_and_graph(run, tmp_path):
    b = run_here(tmp_path, "b", "--weight_decay", "0")
    part = record_part(run, b)
    assert part.verdict == findings.DIFFERENT
    assert [f.name for f in part.data["fields"] if f.decides] == ["recipe.weight_decay"]
    part = graph_part(run, b)
    assert "0 instead of 0.0001" in part.headline


@pytest.mark.parametrize("name", ["", "run.json"])
def test_a_record_with_the_field_names_of_format_1_is_the_same(run, tmp_path, name):
    record = json.loads((run / "run.json").read_text())
    record["resumed"] = [{"first_epoch": 4}]
    write_record(tmp_path / "new", record)
    record["format"] = 1
    record["continued"] = record.pop("resumed")
    recipe, preprocessing = record["recipe"], record["preprocessing"]
    recipe["drops"] = recipe.pop("lr_milestones")
    recipe["decayed"] = recipe.pop("weight_decay_scope")
    recipe["border"] = recipe.pop("pad_value")
    del recipe["augment"]
    preprocessing["border"] = preprocessing.pop("pad_value")
    write_record(tmp_path / "old", record)
    part = record_part(tmp_path / "old" / name, tmp_path / "new" / name)
    assert part.verdict == findings.SAME
    assert [(field.name, field.decides) for field in part.data["fields"]] == [("format", False)]


def write_record(directory, record):
    directory.mkdir()
    (directory / "run.json").write_text(json.dumps(record))


def test_a_mean_over_train_and_test_is_found(run, tmp_path, monkeypatch):
    def preprocessing(self, normalize, pad_value, augment):
        both = cifar_data.ImageSet(
            np.concatenate([self.train.images, self.test.images]),
            np.concatenate([self.train.labels, self.test.labels]),
        )
        mixed = cifar_data.Dataset(self.name, both, self.test, self.mirror)
        return original(mixed, normalize, pad_value)

    original = cifar_data.Dataset.preprocessing
    monkeypatch.setattr(cifar_data.Dataset, "preprocessing", preprocessing)
    b = run_here(tmp_path, "b")
    part = record_part(run, b)
    deciding = [f for f in part.data["fields"] if f.decides]
    assert deciding and {f.group for f in deciding} == {"preprocessing"}
    assert part.data["fields"][0].name == "preprocessing.mean"
    assert graph_part(run, b).verdict == findings.DIFFERENT  # the mean is part of the graph


def test_one_batch_less_per_epoch_is_found(run, tmp_path):
    b = run_here(tmp_path, "b", "--steps_per_epoch", "2")
    assert "steps_per_epoch: 3 | 2" in record_part(run, b).headline
    part = curve_part(run / "loss+perf_cpu.txt", b / "stats.json")
    assert part.verdict == findings.DIFFERENT
    assert "global_step after epoch 1: 3 | 2" in part.headline


# Graphs of other versions and forms --------------------------------------------------------------


def read_meta_graph(run):
    meta = tf.MetaGraphDef()
    text_format.Parse((run / "graph.pbtxt").read_text(), meta)
    return meta


def test_every_form_of_a_graph_is_read(run, tmp_path):
    meta = read_meta_graph(run)
    (tmp_path / "graph.meta").write_bytes(meta.SerializeToString())
    (tmp_path / "graph.pb").write_bytes(meta.graph_def.SerializeToString())
    for node in meta.graph_def.node:
        node.attr.pop("_output_shapes", None)
        node.device = "/device:GPU:0"
    (tmp_path / "plain.pbtxt").write_text(text_format.MessageToString(meta.graph_def))
    unknown = "node {\n  a_field_of_tomorrow: 3\n"
    (tmp_path / "newer.pbtxt").write_text(
        (tmp_path / "plain.pbtxt").read_text().replace("node {\n", unknown, 1)
    )
    for name in ("graph.meta", "graph.pb", "plain.pbtxt", "newer.pbtxt"):
        part = graph_part(run, tmp_path / name)
        assert part.verdict == findings.SAME, (name, part.headline)
    assert part.data["normalizations"]["device strings"][1] == len(meta.graph_def.node)


def rename(graph, old, new):
    for node in graph.node:
        node.name = node.name.replace(old, new)
        node.input[:] = [name.replace(old, new) for name in node.input]


def test_names_of_ops_do_not_matter_and_those_of_variables_do(run, tmp_path):
    meta = read_meta_graph(run)
    rename(meta.graph_def, "Relu", "Rectified")
    (tmp_path / "a.pbtxt").write_text(text_format.MessageToString(meta))
    assert graph_part(run, tmp_path / "a.pbtxt").verdict == findings.SAME
    rename(meta.graph_def, "block1/layer0/", "block1/densen_layer.0/")
    (tmp_path / "b.pbtxt").write_text(text_format.MessageToString(meta))
    part = graph_part(run, tmp_path / "b.pbtxt")
    assert part.verdict == findings.SAME
    assert part.data["normalizations"]["variables with the names of the original code"][1] > 0
    rename(meta.graph_def, "linear/W", "linear/V")
    (tmp_path / "c.pbtxt").write_text(text_format.MessageToString(meta))
    part = graph_part(run, tmp_path / "c.pbtxt")
    assert part.verdict == findings.DIFFERENT
    assert "linear/W" in part.headline


def test_a_replaced_op_is_named(run, tmp_path):
    meta = read_meta_graph(run)
    for node in meta.graph_def.node:
        if node.name == "block1/layer0/Relu":
            node.op = "Relu6"
    (tmp_path / "b.pbtxt").write_text(text_format.MessageToString(meta))
    part = graph_part(run, tmp_path / "b.pbtxt")
    first = part.data["differences"][0]
    assert (first.kind, first.op, first.name) == ("changed", "Relu -> Relu6", "block1/layer0/Relu")


def test_what_only_observes_does_not_decide(run, tmp_path):
    """A summary of a layer, and the ops that are there for it alone."""
    meta = read_meta_graph(run)
    graph = meta.graph_def
    with tf.Graph().as_default() as extra, tf.name_scope("looking_on"):
        layer = tf.placeholder(tf.float32, [64, 32, 32, 24], "layer")
        size = tf.reduce_mean(tf.square(layer), name="size")
        tf.summary.scalar("size_of_layer", size)
    for node in extra.as_graph_def(add_shapes=True).node:
        if node.op != "Placeholder":
            node.input[:] = [
                "conv0/output" if name.endswith("/layer") else name for name in node.input
            ]
            graph.node.extend([node])
    (tmp_path / "b.pbtxt").write_text(text_format.MessageToString(meta))
    part = graph_part(run, tmp_path / "b.pbtxt")
    assert part.verdict == findings.SAME
    assert part.data["differences"] and not any(d.decides for d in part.data["differences"])
    assert "observe" in " ".join(part.lines)


@pytest.mark.parametrize("with_shapes", [True, False])
def test_images_from_a_queue_are_images_from_a_placeholder(tmp_path, with_shapes):
    for name in ("fed", "queued"):
        with tf.Graph().as_default() as graph:
            image = tf.placeholder(tf.float32, [4, 8], "image")
            if name == "queued":
                queue = tf.FIFOQueue(50, [tf.float32], [[4, 8]])
                queue.enqueue([image * 1.0])
                image = queue.dequeue()
            weights = tf.get_variable("linear/W", [8, 2], use_resource=False)
            cost = tf.reduce_mean(tf.square(tf.matmul(image, weights)) + tf.square(image[:, :2]))
            tf.train.GradientDescentOptimizer(0.1).minimize(cost)
            text = text_format.MessageToString(graph.as_graph_def(add_shapes=with_shapes))
        (tmp_path / (name + ".pbtxt")).write_text(text)
    part = graph_part(tmp_path / "fed.pbtxt", tmp_path / "queued.pbtxt")
    assert part.verdict == findings.SAME, part.lines


def write_graph(path, build):
    with tf.Graph().as_default() as graph:
        build()
        path.write_text(text_format.MessageToString(graph.as_graph_def(add_shapes=True)))
    return path


def test_statistics_that_no_step_updates_are_found(tmp_path):
    def build(is_run):
        weights = tf.get_variable("linear/W", [8], use_resource=False)
        mean = tf.get_variable("bn/mean/EMA", [8], use_resource=False, trainable=False)
        update = tf.assign_sub(mean, 0.1 * (mean - weights), name="update")
        with tf.control_dependencies([update] if is_run else []):
            cost = tf.reduce_sum(tf.square(weights - 1.0))
        tf.train.GradientDescentOptimizer(0.1).minimize(cost)

    paths = [write_graph(tmp_path / (str(x) + ".pbtxt"), lambda x=x: build(x)) for x in (1, 0)]
    part = graph_part(*paths)
    assert part.verdict == findings.DIFFERENT
    assert "never run in B" in part.headline and "update" in part.headline
    assert graph_part(paths[0], paths[0]).verdict == findings.SAME


def test_an_attribute_at_its_default_is_reported_with_its_value(tmp_path):
    def build(epsilon):
        images, ones = tf.placeholder(tf.float32, [2, 4, 4, 3]), tf.ones([3])
        tf.raw_ops.FusedBatchNormV3(x=images, scale=ones, offset=ones, mean=ones, variance=ones,
                                    epsilon=epsilon, is_training=False)  # fmt: skip

    one, two = (write_graph(tmp_path / "{}.pbtxt".format(e), lambda e=e: build(e))
                for e in (1e-4, 1e-3))  # fmt: skip
    part = graph_part(one, two)
    assert part.verdict == findings.DIFFERENT and "epsilon 0.0001 -> 0.001" in part.headline


def test_bodies_of_functions_are_compared(tmp_path):
    def build(factor):
        @function.Defun(tf.float32, func_name="scaled")
        def scaled(x):
            return factor * x

        tf.identity(scaled(tf.placeholder(tf.float32, [2])), name="result")

    one, two = (write_graph(tmp_path / name, lambda n=n: build(n)) for name, n in
                (("1.pbtxt", 1.0), ("2.pbtxt", 2.0)))  # fmt: skip
    assert graph_part(one, one).verdict == findings.SAME
    assert graph_part(one, two).verdict == findings.DIFFERENT


def test_an_op_that_can_not_run_here_leaves_the_others_folded(tmp_path):
    def build(is_folded):
        images = tf.placeholder(tf.float32, [4], "images")
        tf.raw_ops.Reciprocal(x=tf.raw_ops.Log(x=tf.constant(2.0)), name="of_another_platform")
        factor = tf.constant(6.0) if is_folded else tf.constant(2.0) * tf.constant(3.0)
        tf.multiply(images, factor, name="result")

    paths = [write_graph(tmp_path / (str(x) + ".pbtxt"), lambda x=x: build(x)) for x in (1, 0)]
    for path in paths:
        path.write_text(path.read_text().replace('op: "Log"', 'op: "LogOfAnotherPlatform"'))
    assert graph_part(*paths).verdict == findings.SAME


def test_a_training_graph_is_not_an_inference_graph(run, tmp_path):
    meta = read_meta_graph(run)
    keep = tf.graph_util.extract_sub_graph(meta.graph_def, ["tower-pred-0/linear/output"])
    (tmp_path / "inference.pb").write_bytes(keep.SerializeToString())
    assert graph_part(tmp_path / "inference.pb", run).verdict in (findings.SAME, findings.DIFFERENT)


@pytest.mark.parametrize("content", [b"", b"node { name: 3", b"\xff\xfe\x00 nothing", b"hello"])
def test_what_is_no_graph_is_refused(run, tmp_path, content):
    path = tmp_path / "broken.pbtxt"
    path.write_bytes(content)
    assert_refused(run_python(COMPARE, run, path), "broken.pbtxt")


# Checkpoints -------------------------------------------------------------------------------------


def original_name(name):
    """Return the name in the public TensorFlow codes of a variable of this project."""
    name = re.sub(r"^block(\d+)/layer(\d+)/", r"block\1/densen_layer.\2/", name)
    return re.sub(r"^transition(\d+)/", r"block\1/transition\1/", name)


def test_original_names_are_mapped_and_other_shapes_reported(run, tmp_path):
    arrays = read_arrays(str(run / "model-0"))
    write_checkpoint(tmp_path / "original", {original_name(n): v for n, v in arrays.items()})
    part = checkpoint_part(run / "model-0", tmp_path / "original", alone=True)
    assert part.verdict == findings.SAME
    assert part.data["comparisons"][0].renamed > 0
    del arrays["linear/b"]
    arrays["conv0/W"] = arrays["conv0/W"][..., :-1]
    write_checkpoint(tmp_path / "other", arrays)
    part = checkpoint_part(run / "model-0", tmp_path / "other", alone=True)
    assert part.verdict == findings.DIFFERENT
    problems = {v.name: v.problem for v in part.data["comparisons"][0].variables if v.problem}
    assert problems["linear/b"] == "absent in B"
    assert problems["conv0/W"].startswith("shape ")


@pytest.mark.parametrize(
    "a, b",
    [(np.float32(1), np.float32(-100)), (np.arange(4), np.arange(4)[::-1].copy()),
     (np.complex64(1), np.complex64(2)), (np.array([True]), np.array([False]))],
)  # fmt: skip
def test_variables_of_any_name_and_kind_are_judged(tmp_path, a, b):
    write_checkpoint(tmp_path / "a", {"w1": a})
    write_checkpoint(tmp_path / "b", {"w1": b})
    part = checkpoint_part(tmp_path / "a", tmp_path / "b", alone=True)
    assert part.data["failures"]["?"] == ["w1"], part.headline
    assert checkpoint_part(tmp_path / "a", tmp_path / "a", alone=True).verdict == findings.SAME


def test_a_checkpoint_of_the_trainings_own_numbers_decides_nothing(tmp_path):
    for name, step in (("a", 1), ("b", 2)):
        write_checkpoint(tmp_path / name, {"global_step": np.int64(step)})
    part = checkpoint_part(tmp_path / "a", tmp_path / "b", alone=True)
    assert part.verdict == findings.REPORTED


def test_a_variable_that_is_not_a_number_is_reported(run, tmp_path):
    def spoil(arrays):
        arrays["linear/b"][3] = np.nan

    part = checkpoint_part(run, copy_with_weights(run, tmp_path / "b", spoil))
    assert part.data["failures"]["0"] == ["linear/b"]
    assert "1 element is not finite" in part.headline


def test_distances_are_those_of_the_definition():
    a, b = np.array([3.0, 0.0, 4.0]), np.array([3.0, 0.5, 4.0])
    found = findings.distance(a, b)
    assert found.relative_distance == pytest.approx(0.1)
    assert found.cosine == pytest.approx(25 / (5 * math.sqrt(25.25)))
    assert (found.max_abs, found.max_relative) == (0.5, math.inf)
    assert found.mean_abs == pytest.approx(0.5 / 3)
    assert found.rms == pytest.approx(0.5 / math.sqrt(3))
    assert findings.distance(a, a).relative_distance == 0
    assert findings.distance(np.zeros(2), np.zeros(2)).cosine == 1


# Curves ----------------------------------------------------------------------------------------


def write_table(path, errors, losses=None, train=None, steps=782):
    rows = ["epoch\tglobal_step\ttest_error\ttest_loss"]
    rows[0] += "\tlearning_rate\ttrain_loss" if train else ""
    for epoch, error in enumerate(errors, start=1):
        loss = error * 3 if losses is None else losses[epoch - 1]
        row = "{}\t{}\t{:.6f}\t{:.6f}".format(epoch, epoch * steps, error, loss)
        rows.append(row + ("\t0.001\t{:.6f}".format(train[epoch - 1]) if train else ""))
    path.write_text("\n".join(rows) + "\n")
    return path


def noisy(seed, last=0.05, spread=0.004, epochs=60):
    stream = np.random.RandomState(seed)
    falling = last + 0.5 * np.exp(-np.arange(epochs) / 8.0)
    return falling + stream.normal(0, spread, epochs)


def test_curves_within_their_noise_are_the_same_and_a_shift_is_found(tmp_path):
    a = write_table(tmp_path / "loss+perf_a.txt", noisy(0))
    b = write_table(tmp_path / "loss+perf_b.txt", noisy(1))
    assert curve_part(a, b).verdict == findings.SAME
    shifted = write_table(tmp_path / "loss+perf_c.txt", noisy(2, last=0.09))
    part = curve_part(a, shifted)
    assert part.verdict == findings.DIFFERENT
    assert "test_loss, epochs 41 to 60: 8" in part.headline
    assert "10,000 test images (assumed" in part.judged_by


@pytest.fixture
def references(tmp_path):
    """Tables of four runs that differ by less than two runs alone could be told to."""
    return [
        write_table(tmp_path / "loss+perf_r{}.txt".format(i), noisy(10 + i, spread=0.001))
        for i in range(4)
    ]


def test_reference_runs_give_the_spread(tmp_path, references):
    a = write_table(tmp_path / "loss+perf_a.txt", noisy(0, spread=0.001))
    b = write_table(tmp_path / "loss+perf_b.txt", noisy(1, spread=0.001))
    c = write_table(tmp_path / "loss+perf_c.txt", noisy(1, last=0.057, spread=0.001))
    assert curve_part(a, b, references).verdict == findings.SAME
    assert curve_part(a, c).verdict == findings.SAME
    part = curve_part(a, c, references)
    assert part.verdict == findings.DIFFERENT
    # It says which of the two is not as the references are.
    assert {check.what[-1] for check in part.data["checks"] if not check.holds} == {"B"}


def test_weights_that_grew_more_than_those_of_the_references_are_found(tmp_path):
    def run_with(name, seed, growth):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "loss+perf_a.txt", noisy(seed))
        start = np.random.RandomState(seed).normal(size=(3, 3, 8, 4)).astype(np.float32)
        for step, factor in ((0, 1.0), (46920, growth)):
            arrays = {"conv0/W": start * np.float32(factor), "conv0/W/Momentum": start}
            np.savez(str(tmp_path / name / "model-{}.npz".format(step)), **arrays)
        return tmp_path / name

    growths = [1.20, 1.21, 1.19, 1.205, 1.195, 1.2]
    a, *others = (run_with("r{}".format(i), i, growth) for i, growth in enumerate(growths))
    assert curve_part(a, others[0], others[1:]).verdict == findings.SAME
    without_decay = run_with("b", 9, 1.4)
    part = curve_part(a, without_decay, others)
    assert part.verdict == findings.DIFFERENT
    assert "growth of the kernels, step 46920 of B: 16.7% apart" in part.headline
    assert curve_part(a, without_decay).verdict == findings.SAME


def test_fewer_references_tolerate_more(tmp_path, references):
    more = [
        write_table(tmp_path / "loss+perf_m{}.txt".format(i), noisy(20 + i, spread=0.001))
        for i in range(8)
    ]
    a = write_table(tmp_path / "loss+perf_a.txt", noisy(0, spread=0.001))
    few, many = (
        {check.what: float(re.search(r"([\d.]+) of it", check.derivation).group(1))
         for check in curve_part(a, a, paths).data["checks"]}
        for paths in (references, references + more)
    )  # fmt: skip
    assert few and all(few[what] > 2 * many[what] for what in few)


def test_references_that_give_no_spread_are_refused(tmp_path, references):
    a = write_table(tmp_path / "loss+perf_a.txt", noisy(5))
    short = write_table(tmp_path / "loss+perf_short.txt", noisy(5, epochs=20))
    again = write_table(tmp_path / "loss+perf_again.txt", noisy(10, spread=0.001))
    slower = write_table(tmp_path / "loss+perf_slower.txt", noisy(6), steps=781)
    for paths, words in [
        (references[:3], "at least 4 runs"),
        ([*references, short], "loss.perf_short.txt: it lacks epoch 21"),
        ([*references, again], "loss.perf_again.txt: it is .*loss.perf_r0.txt again"),
        ([*references, slower], "loss.perf_slower.txt: global_step after epoch 1: 782 . 781"),
    ]:
        with pytest.raises(UserError, match=words):
            curve_part(a, a, paths)


def with_record(table, seed, **changes):
    """What compare.py finds in the run directory of a table."""
    record = {"seed": seed, "precision": "float32", "devices": ["x"], "settings": {},
              "data": {}, "preprocessing": {}, "steps_per_epoch": 5, **changes}  # fmt: skip
    return dataclasses.replace(sources.find(str(table)), record=record)


def test_the_first_steps_of_one_seed_have_to_be_equal(tmp_path):
    losses = [2.3, 2.2, *np.linspace(2.1, 1.0, 20)]
    a, b = (
        write_table(tmp_path / "loss+perf_{}.txt".format(name), noisy(0, epochs=22), steps=5,
                    train=[losses[0], losses[1] * factor, *losses[2:]])
        for name, factor in (("a", 1), ("b", 1.004))
    )  # fmt: skip

    def verdict(*found):
        return compare_curve_files(*found, [], findings.Thresholds(), None).verdict

    assert verdict(with_record(a, 0), with_record(b, 0)) == findings.DIFFERENT
    # Other seeds see other batches, and less than float32 rounds more.
    assert verdict(with_record(a, 0), with_record(b, 1)) == findings.SAME
    low = {"precision": "allow_mix_precision"}
    assert verdict(with_record(a, 0, **low), with_record(b, 0, **low)) == findings.SAME


def test_seeds_and_stacks_of_one_recipe_are_the_same():
    runs = sorted((CHECKOUT / "results" / "cifar10-22-12").glob("*/"))
    tables = [run / "loss+perf_cpu.txt" for run in runs if run.is_dir()]
    assert len(tables) == 3
    for a, b in itertools.combinations(tables, 2):
        part = curve_part(a, b)
        assert part.verdict == findings.SAME, (a, b, part.headline)


def test_the_kept_calibration_is_what_the_comparison_gives(tmp_path):
    kept = CHECKOUT / "results" / "calibration"
    shutil.copy(str(kept / "runs.tsv"), str(tmp_path))
    result = run_python(CHECKOUT / "scripts" / "calibration.py", "--out", tmp_path)
    assert result.code == 0, result
    assert result.out == (kept / "table.md").read_text()
    rates = {}
    for line in result.out.splitlines():
        name = line.strip("| ").partition(" |")[0]
        of_line = [int(x) / int(n) for x, n in re.findall(r"(\d+) of (\d+)", line)]
        rates[name] = rates.get(name, []) + of_line
    for name, of_fault in rates.items():
        if name.startswith("none"):
            assert max(of_fault) <= 0.05, name
        elif of_fault:  # by the references or by one seed
            assert max(of_fault) >= 0.9, name
    assert len([name for name, of_fault in rates.items() if of_fault]) == 8


def test_an_offset_of_the_last_epochs_is_found(tmp_path):
    def table(name, seed, offset):
        stream = np.random.RandomState(seed)
        rows = ["epoch\tglobal_step\tlearning_rate\ttest_error"]
        for epoch in range(1, 301):
            rate, noise, error = (0.1, 0.03, 0.12) if epoch <= 150 else (0.01, 0.0015, 0.0465)
            error += stream.normal(0, noise) + (offset if epoch > 150 else 0)
            rows.append("{}\t{}\t{}\t{:.4f}".format(epoch, 782 * epoch, rate, error))
        (tmp_path / name).write_text("\n".join(rows))
        return tmp_path / name

    a = table("loss+perf_a.txt", 0, 0)
    assert curve_part(a, table("loss+perf_b.txt", 1, 0)).verdict == findings.SAME
    assert curve_part(a, table("loss+perf_c.txt", 2, 0.015)).verdict == findings.DIFFERENT


def test_too_few_epochs_are_not_judged_by_their_spread(tmp_path):
    a = write_table(tmp_path / "loss+perf_a.txt", [0.5, 0.4])
    b = write_table(tmp_path / "loss+perf_b.txt", [0.6, 0.3])
    part = curve_part(a, b)
    assert part.verdict == findings.REPORTED
    assert "give no spread" in part.headline


def test_a_loss_that_is_not_a_number_is_different(tmp_path):
    a = write_table(tmp_path / "loss+perf_a.txt", noisy(0))
    b = write_table(tmp_path / "loss+perf_b.txt", noisy(0), [0.1] * 59 + [math.nan])
    assert curve_part(a, b).verdict == findings.DIFFERENT


def test_tables_of_other_codes_are_read(run, tmp_path):
    rows = read_curves(str(run / "loss+perf_cpu.txt"))
    assert curve_part(run / "loss+perf_cpu.txt", run / "stats.json").verdict == findings.SAME
    log = tmp_path / "loss+perf_gpu.txt"
    log.write_text(
        "[0803 10:00:00 @base.py:285] Epoch 1 (global_step 782) finished, "
        "time:1 minute 10 seconds.\n"
        "[0803 10:00:01 @monitor.py:467] cross_entropy_loss: 1.25\n"
        "[0803 10:00:01 @monitor.py:467] val_error: 0.4321\n"
        "[0803 10:01:01 @base.py:285] Epoch 2 (global_step 1564) finished, time:59.5 seconds.\n"
        "[0803 10:01:01 @monitor.py:467] val_error: 0.3\n"
    )
    first, second = read_curves(str(log))
    assert first == {"epoch": 1, "global_step": 782, "epoch_seconds": 70, "train_loss": 1.25,
                     "test_error": 0.4321}  # fmt: skip
    assert (second["epoch_seconds"], second["test_error"]) == (59.5, 0.3)
    stats = tmp_path / "stats.json"
    entries = [{"epoch_num": 1, "global_step": 782, "val_error": 0.4, "train_error": 0.5}]
    stats.write_text(json.dumps(entries))
    assert read_curves(str(stats))[0]["test_error"] == 0.4
    assert len(rows) == 5


def test_a_folder_of_two_tables_is_ambiguous(run, tmp_path):
    for platform in ("gpu", "npu"):
        shutil.copy(
            str(run / "loss+perf_cpu.txt"), str(tmp_path / "loss+perf_{}.txt".format(platform))
        )
    with pytest.raises(UserError, match="loss.perf_gpu.txt, loss.perf_npu.txt; accepted: one"):
        sources.find(str(tmp_path))


def test_the_run_in_a_folder_of_logs_is_found(run, tmp_path):
    """ModelZoo's scripts leave the run directory beside their logs."""
    shutil.copytree(str(run), str(tmp_path / "run-1"))
    (tmp_path / "train_0.log").write_text("a log\n")
    assert sources.find(str(tmp_path)).path == str(tmp_path / "run-1")
    shutil.copytree(str(run), str(tmp_path / "run-2"))
    with pytest.raises(UserError, match="run-1, run-2; accepted: one of them"):
        sources.find(str(tmp_path))


# Activations -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dump(run):
    out = run / "activations.npz"
    result = run_python(ACTIVATIONS, run / "model-0", "--images", "6", "--out", out, "--gradients")
    assert result.code == 0, result
    yield out
    out.unlink()


def test_every_layer_and_gradient_is_dumped(run, dump):
    with np.load(str(dump)) as arrays:
        names = [name for name in arrays.files if name != "about"]
        shapes = {name: arrays[name].shape for name in names}
    assert shapes["inference/conv0"] == (6, 32, 32, 24)
    assert shapes["training/linear"] == (6, 10)
    assert "inference/block3/layer0/bn1" in names
    assert names.index("inference/conv0") < names.index("inference/linear")
    trainable = [
        name for name in read_arrays(str(run / "model-0"))
        if name.endswith(("/W", "/b", "/gamma", "/beta"))
    ]  # fmt: skip
    assert {"gradient/" + name for name in trainable} <= set(names)


def spoil_arrays(source, target, change):
    with np.load(str(source)) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    change(kept)
    np.savez(str(target), **kept)
    return target


def activation_part(a, b):
    found = sources.find(str(a)), sources.find(str(b))
    return compare_activation_files(*found, findings.Thresholds())


def test_the_first_layer_that_goes_apart_is_named(dump, tmp_path):
    assert activation_part(dump, dump).verdict == findings.SAME
    layers = ["inference/block2/layer0/conv1", "inference/transition2/conv1"]

    def disturb(arrays):
        for name in layers:
            arrays[name] = arrays[name][::-1]

    part = activation_part(dump, spoil_arrays(dump, tmp_path / "b.npz", disturb))
    assert part.verdict == findings.DIFFERENT
    assert part.data["first"] == layers[0]


def test_a_gradient_of_rounding_alone_has_no_direction(dump, tmp_path):
    def noise(seed):
        def change(arrays):
            stream = np.random.RandomState(seed)
            arrays["gradient/nothing"] = stream.normal(0, 1e-9, 30)

        return change

    dumps = [spoil_arrays(dump, tmp_path / "{}.npz".format(i), noise(i)) for i in (0, 1)]
    part = activation_part(*dumps)
    assert part.verdict == findings.SAME
    assert "rounding alone" in " ".join(part.lines)


@pytest.mark.parametrize("about", ["[1, 2]", "3", "no json"])
def test_a_dump_that_is_none_is_refused(dump, tmp_path, about):
    def spoil(arrays):
        arrays["about"] = np.array(about)

    with pytest.raises(UserError, match="activations"):
        activation_part(dump, spoil_arrays(dump, tmp_path / "b.npz", spoil))


def test_activations_of_other_weights_are_only_reported(dump, tmp_path):
    def others(arrays):
        about = json.loads(str(arrays["about"]))
        arrays["about"] = np.array(json.dumps(dict(about, weights="others")))
        arrays["inference/linear"] = -arrays["inference/linear"]

    part = activation_part(dump, spoil_arrays(dump, tmp_path / "b.npz", others))
    assert part.verdict == findings.REPORTED
    assert "weights" in part.judged_by


# Mistakes on the command line -------------------------------------------------------------------


def test_mistakes(run, tmp_path):
    assert_refused(run_python(COMPARE, run, tmp_path / "absent"), "absent")
    (tmp_path / "empty").mkdir()
    assert_refused(run_python(COMPARE, run, tmp_path / "empty"), "empty", "nothing to compare")
    (tmp_path / "notes.md").write_text("x")
    assert_refused(run_python(COMPARE, run, tmp_path / "notes.md"), "notes.md", "unknown kind")
    assert_refused(run_python(COMPARE, run, run, "--html", tmp_path / "no" / "r"), "--html")
    table, graph = run / "loss+perf_cpu.txt", run / "graph.pbtxt"
    assert_refused(run_python(COMPARE, table, graph), "nothing to decide by")
    (tmp_path / "loss+perf_x.txt").write_text("nothing here\n")
    assert_refused(run_python(COMPARE, table, tmp_path / "loss+perf_x.txt"), "no epoch")
    (tmp_path / "a.npz").write_text("nothing here\n")
    assert_refused(run_python(COMPARE, tmp_path / "a.npz", tmp_path / "a.npz"), "a.npz")
    assert_refused(
        run_python(ACTIVATIONS, run, "--images", "9999", "--out", tmp_path / "a.npz"), "9999"
    )
