import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python

import cifar_data
from evaluation.confusion import confusion_matrix
from evaluation.evaluate import Evaluation
from evaluation.logits import is_for_keras
from run_directory.checkpoints import write_arrays
from run_directory.table import find_table, read_rows
from sparsenet.initial_weights import initial_weights
from sparsenet.published import RECIPES, errors_as_trained

EVALUATE = CHECKOUT / "scripts" / "evaluate.py"
NETWORK = ["--recipe", "digits", "--depth", "7", "--dataset", "digits"]


def test_a_run_is_evaluated_as_it_was_trained(finished_run, tmp_path):
    """Its run trained on a subset and tested on it; here the whole test set is used."""
    out = tmp_path / "logits.npz"
    result = run_python(EVALUATE, finished_run, "--logits", out)
    assert result.code == 0, result
    kept = np.load(str(out))
    labels = cifar_data.load("digits", None).test.labels
    assert np.array_equal(kept["labels"], labels)
    incorrect = kept["logits"].argmax(axis=1) != labels
    lines = {line.split()[0]: line.split() for line in result.out.splitlines() if line}
    assert lines["all"][1:3] == ["360", "{:.2%}".format(incorrect.mean())]
    for label in range(10):
        members = labels == label
        assert lines[str(label)][1:3] == [
            str(members.sum()), "{:.2%}".format(incorrect[members].mean()),
        ]  # fmt: skip
    assert "images/s" in result.out
    # The run's own test set is the first 320 images: the same mistakes.
    recorded = read_rows(find_table(str(finished_run)))[-1]["test_error"]
    assert incorrect[:320].mean() == pytest.approx(recorded, abs=1e-6)


def test_a_bare_checkpoint_needs_to_be_described(finished_run, tmp_path):
    for path in finished_run.glob("model-15.*"):
        shutil.copy(str(path), str(tmp_path))
    result = run_python(EVALUATE, tmp_path / "model-15", *NETWORK, "--batch_size", "7")
    assert result.code == 0, result
    assert "all          360" in result.out
    result = run_python(EVALUATE, tmp_path / "model-15", "--recipe", "digits", "--depth", "10")
    assert_refused(result, "block1/layer1/conv1/W is absent")


def test_mistakes(finished_run, tmp_path):
    assert_refused(run_python(EVALUATE, finished_run, "--depth", "7"), "--depth", "run.json")
    assert_refused(run_python(EVALUATE, finished_run, "--dataset", "c10"), "c10", "digits")
    assert_refused(run_python(EVALUATE, tmp_path / "nothing", *NETWORK), "nothing")
    assert_refused(
        run_python(EVALUATE, finished_run, "--logits", tmp_path / "no" / "f"), "--logits"
    )
    result = run_python(EVALUATE, finished_run, "--logits", tmp_path / "f")
    assert_refused(result, "--logits", ".npz")
    assert_refused(run_python(EVALUATE), "RUN_OR_CHECKPOINT")
    incomplete = tmp_path / "incomplete"
    shutil.copytree(str(finished_run), str(incomplete))
    record = json.loads((incomplete / "run.json").read_text())
    del record["preprocessing"]
    (incomplete / "run.json").write_text(json.dumps(record))
    assert_refused(run_python(EVALUATE, incomplete), "run.json", "preprocessing")


def test_a_confusion_matrix_counts_classes_by_row():
    labels, predicted = np.array([0, 0, 1, 2, 2, 2]), np.array([0, 1, 1, 0, 2, 2])
    matrix = confusion_matrix(labels, predicted, 4)
    assert matrix.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]


def test_errors_and_losses_are_those_of_the_logits():
    logits = np.array([[3.0, 1.0, 2.0], [0.0, 0.0, 0.0], [-1000.0, 1000.0, 0.0]], np.float32)
    result = Evaluation(logits, np.array([2, 0, 0]), seconds=1.0)
    assert result.incorrect().tolist() == [1.0, 0.0, 1.0]
    assert result.incorrect(2).tolist() == [0.0, 0.0, 1.0]
    likely = np.exp(logits[0]) / np.exp(logits[0]).sum()
    np.testing.assert_allclose(result.losses(), [-np.log(likely[2]), np.log(3), 2000], rtol=1e-6)


def test_the_published_errors_of_a_recipe_are_those_of_its_network_and_data():
    recipe = RECIPES["sparsenet-100-24"]
    assert [error.percent for error in errors_as_trained(recipe)] == [4.64, 4.44]
    c100 = dataclasses.replace(recipe, dataset="c100")
    assert [error.percent for error in errors_as_trained(c100)] == [22.41]
    for changes in ({"base": 3}, {"dropout": 0.2}):
        config = dataclasses.replace(recipe.config, **changes)
        assert errors_as_trained(dataclasses.replace(recipe, config=config)) == []
    plain = dataclasses.replace(RECIPES["sparsenet-40-24"], augment="none")
    assert {error.data for error in errors_as_trained(plain)} <= {"c10"}
    assert errors_as_trained(dataclasses.replace(recipe, name="x", dataset="svhn")) == []
    # Trained without augmentation, as nothing here is.
    assert errors_as_trained(RECIPES["densenet-40-12-conv0-16"]) == []
    assert [error.percent for error in errors_as_trained(RECIPES["sparsenet-121-32"])] == [25.6]


def test_a_published_network_is_shown_beside_its_paper(tmp_path):
    """With random weights and images: 100 classes by name, top-5, published error, picture."""
    stream = np.random.RandomState(0)
    for name in ("train.bin", "test.bin"):
        labels = np.stack([np.zeros(100), np.arange(100)], axis=1)
        records = np.concatenate([labels, stream.randint(0, 256, (100, 3072))], axis=1)
        (tmp_path / name).write_bytes(records.astype(np.uint8).tobytes())
    recipe = RECIPES["sparsenet-40-24"]
    config = dataclasses.replace(recipe.config, classes=100)
    write_arrays(str(tmp_path / "x.npz"), initial_weights(config, 0))
    result = run_python(
        EVALUATE, tmp_path / "x.npz", "--recipe", "sparsenet-40-24", "--dataset", "c100",
        "--dataset_dir", tmp_path, "--logits", tmp_path / "logits.npz",
        "--picture", tmp_path / "confusion.svg",
    )  # fmt: skip
    assert (result.code, result.err) == (0, "")
    kept = np.load(str(tmp_path / "logits.npz"))
    ranks = (kept["logits"] > kept["logits"][np.arange(100), kept["labels"]][:, None]).sum(axis=1)
    lines = {line.split()[0]: line.split() for line in result.out.splitlines() if line}
    assert lines["class"] == ["class", "images", "error", "top-5", "loss"]
    assert lines["aquarium_fish"][1] == "1"
    expected = ["{:.2%}".format((ranks >= top).mean()) for top in (1, 5)]
    assert lines["all"][1:4] == ["100", *expected]
    assert "published: 24.65% (Zhu et al. 2018, CIFAR table)" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())
    picture = (tmp_path / "confusion.svg").read_text(encoding="utf-8")
    assert all(name in picture for name in ("aquarium_fish", "worm", "predicted class"))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Keras 3 needs Python 3.10")
def test_keras_and_the_graph_find_the_same(finished_run, tmp_path):
    convert = CHECKOUT / "scripts" / "convert.py"
    assert run_python(EVALUATE, finished_run, "--logits", tmp_path / "graph.npz").code == 0
    expected = np.load(str(tmp_path / "graph.npz"))["logits"]
    assert not is_for_keras(str(finished_run / "model-15"))
    for name in ("x.keras", "x.weights.h5", "x.npz"):
        assert is_for_keras(str(tmp_path / name))
        assert run_python(convert, finished_run, tmp_path / name).code == 0
        logits = tmp_path / "logits.npz"
        result = run_python(EVALUATE, tmp_path / name, "--logits", logits, "--batch_size", "90")
        assert (result.code, result.err) == (0, "")
        assert "all          360" in result.out
        difference = np.abs(np.load(str(logits))["logits"] - expected).max()
        assert difference < 1e-5 * np.abs(expected).max()


def test_a_picture_is_drawn(finished_run, tmp_path):
    result = run_python(EVALUATE, finished_run, "--picture", tmp_path / "x.png")
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    result = run_python(EVALUATE, finished_run, "--picture", tmp_path / "x.jpg")
    assert_refused(result, "--picture", "x.jpg", ".png or .svg")


def test_the_classes_of_a_record_have_to_fit(finished_run, tmp_path):
    shutil.copytree(str(finished_run), str(tmp_path / "run"))
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    names = ["the {} of them".format(number) for number in range(9)] + ["x" * 100]
    record["data"]["classes"] = names
    path.write_text(json.dumps(record))
    result = run_python(EVALUATE, tmp_path / "run")
    assert result.code == 0, result
    assert all(each in result.out for each in names[:9]) and "xxx ... xxx" in result.out
    assert all(len(line) <= 80 for line in result.out.splitlines())
    for wrong, words in (
        (names[:3], "`classes` has 3 names"), ("abc", "a list of text"), ([1] * 10, "a list of te")
    ):  # fmt: skip
        record["data"]["classes"] = wrong
        path.write_text(json.dumps(record))
        assert_refused(run_python(EVALUATE, tmp_path / "run"), "run.json: `", "classes`", words)
