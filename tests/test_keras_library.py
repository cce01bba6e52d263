"""The package that `pip install .` gives: models in the manner of keras.applications, on JAX."""

import json
import os
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from conftest import CHECKOUT, run_python

from sparsenet.config import SparseNetConfig
from sparsenet.costs import parameters
from sparsenet.errors import UserError
from sparsenet.initial_weights import initial_weights
from sparsenet.known_data import CLASS_NAMES
from sparsenet.published import RECIPES

if sys.version_info < (3, 10):
    pytest.skip("Keras 3 needs Python 3.10", allow_module_level=True)

import jax
import keras
from keras_networks import NETWORKS

import sparsenet.keras as library

RECIPE_OF = {
    "SparseNet40_24": "sparsenet-40-24",
    "SparseNet100_24": "sparsenet-100-24",
    "SparseNet100_36": "sparsenet-100-36",
    "SparseNetBC100_24": "sparsenet-bc-100-24",
    "SparseNetBC100_36": "sparsenet-bc-100-36",
    "SparseNet121": "sparsenet-121-32",
    "SparseNet161": "keras-161",
    "SparseNet169": "sparsenet-169-32",
    "SparseNet201": "sparsenet-201-32",
    "SparseNet264": "keras-264",
    "SparseNetImageNet121": "keras-121",
    "SparseNetImageNet161": "keras-161",
    "SparseNetImageNet169": "keras-169",
    "SparseNetImageNet201": "keras-201",
    "SparseNetImageNet264": "keras-264",
}
TINY = SparseNetConfig(layers=(2, 1), growth_rate=(4, 4))


@pytest.fixture(autouse=True)
def usual_settings():
    """Give Keras its usual settings back after a test."""
    yield
    keras.config.set_image_data_format("channels_last")
    keras.config.set_dtype_policy("float32")


def images(count=3, side=32, seed=0):
    """Return normalised images, channels last."""
    return np.random.RandomState(seed).randn(count, side, side, 3).astype(np.float32)


def logits(config, x, **options):
    """Return what a model with fixed weights makes of images, which are channels last."""
    model = library.build(config, classifier_activation=None, **options)
    library.set_variables(model, initial_weights(config, seed=3))
    if keras.config.image_data_format() == "channels_first":
        x = x.transpose(0, 3, 1, 2)
    return np.asarray(jax.jit(lambda x: model(x, training=False))(x))


@pytest.mark.slow
def test_the_named_models_have_the_parameters_of_their_recipes(tmp_path):
    environment = {"KERAS_BACKEND": "tensorflow", "PYTHONPATH": str(CHECKOUT)}
    done = run_python(CHECKOUT / "tests/keras_library.py", tmp_path / "counts", env=environment)
    assert done.code == 0, done.err
    counts = json.loads((tmp_path / "counts").read_text())
    # keras-SparseNet's default: depth 40, growth rate 12.
    standard = SparseNetConfig(layers=(12,) * 3, growth_rate=(12,) * 3)
    assert counts.pop("SparseNet") == parameters(standard)
    assert counts == {name: parameters(RECIPES[of].config) for name, of in RECIPE_OF.items()}


@pytest.mark.parametrize("kind", ["map3x3", "residual_basic", "squeeze"])
def test_the_order_of_the_axes_changes_nothing(kind):
    config = NETWORKS[kind]
    x = images(side=config.image_size)
    last = logits(config, x)
    keras.config.set_image_data_format("channels_first")
    np.testing.assert_allclose(logits(config, x), last, atol=1e-5 * np.abs(last).max())


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_computes_in_half_and_answers_in_full(policy):
    x = images()
    full = logits(TINY, x)
    keras.config.set_dtype_policy(policy)
    model = library.build(TINY)
    assert model.get_layer("conv0").compute_dtype == policy.partition("_")[2]
    assert {variable.dtype for variable in model.trainable_variables} == {"float32"}
    half = logits(TINY, x)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 0.05 * np.abs(full).max()


@pytest.mark.parametrize("shape", [(33, 47, 3), (None, None, 3), (2, 2, 3)])
def test_a_model_takes_any_side_that_its_strides_allow(shape):
    model = library.build(TINY, input_shape=shape)
    side = [each or 50 for each in shape[:2]]
    assert model.compute_output_shape((5, *side, 3)) == (5, 10)


def test_what_a_model_returns():
    assert library.build(TINY, include_top=False).output_shape == (None, 16, 16, 12)
    topless = library.build(TINY, include_top=False, pooling="max", name="features")
    assert topless.output_shape == (None, 12)
    assert topless.name == "features"
    model = library.build(TINY, classes=7, kernel_regularizer=keras.regularizers.L2(0.01))
    answer = np.asarray(model(images()))
    assert answer.shape == (3, 7)
    np.testing.assert_allclose(answer.sum(axis=1), 1, rtol=1e-6)
    kernels = [name for name in library.variables(model) if name.endswith("/W")]
    assert len(model.losses) == len(kernels)
    assert "block1_layer0_conv1" in [layer.name for layer in model.layers]


def test_a_model_joins_on_other_layers():
    pixels = keras.Input((32, 32, 3))
    inner = library.build(TINY, input_tensor=pixels / 255)
    x = np.float32(images() * 255)
    plain = library.build(TINY)
    library.set_variables(plain, library.get_variables(inner))
    np.testing.assert_allclose(np.asarray(inner(x)), np.asarray(plain(x / 255)), rtol=1e-4)
    outer = keras.Model(pixels, keras.layers.Dense(2)(plain(pixels)))
    assert set(library.variables(outer)) == set(library.variables(plain))


@pytest.mark.parametrize("file", ["x.keras", "x.weights.h5", "x.npz"])
def test_weights_come_from_a_file(tmp_path, file):
    path = str(tmp_path / file)
    config = SparseNetConfig(layers=(1, 1), growth_rate=(4, 4), dropout=0.2)
    model = library.build(config)
    arrays = library.get_variables(model)
    if file == "x.npz":
        np.savez(path, **arrays)
    else:
        model.save(path) if file == "x.keras" else model.save_weights(path)
    again = library.get_variables(library.build(config, weights=path))
    topless = library.build(config, weights=path, include_top=False)
    for name, value in library.get_variables(topless).items():
        assert np.array_equal(value, again[name]) and np.array_equal(value, arrays[name]), name
    for misfit in (SparseNetConfig(layers=(1, 2), growth_rate=(4, 4)), TINY):
        with pytest.raises(ValueError, match="does not fit the network"):
            library.build(misfit, weights=path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"pooling": "mean"},
        {"classes": 0},
        {"input_shape": (32, 32)},
        {"input_shape": (1, 32, 3)},
        {"input_shape": (32, 32, 1)},
        {"weights": "cifar10"},
        {"weights": "there-is-none.keras"},
        {"weights": os.path.join(str(CHECKOUT), "README.md")},
    ],
)
def test_a_wrong_argument_is_a_value_error_that_says_so(wrong):
    with pytest.raises(ValueError, match="accepted"):
        library.build(TINY, **wrong)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really"])
@pytest.mark.parametrize("file", ["x.keras", "x.weights.h5", "x.npz"])
def test_a_damaged_file_is_refused(tmp_path, file, content):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match="can't be read"):
        library.build(TINY, weights=str(tmp_path / file))


# keras-SparseNet ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, like",
    [
        ({"depth": 7}, {}),
        ({"depth": 7, "growth_rate": 8}, {"growth_rate": (8,) * 3}),
        ({"depth": 7, "nb_dense_block": 2}, {"layers": (1, 1), "growth_rate": (12, 12)}),
        ({"depth": 10, "bottleneck": True}, {"unit": "bottleneck"}),
        ({"depth": 7, "reduction": 0.5}, {"compression": 0.5}),
        ({"depth": 7, "nb_filter": 12}, {"stem_channels": 12}),
        ({"nb_layers_per_block": 2}, {"layers": (2,) * 3}),
        ({"nb_layers_per_block": [1, 2, 1]}, {"layers": (1, 2, 1)}),
        ({"nb_layers_per_block": (1,) * 4}, {"layers": (1,) * 4, "growth_rate": (12,) * 4}),
        ({"depth": 7, "growth_rate": [4, 8, 12]}, {"growth_rate": (4, 8, 12)}),
        ({"depth": 7, "dropout_rate": 0.2}, {"dropout": 0.2}),
        ({"depth": 7, "classes": 1, "activation": "sigmoid"}, {"classes": 1}),
        (
            {"depth": 7, "subsample_initial_block": True, "input_shape": (64, 64, 3)},
            {"stem": "imagenet", "stem_channels": 24},
        ),
    ],
)
def test_code_for_keras_sparsenet_gets_what_its_docstring_says(arguments, like):
    config = SparseNetConfig(**dict({"layers": (1,) * 3, "growth_rate": (12,) * 3}, **like))
    model = library.SparseNet(**arguments)
    assert set(library.variables(model)) == set(initial_weights(config, 0))
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == parameters(config)
    assert model.get_layer("conv0").kernel_regularizer.l2 == 1e-4
    assert bool([each for each in model.layers if "dropout" in each.name]) == bool(config.dropout)


def test_keras_sparsenet_without_a_top_returns_channel_means():
    images_in = keras.Input((None, None, 3))
    model = library.SparseNet(
        None, 7, 3, 12, -1, -1, False, 0.0, 0.0, 0.0, False, False, None, images_in
    )
    assert model.output_shape == (None, 60)
    assert model.get_layer("conv0").kernel_regularizer is None
    assert model.inputs[0] is images_in


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 41},
        {"activation": "relu"},
        {"activation": "sigmoid"},
        {"reduction": 1.0},
        {"nb_layers_per_block": [1]},
        {"growth_rate": [12, 12]},
        {"weights": "imagenet"},
        {"input_shape": (7, 32, 3)},
    ],
)
def test_keras_sparsenet_refuses_what_its_docstring_excludes(wrong):
    with pytest.raises(ValueError, match="accepted"):
        library.SparseNet(**wrong)


# Images and classes ------------------------------------------------------------------------------


def test_images_are_normalised_as_in_training():
    x = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3)
    record = {"mean": [1.0, 2.0, 3.0], "std": [4.0, 5.0, 6.0]}
    expected = (x - np.array([1, 2, 3], np.float32)) / np.array([4, 5, 6], np.float32)
    np.testing.assert_allclose(library.preprocess_input(x, preprocessing=record), expected)
    first = library.preprocess_input(x.transpose(0, 3, 1, 2), "channels_first", record)
    np.testing.assert_allclose(first, expected.transpose(0, 3, 1, 2))
    tensor = library.preprocess_input(keras.ops.convert_to_tensor(x), preprocessing=record)
    np.testing.assert_allclose(np.asarray(tensor), expected, rtol=1e-6)
    a_pixel = {"mean": np.ones((4, 4, 3)).tolist(), "std": 255.0}
    first = library.preprocess_input(x.transpose(0, 3, 1, 2), "channels_first", a_pixel)
    np.testing.assert_allclose(first, (x.transpose(0, 3, 1, 2) - 1.0) / 255, rtol=1e-6)
    with pytest.raises(ValueError, match="accepted: c10, c100, imagenet"):
        library.preprocess_input(x, preprocessing="mnist")


def test_predictions_get_the_names_of_their_classes():
    scores = np.zeros((2, 10))
    scores[0, 3], scores[0, 9], scores[1, 0] = 0.9, 0.1, 1.0
    first, second = library.decode_predictions(scores, top=2)
    assert first == [(3, "cat", 0.9), (9, "truck", 0.1)]
    assert second[0] == (0, "airplane", 1.0)
    hundred = library.decode_predictions(np.eye(100)[[99]], top=1)
    assert hundred == [[(99, "worm", 1.0)]]
    assert library.decode_predictions([[1, 0]], 1, ["yes", "no"]) == [[(0, "yes", 1.0)]]
    for wrong in (np.zeros((1, 7)), np.zeros(10)):
        with pytest.raises(ValueError, match="accepted"):
            library.decode_predictions(wrong)
    assert all(len(set(names)) == len(names) for names in CLASS_NAMES.values())


# The package -------------------------------------------------------------------------------------


def test_the_wheel_holds_the_package_alone(tmp_path):
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(str(CHECKOUT / name), str(tmp_path))
    source = tmp_path / "sparsenet"
    shutil.copytree(str(CHECKOUT / "sparsenet"), str(source))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", ".", "-w", "wheel"]
    subprocess.run(command, cwd=str(tmp_path), check=True, stdin=subprocess.DEVNULL)
    (wheel,) = (tmp_path / "wheel").iterdir()
    files = {name for name in zipfile.ZipFile(str(wheel)).namelist() if ".dist-info/" not in name}
    tracked = [path for path in source.rglob("*") if path.suffix in (".py", ".csv")]
    assert files == {path.relative_to(tmp_path).as_posix() for path in tracked}
