"""The frozen graph, as Ascend's converter is given it."""

import json
import shutil

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT, TINY, assert_refused, launch, run_python
from graphs import relative_difference

pytestmark = pytest.mark.trains

SCRIPT = CHECKOUT / "scripts" / "freeze_graph.py"


def logits_of(path, images):
    graph_def = tf.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    with tf.Session(graph=graph) as session:
        return session.run("linear/output:0", {"image:0": images})


def ops_of(path):
    graph_def = tf.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    return {node.op: node for node in graph_def.node}


@pytest.mark.parametrize(
    "network",
    [[], ["--dropout", "0.2", "--attention", "se"], ["--combine", "sum", "--fetch", "dense"]],
)
def test_its_logits_are_those_of_the_checkpoint(tmp_path, network):
    result = launch(*TINY, *network, "--max_epoch", "1", "--log_dir", tmp_path, "--name", "run")
    assert result.code == 0, result
    logits = tmp_path / "logits.npz"
    scripts = CHECKOUT / "scripts"
    result = run_python(scripts / "evaluate.py", tmp_path / "run", "--logits", logits)
    assert result.code == 0, result
    import cifar_data

    images = cifar_data.load("digits", None).test.images
    wanted = np.load(str(logits))["logits"]
    for dtype, batch_size in [("uint8", None), ("float", 7)]:
        out = tmp_path / (dtype + ".pb")
        flags = ["--input", dtype, "--out", out]
        flags += ["--batch_size", batch_size] if batch_size else []
        result = run_python(SCRIPT, tmp_path / "run", *flags)
        assert result.code == 0, result
        assert "linear/output" in result.out
        ops = ops_of(out)
        assert not any("Variable" in op or "Assign" in op for op in ops)
        assert not ops["FusedBatchNormV3"].attr["is_training"].b
        fed = images[: batch_size or len(images)].astype(
            {"uint8": "uint8", "float": "float32"}[dtype]
        )
        assert relative_difference(logits_of(out, fed), wanted[: len(fed)]) <= 1e-5


def test_the_data_are_not_needed(finished_run, tmp_path):
    """The graph is often made on another host than the network was trained on."""
    shutil.copytree(str(finished_run), str(tmp_path / "run"))
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    record["settings"]["dataset_dir"] = "/gone"
    record["recipe"]["dataset"] = "c10"
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    result = run_python(SCRIPT, tmp_path / "run", "--out", tmp_path / "frozen.pb")
    assert result.code == 0, result
    assert (tmp_path / "frozen.pb").exists()


def test_mistakes(tmp_path, finished_run):
    assert_refused(run_python(SCRIPT, tmp_path / "nowhere"), "nowhere")
    assert_refused(run_python(SCRIPT, finished_run, "--out", "x.txt"), ".pb")
    assert_refused(run_python(SCRIPT, finished_run, "--input", "half"), "uint8")
