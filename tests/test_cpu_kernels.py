"""The fused layers of the CPU: the same numbers as TensorFlow's ops, and the same graph outside."""

import json
import os
import shutil
import sys

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT, SCHEDULE, TINY, assert_refused, launch, run_python

from platforms.cpu_kernels import build
from platforms.cpu_kernels.fuse import OPS, Fusion
from run_directory.checkpoints import read_arrays
from run_directory.settings import FUSED, STANDARD

EPSILON = 1e-5
CLOSE = 1e-5  # largest difference over largest value
CPU = ["--gpu", "none"]
ONE_STEP = [*CPU, "--max_epoch", "1", "--steps_per_epoch", "1"]
STEP = ["--recipe", "digits", "--depth", "7", "--fake", "--batch_size", "4", *ONE_STEP]

try:
    FUSED_OPS = build.load()
    WHY_NOT = ""
except build.Unavailable as unavailable:
    WHY_NOT = str(unavailable)
needs_ops = pytest.mark.skipif(bool(WHY_NOT), reason="no fused ops: " + WHY_NOT)


def difference(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def layer_of_ops(maps, gamma, beta, kernel, relu, is_training, moments):
    """Build a layer of the standard ops, as the model does."""
    x = tf.concat(maps, axis=3) if len(maps) > 1 else maps[0]
    options = {} if is_training else {"mean": moments[0], "variance": moments[1]}
    y = tf.nn.fused_batch_norm(
        x, gamma, beta, epsilon=EPSILON, is_training=is_training, **options
    )  # fmt: skip
    active = tf.nn.relu(y[0]) if relu else y[0]
    return tf.identity(tf.nn.conv2d(active, kernel, 1, "SAME")), y[1], y[2]


def values_of_a_layer(shape, channels, out_channels, size, relu, is_training, offset, fusion):
    """Return what a layer and its gradients come to, and how many layers were fused."""
    draws = np.random.RandomState(1)
    total = sum(channels)
    normal = lambda *shape: draws.standard_normal(shape).astype(np.float32)  # noqa: E731
    with tf.Graph().as_default() as graph:
        maps = [tf.constant(offset + 2 * normal(*shape, each)) for each in channels]
        weights = [1 + normal(total) / 4, normal(total), normal(size, size, total, out_channels)]
        weights = [tf.constant(each) for each in weights]
        moments = [tf.constant(offset + normal(total)), tf.constant(1 + normal(total) ** 2)]
        outputs = layer_of_ops(maps, *weights, relu, is_training, moments)
        if is_training:
            dy = tf.constant(normal(*shape, out_channels))
            gradients = tf.gradients(outputs[0], [*maps, *weights], dy, gate_gradients=True)
            outputs = [*outputs, *map(tf.identity, gradients)]
        count = 0 if fusion is None else fusion.apply(graph)
        outputs = [outputs[0], *outputs[1:]] if is_training else [outputs[0]]
        with tf.Session() as session:
            return session.run(list(outputs)), count


@needs_ops
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize(
    "shape, channels, out_channels, size, offset",
    [
        ((4, 8, 8), [12], 12, 3, 0),
        ((3, 32, 32), [24, 12, 12], 12, 3, 1),
        ((5, 7, 9), [5, 3, 16], 7, 3, 1),  # no multiple of a vector anywhere
        ((2, 16, 16), [24, 24], 96, 1, 1),
        ((20, 4, 4), [48, 100], 30, 5, -1),
        ((2, 8, 8), [2] * 20, 3, 3, 0),  # more maps than a gradient of slices has
        ((16, 1, 1), [6, 2], 4, 3, 1),
        ((2, 8, 8), [8], 8, 2, 0),  # an even kernel is padded more at the end
        ((2, 3, 70), [33], 17, 3, 100),  # far from zero
    ],
)
def test_a_layer_is_the_same(shape, channels, out_channels, size, offset, relu, is_training):
    what = (shape, channels, out_channels, size, relu, is_training, offset)
    standard, _ = values_of_a_layer(*what, fusion=None)
    fused, count = values_of_a_layer(*what, fusion=Fusion(FUSED_OPS))
    assert count == 1
    # Of numbers far from zero, both round the variance.
    close = CLOSE if abs(offset) < 10 else 1e-3
    assert max(map(difference, fused, standard)) < close


@needs_ops
def test_nan_stays_nan():
    draws = np.random.RandomState(0)
    with tf.Graph().as_default() as graph:
        x = draws.standard_normal((2, 4, 4, 3)).astype(np.float32)
        x[0, 1, 1, 1] = np.nan
        weights = [np.ones(3, np.float32), np.zeros(3, np.float32)]
        moments = [np.zeros(3, np.float32), np.ones(3, np.float32)]
        kernel = draws.standard_normal((3, 3, 3, 5)).astype(np.float32)
        y, _, _ = layer_of_ops([tf.constant(x)], *weights, kernel, True, False, moments)
        assert Fusion(FUSED_OPS).apply(graph) == 1
        with tf.Session() as session:
            found = np.isnan(session.run(y))
    assert found[0, :3, :3].all() and not found[1].any() and not found[0, 3].any()


# What is no layer ---------------------------------------------------------------------------


def a_stride(x, norm, relu):
    return tf.nn.conv2d(relu(norm(x)), tf.ones([3, 3, 4, 4]), 2, "SAME")


def valid_padding(x, norm, relu):
    return tf.nn.conv2d(relu(norm(x)), tf.ones([3, 3, 4, 4]), 1, "VALID")


def two_readers(x, norm, relu):
    active = relu(norm(x))
    one, other = (tf.nn.conv2d(active, tf.ones([3, 3, 4, 4]) * i, 1, "SAME") for i in (1, 2))
    return one + other


def no_normalisation(x, norm, relu):
    return tf.nn.conv2d(relu(x), tf.ones([3, 3, 4, 4]), 1, "SAME")


def another_activation(x, norm, relu):
    return tf.nn.conv2d(tf.nn.elu(norm(x)), tf.ones([3, 3, 4, 4]), 1, "SAME")


def read_twice_in_part(x, norm, relu):
    normal = norm(x)
    y = tf.nn.conv2d(relu(normal), tf.ones([3, 3, 4, 4]), 1, "SAME")
    return y + normal


@needs_ops
@pytest.mark.parametrize(
    "build_graph",
    [
        a_stride,
        valid_padding,
        two_readers,
        no_normalisation,
        another_activation,
        read_twice_in_part,
    ],
)
def test_what_is_no_layer_is_left_alone(build_graph):
    def gradient(fusion):
        with tf.Graph().as_default() as graph:
            draws = np.random.RandomState(3).standard_normal((2, 8, 8, 4))
            x = tf.constant(draws.astype(np.float32))
            norm = lambda x: tf.nn.fused_batch_norm(x, tf.ones([4]), tf.zeros([4]))[0]  # noqa: E731
            y = build_graph(x, norm, tf.nn.relu)
            outputs = [y, *map(tf.identity, tf.gradients(y**2, [x], gate_gradients=True))]
            if fusion is not None:
                assert fusion.apply(graph) == 0
            with tf.Session() as session:
                return session.run(outputs)

    for found, standard in zip(gradient(Fusion(FUSED_OPS)), gradient(None)):
        assert np.array_equal(found, standard)


# Runs ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def one_step(tmp_path_factory):
    """Run directories of one step with either kernels.

    Of few random images, so that no value is so near to zero that its rounding decides on ReLU.
    """
    folder = tmp_path_factory.mktemp("kernels")
    for kernels in (FUSED, STANDARD):
        result = launch(
            *STEP, "--log_dir", folder, "--name", kernels, "--kernels", kernels,
        )  # fmt: skip
        assert result.code == 0, result
    return folder


@needs_ops
@pytest.mark.trains
def test_a_step_is_the_same(one_step):
    fused, standard = (read_arrays(str(one_step / each / "model-1")) for each in (FUSED, STANDARD))
    assert set(fused) == set(standard)
    start = read_arrays(str(one_step / STANDARD / "model-0"))
    floats = [name for name in standard if standard[name].dtype == np.float32]
    trained = [name for name in floats if name + "/Momentum" in standard]
    assert trained and all(np.any(standard[name] != start[name]) for name in trained)
    # Those of the optimizer are the gradients.
    compared = [name for name in floats if np.any(standard[name])]
    assert set(trained) < set(compared)
    # On an AMD EPYC with AVX2, two sums over all pixels, the gradients of beta, are 1.1e-5 apart.
    assert max(difference(fused[name], standard[name]) for name in compared) < 2 * CLOSE


@needs_ops
@pytest.mark.trains
def test_the_graph_keeps_the_standard_ops(one_step):
    fused, standard = ((one_step / each / "graph.pbtxt").read_bytes() for each in (FUSED, STANDARD))
    assert fused == standard
    assert not any(op.encode() in fused for op in OPS)


@needs_ops
@pytest.mark.trains
def test_the_kernels_are_recorded_and_a_known_reason(one_step):
    for kernels in (FUSED, STANDARD):
        record = json.loads((one_step / kernels / "run.json").read_text())
        assert record["cpu"] == {"kernels": kernels}
    result = run_python(CHECKOUT / "scripts" / "compare.py", one_step / FUSED, one_step / STANDARD)
    assert "cpu.kernels: fused | standard" in result.out, result


@needs_ops
@pytest.mark.trains
def test_a_resumed_run_keeps_its_kernels(one_step, tmp_path):
    shutil.copytree(str(one_step / STANDARD), str(tmp_path / "run"))
    result = launch("--resume", tmp_path / "run", "--max_epoch", "2", *CPU)
    assert result.code == 0, result
    assert "kernels          standard" in result.out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["resumed"][0]["cpu"] == {"kernels": STANDARD}


@needs_ops
@pytest.mark.trains
def test_the_same_seed_gives_the_same_bits(tmp_path):
    for name in ("a", "b"):
        assert launch(*TINY, *SCHEDULE, *CPU, "--log_dir", tmp_path, "--name", name).code == 0
    newest = sorted((tmp_path / "a").glob("model-*.index"))[-1].name
    a, b = (read_arrays(str(tmp_path / name / newest[: -len(".index")])) for name in "ab")
    assert all(np.array_equal(a[name], b[name]) for name in a)


# Where there are none -----------------------------------------------------------------------


def environment(monkeypatch, tmp_path, **variables):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def test_without_a_compiler_the_standard_ones_compute(tmp_path, monkeypatch):
    environment(monkeypatch, tmp_path, CXX="no-such-compiler")
    flags = [*TINY, *ONE_STEP, "--log_dir", tmp_path]
    result = launch(*flags, "--name", "run")
    assert result.code == 0, result
    assert "kernels          standard" in result.out
    result = launch(*flags, "--name", "other", "--kernels", "fused")
    assert_refused(result, "--kernels standard")
    assert not (tmp_path / "other").exists()


@needs_ops
def test_what_can_not_be_compiled(tmp_path, monkeypatch):
    environment(monkeypatch, tmp_path)
    failing = tmp_path / "c++"
    failing.write_text("#!/bin/sh\necho 'ops.cc:1: error: no such thing' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    with pytest.raises(build.Unavailable, match="no such thing"):
        build.load()


@needs_ops
@pytest.mark.slow
def test_no_place_to_keep_what_is_compiled(tmp_path):
    (tmp_path / "cache").write_text("a file")
    program = "from platforms.cpu_kernels import build; print(bool(build.load().NormReluConv))"
    environment = dict(os.environ, XDG_CACHE_HOME=str(tmp_path / "cache"))
    result = run_python("-c", program, env=environment)
    assert result.out == "True\n", result


@pytest.mark.skipif(sys.version_info >= (3, 8), reason="the modern stack may have them")
def test_the_legacy_stack_has_none():
    with pytest.raises(build.Unavailable, match="1.15"):
        build.load()


@pytest.mark.parametrize("script", ["main_npu.py", "scripts/train_keras.py"])
def test_kernels_elsewhere(script, tmp_path):
    if script.endswith("keras.py") and sys.version_info < (3, 8):
        pytest.skip("Keras 3 needs a later Python")
    result = run_python(CHECKOUT / script, *TINY, "--kernels", "fused", cwd=tmp_path)
    assert_refused(result, "main_gpu.py")
