import json
import shutil

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python

import cifar_data
from run_directory.table import find_table, read_rows

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
