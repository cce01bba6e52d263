"""What one stack writes, the other reads; scripts/test.sh names the Python of the other one."""

import json
import os

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT, TINY, launch, run_python
from graphs import relative_difference

import cifar_data
from run_directory.record import read_record, recipe_from_dict
from run_directory.table import find_table, read_rows
from sparsenet_model import CROSS_ENTROPY, LOGITS, SparseNet

LEGACY_PYTHON = os.environ.get("SPARSENET_LEGACY_PYTHON")
IS_MODERN = not tf.__version__.startswith("1.")

pytestmark = [
    pytest.mark.trains,
    pytest.mark.skipif(
        not (LEGACY_PYTHON and IS_MODERN), reason="compares the modern stack with the other one"
    ),
]

# Prints the logits of the test set of a run, from its last checkpoint; run on either stack.
LOGITS_PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import test_two_stacks
test_two_stacks.save_logits({run!r}, {out!r})
"""


def save_logits(run, out):
    """Write the logits of a run's checkpoint for its test images, 32 at a time, to a .npy file."""
    from tensorpack import OfflinePredictor, PredictConfig, SaverRestore

    record = read_record(run)
    recipe = recipe_from_dict(record["recipe"])
    data = cifar_data.load(recipe.dataset, None)
    predict = OfflinePredictor(
        PredictConfig(
            model=SparseNet(recipe.config, normalization=record["preprocessing"], batch_size=32),
            session_init=SaverRestore(tf.train.latest_checkpoint(run)),
            input_names=["image", "label"],
            output_names=[LOGITS, CROSS_ENTROPY],
        )
    )
    batches = data.test_batches(32)
    np.save(out, np.concatenate([predict(*batch)[0][:count] for batch, count in batches]))


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same two epochs on both stacks: directory by stack."""
    root = tmp_path_factory.mktemp("stacks")
    pythons = {"modern": None, "legacy": LEGACY_PYTHON}
    flags = ["--recipe", "digits", "--depth", "7", "--max_epoch", "2", "--drop_1", "1"]
    for name, python in pythons.items():
        options = {"python": python} if python else {}
        result = launch(*flags, "--log_dir", root, "--name", name, **options)
        assert result.code == 0, result
    return {name: root / name for name in pythons}


@pytest.mark.parametrize("writer", ["modern", "legacy"])
def test_a_checkpoint_gives_the_same_logits_and_error_on_both(runs, writer, tmp_path):
    logits = []
    for python in ({}, {"python": LEGACY_PYTHON}):
        out = str(tmp_path / "logits{}.npy".format(len(logits)))
        program = LOGITS_PROGRAM.format(
            tests=str(CHECKOUT / "tests"), run=str(runs[writer]), out=out
        )
        result = run_python("-c", program, env={"PYTHONPATH": str(CHECKOUT)}, **python)
        assert result.code == 0, result
        logits.append(np.load(out))
    assert relative_difference(*logits) <= 1e-5
    # And so does Keras.
    file, out = tmp_path / "model.keras", tmp_path / "keras.npz"
    for script, *words in [("convert", runs[writer], file), ("evaluate", file, "--logits", out)]:
        result = run_python(CHECKOUT / "scripts" / (script + ".py"), *words)
        assert result.code == 0, result
    assert all(relative_difference(np.load(str(out))["logits"], each) <= 1e-5 for each in logits)
    labels = cifar_data.load("digits", None).test.labels
    # Images whose two largest logits rounding may put in another order.
    ranked = np.sort(logits[0], axis=1)
    close = int((ranked[:, -1] - ranked[:, -2] < 1e-4 * np.abs(ranked).max()).sum())
    incorrect = [int((each.argmax(axis=1) != labels).sum()) for each in logits]
    assert abs(incorrect[0] - incorrect[1]) <= close
    last = read_rows(find_table(str(runs[writer])))[-1]
    assert abs(incorrect[0] - round(last["test_error"] * len(labels))) <= close


def test_both_start_from_the_same_weights(runs):
    readers = [tf.train.load_checkpoint(str(run / "model-0")) for run in runs.values()]
    names = [reader.get_variable_to_shape_map() for reader in readers]
    assert names[0] == names[1]
    for name in names[0]:
        assert np.array_equal(readers[0].get_tensor(name), readers[1].get_tensor(name)), name


def test_both_record_the_same_data_and_preprocessing(runs):
    records = [json.loads((run / "run.json").read_text()) for run in runs.values()]
    for key in ("recipe", "data", "preprocessing", "parameters", "seed", "steps_per_epoch"):
        assert records[0][key] == records[1][key], key


def test_one_step_moves_the_weights_alike(tmp_path):
    """The arithmetic of training: one step from the same weights with the same batch."""
    flags = TINY + ["--steps_per_epoch", "1", "--max_epoch", "1", "--log_dir", tmp_path]
    for name, options in [("modern", {}), ("legacy", {"python": LEGACY_PYTHON})]:
        result = launch(*flags, "--name", name, **options)
        assert result.code == 0, result
    modern, legacy = (
        tf.train.load_checkpoint(str(tmp_path / n / "model-1")) for n in ("modern", "legacy")
    )
    for name in modern.get_variable_to_shape_map():
        a, b = modern.get_tensor(name), legacy.get_tensor(name)
        if name.endswith("/Momentum"):
            # The gradient. Rounding turns a few ReLUs on or off, which it feels: measured against
            # double precision, either stack was up to 1.5 % off. A mistake is of the order of 1.
            assert relative_difference(a, b) < 0.1, name
        elif name.endswith("/W"):
            assert relative_difference(a, b) < 1e-3, name


def test_either_continues_what_the_other_began(runs, tmp_path):
    import shutil

    shutil.copytree(str(runs["legacy"]), str(tmp_path / "run"))
    result = launch("--resume", tmp_path / "run", "--max_epoch", "3")
    assert result.code == 0, result
    rows = read_rows(find_table(str(tmp_path / "run")))
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert rows[2]["train_loss"] < rows[0]["train_loss"]


def test_the_comparison_finds_them_the_same(runs):
    """Graph, first weights, activations and gradients from equal weights, records."""
    for name, python in (("modern", {}), ("legacy", {"python": LEGACY_PYTHON})):
        result = run_python(
            CHECKOUT / "scripts" / "activations.py", runs[name] / "model-0", "--gradients",
            "--images", "8", "--out", runs[name] / "activations.npz", **python
        )  # fmt: skip
        assert result.code == 0, result
    out = runs["modern"].parent / "report.json"
    result = run_python(
        CHECKOUT / "scripts" / "compare.py", runs["modern"], runs["legacy"], "--json", out
    )
    assert result.code == 0, result
    parts = json.loads(out.read_text())["parts"]
    for name in ("records", "graph", "checkpoints", "activations"):
        assert parts[name]["verdict"] == "same", parts[name]["headline"]
    assert parts["graph"]["data"]["differences"] == []
    (start, _) = parts["checkpoints"]["data"]["comparisons"]
    assert {v["distance"]["max_abs"] for v in start["variables"]} == {0.0}


def test_the_comparison_runs_on_either_stack(runs):
    """On an Ascend host there is no other: what it finds is the same, the report included."""
    found = []
    for name, python in (("modern", {}), ("legacy", {"python": LEGACY_PYTHON})):
        out = [runs["modern"].parent / (name + ending) for ending in (".json", ".html")]
        result = run_python(
            CHECKOUT / "scripts" / "compare.py", *runs.values(), "--json", out[0], "--html", out[1],
            **python
        )  # fmt: skip
        assert result.code == 0, result
        assert "data:image/svg" in out[1].read_text()
        parts = json.loads(out[0].read_text())["parts"]
        found.append({part["name"]: (part["verdict"], part["headline"]) for part in parts.values()})
    assert found[0] == found[1]
