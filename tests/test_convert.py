"""scripts/convert.py: the same weights in every kind of file, and those of the PyTorch code."""

import json
import shutil
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python

import cifar_data
from run_directory.checkpoints import read_arrays, write_tensorflow
from sparsenet.errors import UserError
from sparsenet.initial_weights import initial_weights
from sparsenet.published import RECIPES

if sys.version_info < (3, 10):
    pytest.skip("Keras 3 needs Python 3.10", allow_module_level=True)

import keras
from safetensors.numpy import save_file

from sparsenet import official_pytorch

CONVERT = CHECKOUT / "scripts" / "convert.py"
EVALUATE = CHECKOUT / "scripts" / "evaluate.py"


def convert(*arguments, **options):
    return run_python(CONVERT, *arguments, **options)


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.fixture(scope="module")
def keras_file(finished_run, tmp_path_factory):
    """Return a .keras file of the finished run, with preprocessing, that returns logits."""
    path = tmp_path_factory.mktemp("converted") / "model.keras"
    result = convert(finished_run, path, "--with_preprocessing", "--logits")
    assert result.code == 0, result
    return path


def test_weights_go_round_all_kinds_of_files_without_a_loss(finished_run, tmp_path):
    start = read_arrays(str(finished_run / "model-15"))
    previous = finished_run
    for name in ("a.keras", "b.weights.h5", "c.npz", "d.keras", "model-3"):
        result = convert(previous, tmp_path / name)
        assert (result.code, result.out) == (0, "{}\n".format(tmp_path / name)), result
        previous = tmp_path / name
    final = read_arrays(str(tmp_path / "model-3"))
    assert set(final) == {name for name in start if "/" in name and "Momentum" not in name}
    assert all(np.array_equal(final[name], start[name]) for name in final)
    assert not [path.name for path in tmp_path.iterdir() if "partial" in path.name]
    # The record went along: nothing has to be said about the network or its images.
    logits = tmp_path / "logits.npz"
    expected = tmp_path / "expected.npz"
    assert run_python(EVALUATE, tmp_path / "model-3", "--logits", logits).code == 0
    assert run_python(EVALUATE, finished_run, "--logits", expected).code == 0
    assert np.array_equal(np.load(str(logits))["logits"], np.load(str(expected))["logits"])


def test_a_converted_file_needs_keras_alone(finished_run, keras_file, tmp_path):
    """It gives the logits of the graph, in a process that does not find this project."""
    expected = tmp_path / "expected.npz"
    assert run_python(EVALUATE, finished_run, "--logits", expected).code == 0
    normalised, record = tmp_path / "plain.keras", tmp_path / "plain.keras.json"
    assert convert(finished_run, normalised).code == 0
    images = cifar_data.load("digits", None).test.images[:20]
    constants = json.loads(record.read_text())["preprocessing"]
    scaled = (images - np.float32(constants["mean"])) / np.float32(constants["std"])
    np.savez(str(tmp_path / "images.npz"), images=images, scaled=scaled.astype(np.float32))
    program = (
        "import sys, keras, numpy as np; x = np.load(sys.argv[1]);"
        "a, b = (keras.saving.load_model(each) for each in sys.argv[2:4]);"
        "np.savez(sys.argv[4], a=a.predict(x['images'], verbose=0),"
        " b=b.predict(x['scaled'], verbose=0))"
    )
    result = run_python("-c", program, tmp_path / "images.npz", keras_file, normalised,
                        tmp_path / "out.npz", cwd=tmp_path)  # fmt: skip
    assert result.code == 0, result.err
    found = np.load(str(tmp_path / "out.npz"))
    logits = np.load(str(expected))["logits"][:20]
    assert relative(found["a"], logits) < 1e-5
    likely = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(
        found["b"], likely / likely.sum(axis=1, keepdims=True), rtol=1e-4, atol=1e-7
    )


def test_the_names_of_the_public_tensorflow_code_are_known(tmp_path):
    weights = initial_weights(RECIPES["digits"].config, 0)
    official = {n.replace("/layer", "/densen_layer."): value for n, value in weights.items()}
    assert set(official) != set(weights)
    write_tensorflow(str(tmp_path / "model-1"), official)
    result = convert(tmp_path / "model-1", tmp_path / "x.npz", "--recipe", "digits")
    assert result.code == 0, result
    assert set(np.load(str(tmp_path / "x.npz")).files) == set(weights)


# The PyTorch code ---------------------------------------------------------------------------------


def pytorch_state(layers, growth, is_bottleneck, compression, fetch, classes=10):
    """Return a state_dict of random values in the names and layout of denselink.py."""
    stream = np.random.RandomState(0)
    state = {}

    def add(name, *shape):
        state[name] = stream.randn(*shape).astype(np.float32) / max(1, np.prod(shape[1:])) ** 0.5

    def norm(name, channels):
        for attribute in ("weight", "bias", "running_mean"):
            add("{}.{}".format(name, attribute), channels)
        state[name + ".running_var"] = stream.uniform(0.5, 2, channels).astype(np.float32)
        state[name + ".num_batches_tracked"] = np.array(7)

    width = growth[0]
    add("features.conv0.weight", width, 3, 3, 3)
    for stage, (count, k) in enumerate(zip(layers, growth)):
        widths = [width]
        for block in range(1, count + 2):
            read = 1 if fetch == "plain" else None
            channels = sum(widths[-(2**n)] for n in range(9) if 2**n <= len(widths))
            channels = widths[-1] if read else channels
            if block > count:
                break
            scope = "features.dense-stage-{}.block-{}.".format(stage, block)
            norm(scope + "bn1", channels)
            if is_bottleneck:
                add(scope + "conv1.weight", 4 * k, channels, 1, 1)
                norm(scope + "bn2", 4 * k)
                add(scope + "conv2.weight", k, 4 * k, 3, 3)
            else:
                add(scope + "conv1.weight", k, channels, 3, 3)
            widths.append(k)
        width = channels
        if stage + 1 < len(layers):
            scope = "features.transition-{}.".format(stage)
            norm(scope + "bn1", width)
            add(scope + "conv1.weight", int(width * compression), width, 1, 1)
            width = int(width * compression)
    norm("features.norm_last", width)
    add("classifier.linear.weight", classes, width)
    add("classifier.linear.bias", classes)
    return state


def pytorch_logits(state, images, layers, fetch):
    """Return the logits [N, classes] that denselink.py computes of images [N, 3, 32, 32]."""

    def bn_relu(x, name):
        weight, bias, mean, var = (
            state["{}.{}".format(name, attribute)][:, None, None].astype(np.float64)
            for attribute in ("weight", "bias", "running_mean", "running_var")
        )
        return np.maximum((x - mean) / np.sqrt(var + 1e-5) * weight + bias, 0)

    def conv(x, name):
        kernel = state[name + ".weight"].astype(np.float64)
        side = kernel.shape[2]
        x = np.pad(x, [(0, 0), (0, 0)] + [(side // 2, side // 2)] * 2)
        height, width = (each - side + 1 for each in x.shape[2:])
        return sum(
            np.einsum("nihw,oi->nohw", x[:, :, a : a + height, b : b + width], kernel[:, :, a, b])
            for a in range(side)
            for b in range(side)
        )

    x = conv(images.astype(np.float64), "features.conv0")
    for stage, count in enumerate(layers):
        outputs = [x]
        for block in range(1, count + 2):
            offsets = [2**n for n in range(9) if 2**n <= len(outputs)]
            offsets = [1] if fetch == "plain" else offsets
            x = np.concatenate([outputs[-offset] for offset in offsets], axis=1)
            if block <= count:
                scope = "features.dense-stage-{}.block-{}.".format(stage, block)
                x = conv(bn_relu(x, scope + "bn1"), scope + "conv1")
                if scope + "conv2.weight" in state:
                    x = conv(bn_relu(x, scope + "bn2"), scope + "conv2")
                outputs.append(x)
        if stage + 1 < len(layers):
            scope = "features.transition-{}.".format(stage)
            x = conv(bn_relu(x, scope + "bn1"), scope + "conv1")
            n, c, h, w = x.shape
            x = x.reshape(n, c, h // 2, 2, w // 2, 2).mean(axis=(3, 5))
    x = bn_relu(x, "features.norm_last").mean(axis=(2, 3))
    return x @ state["classifier.linear.weight"].T + state["classifier.linear.bias"]


@pytest.mark.parametrize(
    "layers, growth, is_bottleneck, compression, fetch, flags",
    [
        ((3, 3, 3), (8, 8, 8), True, 0.5, "sparse", ["--depth", "22", "--growth_rate", "8",
         "--bottleneck", "1", "--compression", "0.5"]),
        ((2, 2, 2), (4, 6, 8), False, 1.0, "sparse", ["--depth", "10", "--growth_rate", "4,6,8"]),
        ((2, 2, 2), (4, 4, 4), False, 1.0, "plain", ["--depth", "10", "--growth_rate", "4",
         "--fetch", "plain"]),
    ],
)  # fmt: skip
def test_checkpoints_of_the_pytorch_code_convert(
    tmp_path, layers, growth, is_bottleneck, compression, fetch, flags
):
    state = pytorch_state(layers, growth, is_bottleneck, compression, fetch)
    save_file(
        {"module." + name: value for name, value in state.items()}, str(tmp_path / "x.safetensors")
    )
    result = convert(tmp_path / "x.safetensors", tmp_path / "x.keras", "--logits", "--recipe",
                     "official-pytorch", "--dataset", "c10", *flags)  # fmt: skip
    assert result.code == 0, result
    images = np.random.RandomState(1).randn(3, 3, 32, 32).astype(np.float32)
    model = keras.saving.load_model(str(tmp_path / "x.keras"))
    found = np.asarray(model(images.transpose(0, 2, 3, 1)))
    assert relative(found, pytorch_logits(state, images, layers, fetch)) < 1e-5
    # What is said of the images is what is known of CIFAR-10.
    record = json.loads((tmp_path / "x.keras.json").read_text())
    assert record["preprocessing"]["mean"][0] == pytest.approx(125.307, abs=1e-3)
    assert record["classes"][3] == "cat"


def test_other_modules_than_those_of_the_pytorch_code_are_refused():
    with pytest.raises(UserError, match=r"`layer1.0.conv1.weight`; accepted: names such as"):
        official_pytorch.from_state({"layer1.0.conv1.weight": np.zeros(1)}, "x.pt")
    with pytest.raises(UserError, match="features.conv0.alpha"):
        official_pytorch.from_state({"features.conv0.alpha": np.zeros(1)}, "x.pt")


def test_mistakes(finished_run, keras_file, tmp_path):
    out = tmp_path / "out.keras"
    network = ["--recipe", "digits", "--depth", "7"]
    for arguments, words in [
        ([finished_run, tmp_path / "x.pb"], ["x.pb", ".keras, .weights.h5, .npz"]),
        ([finished_run, tmp_path / "no" / "x.npz"], ["its folder does not exist"]),
        ([finished_run, tmp_path], ["the name of a file"]),
        ([keras_file, keras_file], ["another file than FROM"]),
        ([finished_run, tmp_path / "x.npz", "--logits"], ["--logits", ".keras"]),
        ([keras_file, out, *network], ["--depth 7", "model.keras.json"]),
        ([tmp_path / "none.keras", out, *network], ["none.keras does not exist"]),
        ([tmp_path / "none.safetensors", out, *network], ["none.safetensors does not exist"]),
        ([finished_run / "run.json", out], ["run.json"]),
    ]:
        assert_refused(convert(*arguments), *words)
    shutil.copy(str(keras_file), str(tmp_path / "bare.keras"))
    assert_refused(convert(tmp_path / "bare.keras", out), "does not fit the network", "conv0/W")
    assert convert(tmp_path / "bare.keras", out, *network).code == 0
    for name in ("x.keras", "x.npz", "x.safetensors", "x.weights.h5"):
        (tmp_path / name).write_bytes(b"neither the one nor the other")
        result = convert(tmp_path / name, tmp_path / "y.keras", *network)
        assert_refused(result, name, "can't be read")
    assert not (tmp_path / "y.keras").exists()
