"""Several processes that train together: what each sees, and that they stay one network."""

import json
import os
import signal
import subprocess
import sys
import time

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT, CLEAN_ENVIRONMENT, Result, assert_refused, launch, run_python
from graphs import relative_difference
from tensorpack.tfutils.tower import TowerContext

import cifar_data
from platforms.platform import Platform
from platforms.workers import Workers
from sparsenet.plan import variable_shapes
from sparsenet_model import SparseNet
from training import command_line
from training.callbacks import moving_statistics

pytestmark = pytest.mark.trains

TINY = ["--recipe", "digits", "--depth", "7", "--subset", "320", "--batch_size", "32"]
# How far apart what training has changed may be, for each variable as a whole. Sums of float32 in
# another order differ by 1e-6; one ReLU that they flip, in one of 32 images, has moved a gradient
# by 1e-3 (on an AMD EPYC). A sum in place of a mean is 1 apart, an image counted twice about 0.2.
SAME_UPDATE = 2e-2
HOROVODRUN = os.path.join(os.path.dirname(sys.executable), "horovodrun")
needs_horovod = pytest.mark.skipif(
    not os.path.exists(HOROVODRUN), reason="horovod is not installed beside this Python"
)


def start(script, *arguments, processes=2, **env):
    """Start a script under horovodrun, in a process group of its own."""
    command = [HOROVODRUN, "--gloo", "-np", str(processes), "-H", "localhost:{}".format(processes),
               "--network-interface", "lo", sys.executable, str(script)]  # fmt: skip
    return subprocess.Popen(
        command + [str(a) for a in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(CLEAN_ENVIRONMENT, PATH="{}:{}".format(
            os.path.dirname(sys.executable), os.environ["PATH"]), **env),
        start_new_session=True,
    )  # fmt: skip


def run(script, *arguments, **options):
    process = start(script, *arguments, **options)
    try:
        out = process.communicate(timeout=300)[0].decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return Result(process.returncode, out, "")


def variables(prefix):
    reader = tf.train.load_checkpoint(str(prefix))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def assert_same_updates(start, a, b):
    """From the variables `start`, two runs went the same way."""
    for name in a:
        apart = relative_difference(b[name] - start[name], a[name] - start[name])
        assert apart <= SAME_UPDATE, (name, apart)


def stats(directory):
    return json.loads((directory / "stats.json").read_text())


def test_workers_share_every_batch_without_overlap():
    data = cifar_data.load("digits", None)
    preprocessing = data.preprocessing("channel", "black")
    whole = data.training_batches(24, 5, 2, 1, preprocessing)
    parts = [data.training_batches(24, 5, 2, 1, preprocessing, (i, 3)) for i in range(3)]
    for _ in range(5):  # into the third epoch
        batch, shared = next(whole), [next(part) for part in parts]
        assert [len(part.labels) for part in shared] == [8, 8, 8]
        assert np.array_equal(np.concatenate([part.images for part in shared]), batch.images)
        assert np.array_equal(np.concatenate([part.labels for part in shared]), batch.labels)


def test_devices_are_counted_over_all_workers():
    assert Platform("cpu", ["a", "b"], None, workers=Workers(1, 3)).total_devices == 6


def test_the_statistics_that_workers_average_are_all_of_the_network():
    """On either stack."""
    config = command_line.parse(TINY).recipe.config
    model = SparseNet(config, normalization={"mean": 0.0, "std": 1.0}, batch_size=2)
    with tf.Graph().as_default():
        images, labels = tf.zeros([2, 32, 32, 3], tf.uint8), tf.zeros([2], tf.int32)
        with TowerContext("", is_training=True):
            model.build_graph(images, labels)
        found = moving_statistics()
    assert sorted(found) == sorted(n for n in variable_shapes(config) if n.endswith("/EMA"))


def test_horovodrun_without_horovod_is_one_sentence(tmp_path):
    (tmp_path / "horovod").mkdir()
    (tmp_path / "horovod" / "__init__.py").write_text("raise ImportError('not built')")
    env = {"HOROVOD_SIZE": "2", "PYTHONPATH": str(tmp_path)}
    result = launch(*TINY, "--log_dir", tmp_path / "runs", env=env)
    assert result.code == 2 and result.err.count("\n") == 1
    assert "requirements/horovod.txt" in result.err
    assert not (tmp_path / "runs").exists()


@needs_horovod
def test_two_halves_of_a_batch_are_a_batch(tmp_path):
    """The gradients of 2 x 16 images averaged are those of 32, over a whole epoch of steps."""
    script = CHECKOUT / "tests" / "frozen_statistics.py"
    flags = TINY + ["--max_epoch", "1", "--steps_per_epoch", "3", "--log_dir", tmp_path]
    one = subprocess.run([sys.executable, str(script)] + [str(f) for f in flags]
                         + ["--name", "one"], env=CLEAN_ENVIRONMENT,
                         stdout=subprocess.DEVNULL)  # fmt: skip
    assert one.returncode == 0
    result = run(script, *flags, "--name", "two")
    assert result.code == 0, result.out
    a, b = (variables(tmp_path / name / "model-3") for name in ("one", "two"))
    assert set(a) == set(b)
    start = variables(tmp_path / "one" / "model-0")
    moved = [name for name in a if name.endswith("/W")]
    assert moved and not any(np.array_equal(a[name], start[name]) for name in moved)
    assert_same_updates(start, a, b)
    errors = [stats(tmp_path / name)[0]["train_error"] for name in ("one", "two")]
    assert errors[0] == pytest.approx(errors[1], abs=1e-6)
    losses = [stats(tmp_path / name)[0]["train_loss"] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@needs_horovod
def test_all_workers_end_alike_and_a_stopped_job_goes_on(tmp_path):
    """Weights and statistics of both, after an epoch each of two jobs, are those of one job."""
    script = CHECKOUT / "tests" / "all_workers_save.py"
    flags = TINY + ["--log_dir", tmp_path]
    env = {"SPARSENET_TEST_FOLDER": str(tmp_path)}
    whole = run(script, *flags, "--max_epoch", "2", "--name", "whole", **env)
    assert whole.code == 0, whole.out
    # The chief alone says what the run is, and how it ended.
    assert whole.out.count("precision") == whole.out.count("last checkpoint") == 1
    ends = [np.load(str(tmp_path / "worker-{}.npz".format(rank))) for rank in (0, 1)]
    assert ends[0].files == ends[1].files and "bn_last/mean/EMA" in ends[0].files
    for name in ends[0].files:
        assert np.array_equal(ends[0][name], ends[1][name]), name
    assert run(script, *flags, "--max_epoch", "1", "--name", "parts", **env).code == 0
    again = run(script, "--resume", tmp_path / "parts", "--max_epoch", "2", **env)
    assert again.code == 0, again.out
    a, b = (variables(tmp_path / name / "model-20") for name in ("whole", "parts"))
    assert_same_updates(variables(tmp_path / "whole" / "model-0"), a, b)
    record = json.loads((tmp_path / "parts" / "run.json").read_text())
    assert record["workers"] == 2 and record["resumed"][0]["workers"] == 2
    assert [entry["epoch_num"] for entry in stats(tmp_path / "parts")] == [1, 2]


@needs_horovod
def test_a_job_is_not_continued_with_another_number_of_workers(tmp_path):
    flags = TINY + ["--max_epoch", "1", "--steps_per_epoch", "1", "--log_dir", tmp_path]
    assert run(CHECKOUT / "main_gpu.py", *flags, "--name", "run").code == 0
    result = launch("--resume", tmp_path / "run", "--max_epoch", "2")
    assert result.code == 2 and "`workers` was 2, here it is 1" in result.err


@needs_horovod
def test_what_one_worker_lacks_is_told_before_anything_is_written(tmp_path):
    script = tmp_path / "one_lacks.py"
    script.write_text(
        "import os, sys\nsys.path.insert(0, {!r})\nimport main_gpu\n"
        "from sparsenet.errors import exit_code_of\n"
        "if os.environ['HOROVOD_RANK'] == '1':\n    sys.argv += ['--steps_per_epoch', '9999']\n"
        "sys.exit(exit_code_of(main_gpu.main))\n".format(str(CHECKOUT))
    )
    result = run(script, *TINY, "--max_epoch", "1", "--log_dir", tmp_path / "runs")
    assert result.code != 0 and "--steps_per_epoch 9999" in result.out
    assert not (tmp_path / "runs").exists()


@needs_horovod
def test_a_killed_worker_ends_the_job(tmp_path):
    flags = TINY + ["--max_epoch", "10000", "--log_dir", tmp_path, "--name", "run"]
    process = start(CHECKOUT / "main_gpu.py", *flags)
    try:
        while not (tmp_path / "run" / "model-10.index").exists():
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.2)
        os.kill(pid_of_worker(process.pid, "1"), signal.SIGKILL)
        out = process.communicate(timeout=120)[0].decode()  # raises where the job hangs
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode != 0
    assert "error: " in out or "exit" in out.lower(), out


@needs_horovod
def test_the_benchmark_prints_efficiency():
    flags = ["1,2", "--horovod", "--recipe", "digits", "--depth", "7", "--steps", "4"]
    result = run_python(CHECKOUT / "scripts" / "scaling.py", *flags, "--batch_size", "16")
    assert result.code == 0, result
    header, one, two = (line.split() for line in result.out.splitlines())
    assert header == ["devices", "images/s", "efficiency"]
    assert one[0] == "1" and one[2] == "100.0%" and two[0] == "2"
    efficiency = float(two[1]) / 2 / float(one[1])
    assert float(two[2].rstrip("%")) / 100 == pytest.approx(efficiency, rel=0.05)


def test_the_benchmark_tells_what_was_wrong(tmp_path):
    script = CHECKOUT / "scripts" / "scaling.py"
    result = run_python(script, "1", "--recipe", "digits", "--depth", "8")
    assert result.code == 1 and "`depth` is 8" in result.err and result.err.count("\n") == 1
    assert_refused(run_python(script, "0"), "at least 1")


def pid_of_worker(launcher, rank):
    """The Python process that trains as worker `rank` below horovodrun."""
    for entry in os.listdir("/proc"):
        try:
            with open("/proc/{}/environ".format(entry), "rb") as stream:
                environment = stream.read().split(b"\0")
            with open("/proc/{}/cmdline".format(entry), "rb") as stream:
                command = stream.read().split(b"\0")
        except OSError:  # no process, or gone
            continue
        is_worker = "HOROVOD_RANK={}".format(rank).encode() in environment
        if is_worker and os.fsencode(sys.executable) == command[0] and is_below(entry, launcher):
            return int(entry)
    raise AssertionError("no worker {}".format(rank))


def is_below(pid, launcher):
    while int(pid) > 1:
        if int(pid) == launcher:
            return True
        with open("/proc/{}/stat".format(pid)) as stream:
            pid = stream.read().rpartition(")")[2].split()[1]
    return False
