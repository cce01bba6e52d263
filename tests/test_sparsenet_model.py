import dataclasses
import re

from common.tf_stack import tf

import numpy as np
import pytest
from graphs import PLAIN, Built, batch, disturbed_weights, graph_shapes, relative_difference
from tensorpack.tfutils.tower import TowerContext

from sparsenet.config import SparseNetConfig
from sparsenet.costs import parameters
from sparsenet.initial_weights import initial_value, initial_weights
from sparsenet.plan import variable_shapes
from sparsenet_model import CROSS_ENTROPY, INCORRECT, LOGITS, MOMENTUM, Dropout, SparseNet


def small(**fields):
    return SparseNetConfig(**dict({"layers": (4, 3, 2), "growth_rate": (4, 5, 6)}, **fields))


@pytest.mark.parametrize(
    "fields",
    [
        {"fetch": "dense"},
        {"fetch": "plain"},
        {"base": 3},
        {"unit": "bottleneck", "compression": 0.5},
        {"compression": 0.3},
        {"stem_channels": 7},
        {"layers": (1, 1, 1)},
        {"fetch": "nearest_farthest", "nearest": 1, "farthest": 2},
        {"fetch": "nearest_farthest", "nearest": 0, "farthest": 2},
        {
            "fetch": "channel_window",
            "nearest": 1,
            "farthest": 1,
            "layers": (5, 5, 5),
            "transition_slots": True,
            "growth_rate": (4, 4, 4),
        },
        {"bias": True, "attention": "liu_zeng"},
        {"attention": "se", "growth_rate": (16, 16, 16)},
        {"combine": "sum"},
        {"combine": "sum", "fetch": "dense", "unit": "residual_basic"},
        {"combine": "sum", "unit": "residual_bottleneck"},
        {"stem": "imagenet", "head": "map3x3", "layers": (1, 1, 1, 1), "growth_rate": (4, 4, 4, 4)},
    ],
)
def test_variants_have_the_variables_of_the_arithmetic(fields):
    config = small(**fields)
    shapes, trainable = graph_shapes(config)
    assert shapes == dict(variable_shapes(config))
    assert trainable == parameters(config)


def reference_logits(images, weights, config):
    """The network in inference form, in numpy, straight from the paper's description."""

    def bn_relu(x, scope):
        mean, variance = weights[scope + "/mean/EMA"], weights[scope + "/variance/EMA"]
        x = (x - mean) / np.sqrt(variance + 1e-5)
        return np.maximum(x * weights[scope + "/gamma"] + weights[scope + "/beta"], 0)

    def conv(x, scope):
        kernel = weights[scope + "/W"].astype(np.float64)
        side = kernel.shape[0]
        pad = side // 2
        padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)), "constant")
        height, width = x.shape[1:3]
        return sum(
            padded[:, i : i + height, j : j + width] @ kernel[i, j]
            for i in range(side)
            for j in range(side)
        )

    x = conv(images.astype(np.float64), "conv0")
    for block, layers in enumerate(config.layers, start=1):
        outputs = [x]
        for layer in range(layers + 1):
            offsets = [config.base**n for n in range(10) if config.base**n <= len(outputs)]
            x = np.concatenate([outputs[-offset] for offset in offsets], axis=3)
            if layer < layers:
                scope = "block{}/layer{}".format(block, layer)
                x = conv(bn_relu(x, scope + "/bn1"), scope + "/conv1")
                if config.unit == "bottleneck":
                    x = conv(bn_relu(x, scope + "/bn2"), scope + "/conv2")
                outputs.append(x)
        if block < len(config.layers):
            scope = "transition{}".format(block)
            x = conv(bn_relu(x, scope + "/bn1"), scope + "/conv1")
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
    features = bn_relu(x, "bn_last").mean(axis=(1, 2))
    return features @ weights["linear/W"] + weights["linear/b"]


@pytest.mark.parametrize("unit, compression, base", [("single", 1.0, 2), ("bottleneck", 0.5, 3)])
def test_logits_are_those_of_the_paper(unit, compression, base):
    """Layers, fetch order, transitions and head, against numpy in double precision."""
    config = small(unit=unit, compression=compression, base=base)
    weights = disturbed_weights(config)
    built = Built(config)
    built.load(weights)
    images, labels = batch()
    logits = built.run(LOGITS + ":0", images / 16, labels)
    expected = reference_logits((images / 16).astype(np.uint8), weights, config)
    assert relative_difference(logits, expected) < 1e-5


def test_normalisation_is_part_of_the_graph():
    images, labels = batch()
    normalization = {"mean": [100.0, 120.0, 140.0], "std": [50.0, 60.0, 70.0]}
    built = Built(small(), normalization=normalization)
    weights = initial_weights(small(), seed=0)
    expected = reference_logits((images - np.array(normalization["mean"]))
                                / normalization["std"], weights, small())  # fmt: skip
    assert relative_difference(built.run(LOGITS + ":0", images, labels), expected) < 1e-5
    pixel_mean = {"mean": images[0].tolist(), "std": 255.0}
    built = Built(small(), normalization=pixel_mean)
    expected = reference_logits((images - images[0].astype(float)) / 255, weights, small())
    assert relative_difference(built.run(LOGITS + ":0", images, labels), expected) < 1e-5


def test_loss_and_error_are_per_image():
    built = Built(small(), normalization={"mean": [128.0] * 3, "std": [64.0] * 3})
    images, labels = batch()
    logits, losses, incorrect, cost = built.run(
        [LOGITS + ":0", CROSS_ENTROPY + ":0", INCORRECT + ":0", built.cost], images, labels
    )
    logits = logits.astype(np.float64)
    log_sum = np.log(np.exp(logits).sum(axis=1))
    assert np.allclose(losses, log_sum - logits[np.arange(4), labels], rtol=1e-5)
    assert np.array_equal(incorrect, logits.argmax(axis=1) != labels)
    assert cost == pytest.approx(losses.mean(), rel=1e-6)


def test_weight_decay_acts_on_kernels_only():
    """Gradients with and without decay differ by decay * W on kernels and nowhere else."""
    images, labels = batch()
    decay = 0.01
    with_decay = Built(small(), is_training=True, weight_decay=decay)
    without = Built(small(), is_training=True, weight_decay=0.0)
    got = with_decay.run(with_decay.gradients, images, labels)
    base = without.run(without.gradients, images, labels)
    weights = initial_weights(small(), seed=0)
    for name in variable_shapes(small(), trainable_only=True):
        expected = base[name] + (decay * weights[name] if name.endswith("/W") else 0)
        assert relative_difference(got[name], expected) <= 1e-4, name
    kernel = "block1/layer0/conv1/W"
    assert relative_difference(got[kernel], base[kernel]) > 1e-3


def test_the_optimizer_is_nesterov_sgd():
    """One step from rest with gradient g moves a weight by -lr * (g + momentum * g)."""
    config = small()
    with tf.Graph().as_default():
        model = SparseNet(config, normalization=PLAIN, batch_size=2, learning_rate=0.5)
        x = tf.Variable(1.0)
        step = model.get_optimizer().minimize(3 * x)
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            session.run(step)
            assert session.run(x) == pytest.approx(1 - 0.5 * 3 * (1 + MOMENTUM))


def test_dropout_masks_are_a_function_of_seed_and_step():
    config = small(dropout=0.5)
    images, labels = batch()
    logits = LOGITS + ":0"
    built = Built(config, is_training=True)
    first, again, later = (built.run(logits, images, labels, step) for step in (1, 1, 2))
    assert np.array_equal(first, again)
    assert relative_difference(first, later) > 1e-2
    other_seed = Built(config, is_training=True, seed=1).run(logits, images, labels, 1)
    assert relative_difference(first, other_seed) > 1e-2


def test_dropout_follows_each_convolution_but_conv0():
    def masks(config):
        built = Built(config, is_training=True)
        return [op for op in built.graph.get_operations() if re.search("StatelessRandom", op.type)
                and "Uniform" in op.type]  # fmt: skip

    single = small(dropout=0.1, layers=(2, 2, 2))
    assert len(masks(single)) == 6 + 2  # layers, transitions
    assert len(masks(dataclasses.replace(single, unit="bottleneck"))) == 12 + 2


def test_every_worker_drops_by_masks_of_its_own():
    def masks(first_device):
        with tf.Graph().as_default(), TowerContext("", is_training=True):
            dropped = Dropout(0.5, 0, tf.constant(0), first_device)(tf.ones([1000]))
            with tf.Session() as session:
                return session.run(dropped)

    assert np.array_equal(masks(0), masks(0))
    assert not np.array_equal(masks(0), masks(1))


def test_dropout_keeps_the_mean_and_is_off_at_inference():
    images, labels = batch()
    off = Built(small(dropout=0.5)).run(LOGITS + ":0", images, labels)
    without = Built(small()).run(LOGITS + ":0", images, labels)
    assert np.array_equal(off, without)
    with tf.Graph().as_default(), TowerContext("", is_training=True), tf.Session() as session:
        dropped = session.run(Dropout(0.3, 0, tf.constant(0))(tf.ones([10000])))
    assert np.unique(dropped).tolist() == pytest.approx([0, 1 / 0.7])
    assert dropped.mean() == pytest.approx(1, abs=0.03)


def test_shapes_are_fixed():
    """Accelerators such as the NPU want every shape known."""
    built = Built(small(), is_training=True)
    looked_at = set()
    for op in built.graph.get_operations():
        if op.type in ("Placeholder", "Conv2D", "ConcatV2", "Relu", "AvgPool", "MatMul"):
            assert op.outputs[0].shape.is_fully_defined(), op
            looked_at.add(op.type)
    assert len(looked_at) == 6


def test_initial_weights():
    kernel = initial_value("conv0/W", (3, 3, 64, 128), seed=0)
    assert kernel.dtype == np.float32
    assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)
    assert abs(kernel.mean()) < 0.001
    assert initial_value("linear/W", (500, 10), 0).std() == pytest.approx(
        np.sqrt(2 / 500), rel=0.05
    )
    assert (initial_value("bn_last/gamma", (4,), 0) == 1).all()
    assert (initial_value("bn_last/variance/EMA", (4,), 0) == 1).all()
    assert (initial_value("bn_last/mean/EMA", (4,), 0) == 0).all()
    assert (initial_value("linear/b", (4,), 0) == 0).all()


def test_initial_weights_are_a_function_of_seed_and_name():
    def value(name, seed):
        return initial_value(name, (3, 3, 4, 5), seed)

    assert np.array_equal(value("conv0/W", 1), value("conv0/W", 1))
    assert not np.array_equal(value("conv0/W", 1), value("conv0/W", 2))
    assert not np.array_equal(value("conv0/W", 1), value("conv1/W", 1))
    # The same on every stack.
    assert value("conv0/W", 1)[0, 0, 0].tolist() == pytest.approx(FIRST_WEIGHTS, rel=1e-6)


FIRST_WEIGHTS = [-0.017310509, 0.092558108, -0.29664946, -0.25461015, 0.12842257]
