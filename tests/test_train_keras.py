"""scripts/train_keras.py: the run of main_gpu.py, on JAX and on TensorFlow."""

import functools
import glob
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import CHECKOUT, TINY, assert_refused, launch, run_python
from graphs import relative_difference
from test_faults import write_poisoned

from run_directory.checkpoints import read_arrays
from run_directory.table import find_table, read_rows

if sys.version_info < (3, 10):
    pytest.skip("Keras 3 needs Python 3.10", allow_module_level=True)

pytestmark = pytest.mark.trains
FLAGS = [*TINY, "--max_epoch", "2", "--drop_1", "1", "--drop_2", "2"]
TWO_DEVICES = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"


def train_keras(*arguments, backend="jax", **environment):
    environment = dict({"KERAS_BACKEND": backend}, **environment)
    return run_python(CHECKOUT / "scripts" / "train_keras.py", *arguments, env=environment)


@pytest.mark.parametrize("backend", ["jax", "tensorflow"])
def test_one_step_is_that_of_the_graph(tmp_path, backend):
    flags = [*FLAGS, "--max_epoch", "1", "--steps_per_epoch", "1", "--log_dir", tmp_path]
    assert launch(*flags, "--name", "graph").code == 0
    result = train_keras(*flags, "--name", "twin", backend=backend)
    assert result.code == 0, result
    graph, twin = (tmp_path / name for name in ("graph", "twin"))
    for step in ("model-0", "model-1"):
        a, b = (read_arrays(str(run / step)) for run in (graph, twin))
        assert set(a) == set(b)
        # Held against a step in float64, the twin is within 3e-7 of it, the graph 1.1e-4 away:
        # TensorFlow's batch norm is off by 3e-6, which opens or shuts a ReLU for the many equal
        # pixels of a digit's background.
        limit = 0 if step == "model-0" else 5e-4
        for name in a:
            if "Momentum" not in name:
                assert np.abs(a[name].astype(np.float64) - b[name]).max() <= limit, (step, name)
        weights = [
            np.concatenate([each[name].ravel() for name in sorted(a) if "Momentum" not in name])
            for each in (a, b)
        ]
        assert relative_difference(*weights) <= 1e-4
    # compare.py finds the same in all parts that there are.
    for run, environment in [(graph, None), (twin, {"KERAS_BACKEND": backend})]:
        flags = ["--gradients", "--out", run / "activations.npz"]
        result = run_python(
            CHECKOUT / "scripts" / "activations.py", run / "model-0", *flags, env=environment
        )
        assert (result.code, result.err) == (0, ""), result
    result = run_python(CHECKOUT / "scripts" / "compare.py", graph, twin)
    assert result.code == 0, result
    verdict = " ".join(result.out.split())
    assert verdict.endswith(
        "decided by records, checkpoints, curves, activations; graph not compared"
    )


def test_the_learning_rate_moves_alike_and_goes_on_after_resuming(tmp_path):
    flags = [*TINY, "--max_epoch", "2", "--steps_per_epoch", "2", "--log_dir", tmp_path]
    flags += ["--lr_schedule", "cosine", "--warm_up", "0.5"]
    assert launch(*flags, "--name", "graph").code == 0
    assert train_keras(*flags, "--name", "twin").code == 0
    graph, twin = (read_arrays(str(tmp_path / name / "model-4")) for name in ("graph", "twin"))
    kernels = [
        np.concatenate([each[name].ravel() for name in sorted(each) if name.endswith("/W")])
        for each in (graph, twin)
    ]
    # 1.2e-4; it is 1.3e-3 with `linear`.
    assert relative_difference(*kernels) <= 4e-4
    for name, start in [("graph", launch), ("twin", train_keras)]:
        run = tmp_path / name
        rates = [row["learning_rate"] for row in read_rows(find_table(str(run)))]
        assert np.allclose(rates, [0.01, 0.05]), name
        rates = [read_arrays(str(run / step))["learning_rate"] for step in ("model-2", "model-4")]
        assert np.allclose(rates, [0.05, 0]), name
        cut = shutil.copytree(str(run), str(tmp_path / (name + "-cut")))
        for left in glob.glob(os.path.join(cut, "model-4*")):
            os.remove(left)
        assert_refused(start("--resume", cut, "--max_epoch", "3"), "--max_epoch 3", "cosine")
        assert start("--resume", cut).code == 0
        resumed = read_arrays(os.path.join(cut, "model-4"))
        assert all(
            np.array_equal(resumed[each], read_arrays(str(run / "model-4"))[each])
            for each in resumed
        )


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    flags = [*FLAGS, "--dropout", "0.2", "--log_dir", tmp_path]
    assert train_keras(*flags, "--name", "whole").code == 0
    cut = [*flags[:-2], "--max_epoch", "1", "--log_dir", tmp_path, "--name", "cut"]
    assert train_keras(*cut).code == 0
    resumed = train_keras("--resume", tmp_path / "cut", "--max_epoch", "2")
    assert resumed.code == 0, resumed
    whole, cut = (read_arrays(str(tmp_path / name / "model-10")) for name in ("whole", "cut"))
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)
    record = json.loads((tmp_path / "cut" / "run.json").read_text())
    assert record["engine"] == "keras jax" and len(record["resumed"]) == 1
    assert len(read_rows(find_table(str(tmp_path / "cut")))) == 2
    # The other launcher can't go on with it, and says so.
    assert_refused(launch("--resume", tmp_path / "cut", "--max_epoch", "3"), "engine", "keras jax")


@pytest.mark.parametrize("ending", [".keras", ".weights.h5", ".npz"])
def test_new_head_on_the_weights_of_a_file(finished_run, tmp_path, ending):
    file = tmp_path / ("weights" + ending)
    assert run_python(CHECKOUT / "scripts" / "convert.py", finished_run, file).code == 0
    flags = [*TINY, "--dataset", "c100", "--fake", "--steps_per_epoch", "1", "--max_epoch", "1"]
    result = train_keras(
        *flags, "--load", file, "--new_head", "--name", "tuned", "--log_dir", tmp_path
    )
    assert result.code == 0, result
    source = read_arrays(str(finished_run / "model-15"))
    start = read_arrays(str(tmp_path / "tuned" / "model-0"))
    assert start["linear/W"].shape == (60, 100)
    taken = [name for name in start if name.endswith(("/W", "gamma", "beta", "/EMA"))]
    assert all(np.array_equal(start[n], source[n]) for n in taken if n != "linear/W")
    # TensorFlow 1.x and Keras 3 do not go together in one process.
    if ending != ".npz":
        assert_refused(launch(*flags, "--load", file, "--new_head", cwd=tmp_path), "convert.py")


def test_a_step_of_two_devices_is_that_of_one(tmp_path):
    """With the statistics of the whole batch. Over more steps, rounding that shuts a ReLU grows."""
    flags = [*FLAGS, "--max_epoch", "1", "--steps_per_epoch", "1", "--log_dir", tmp_path]
    assert train_keras(*flags, "--name", "one").code == 0
    result = train_keras(*flags, "--devices", "2", "--name", "two", XLA_FLAGS=TWO_DEVICES)
    assert result.code == 0, result
    record = json.loads((tmp_path / "two" / "run.json").read_text())
    assert len(record["devices"]) == 2
    one, two = (read_arrays(str(tmp_path / name / "model-1")) for name in ("one", "two"))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_ten_steps_of_two_devices_and_of_two_processes_are_those_of_one(tmp_path):
    frozen = CHECKOUT / "tests" / "keras_frozen_statistics.py"
    flags = [*TINY, "--subset", "640", "--max_epoch", "1", "--log_dir", tmp_path]
    assert run_python(frozen, *flags, "--name", "one", alone=True).code == 0
    two = [*flags, "--name", "devices", "--devices", "2"]
    result = run_python(frozen, *two, env={"XLA_FLAGS": TWO_DEVICES})
    assert result.code == 0, result
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{}".format(free.getsockname()[1])
    workers = [*flags, "--name", "processes", "--coordinator", address, "--processes", "2"]
    with ThreadPoolExecutor() as pool:
        run = functools.partial(run_python, frozen, *workers, alone=True)
        results = list(pool.map(lambda number: run("--process_id", number), ["1", "0"]))
    assert [each.code for each in results] == [0, 0], results
    one = read_arrays(str(tmp_path / "one" / "model-10"))
    for name in ("devices", "processes"):
        found = read_arrays(str(tmp_path / name / "model-10"))
        for each in one:
            np.testing.assert_allclose(found[each], one[each], atol=1e-5, err_msg=each)
    assert json.loads((tmp_path / "processes" / "run.json").read_text())["workers"] == 2


def test_gpu_reproduce_resumes_what_was_cut(tmp_path):
    """In pieces of a second, of which the first ends before anything is trained."""
    command = ["bash", str(CHECKOUT / "scripts" / "gpu_reproduce.sh"), "DIR", "--out",
               str(tmp_path / "out"), "digits:3"]  # fmt: skip
    flags = ["--", *TINY[2:], "--max_epoch", "2", "--drop_1", "1", "--drop_2", "2"]

    def run(*arguments, seconds):
        environment = dict(os.environ, PYTHON=sys.executable, PIECE_SECONDS=str(seconds))
        return subprocess.run(
            [*command, *arguments], capture_output=True, text=True, env=environment
        )

    cut = run("--once", *flags, seconds=1)
    assert cut.returncode == 75, cut
    assert "verdict: same" in cut.stdout, cut
    whole = run(*flags, seconds=500)
    assert whole.returncode == 0, whole
    assert len(read_rows(find_table(str(tmp_path / "out" / "digits-seed-3")))) == 2
    assert "all 2 epochs are done" in run(*flags, seconds=500).stdout
    refused = run("--twice", seconds=1)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused


@pytest.mark.parametrize(
    "backend, variable, loss, layer",
    [
        # XLA's ReLU on a CPU makes 0 of NaN: only the last layer's gets to the loss. The steps that
        # follow in the compiled part make all weights NaN.
        ("jax", "linear/b", "training", "linear"),
        ("tensorflow", "block2/layer0/conv1/W", "training", "block2/layer0/conv1"),
        ("tensorflow", "block2/layer0/bn1/mean/EMA", "test", "block2/layer0/bn1"),
    ],
)
def test_the_first_layer_whose_output_is_not_finite_is_named(
    finished_run, tmp_path, backend, variable, loss, layer
):
    weights = tmp_path / "poisoned.npz"
    write_poisoned(finished_run, weights, variable)
    result = train_keras(*FLAGS, "--load", weights, "--log_dir", tmp_path / "r", backend=backend)
    step = 1 if loss == "training" else 5
    assert result.code == 1 and result.err.startswith(
        "error: the {} loss is nan at step {} (epoch 1); the first layer whose output is not "
        "finite: {}; ".format(loss, step, layer)
    ), result


def test_faults_of_a_run(tmp_path):
    """Stopped by a signal, its newest checkpoint torn and a row lost, in a folder named oddly."""
    root = tmp_path / "a[1]*"
    flags = [*FLAGS, "--max_epoch", "2", "--log_dir", root]
    assert train_keras(*flags, "--name", "whole").code == 0
    assert train_keras(*flags, "--name", "cut").code == 0
    run = root / "cut"
    content = (run / "model-10.npz").read_bytes()
    (run / "model-10.npz").write_bytes(content[: len(content) // 2])
    (run / ".partial-model-10.npz").write_bytes(content[:99])
    table = (run / "loss+perf_cpu.txt").read_text()
    (run / "loss+perf_cpu.txt").write_text(table.replace("\n1\t", "\n#1\t"))
    resumed = train_keras("--resume", run / "model-5.npz")
    assert resumed.code == 0, resumed
    assert "model-10.npz can't be read" in resumed.out and "epoch 1: from stats" in resumed.out
    whole, cut = (read_arrays(str(root / name / "model-10")) for name in ("whole", "cut"))
    assert all(np.array_equal(whole[name], cut[name]) for name in whole)
    assert [row["epoch"] for row in read_rows(find_table(str(run)))] == [1, 2]
    assert not (run / ".partial-model-10.npz").exists()
    (run / "curves.png").unlink()
    done = train_keras("--resume", run)
    assert done.code == 0 and "finished now" in done.out, done
    assert (run / "curves.png").exists()


def test_a_run_is_terminated_and_goes_on(tmp_path):
    flags = [*TINY, "--max_epoch", "400", "--drop_1", "300", "--drop_2", "350", "--log_dir",
             tmp_path, "--name", "run"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(CHECKOUT / "scripts" / "train_keras.py"), *map(str, flags)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ, KERAS_BACKEND="jax"),
    )  # fmt: skip
    while process.poll() is None and not (tmp_path / "run" / "model-5.npz").exists():
        time.sleep(0.02)
    process.terminate()
    _, err = process.communicate()
    assert (process.returncode, err) == (143, b"error: terminated\n")
    done = len(read_rows(find_table(str(tmp_path / "run"))))
    assert train_keras("--resume", tmp_path / "run", "--max_epoch", done + 1).code == 0


def test_mistakes(tmp_path):
    for arguments, words in [
        (["--gpu", "0"], ["--gpu", "--devices"]),
        (["--devices", "9"], ["--devices 9", "accepted: 1"]),
        (["--processes", "2"], ["--coordinator"]),
    ]:
        assert_refused(train_keras(*FLAGS, "--log_dir", tmp_path, *arguments), *words)
    assert not list(tmp_path.iterdir())
