"""Training with --recompute: the same gradients and statistics, and less that is kept for them."""

import json
import shutil

from common.tf_stack import session_config, tf

import pytest
from conftest import CHECKOUT, TINY, assert_refused, launch, run_python
from graphs import Built, batch, relative_difference

from run_directory.checkpoints import read_arrays
from sparsenet.config import SparseNetConfig
from training.recompute import SCOPE, RecomputingOptimizer, is_cheap

NETWORKS = {
    "plain": {},
    "bc": {"unit": "bottleneck", "compression": 0.5, "dropout": 0.2},
    "window": {"fetch": "channel_window", "nearest": 1, "farthest": 1, "layers": (5, 5),
               "transition_slots": True, "growth_rate": (4, 4)},
    "resnet": {"combine": "sum", "fetch": "dense", "unit": "residual_bottleneck"},
    "attention": {"attention": "liu_zeng"},
}  # fmt: skip
STANDARD = ["--gpu", "none", "--kernels", "standard"]
RUN = [*TINY, *STANDARD, "--max_epoch", "1"]


@pytest.fixture(params=NETWORKS)
def both(request, monkeypatch):
    """Return the training graphs of a network, without and with copies."""
    # The session of a run, in which no ops are fused: fused ones round differently.
    session = tf.Session
    monkeypatch.setattr(tf, "Session", lambda: session(config=session_config()))
    fields = dict({"layers": (4, 3), "growth_rate": (4, 5)}, **NETWORKS[request.param])
    options = {"is_training": True, "normalization": {"mean": [128.0] * 3, "std": [64.0] * 3}}
    config = SparseNetConfig(**fields)
    wraps = (lambda optimizer: optimizer, RecomputingOptimizer)
    return [Built(config, wrap_optimizer=wrap, **options) for wrap in wraps]


def test_gradients_weights_and_statistics(both):
    images, labels = batch()
    fed = [images, labels, 1][: len(both[0].inputs)]
    expected, found = (each.run(each.gradients, *fed) for each in both)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        assert relative_difference(found[name], gradient) < 1e-6, name
    for each in both:
        each.run(each.step, *fed)
    expected, found = (each.session.run(each.variables()) for each in both)
    assert set(found) == set(expected)
    for name, value in expected.items():
        assert relative_difference(found[name], value) < 1e-6, name


def test_gradients_read_copies_that_wait_for_them(both):
    standard, recomputing = (each.graph.get_operations() for each in both)
    copies = [op for op in recomputing if op.name.startswith(SCOPE + "/")]
    assert {op.type for op in copies} >= {"FusedBatchNormV3", "Relu"}
    assert {op.name for op in recomputing} - {op.name for op in copies} == {
        op.name for op in standard
    }
    for op in copies:
        assert op.control_inputs[0].name.startswith("gradients/")

    def kept(operations):
        """Return how many inputs of gradients are cheap and of the forward pass.

        Shapes are no gradients: they are known without a step.
        """
        gradients = [op for op in operations if op.name.startswith("gradients/")]
        gradients = [op for op in gradients if not op.type.startswith("Shape")]
        read = [each for op in gradients for each in op.inputs if is_cheap(each)]
        return sum(not each.name.startswith(SCOPE + "/") for each in read)

    assert kept(standard) > 10 and kept(recomputing) == 0


@pytest.mark.trains
def test_a_run_records_it_and_goes_on_with_it(tmp_path):
    root = ["--log_dir", tmp_path]
    assert launch(*RUN, *root, "--name", "plain").code == 0
    result = launch(*RUN, *root, "--name", "less", "--recompute")
    assert result.code == 0, result
    record = json.loads((tmp_path / "less" / "run.json").read_text())
    assert record["settings"]["recompute"] is True
    a, b = (read_arrays(str(tmp_path / name / "model-5")) for name in ("plain", "less"))
    assert set(a) == set(b)
    assert max(relative_difference(a[name], b[name]) for name in a) < 1e-4
    graph = (tmp_path / "plain" / "graph.pbtxt").read_text()
    assert SCOPE not in graph and SCOPE in (tmp_path / "less" / "graph.pbtxt").read_text()
    result = run_python(CHECKOUT / "scripts" / "compare.py", tmp_path / "plain", tmp_path / "less")
    assert "settings.recompute: False | True" in result.out, result
    shutil.copytree(str(tmp_path / "plain"), str(tmp_path / "again"))
    for flags in ([], ["--recompute"]):
        for name in ("less", "again"):
            path = tmp_path / name
            epochs = "2" if not flags else "3"
            result = launch("--resume", path, "--gpu", "none", "--max_epoch", epochs, *flags)
            assert result.code == 0, result


def test_keras_refuses_it(tmp_path):
    result = run_python(
        CHECKOUT / "scripts" / "train_keras.py", *TINY, "--recompute", cwd=tmp_path, alone=True
    )
    assert_refused(result, "main_gpu.py")


def test_two_towers_have_copies_of_their_own():
    with tf.Graph().as_default() as graph:
        kernel = tf.get_variable("W", [3, 3, 2, 2])
        optimizer = RecomputingOptimizer(tf.train.MomentumOptimizer(0.1, 0.9))
        for _ in range(2):
            x = tf.nn.relu(tf.nn.conv2d(tf.ones([1, 4, 4, 2]), kernel, 1, "SAME"))
            optimizer.compute_gradients(tf.reduce_sum(tf.nn.conv2d(x, kernel, 1, "SAME")))
        copies = [op.name for op in graph.get_operations() if op.name.startswith(SCOPE)]
        assert len(copies) == 2 and len({name.split("/")[0] for name in copies}) == 2
