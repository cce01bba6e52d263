"""What is answered at once: help, mistakes and tables need no TensorFlow, which takes seconds."""

import re

import pytest
from conftest import CHECKOUT, run_python

SCRIPTS = sorted(
    path.relative_to(CHECKOUT).as_posix()
    for folder in ("scripts", ".")
    for path in (CHECKOUT / folder).glob("*.py")
    if "__main__" in path.read_text()
)
SLOW = ("tensorflow", "tensorpack", "keras", "tf_keras", "jax", "torch")
# A line of -X importtime: its own time, that of all it imports, its name.
IMPORTED = re.compile(r"^import time: .*\| +([\w.]+)$", re.MULTILINE)
NOWHERE = "/nowhere/at/all"
DATA = ("--dataset", "c10", "--dataset_dir", NOWHERE)
LISTS = [("main_gpu.py", "--list_recipes"), ("scripts/ledger.py",)]
MISTAKES = [
    *((launcher, *DATA) for launcher in ("main_gpu.py", "main_npu.py")),
    ("main_gpu.py", "--depth", "99"),
    ("main_gpu.py", "--dataset", "folder", "--dataset_dir", NOWHERE),
    ("main_gpu.py", "--dataset", "imagenet", "--dataset_dir", NOWHERE),
    ("main_gpu.py", "--recipe", "digits", "--batch_size", "2000"),
    ("main_gpu.py", "--recipe", "digits", "--steps_per_epoch", "23"),
    ("main_gpu.py", "--recipe", "digits", "--load", NOWHERE),
    ("main_gpu.py", "--recipe", "digits", "--load", "model.keras"),
    ("main_gpu.py", "--recipe", "digits", "--log_dir", "main_gpu.py"),
    ("main_gpu.py", "--recipe", "digits", "--log_dir", ".", "--name", "scripts"),
    ("main_gpu.py", "--resume", NOWHERE),
    ("cifar_data.py", *DATA),
    *(
        ("scripts/" + script, NOWHERE, *more)
        for script, *more in [
            ("evaluate.py",),
            ("predict.py", "a.png"),
            ("export.py", "--format", "onnx"),
            ("convert.py", "a.npz"),
            ("freeze_graph.py",),
            ("activations.py", "--out", "a.npz"),
            ("compare.py", NOWHERE),
            ("pack.py",),
            ("benchmark.py",),
        ]
    ),
]


def answer(*command):
    """Run a command in a process of its own: exit code, output, errors and imported packages."""
    result = run_python("-X", "importtime", *command, alone=True)
    packages = {name.partition(".")[0] for name in IMPORTED.findall(result.err)}
    assert "argparse" in packages
    errors = [line for line in result.err.splitlines() if not line.startswith("import time:")]
    return result.code, errors, packages


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_needs_no_tensorflow(script):
    code, errors, packages = answer(script, "--help")
    assert (code, errors) == (0, [])
    assert packages.isdisjoint(SLOW)


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_lists_need_no_tensorflow(command):
    code, errors, packages = answer(*command)
    assert (code, errors) == (0, [])
    assert packages.isdisjoint(SLOW)


@pytest.mark.parametrize("command", MISTAKES, ids=" ".join)
def test_mistakes_need_no_tensorflow(command):
    code, errors, packages = answer(*command)
    assert code == 2 and len(errors) == 1 and errors[0].startswith("error: ")
    assert packages.isdisjoint(SLOW)
