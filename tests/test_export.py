"""scripts/export.py: each export, opened in its own runtime, gives the logits of the graph."""

import dataclasses
import json
import os
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python

import cifar_data
from sparsenet.errors import UserError
from sparsenet.initial_weights import initial_weights
from sparsenet.published import RECIPES

if sys.version_info < (3, 10):
    pytest.skip("Keras 3 needs Python 3.10", allow_module_level=True)

import onnx

from evaluation import exports

EXPORT = CHECKOUT / "scripts" / "export.py"
EVALUATE = CHECKOUT / "scripts" / "evaluate.py"
ON_TENSORFLOW = ("saved_model", "onnx", "tflite")


def export(*arguments):
    """Run the script; in a process of its own where it needs Keras on TensorFlow."""
    return run_python(EXPORT, *arguments, alone=bool({*ON_TENSORFLOW} & {*arguments}))


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def graph_logits(finished_run, tmp_path_factory):
    """Return the logits that the finished run's graph gives the test images."""
    path = tmp_path_factory.mktemp("graph") / "logits.npz"
    assert run_python(EVALUATE, finished_run, "--logits", path).code == 0
    return np.load(str(path))["logits"]


@pytest.fixture(scope="module")
def onnx_file(finished_run, tmp_path_factory):
    """Return the ONNX file of the finished run, with the normalisation inside."""
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    assert_exported(export(finished_run, "--format", "onnx", "--out", path), path)
    return path


def assert_exported(result, path):
    """Assert that an export was written, with its record and nothing else, and what was said."""
    assert (result.code, result.err) == (0, ""), result
    lines = result.out.splitlines()
    assert lines[0] == str(path)
    assert lines[-1].startswith("checked on 100 test images: within ")
    assert all(len(line) <= 80 for line in lines[1:])
    files = sorted(each.name for each in path.parent.iterdir())
    assert files == [path.name, path.name + ".json"]


def assert_same_logits(path, graph_logits):
    """Assert that an export gives the logits of the graph, for one image and for several."""
    opened = exports.open_export(str(path))
    assert opened.shape == (32, 32, 3)
    images = cifar_data.load("digits", None).test.images[:7]
    record = json.loads(path.with_name(path.name + ".json").read_text())
    if record["model"]["input"] == "normalised images":
        mean, std = (np.float32(record["preprocessing"][name]) for name in ("mean", "std"))
        images = (images - mean) / std
    assert opened.input_dtype == images.dtype
    for count in (7, 1):
        found = opened.predict(images[:count])
        assert found.dtype == np.float32
        assert relative(found, graph_logits[:count]) < 1e-5


@pytest.mark.parametrize(
    "format, flags",
    [
        ("tflite", ["--without_preprocessing"]),
        ("keras", []),
        ("keras", ["--without_preprocessing"]),
        ("frozen", []),
        ("frozen", ["--without_preprocessing"]),
    ],
)
def test_an_export_gives_the_logits_of_the_graph(
    finished_run, graph_logits, tmp_path, format, flags
):
    out = tmp_path / ("model" + exports.ENDINGS[format])
    assert_exported(export(finished_run, "--format", format, "--out", out, *flags), out)
    assert exports.format_of(str(out)) == format
    assert_same_logits(out, graph_logits)


def test_an_onnx_file_has_the_names_of_the_layers(onnx_file, graph_logits):
    assert_same_logits(onnx_file, graph_logits)
    onnx.checker.check_model(str(onnx_file), full_check=True)
    model = onnx.load(str(onnx_file))
    for tensors, name, shape in [
        (model.graph.input, "images", ["batch", 32, 32, 3]),
        (model.graph.output, "logits", ["batch", 10]),
    ]:
        (tensor,) = tensors
        dimensions = tensor.type.tensor_type.shape.dim
        assert (tensor.name, [d.dim_param or d.dim_value for d in dimensions]) == (name, shape)
    record = json.loads(onnx_file.with_name("model.onnx.json").read_text())
    assert record["model"]["opset"] == model.opset_import[0].version == 17
    assert record["classes"][3] == "3"
    layers = {name for name in initial_weights(RECIPES["digits"].config, 0) if name.endswith("/W")}
    convolutions = {node.name for node in model.graph.node if node.op_type == "Conv"}
    # The run has one layer a block, the recipe has four.
    assert convolutions < {name[: -len("/W")] for name in layers}
    assert {"conv0", "block1/layer0/conv1", "transition2/conv1"} < convolutions
    names = [node.name for node in model.graph.node]
    assert len(set(names)) == len(names)
    assert {"normalize/Sub", "block3/layer0/bn1/Mul", "block3/layer0/bn1/relu"} < set(names)
    assert {"conv0/W", "linear/W"} < {each.name for each in model.graph.initializer}
    everything = [*names, *(each.name for each in model.graph.initializer)]
    assert not [name for name in everything if "Partitioned" in name or ":" in name]


def test_a_saved_model_needs_tensorflow_alone(finished_run, graph_logits, tmp_path):
    """Its signature has names, in a process that does not find this project."""
    out = tmp_path / "model"
    command = [finished_run, "--format", "saved_model", "--out", out]
    assert_exported(export(*command), out)
    assert_same_logits(out, graph_logits)
    program = (
        "import sys, tensorflow as tf;"
        "f = tf.saved_model.load(sys.argv[1]).signatures['serving_default'];"
        "print(f(images=tf.zeros([3, 32, 32, 3], tf.uint8))['logits'].shape)"
    )
    result = run_python("-c", program, out, cwd=tmp_path)
    assert (result.code, result.out) == (0, "(3, 10)\n"), result
    assert_refused(export(*command), "model exists")


@pytest.mark.slow
def test_networks_of_other_kinds_can_be_exported(tmp_path):
    places = {"PYTHONPATH": os.pathsep.join([str(CHECKOUT), str(EXPORT.parent)])}
    result = run_python(CHECKOUT / "tests" / "export_networks.py", tmp_path, env=places)
    assert result.code == 0, result


def test_the_data_are_not_needed(tmp_path):
    """Where their folder is not at hand, random images take their place, and a line says so."""
    config = dataclasses.replace(RECIPES["digits"].config, layers=(1, 1, 1))
    np.savez(str(tmp_path / "model.npz"), **initial_weights(config, 0))
    network = ["--recipe", "digits", "--depth", "7", "--dataset", "c10", "--format", "keras"]
    result = export(tmp_path / "model.npz", *network)
    assert result.code == 0, result
    assert result.out.startswith(str(tmp_path / "model.keras") + "\n")
    assert "checked on 100 random images (no data here)" in result.out
    result = export(tmp_path / "model.npz", *network, "--dataset_dir", tmp_path / "none")
    assert_refused(result, "none does not exist")
    # Which mean image belongs to the network, only the data say.
    network += ["--normalize", "pixel_mean"]
    assert_refused(export(tmp_path / "model.npz", *network), "pixel_mean", "--dataset_dir")
    result = export(tmp_path / "model.npz", *network, "--without_preprocessing")
    assert result.code == 0, result
    assert "checked on 100 normalised random images" in result.out


def test_a_wrong_export_is_not_kept(finished_run, tmp_path, monkeypatch):
    def open_changed(path):
        opened = open_export(path)
        return opened._replace(predict=lambda images: opened.predict(images) * np.float32(1.001))

    open_export = exports.open_export
    monkeypatch.setattr(exports, "open_export", open_changed)
    out = tmp_path / "model.keras"
    result = export(finished_run, "--format", "keras", "--out", out)
    assert result.code == 1
    assert result.err.startswith("error: {} was not written: its logits differ".format(out))
    assert result.err.count("\n") == 1
    assert "1.0e-03 of the largest; accepted: at most 0.0001" in result.err
    assert not list(tmp_path.iterdir())


def test_mistakes(finished_run, tmp_path, monkeypatch):
    for arguments, words in [
        ([finished_run], ["--format"]),
        ([finished_run, "--format", "caffe"], ["caffe", "tflite"]),
        ([finished_run, "--format", "keras", "--out", tmp_path / "x.onnx"], ["x.onnx", ".keras"]),
        ([finished_run, "--format", "keras", "--out", tmp_path / "no" / "x.keras"], ["folder"]),
        ([tmp_path / "none", "--format", "keras"], ["none does not exist"]),
        ([finished_run, "--format", "keras", "--depth", "7"], ["--depth 7", "run.json"]),
    ]:
        assert_refused(export(*arguments), *words)
    monkeypatch.setattr(exports.importlib.util, "find_spec", lambda name: None)
    result = run_python(EXPORT, finished_run, "--format", "onnx")
    assert_refused(result, "not installed", "pip install keras tensorflow tf2onnx onnx onnxruntime")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"neither the one nor the other", b"\x1c\0\0\0TFL3" * 9])
@pytest.mark.parametrize("name", ["x.onnx", "x.keras", "x.pb", "x.tflite", "folder"])
def test_damaged_exports_are_refused(tmp_path, name, content):
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
        (path / "saved_model.pb").write_bytes(content)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match="can't be read as"):
        exports.open_export(str(path))


def test_other_files_and_folders_are_no_exports(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"")
    for name, words in [("", "folder of a SavedModel"), ("x.txt", ".onnx"), ("x.onnx", "exist")]:
        with pytest.raises(UserError, match=words):
            exports.open_export(str(tmp_path / name))
