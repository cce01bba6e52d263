"""scripts/predict.py: checkpoints and exports, images of all kinds, and what is wrong with some."""

import contextlib
import json
import os
import shutil
import struct
import sys
import zlib

import cv2
import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python, write_binary_layout

import cifar_data
import imagenet_data
from evaluation.image_files import find_images
from evaluation.predictions import as_probabilities, softmax
from folder_data import fit, read_image
from sparsenet.errors import UserError
from sparsenet.known_data import CLASS_NAMES

PREDICT = CHECKOUT / "scripts" / "predict.py"
EVALUATE = CHECKOUT / "scripts" / "evaluate.py"

modern_only = pytest.mark.skipif(
    sys.version_info < (3, 10), reason="Keras 3 and ONNX Runtime run on the modern stack"
)


def predict(*arguments, **options):
    return run_python(PREDICT, *arguments, **options)


def write_image(path, image):
    """Write an RGB or greyscale image in the format of the path's ending."""
    is_coloured = image.ndim == 3 and image.shape[2] == 3
    encoded = cv2.imencode(path.suffix, image[..., ::-1] if is_coloured else image)[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.tobytes())


def smooth(height, width):
    """Return an image whose JPEG is close to it: uint8 [H, W, 3]."""
    small = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def png_chunk(kind, content):
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def write_bomb(path):
    """Write a PNG of 600 bytes that claims 100,000 x 100,000 pixels."""
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 100000, 100000, 8, 0, 0, 0, 0))
    data = png_chunk(b"IDAT", zlib.compress(bytes(10**5)))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + png_chunk(b"IEND", b""))


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """Return a folder with the first 40 test images of the digits."""
    folder = tmp_path_factory.mktemp("digits")
    for index, image in enumerate(cifar_data.load("digits", None).test.images[:40]):
        write_image(folder / "{:02}.png".format(index), image)
    return folder


# Images ------------------------------------------------------------------------------------------


def test_an_image_of_the_right_size_stays_as_it_is(tmp_path):
    image = np.random.RandomState(1).randint(0, 256, (32, 32, 3)).astype(np.uint8)
    for name in ("a.png", "ä.webp" if cv2.__version__ > "4.6" else "ä.png"):
        path = tmp_path / name
        flags = [cv2.IMWRITE_WEBP_QUALITY, 101] if path.suffix == ".webp" else []
        path.write_bytes(cv2.imencode(path.suffix, image[..., ::-1], flags)[1].tobytes())
        assert np.array_equal(read_image(str(path), 32), image)


def test_other_sizes_are_cut_to_a_square_and_resized_by_area():
    eight = np.random.RandomState(1).randint(0, 256, (8, 8, 3)).astype(np.uint8)
    assert np.array_equal(fit(eight, 32), eight.repeat(4, axis=0).repeat(4, axis=1))
    wide = np.zeros((64, 100, 3), np.uint8)
    wide[:, 18:82] = smooth(64, 64)
    means = wide[:, 18:82].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(fit(wide, 32) - means).max() <= 0.51
    assert np.array_equal(fit(wide.transpose(1, 0, 2), 32), fit(wide, 32).transpose(1, 0, 2))
    for height, width in ((500, 375), (20, 31)):
        image = smooth(height, width)
        assert np.array_equal(fit(image, 224), imagenet_data.center_crop(image))
    with pytest.raises(UserError, match="1000x9 pixels"):
        fit(smooth(9, 1000), 224)


def test_all_kinds_of_images_are_read(tmp_path):
    image = smooth(64, 64)
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    half = np.full((64, 64, 1), 128, np.uint8)
    for name, written, seen, tolerance in [
        ("a.jpg", image, image, 12),
        ("a.JPEG", image, image, 12),
        ("a.webp", image, image, 25),
        ("gray.png", gray, np.dstack([gray] * 3), 0),
        ("16-bit.png", gray.astype(np.uint16) * 257, np.dstack([gray] * 3), 1),
        ("alpha.png", np.dstack([image[..., ::-1], half]), image, 0),
    ]:
        write_image(tmp_path / name, written)
        found = read_image(str(tmp_path / name), 64).astype(int)
        assert np.abs(found - seen).max() <= tolerance, name


def test_folders_are_searched_in_order_and_without_hidden_files(tmp_path):
    images = ["B/2.png", "a.webp", "b.JPG", "c/1.jpeg", "c/d/1.png"]
    left_out = [".a.png", "._b.png", ".cache/a.png", "notes.txt", "c/data.json"]
    for name in images + left_out:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found, errors = find_images([str(tmp_path), str(tmp_path / "notes.txt")])
    names = [os.path.relpath(path, str(tmp_path)) for path in found]
    assert names == ["a.webp", "b.JPG", "B/2.png", "c/1.jpeg", "c/d/1.png", "notes.txt"]
    assert errors == []
    found, (error,) = find_images([str(tmp_path / "none")])
    assert found == [] and "none: there is no such file" in str(error)


# Checkpoints -------------------------------------------------------------------------------------


def predictions_of(result):
    """Return paths and probabilities [N, classes] of the lines of JSON."""
    lines = [json.loads(line) for line in result.out.splitlines()]
    values = np.zeros((len(lines), len(lines[0]["predictions"])))
    for row, line in zip(values, lines):
        for each in line["predictions"]:
            row[each["label"]] = each["probability"]
            assert each["class"] in (None, str(each["label"]))
        ordered = [each["probability"] for each in line["predictions"]]
        assert ordered == sorted(ordered, reverse=True)
    return [line["image"] for line in lines], values


def expected_of(model, tmp_path):
    """Return the probabilities that scripts/evaluate.py finds for the first 40 test images."""
    assert run_python(EVALUATE, model, "--logits", tmp_path / "logits.npz").code == 0
    return softmax(np.load(str(tmp_path / "logits.npz"))["logits"][:40])


def test_a_run_predicts_what_it_is_tested_with(finished_run, digits, tmp_path):
    result = predict(finished_run, digits, "--json", "--top", "10")
    assert (result.code, result.err) == (0, "")
    paths, found = predictions_of(result)
    assert paths == ["{}/{:02}.png".format(digits, index) for index in range(40)]
    np.testing.assert_allclose(found, expected_of(finished_run, tmp_path), atol=1e-6)


# A program that runs a script, as if neither TensorFlow nor tensorpack were installed.
WITHOUT_TENSORFLOW = """
import importlib.machinery, os, runpy, sys

class Finder(importlib.machinery.PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.split(".")[0] not in ("tensorflow", "tensorpack", "tf_keras"):
            return super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder
sys.argv[:] = sys.argv[1:]
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@modern_only
def test_keras_predicts_without_tensorflow(finished_run, digits, tmp_path):
    """As on a machine that has Keras on JAX alone: the same probabilities, and the same test."""
    convert = CHECKOUT / "scripts" / "convert.py"
    assert run_python(convert, finished_run, tmp_path / "model-3.npz").code == 0
    shutil.copy(str(finished_run / "run.json"), str(tmp_path))
    result = run_python(
        "-c", WITHOUT_TENSORFLOW, PREDICT, tmp_path, digits, "--json", "--top", "10"
    )
    assert (result.code, result.err) == (0, "")
    expected = expected_of(finished_run, tmp_path)
    np.testing.assert_allclose(predictions_of(result)[1], expected, atol=1e-6)
    result = run_python(
        "-c", WITHOUT_TENSORFLOW, EVALUATE, tmp_path, "--logits", tmp_path / "again.npz"
    )
    assert (result.code, result.err) == (0, ""), result
    again = np.load(str(tmp_path / "again.npz"))["logits"]
    np.testing.assert_allclose(softmax(again[:40]), expected, atol=1e-6)


@modern_only
def test_a_keras_file_predicts_what_its_checkpoint_does(finished_run, digits, tmp_path):
    """Whether it normalises images itself, and returns logits, or not."""
    convert = CHECKOUT / "scripts" / "convert.py"
    for flags in (["--with_preprocessing", "--logits"], []):
        assert run_python(convert, finished_run, tmp_path / "m.keras", *flags).code == 0
        result = predict(tmp_path / "m.keras", digits, "--json", "--top", "10")
        assert result.code == 0, result
        expected = expected_of(tmp_path / "m.keras", tmp_path)
        np.testing.assert_allclose(predictions_of(result)[1], expected, atol=1e-5)


# What is printed and what is refused -------------------------------------------------------------


def test_flags_may_stand_between_images(finished_run, digits):
    result = predict(finished_run, digits / "03.png", "--top", "2", digits / "01.png")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[::2] == [str(digits / "03.png"), str(digits / "01.png")]
    for line in lines[1::2]:
        percents = [part.split() for part in line.split(",")]
        assert len(percents) == 2 and all(part[0].endswith("%") for part in percents)
    result = predict(finished_run, digits)
    assert all(len(line) <= 80 for line in result.out.splitlines()[1::2])


def test_bad_images_cost_a_line_each_and_the_others_are_predicted(finished_run, digits, tmp_path):
    write_image(tmp_path / "good.png", smooth(60, 50))
    for ending in (".png", ".jpg", ".webp"):
        content = cv2.imencode(ending, np.random.RandomState(0).randint(0, 256, (90, 90, 3)))[1]
        (tmp_path / ("cut" + ending)).write_bytes(content.tobytes()[: len(content) // 2])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("no image")
    write_bomb(tmp_path / "bomb.png")
    (tmp_path / "folder").mkdir()
    missing = ["none.png", "folder"]
    result = predict(
        finished_run, tmp_path, *[tmp_path / name for name in missing], digits / "00.png"
    )
    assert result.code == 2
    bad = missing + ["bomb.png", "cut.jpg", "cut.png", "cut.webp", "empty.png", "text.jpg"]
    lines = result.err.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["error", str(tmp_path / name)] for name in bad
    ]
    good = [str(tmp_path / "good.png"), str(digits / "00.png")]
    assert result.out.splitlines()[::2] == good
    result = predict(tmp_path / "no model is looked for", tmp_path / "none.png")
    assert_refused(result, "none.png: there is no such file", "JPEG, PNG, WebP")


def test_mistakes(finished_run, digits, tmp_path):
    image = digits / "00.png"
    assert_refused(predict(finished_run), "IMAGE")
    assert_refused(predict(finished_run, image, "--top", "11"), "--top 11", "1 to 10")
    assert_refused(predict(finished_run, image, "--top", "0"), "--top", "at least 1")
    assert_refused(predict(finished_run, image, "--depth", "7"), "--depth 7", "run.json")
    assert_refused(predict(tmp_path / "none", image), "none does not exist")
    assert_refused(predict(tmp_path, image), "holds no checkpoint")
    assert_refused(predict(image, image), "00.png")
    (tmp_path / "x.pb").write_text("no graph")
    assert_refused(predict(tmp_path / "x.pb", image), "x.pb")
    network = ["--recipe", "digits", "--depth", "10"]
    shutil.copy(str(finished_run / "model-15.index"), str(tmp_path))
    shutil.copy(str(finished_run / "model-15.data-00000-of-00001"), str(tmp_path))
    assert_refused(predict(tmp_path / "model-15", image, *network), "does not fit the network")


# Exports -----------------------------------------------------------------------------------------


def write_onnx(path, dtype, classes=10, with_softmax=False):
    """Write a network that has mean colours for logits, and as many classes as are asked for."""
    from onnx import TensorProto, helper, save

    kind = TensorProto.UINT8 if dtype == "uint8" else TensorProto.FLOAT
    weights = np.linspace(-0.02, 0.02, 3 * classes).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["images"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "w"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    output = "probabilities" if with_softmax else "logits"
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", kind, ["n", 32, 32, 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["n", classes])],
        [helper.make_tensor("w", TensorProto.FLOAT, [3, classes], weights)],
    )
    imports = [helper.make_opsetid("", 13)]
    save(helper.make_model(graph, opset_imports=imports, ir_version=8), str(path))
    return weights.reshape(3, classes)


@modern_only
def test_an_export_without_a_record_predicts_by_numbers(digits, tmp_path):
    images = cifar_data.load("digits", None).test.images[:40]
    for with_softmax in (False, True):
        path = tmp_path / "{}.onnx".format(with_softmax)
        weights = write_onnx(path, "uint8", with_softmax=with_softmax)
        result = predict(path, digits, "--json", "--top", "10")
        assert (result.code, result.err) == (0, "")
        assert '"class": null' in result.out
        expected = softmax(images.mean(axis=(1, 2)) @ weights)
        np.testing.assert_allclose(predictions_of(result)[1], expected, atol=1e-5)
    assert "class 9" in predict(path, digits / "00.png").out
    # Flags say what its classes are.
    assert "truck" in predict(path, digits / "00.png", "--dataset", "c10").out
    assert_refused(predict(path, digits / "00.png", "--dataset", "c100"), "10 classes", "100")


@modern_only
def test_an_export_of_normalised_images_needs_to_know_how(digits, tmp_path):
    images = cifar_data.load("digits", None).test.images[:40]
    path = tmp_path / "x.onnx"
    weights = write_onnx(path, "float32")
    image = digits / "00.png"
    assert_refused(predict(path, image), "x.onnx", "normalised", "x.onnx.json", "--recipe")
    write_binary_layout(tmp_path / "data")
    result = predict(path, image, "--json", "--dataset", "c10", "--dataset_dir", tmp_path / "data")
    assert result.code == 0 and "note: 20 test images" in result.err
    assert json.loads(result.out)["predictions"][0]["class"] in CLASS_NAMES["c10"]
    result = predict(path, digits, "--json", "--top", "10", "--recipe", "digits")
    assert result.code == 0, result
    constants = cifar_data.load("digits", None).preprocessing("channel", "black")
    scaled = (images - np.float32(constants["mean"])) / np.float32(constants["std"])
    expected = softmax(scaled.mean(axis=(1, 2)) @ weights)
    np.testing.assert_allclose(predictions_of(result)[1], expected, atol=1e-5)


def test_only_rows_that_sum_to_1_are_taken_for_probabilities():
    rows = np.array([[0.25, 0.75], [1.0, 0.0]])
    assert np.array_equal(as_probabilities(rows, None), rows)
    assert np.array_equal(as_probabilities(rows, "logits"), softmax(rows))
    for logits in (rows * 2, np.array([[2.0, -1.0]])):
        assert np.array_equal(as_probabilities(logits, None), softmax(logits))


@modern_only
@pytest.mark.skipif(sys.platform == "win32", reason="it has no such terminals")
def test_a_terminal_shows_a_bar_for_many_images_only(digits, tmp_path):
    import fcntl
    import pty
    import subprocess
    import termios

    write_onnx(tmp_path / "x.onnx", "uint8")
    for folders, is_shown in (([digits], False), ([digits] * 3, True)):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        command = [sys.executable, str(PREDICT), str(tmp_path / "x.onnx"), "--json", "--top=1"]
        process = subprocess.Popen(
            command + [str(each) for each in folders], stdout=subprocess.PIPE, stderr=theirs
        )
        os.close(theirs)
        shown = read_terminal(ours)
        out, _ = process.communicate()
        os.close(ours)
        assert process.returncode == 0 and len(out.splitlines()) == 40 * len(folders)
        assert (b"120/120" in shown) == is_shown, shown


def read_terminal(descriptor):
    """Return all that a terminal was sent, until no process has it any longer."""
    parts = [b""]
    with contextlib.suppress(OSError):
        while True:
            parts.append(os.read(descriptor, 1 << 16))
    return b"".join(parts)
