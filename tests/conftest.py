"""Fixtures: the launcher as a user runs it, and small data in the official layouts."""

import io
import os
import pickle
import runpy
import subprocess
import sys
import tarfile
from collections import namedtuple
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SHARED_DATA = CHECKOUT.parent / "shared" / "data"

# A recipe that trains in seconds, and a schedule of more than one epoch for it.
TINY = ["--recipe", "digits", "--depth", "7", "--subset", "320"]
SCHEDULE = ["--max_epoch", "3", "--drop_1", "1", "--drop_2", "2"]

# Keras 3 on TensorFlow does not go together with tensorpack in one process; on JAX it does.
os.environ["KERAS_BACKEND"] = "jax"
# Tests compile far more than they compute.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"

# TensorFlow 2 sets this variable when it is imported; it must not reach TensorFlow 1.15.
CLEAN_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "TF2_BEHAVIOR"}

# The comparison runs on either stack: test_two_stacks.py and test_compare_reading.py show it. To
# save time, the tests that train for it are left to the modern one.
collect_ignore = ["test_compare.py", "test_report.py"] if sys.version_info < (3, 10) else []

# Ascend's stack is TensorFlow 1.15: where scripts/test.sh has found both, what trains with it or
# with ModelZoo's scripts, a process of its own each time, is tested on that one alone.
ASCEND_IS_TESTED_ELSEWHERE = "SPARSENET_LEGACY_PYTHON" in os.environ and sys.version_info >= (3, 10)

Result = namedtuple("Result", "code out err")

# Fixtures that train: like marked tests, tests with them are left out by `-m "not trains"`.
TRAINING_FIXTURES = {"finished_run"}


def pytest_collection_modifyitems(items):
    """Mark the tests that train by way of a fixture; start with those that take minutes."""
    for item in items:
        if TRAINING_FIXTURES & set(item.fixturenames):
            item.add_marker(pytest.mark.trains)
    items.sort(key=lambda item: item.get_closest_marker("takes_minutes") is None)


def run_python(*arguments, cwd=CHECKOUT, python=None, env=None, alone=False):
    """Run a command of the checkout and return its exit code and what it printed.

    It runs in this process, which has TensorFlow loaded already, unless another Python or
    environment is asked for, or a process of its own with `alone`.
    """
    if not (alone or python or env or arguments[0] == "-c"):
        return run_here(*[str(each) for each in arguments], cwd=str(cwd))
    done = subprocess.run(
        [str(python or sys.executable)] + [str(a) for a in arguments],
        cwd=str(cwd),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=dict(CLEAN_ENVIRONMENT, **(env or {})),
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def run_here(script, *arguments, cwd):
    """Run a script in this process as Python would: its folder first on the path, argv, cwd.

    What it changes in the environment is undone.
    """
    from common.tf_stack import tf

    before = sys.argv, sys.path[:], os.getcwd(), sys.stdout, sys.stderr
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
    sys.argv, sys.path[:0] = [script, *arguments], [os.path.dirname(script)]
    sys.stdout, sys.stderr = streams
    os.chdir(cwd)
    try:
        with tf.Graph().as_default(), mock.patch.dict(os.environ):
            runpy.run_path(script, run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.argv, sys.path[:], _, sys.stdout, sys.stderr = before
        os.chdir(before[2])
    for stream in streams:
        stream.flush()
    return Result(code, *(stream.buffer.getvalue().decode() for stream in streams))


def launch(*arguments, **options):
    """Run main_gpu.py and return its exit code and what it printed."""
    return run_python(CHECKOUT / "main_gpu.py", *arguments, **options)


def assert_refused(result, *words):
    """Assert that a command was refused as a mistake.

    That is exit code 2, and one line on stderr that has each of `words` in it.
    """
    assert result.code == 2, result
    assert result.err.startswith("error: "), result
    assert result.err.count("\n") == 1, result
    for word in words:
        assert word in result.err, result


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Return the directory of a run of three epochs, made by the launcher."""
    root = tmp_path_factory.mktemp("runs")
    result = launch(*TINY, *SCHEDULE, "--log_dir", root, "--name", "run")
    assert result.code == 0, result
    return root / "run"


def random_set(count, classes, seed):
    """Return uint8 planes [N, 3072] and labels [N], with each class equally often."""
    stream = np.random.RandomState(seed)
    planes = stream.randint(0, 256, (count, 3072)).astype(np.uint8)
    return planes, (np.arange(count) % classes)


def write_python_layout(folder, count=20, protocol=2):
    """Write a small CIFAR-10 in the python layout; return planes and labels of data_batch_1."""
    folder.mkdir(parents=True, exist_ok=True)
    first = None
    for index, name in enumerate(["data_batch_{}".format(i) for i in range(1, 6)] + ["test_batch"]):
        planes, labels = random_set(count, 10, index)
        first = first or (planes, labels)
        batch = {b"data": planes, b"labels": labels.tolist(), b"batch_label": b"synthetic"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol))
    return first


def write_binary_layout(folder, count=20):
    """Write the same small CIFAR-10 in the binary layout."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["data_batch_{}.bin".format(i) for i in range(1, 6)] + ["test_batch.bin"]
    for index, name in enumerate(names):
        planes, labels = random_set(count, 10, index)
        records = np.concatenate([labels.astype(np.uint8)[:, None], planes], axis=1)
        (folder / name).write_bytes(records.tobytes())


@pytest.fixture(scope="session")
def cifar_subset(tmp_path_factory):
    """Return a folder with 2,000 + 1,000 real CIFAR-10 images in the binary layout."""
    archive = SHARED_DATA / "cifar10_subset.tar.gz"
    if not archive.exists():
        pytest.skip("the CIFAR-10 subset is not here: {}".format(archive.name))
    folder = tmp_path_factory.mktemp("cifar_subset")
    with tarfile.open(str(archive)) as stream:
        stream.extractall(str(folder))
    return folder
