"""Each family of networks against its description, written again in the plainest TensorFlow."""

import dataclasses
import os

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT, launch, run_python, write_binary_layout
from graphs import Built, batch, disturbed_weights, graph_shapes, relative_difference

from sparsenet.config import SparseNetConfig
from sparsenet.costs import flops, gradient_paths, parameters, skip_connections
from sparsenet.fetch import fetch, reads
from sparsenet.plan import blocks, operations, variable_shapes
from sparsenet.published import RECIPES
from sparsenet_model import LOGITS

# Graphs of more operations are built with two layers a block: TensorFlow 1.15 builds all up to the
# paper's CIFAR networks whole; 2.21, which takes about nine times as long, the smallest ones and
# two of the paper's. With SPARSENET_WHOLE_GRAPHS=1 all are built whole (results/graphs.md).
MANY_OPERATIONS = 205 if tf.__version__.startswith("1.") else 80
ALWAYS_WHOLE = ("sparsenet-100-24", "sparsenet-bc-100-24")
WHOLE = os.environ.get("SPARSENET_WHOLE_GRAPHS") == "1"


def is_large(name):
    return len(operations(RECIPES[name].config)) > MANY_OPERATIONS


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * is_large(name)) for name in RECIPES],
)
def test_the_graph_of_each_recipe_has_the_variables_of_the_arithmetic(name):
    config = RECIPES[name].config
    if is_large(name) and name not in ALWAYS_WHOLE and not WHOLE:
        config = dataclasses.replace(config, layers=(2,) * len(config.layers))
    shapes, trainable = graph_shapes(config)
    assert shapes == dict(variable_shapes(config))
    assert trainable == parameters(config)


# Rules -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "nearest, farthest, layer, expected",
    [
        (7, 7, 14, list(range(13, -1, -1))),
        (7, 7, 15, [14, 13, 12, 11, 10, 9, 8, 6, 5, 4, 3, 2, 1, 0]),
        (4, 10, 20, [19, 18, 17, 16] + list(range(9, -1, -1))),
        (10, 4, 20, list(range(19, 9, -1)) + [3, 2, 1, 0]),
        (0, 14, 20, list(range(13, -1, -1))),
        (14, 0, 20, list(range(19, 5, -1))),
        (1, 1, 1, [0]),
    ],
)
def test_nearest_and_farthest(nearest, farthest, layer, expected):
    rule = SparseNetConfig((20,), (4,), fetch="nearest_farthest", nearest=nearest,
                           farthest=farthest)  # fmt: skip
    assert list(fetch(rule, layer)) == expected


def test_only_the_farthest_leaves_dead_weight():
    rule = SparseNetConfig((20,), (4,), fetch="nearest_farthest", nearest=0, farthest=14)
    assert gradient_paths(rule).unread == 7  # layers 14 to 20 are read by nobody


@pytest.mark.parametrize("layers, growth, path", [(12, 4, 4), (12, 4, 5), (9, 3, 3), (20, 16, 14)])
def test_the_window_of_the_scripts(layers, growth, path):
    """Channels as the scripts' list operations give them, each tagged with where it came from."""
    config = SparseNetConfig((layers,), (growth,), fetch="channel_window", nearest=path // 2,
                             farthest=path - path // 2)  # fmt: skip
    channels = [(0, c) for c in range(2 * growth)]
    widths = [2 * growth]
    for layer in range(1, layers + 2):
        read = [(s.output, c) for s in reads(config, widths, layer) for c in range(s.start, s.stop)]
        assert read == channels
        slots = (len(channels) - 2 * growth) / growth + 1
        new = [(layer, c) for c in range(growth)]
        if slots > path:
            cut = int(round(slots / 2 * growth))
            channels = new + channels[:cut] + channels[cut + growth :]
        else:
            channels = new + channels
        widths.append(growth)
    assert len(channels) == (path + 2) * growth


@pytest.mark.parametrize("distance, steps", [(23, 4), (14, 3), (16, 1), (31, 5)])
def test_sparse_path_is_the_number_of_ones(distance, steps):
    """Slides: the path between layers at offset d in base 2 is the number of ones of binary d."""
    from sparsenet.costs import _distances, _sources

    (block,) = blocks(SparseNetConfig((40,), (4,)))
    assert _distances(_sources(block), 3)[3 + distance] == steps


@pytest.mark.parametrize("base", [2, 3, 4])
def test_sparse_paths_are_within_the_papers_bound(base):
    for layers in (5, 16, 27, 64):
        config = SparseNetConfig((layers,), (4,), base=base)
        powers = 0
        while base**powers < layers + 1:
            powers += 1
        assert gradient_paths(config).longest <= (base - 1) * powers


def test_connections_of_the_three_rules():
    for layers in (8, 32):
        counts = {f: skip_connections(SparseNetConfig((layers,), (4,), fetch=f))
                  for f in ("plain", "dense", "sparse")}  # fmt: skip
        assert counts["plain"] == layers
        assert counts["dense"] == layers * (layers + 1) // 2
        assert counts["sparse"] == sum(i.bit_length() for i in range(1, layers + 1))


def test_imagenet_counts_of_either_head():
    for name, gap, map3x3 in [
        ("sparsenet-121-32", 3233576, 4513576),
        ("sparsenet-169-32", 4692616, 6228616),
        ("sparsenet-201-32", 5685896, 7221896),
        ("sparsenet-201-48", 12603736, 14907736),
    ]:
        assert parameters(RECIPES[name].config) == map3x3
        assert parameters(RECIPES[name + "-gap"].config) == gap
    assert flops(RECIPES["sparsenet-121-32"].config) == pytest.approx(3.463e9, rel=2e-4)


# Networks in plain TensorFlow --------------------------------------------------------------------


class Plain:
    """Plain TensorFlow in inference form over a dictionary of numpy variables."""

    def __init__(self, weights, epsilon=1e-5):
        self.weights = weights
        self.epsilon = epsilon

    def bn(self, x, scope):
        mean, variance = self.weights[scope + "/mean/EMA"], self.weights[scope + "/variance/EMA"]
        gamma, beta = self.weights[scope + "/gamma"], self.weights[scope + "/beta"]
        return (x - mean) / np.sqrt(variance + self.epsilon) * gamma + beta

    def bn_relu(self, x, scope):
        return tf.nn.relu(self.bn(x, scope))

    def conv(self, x, scope, stride=1):
        strides = [1, stride, stride, 1]
        x = tf.nn.conv2d(x, self.weights[scope + "/W"], strides=strides, padding="SAME")
        bias = self.weights.get(scope + "/b")
        return x if bias is None else x + bias

    def pool(self, x):
        return tf.nn.avg_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], padding="VALID")

    def classify(self, x):
        x = tf.reduce_mean(self.bn_relu(x, "bn_last"), axis=[1, 2])
        return tf.matmul(x, self.weights["linear/W"]) + self.weights["linear/b"]


def logits_of(network, images):
    """Logits of `network`, a function of the images as a float32 tensor."""
    with tf.Graph().as_default(), tf.Session() as session:
        return session.run(network(tf.constant(images.astype(np.float32))))


def original_graph(x, weights, layers, sparse=True):
    """REFERENCE: the graph of both public TensorFlow codes, on normalised images."""
    plain = Plain(weights)
    x = plain.conv(x, "conv0")
    for block in (1, 2, 3):
        outputs = [x]
        for i in range(layers):
            scope = "block{}/densen_layer.{}".format(block, i)
            outputs.append(plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1"))
            if sparse:
                offsets = [2**n for n in range(8) if 2**n <= len(outputs)]
                x = tf.concat([outputs[-offset] for offset in offsets], 3)  # newest first
            else:
                x = tf.concat(outputs, 3)  # oldest first
        if block < 3:
            scope = "block{0}/transition{0}".format(block)
            x = plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1")
            x = plain.pool(tf.nn.relu(x))
    return plain.classify(x)


def original_shapes(layers, growth, sparse):
    """Variables of such a graph by their original names."""
    shapes = {"conv0/W": (3, 3, 3, 16)}

    def bn(scope, channels):
        for name in ("gamma", "beta", "mean/EMA", "variance/EMA"):
            shapes[scope + "/" + name] = (channels,)

    channels = 16
    for block in (1, 2, 3):
        widths = [channels]
        for i in range(layers):
            scope = "block{}/densen_layer.{}".format(block, i)
            bn(scope + "/bn1", channels)
            shapes[scope + "/conv1/W"] = (3, 3, channels, growth)
            widths.append(growth)
            offsets = [2**n for n in range(8) if 2**n <= len(widths)]
            channels = sum(widths[-offset] for offset in offsets) if sparse else sum(widths)
        if block < 3:
            scope = "block{0}/transition{0}".format(block)
            bn(scope + "/bn1", channels)
            shapes[scope + "/conv1/W"] = (1, 1, channels, channels)
    bn("bn_last", channels)
    shapes["linear/W"], shapes["linear/b"] = (channels, 10), (10,)
    return shapes


def save_checkpoint(weights, prefix):
    """Write a TF1 checkpoint of numpy arrays by name."""
    with tf.Graph().as_default(), tf.Session() as session:
        for name, value in weights.items():
            tf.get_variable(name, initializer=tf.constant(value))
        session.run(tf.global_variables_initializer())
        tf.train.Saver().save(session, str(prefix), write_meta_graph=False)


@pytest.mark.parametrize("recipe, depth, layers", [("ascend", 12, 4), ("official", 16, 4)])
@pytest.mark.parametrize("rule", ["sparse", "dense"])
def test_original_checkpoints_give_the_original_logits(tmp_path, recipe, depth, layers, rule):
    """Through scripts/evaluate.py, with constants taken from the data as the originals do."""
    stream = np.random.RandomState(0)
    weights = {}
    for name, shape in original_shapes(layers, 8, rule == "sparse").items():
        scale = 0.3 if name.endswith("/W") else 0.2
        weights[name] = (scale * stream.standard_normal(shape)).astype(np.float32)
        if name.endswith(("gamma", "variance/EMA")):
            weights[name] = np.abs(weights[name]) + 0.5
    save_checkpoint(weights, tmp_path / "model-100")
    write_binary_layout(tmp_path / "data")
    result = run_python(
        CHECKOUT / "scripts" / "evaluate.py", tmp_path / "model-100", "--recipe", recipe,
        "--depth", depth, "--growth_rate", "8", "--fetch", rule, "--dataset", "c10",
        "--dataset_dir", tmp_path / "data", "--logits", tmp_path / "logits.npz",
        "--batch_size", "8",
    )  # fmt: skip
    assert result.code == 0, result
    import cifar_data

    data = cifar_data.load("c10", str(tmp_path / "data"))
    everything = np.concatenate([data.train.images, data.test.images]).astype(np.float64)
    images = data.test.images - everything.mean(axis=0)
    images = images / 255 if recipe == "ascend" else images / 128 - 1
    expected = logits_of(lambda x: original_graph(x, weights, layers, rule == "sparse"), images)
    kept = np.load(str(tmp_path / "logits.npz"))
    assert relative_difference(kept["logits"], expected) <= 1e-5
    assert np.array_equal(kept["labels"], data.test.labels)
    incorrect = (expected.argmax(axis=1) != data.test.labels).mean()
    assert "{:.2%}".format(incorrect) in result.out


@pytest.mark.trains
def test_an_original_checkpoint_can_be_trained_on(tmp_path):
    stream = np.random.RandomState(0)
    weights = {name: np.abs(stream.standard_normal(shape) * 0.2 + 0.3).astype(np.float32)
               for name, shape in original_shapes(4, 8, True).items()}  # fmt: skip
    save_checkpoint(weights, tmp_path / "model-1")
    result = launch("--recipe", "ascend", "--depth", "12", "--growth_rate", "8", "--fake",
                    "--subset", "64", "--max_epoch", "1", "--load", tmp_path / "model-1",
                    "--log_dir", tmp_path, "--name", "run")  # fmt: skip
    assert result.code == 0, result
    reader = tf.train.load_checkpoint(str(tmp_path / "run" / "model-0"))
    loaded = reader.get_tensor("block2/layer3/conv1/W")
    assert np.array_equal(loaded, weights["block2/densen_layer.3/conv1/W"])


def liu_zeng_scripts(x, weights, config):
    """REFERENCE section 5: the public scripts' way, with a list of channels that is cut."""
    plain = Plain(weights, epsilon=1e-3)
    k, path = config.growth_rate[0], config.nearest + config.farthest
    x = tf.nn.relu(plain.conv(x, "conv0"))
    for block, layers in enumerate(config.layers, start=1):
        for i in range(layers):
            scope = "block{}/layer{}".format(block, i)
            channels = int(x.shape[3])
            slots = (channels - 2 * k) / k + 1
            if config.unit == "bottleneck":
                y = plain.conv(plain.bn(x, scope + "/bn1"), scope + "/conv1")
                y = plain.conv(plain.bn_relu(y, scope + "/bn2"), scope + "/conv2")
            else:
                y = plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1")
            if config.attention == "liu_zeng":
                mean = tf.reduce_mean(y, axis=[1, 2], keepdims=True)
                e = plain.conv(plain.bn_relu(mean, scope + "/attention/bn1"),
                               scope + "/attention/conv1")  # fmt: skip
                both = tf.concat([e, mean], 3)
                s = plain.conv(plain.bn_relu(both, scope + "/attention/bn2"),
                               scope + "/attention/conv2")  # fmt: skip
                y = y + y * tf.sigmoid(s)
            if slots > path:
                cut = int(round(slots / 2 * k))
                first, _, last = tf.split(x, [cut, k, channels - k - cut], 3)
                x = tf.concat([y, first, last], 3)
            else:
                x = tf.concat([y, x], 3)
        if block < len(config.layers):
            scope = "transition{}".format(block)
            x = plain.pool(plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1"))
    return plain.classify(x)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["basic", "bc", "abc"])
def test_liu_zeng_scripts(kind):
    config = RECIPES["liu-zeng-{}-v1-scripts".format(kind)].config
    config = dataclasses.replace(
        config, layers=(6, 2, 5), growth_rate=(4,) * 3, nearest=2, farthest=2
    )
    check_logits(config, lambda x, weights: liu_zeng_scripts(x, weights, config))


def resnet(x, weights, config):
    """He et al. 2016: x_{l+1} = x_l + F(x_l), written as a running sum."""
    plain = Plain(weights)
    x = plain.conv(x, "conv0")
    names = ["1", "2", "3"] if config.unit == "residual_bottleneck" else ["1", "2"]
    for block, layers in enumerate(config.layers, start=1):
        for i in range(layers):
            scope = "block{}/layer{}".format(block, i)
            stride = 2 if block > 1 and i == 0 else 1
            active = plain.bn_relu(x, scope + "/bn1")
            y = active
            for name in names:
                strided = name == ("2" if len(names) == 3 else "1")
                y = y if name == "1" else plain.bn_relu(y, scope + "/bn" + name)
                y = plain.conv(y, scope + "/conv" + name, stride if strided else 1)
            if i == 0 and int(x.shape[3]) != int(y.shape[3]):
                if len(names) == 3:
                    x = plain.conv(active, scope + "/shortcut", stride)
                else:
                    zeros = int(y.shape[3]) - int(x.shape[3])
                    x = tf.pad(x[:, ::2, ::2], [[0, 0], [0, 0], [0, 0], [0, zeros]])
            x = x + y
    return plain.classify(x)


@pytest.mark.parametrize("name", ["resnet-110", "resnet-164"])
def test_dense_and_sum_is_resnet(name):
    config = dataclasses.replace(RECIPES[name].config, layers=(3, 2, 2), growth_rate=(4, 8, 16))
    check_logits(config, lambda x, weights: resnet(x, weights, config))


def sparse_sum(x, weights, config):
    """The paper's SparseNet[+]: a layer reads the sum of outputs at offsets 1, 2, 4, ..."""
    plain = Plain(weights)
    x = plain.conv(x, "conv0")
    for block, layers in enumerate(config.layers, start=1):
        outputs = [x]
        for i in range(layers + 1):
            offsets = [2**n for n in range(8) if 2**n <= len(outputs)]
            x = sum(outputs[-offset] for offset in offsets)
            if i < layers:
                scope = "block{}/layer{}".format(block, i)
                outputs.append(plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1"))
        if block < len(config.layers):
            scope = "transition{}".format(block)
            x = plain.pool(plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1"))
    return plain.classify(x)


def test_sparse_and_sum():
    config = SparseNetConfig((6, 5, 9), (4, 6, 8), combine="sum")
    check_logits(config, lambda x, weights: sparse_sum(x, weights, config))


def test_squeeze_and_excitation_scales_a_layers_output():
    config = SparseNetConfig((1,), (16,), attention="se")

    def network(x, weights):
        plain = Plain(weights)
        x = plain.conv(x, "conv0")
        y = plain.conv(plain.bn_relu(x, "block1/layer0/bn1"), "block1/layer0/conv1")
        mean = tf.reduce_mean(y, axis=[1, 2], keepdims=True)
        s = tf.nn.relu(plain.conv(mean, "block1/layer0/attention/conv1"))
        y = y * tf.sigmoid(plain.conv(s, "block1/layer0/attention/conv2"))
        return plain.classify(tf.concat([y, x], 3))

    check_logits(config, network)


def test_imagenet_stem_and_heads():
    for head in ("gap", "map3x3"):
        config = SparseNetConfig((1,) * 4, (8,) * 4, unit="bottleneck", compression=0.5,
                                 stem="imagenet", head=head)  # fmt: skip

        def network(x, weights, head=head):
            plain = Plain(weights)
            x = plain.bn_relu(plain.conv(x, "conv0", 2), "bn0")
            x = tf.nn.max_pool(x, [1, 3, 3, 1], [1, 2, 2, 1], padding="SAME")
            for block in (1, 2, 3, 4):
                scope = "block{}/layer0".format(block)
                y = plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1")
                y = plain.conv(plain.bn_relu(y, scope + "/bn2"), scope + "/conv2")
                x = tf.concat([y, x], 3)
                if block < 4:
                    scope = "transition{}".format(block)
                    x = plain.pool(plain.conv(plain.bn_relu(x, scope + "/bn1"), scope + "/conv1"))
            assert x.shape.as_list()[1:3] == [7, 7]
            if head == "gap":
                return plain.classify(x)
            x = plain.pool(plain.bn_relu(x, "bn_last"))
            x = tf.reshape(x, [-1, 9 * int(x.shape[3])])
            return tf.matmul(x, weights["linear/W"]) + weights["linear/b"]

        check_logits(config, network, size=224)


def check_logits(config, network, size=32):
    """The graph of a config and a plain one give the same logits from the same weights."""
    weights = disturbed_weights(config)
    images, labels = batch(size=size)
    images = images // 16
    built = Built(config)
    built.load(weights)
    got = built.run(LOGITS + ":0", images, labels)
    expected = logits_of(lambda x: network(x, weights), images)
    assert relative_difference(got, expected) <= 1e-5


# Training --------------------------------------------------------------------------------------

FAMILIES = {
    "paper": ("sparsenet-40-24", {}),
    "bottleneck": ("sparsenet-bc-100-24", {}),
    "densenet": ("densenet-40-12", {}),
    "resnet": ("resnet-110", {}),
    "resnet bottleneck": ("resnet-164", {}),
    "sparse sum": ("sparsenet-sum-110", {}),
    "sum of single units": ("sparsenet-40-24", {"combine": "sum"}),
    "plain": ("sparsenet-40-24", {"fetch": "plain"}),
    "base 3": ("sparsenet-40-24", {"base": 3}),
    "liu-zeng": ("liu-zeng-basic-v1", {"nearest": 1, "farthest": 2}),
    "attention": ("liu-zeng-abc-v1", {"nearest": 1, "farthest": 1}),
    "squeeze and excitation": ("liu-zeng-se-v1", {}),
    "scripts": ("liu-zeng-abc-v1-scripts", {"nearest": 1, "farthest": 1}),
    "ascend": ("ascend", {}),
    "official": ("official", {}),
}


@pytest.mark.trains
@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_member_of_each_family_learns(family):
    """Within twenty real steps of the recipe's optimizer on one batch the loss falls by a third.

    It may rise again for a while: the rate is meant for many batches.
    """
    name, changes = FAMILIES[family]
    recipe = RECIPES[name]
    growth = (4, 8, 16) if recipe.config.is_residual else (6, 6, 6)
    config = dataclasses.replace(recipe.config, layers=(3, 1, 1), growth_rate=growth, **changes)
    images, labels = batch(16)
    normalization = {"mean": [128.0] * 3, "std": [64.0] * 3}
    built = Built(config, 16, is_training=True, normalization=normalization)
    losses = [built.run([built.cost, built.step], images, labels)[0] for _ in range(20)]
    assert np.isfinite(losses).all()
    assert min(losses) < 0.67 * losses[0], losses


@pytest.mark.trains
def test_imagenet_members_learn():
    for head in ("gap", "map3x3"):
        config = dataclasses.replace(
            RECIPES["sparsenet-121-32"].config, layers=(1,) * 4, growth_rate=(4,) * 4, classes=10,
            head=head,
        )  # fmt: skip
        images, labels = batch(4, size=224)
        normalization = {"mean": [128.0] * 3, "std": [64.0] * 3}
        built = Built(config, 4, is_training=True, normalization=normalization, learning_rate=0.02)
        losses = [built.run([built.cost, built.step], images, labels)[0] for _ in range(12)]
        assert losses[-1] < 0.67 * losses[0], losses
