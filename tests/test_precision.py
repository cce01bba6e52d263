"""Runs in other precisions: what they are computed in, what is recorded, and what is refused."""

import json
import shutil
import sys

from common.tf_stack import session_config, tf

import numpy as np
import pytest
from conftest import CHECKOUT, TINY, assert_refused, launch, run_python
from graphs import Built, batch, relative_difference

from platforms import gpu, loss_scaling, rewriting
from platforms.loss_scaling import LossScalingOptimizer
from platforms.platform import LossScaling, Platform
from platforms.precision import REWRITINGS
from run_directory.checkpoints import read_arrays
from run_directory.record import in_todays_words
from run_directory.settings import FLOAT32, MIXED, MIXED_BFLOAT16, MIXED_FLOAT16, PRECISIONS, TF32
from sparsenet.config import SparseNetConfig
from sparsenet.errors import UserError
from training.command_line import parse
from training.run import train

is_modern = sys.version_info >= (3, 8)
needs_passes = pytest.mark.skipif(not is_modern, reason="TensorFlow 1.15 has no pass for a CPU")
CPU = ["--gpu", "none"]
STEPS = ["--recipe", "digits", "--depth", "7", "--fake", "--subset", "40", "--batch_size", "4",
         "--steps_per_epoch", "3", "--max_epoch", "2", "--learning_rate", "0.01",
         *CPU]  # fmt: skip
# Relative, of the weights after a few steps: more than the rounding of float32 makes of them, and
# no more than that of 16 bits does.
DIFFERENT, CLOSE = 1e-4, 5e-2


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Run directories of a few steps in float32 and in both mixed precisions.

    That in bfloat16 is a process of its own: its switch is read when TensorFlow is imported.
    """
    folder = tmp_path_factory.mktemp("precisions")
    for precision in (FLOAT32, *MIXED):
        flags = [*STEPS, "--precision", precision, "--log_dir", folder, "--name", precision]
        flags += [] if precision in MIXED else ["--kernels", "standard"]
        result = launch(*flags, alone=precision == MIXED_BFLOAT16)
        assert result.code == 0, result
        assert "precision        {}\n".format(precision) in result.out
        assert "kernels          standard\n" in result.out
    return folder


@needs_passes
@pytest.mark.trains
def test_weights_are_those_of_float32_but_for_rounding(runs):
    standard = read_arrays(str(runs / FLOAT32 / "model-6"))
    kernels = [name for name in standard if name.endswith("/W")]
    assert kernels
    for precision in MIXED:
        mixed = read_arrays(str(runs / precision / "model-6"))
        assert set(mixed) - set(standard) <= {"loss_scale", "good_steps"}
        assert all(mixed[name].dtype == standard[name].dtype for name in standard)
        found = [relative_difference(mixed[name], standard[name]) for name in kernels]
        assert DIFFERENT < max(found) < CLOSE, precision


@needs_passes
@pytest.mark.trains
def test_the_graph_stays_what_it_is(runs):
    standard, bfloat16, float16 = (
        (runs / each / "graph.pbtxt").read_text() for each in (FLOAT32, *MIXED)
    )
    assert bfloat16 == standard
    nodes = float16.partition("\ngraph_def {")[2]
    assert "loss_scaling/" in nodes and "DT_HALF" not in nodes


@needs_passes
@pytest.mark.trains
def test_it_is_recorded_and_a_known_reason(runs):
    for precision in (FLOAT32, *MIXED):
        record = json.loads((runs / precision / "run.json").read_text())
        assert record["precision"] == record["settings"]["precision"] == precision
        assert ("loss_scale" in record["cpu"]) == (precision == MIXED_FLOAT16)
    compare = CHECKOUT / "scripts" / "compare.py"
    result = run_python(compare, runs / FLOAT32, runs / MIXED_BFLOAT16)
    assert "precision: float32 | mixed_bfloat16" in result.out, result


@needs_passes
@pytest.mark.trains
def test_a_resumed_run_keeps_it_and_its_loss_scale(runs, tmp_path):
    shutil.copytree(str(runs / MIXED_FLOAT16), str(tmp_path / "run"))
    for path in (tmp_path / "run").glob("model-6.*"):
        path.unlink()
    assert_refused(launch("--resume", tmp_path / "run", "--precision", FLOAT32), "--precision")
    result = launch("--resume", tmp_path / "run")
    assert result.code == 0, result
    assert "precision        mixed_float16" in result.out
    whole, run = (
        read_arrays(str(each / "model-6")) for each in (runs / MIXED_FLOAT16, tmp_path / "run")
    )
    assert set(whole) == set(run) and all(np.array_equal(whole[name], run[name]) for name in run)
    assert run["loss_scale"] == loss_scaling.FIRST_SCALE and run["good_steps"] == 6


@needs_passes
@pytest.mark.trains
def test_steps_that_overflow_are_skipped(tmp_path, monkeypatch):
    """The loss times 2^24 has gradients that float16 can't hold; the network is none the worse."""
    flags = [*STEPS, "--precision", MIXED_FLOAT16, "--log_dir", tmp_path, "--name"]
    monkeypatch.setattr(loss_scaling, "FIRST_SCALE", 2.0**24)
    result = launch(*flags, "few", "--steps_per_epoch", "10")
    assert result.code == 0, result
    rows = json.loads((tmp_path / "few" / "stats.json").read_text())
    first, second = (row["skipped_steps"] for row in rows)
    assert 2 < first < 10 and second < first
    assert rows[0]["loss_scale"] == 2.0 ** (24 - first)
    monkeypatch.setattr(loss_scaling, "FIRST_SCALE", 2.0**100)
    result = launch(*flags, "all")
    assert result.code == 1, result
    assert "all 3 were skipped" in result.err and "--precision float32" in result.err


# Arithmetic ----------------------------------------------------------------------------------


@needs_passes
def test_convolutions_and_their_gradients_have_16_bits(monkeypatch):
    for name, value in REWRITINGS["cpu"][MIXED_FLOAT16].environment.items():
        monkeypatch.setenv(name, value)
    settings = parse(["--recipe", "digits", *CPU, "--precision", MIXED_FLOAT16])
    config = gpu.platform(settings).session_config
    session = tf.Session
    monkeypatch.setattr(tf, "Session", lambda: session(config=config))
    built = Built(SparseNetConfig(layers=(3, 3), growth_rate=(4, 4)), is_training=True)
    ran, traced = tf.RunMetadata(), tf.RunOptions(output_partition_graphs=True)
    feed = dict(zip(built.inputs, batch()))
    built.session.run(built.step, feed, options=traced, run_metadata=ran)
    nodes = [node for graph in ran.partition_graphs for node in graph.node]
    kinds = ("Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput", "MatMul", "FusedBatchNormV3")
    for kind in kinds:
        found = {tf.as_dtype(node.attr["T"].type) for node in nodes if node.op == kind}
        assert found == {tf.float16}, kind
    assert all(node.attr["U"].type == tf.float32.as_datatype_enum for node in nodes
               if node.op == "FusedBatchNormV3")  # fmt: skip


def test_a_session_of_float32_is_seen_to_be_one():
    assert not rewriting.computes_in(tf.float16, session_config())
    assert rewriting.computes_in(tf.float32, session_config())


# Loss scaling --------------------------------------------------------------------------------


class Scaled:
    """One weight, its gradient fed, and an optimizer with loss scaling."""

    def __init__(self, devices=1):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.gradient = tf.placeholder(tf.float32, [])
            self.weight = tf.get_variable("W", initializer=1.0)
            optimizer = LossScalingOptimizer(tf.train.MomentumOptimizer(0.5, 0.5))
            found = optimizer.compute_gradients(self.gradient * self.weight, [self.weight])
            self.step = tf.group(*[optimizer.apply_gradients(found) for _ in range(devices)])
            self.seen = loss_scaling.scale_and_is_finite()
            self.variables = {v.op.name: v for v in tf.global_variables()}
            self.session = tf.Session()
            self.session.run(tf.global_variables_initializer())

    def run(self, gradient):
        """Train a step; return the variables by name."""
        self.session.run(self.step, {self.gradient: gradient})
        return self.session.run(self.variables)


def test_a_step_is_that_without_scaling():
    scaled = Scaled()
    assert scaled.run(0.25)["W"] == 1 - 0.5 * 0.25
    after = scaled.run(0.25)
    assert after["W"] == 1 - 0.5 * 0.25 - 0.5 * 0.375
    assert after["loss_scale"] == loss_scaling.FIRST_SCALE and after["good_steps"] == 2


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3e38])
def test_an_overflow_changes_the_scale_alone(value):
    """3e38 is finite, but not times the scale."""
    scaled = Scaled()
    before = scaled.run(0.25)
    after = scaled.run(value)
    assert after.pop("loss_scale") == before.pop("loss_scale") / 2
    assert after.pop("good_steps") == 0 and before.pop("good_steps") == 1
    assert after == before
    assert scaled.session.run(scaled.seen[1], {scaled.gradient: 1.0})
    assert not scaled.session.run(scaled.seen[1], {scaled.gradient: value})


def test_the_scale_grows_and_does_not_fall_below_1(monkeypatch):
    monkeypatch.setattr(loss_scaling, "GROWS_AFTER", 3)
    monkeypatch.setattr(loss_scaling, "FIRST_SCALE", 2.0)
    scaled = Scaled()
    fed = [1, 1, 1, 1, np.inf, 1, 1, np.inf, np.inf, np.inf, 1, 1, 1]
    scales = [scaled.run(each)["loss_scale"] for each in fed]
    assert scales == [2, 2, 4, 4, 2, 2, 2, 1, 1, 1, 1, 1, 2]


def test_several_devices_change_the_scale_once():
    assert Scaled(devices=2).run(np.inf)["loss_scale"] == loss_scaling.FIRST_SCALE / 2


@pytest.mark.trains
def test_two_devices_train_with_it(tmp_path, capsys):
    """Soft placement puts both on the CPU: the wiring of several GPUs."""

    def two_devices(settings):
        return Platform(
            "cpu", ["one", "two"], tf.ConfigProto(allow_soft_placement=True),
            wrap_optimizer=LossScalingOptimizer,
            loss_scaling=LossScaling(loss_scaling.scale_and_is_finite, ""),
        )  # fmt: skip

    flags = [*STEPS, "--max_epoch", "1", "--log_dir", str(tmp_path), "--name", "run"]
    with tf.Graph().as_default():
        train(parse(flags), two_devices)
    assert "loss scale 32768, 0 of 3 steps skipped" in capsys.readouterr().out
    assert read_arrays(str(tmp_path / "run" / "model-3"))["good_steps"] == 3


# What is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS[1:])
def test_what_a_cpu_does_not_have(precision, tmp_path):
    if is_modern and precision in MIXED:
        pytest.skip("it has it")
    result = launch(*TINY, *CPU, "--precision", precision, "--log_dir", tmp_path / "runs")
    assert_refused(result, "--precision " + precision, "accepted on this CPU", "float32")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("precision", MIXED)
def test_fused_kernels_compute_in_float32(precision):
    flags = ["--recipe", "digits", *CPU, "--precision", precision, "--kernels"]
    with pytest.raises(UserError, match="--kernels fused; accepted: with --precision float32"):
        parse([*flags, "fused"])
    assert parse([*flags, "standard"]).precision == precision


@needs_passes
def test_what_tensorflow_leaves_out_is_refused(monkeypatch):
    """As it does for bfloat16 where oneDNN is off: it would compute in float32."""
    monkeypatch.setattr(rewriting, "computes_in", lambda dtype, config: False)
    settings = parse(["--recipe", "digits", *CPU, "--precision", MIXED_BFLOAT16])
    with pytest.raises(UserError, match="^--precision mixed_bfloat16; .*: float32, mixed_float16$"):
        gpu.platform(settings)


@needs_passes
@pytest.mark.parametrize("capability, has_it", [((7, 5), False), ((8, 0), True), ((10, 0), True)])
def test_tf32_needs_a_gpu_that_has_it(monkeypatch, capability, has_it):
    devices = tf.config.experimental
    monkeypatch.setattr(devices, "list_physical_devices", lambda kind: ["a GPU"])
    monkeypatch.setattr(
        devices, "get_device_details", lambda device: {"compute_capability": capability}
    )
    assert rewriting.precisions("gpu") == [FLOAT32] + [TF32] * has_it + [MIXED_FLOAT16]


@pytest.mark.parametrize(
    "script, precision",
    [("main_npu.py", FLOAT32), ("main_npu.py", MIXED_FLOAT16), ("scripts/train_keras.py", TF32)],
)
def test_precisions_elsewhere(script, precision, tmp_path):
    if script.endswith("keras.py") and not is_modern:
        pytest.skip("Keras 3 needs a later Python")
    result = run_python(CHECKOUT / script, *TINY, "--precision", precision, cwd=tmp_path)
    assert_refused(result, "--precision " + precision, "accepted")


def test_keras_runs_of_old_are_read():
    assert in_todays_words({"precision": "bfloat16"}) == {"precision": MIXED_BFLOAT16}
    assert in_todays_words({"precision": FLOAT32}) == {"precision": FLOAT32}
