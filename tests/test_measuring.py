"""The scripts that measure a run against another: benchmark.py and soak.py."""

import json
import os
import shutil
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from conftest import CHECKOUT, SCHEDULE, TINY, assert_refused, run_python

from benchmarks import measuring
from run_directory.checkpoints import find_checkpoint, read_arrays, write_tensorflow
from run_directory.table import STATS, find_table

BENCHMARK, SOAK = (CHECKOUT / "scripts" / name for name in ("benchmark.py", "soak.py"))


@pytest.mark.slow
def test_records_are_measured_against_none(tmp_path):
    path = tmp_path / "records.json"
    result = run_python(
        BENCHMARK, "records", "--rounds", "2", "--json", path, *TINY, *SCHEDULE, alone=True
    )
    assert result.code == 0, result
    assert [line.split()[0] for line in result.out.splitlines()[1:]] == ["without", "with"]
    (seconds,) = json.loads(path.read_text())["cases"].values()
    assert set(seconds) == {"without records", "with records"}
    for rounds in seconds.values():
        assert len(rounds) == 2 and min(rounds) > 0
    table = run_python(BENCHMARK, "table", path).out
    assert "| an epoch | without records |" in table and "medians of 2 rounds" in table


@pytest.mark.slow
def test_training_steps_are_measured(tmp_path):
    path = tmp_path / "step.json"
    legacy = os.environ.get("SPARSENET_LEGACY_PYTHON") if sys.version_info >= (3, 10) else None
    result = run_python(
        BENCHMARK, "step", "--networks", "7-4", "--batch_size", "4", "--steps", "2",
        "--rounds", "1", "--json", path, *(["--legacy_python", legacy] if legacy else []),
        alone=True,
    )  # fmt: skip
    assert result.code == 0, result
    (rates,) = json.loads(path.read_text())["cases"].values()
    torch = {"PyTorch", "PyTorch, compiled"} if find_spec("torch") else set()
    others = {"this, TensorFlow 1.15"} if legacy else set()
    assert {"this, standard kernels", "the matrix rate"} | torch | others <= set(rates)
    assert all(len(each) == 1 and each[0] > 0 for each in rates.values())


@pytest.mark.slow
def test_the_start_is_measured_against_another_checkout(tmp_path):
    path = tmp_path / "startup.json"
    flags = ["--rounds", "1", "--against", CHECKOUT, "--json", path, *TINY, *SCHEDULE]
    result = run_python(BENCHMARK, "startup", *flags, alone=True)
    assert result.code == 0, result
    cases = json.loads(path.read_text())["cases"]
    assert {"first step", "--help", "a wrong flag", "no data there", "the ledger"} <= set(cases)
    for arms in cases.values():
        assert set(arms) == {"another", "this checkout"}


def test_a_start_without_a_step_is_an_error(tmp_path):
    assert_refused(
        run_python(BENCHMARK, "startup", "--depth", "99", cwd=tmp_path), "ended before a step"
    )
    assert_refused(
        run_python(BENCHMARK, "startup", "--against", tmp_path, cwd=tmp_path), "main_gpu.py"
    )


def test_the_pipeline_is_measured_against_tensorpack(tmp_path):
    path = tmp_path / "pipeline.json"
    flags = ["--rounds", "1", "--images", "256", "--json", path]
    result = run_python(BENCHMARK, "pipeline", *flags, cwd=tmp_path)
    assert result.code == 0, result
    (rates,) = json.loads(path.read_text())["cases"].values()
    assert set(rates) == {"tensorpack, image by image", "this project"}
    assert all(rate > 0 for rounds in rates.values() for rate in rounds)


def test_arms_take_turns():
    order = []

    def arm(name, value):
        return lambda: order.append(name) or value

    case = measuring.Case("case", {"a": arm("a", 2.0), "b": arm("b", 3.0)})
    found = measuring.side_by_side(case, rounds=2)
    assert order == ["a", "b"] * 3  # the first round warms up
    assert found == {"a": [2.0, 2.0], "b": [3.0, 3.0]}
    assert [line.split()[-1] for line in measuring.lines("case", found, "s")][1:] == [
        "1.000",
        "1.500",
    ]


@pytest.mark.parametrize(
    "arguments, accepted",
    [
        (["record"], "records"),
        (["table", "--rounds", "2"], "no such flag"),
        (["records", "--rounds", "0"], "at least 1"),
        (["step", "--networks", "40x12"], "depth-growth"),
        (["step", "--depth", "40"], "no such flag"),
    ],
)
def test_mistakes_in_measuring(arguments, accepted, tmp_path):
    assert_refused(run_python(BENCHMARK, *arguments, cwd=tmp_path), accepted)


@pytest.mark.parametrize("text", ["{", "[]", '{"unit": "s"}'])
def test_no_measurements(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    assert_refused(run_python(BENCHMARK, "table", tmp_path / "a.json"), "a.json")


# soak.py -------------------------------------------------------------------------------------


@pytest.fixture
def differences(monkeypatch):
    """Return the function of soak.py that holds two runs against each other."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "scripts"))
    import soak

    return lambda a, b: list(soak.differences(str(a), str(b)))


def lose_an_epoch(run):
    entries = json.loads((run / STATS).read_text())
    (run / STATS).write_text(json.dumps(entries[:1] + entries[2:]))


def repeat_a_row(run):
    path = find_table(str(run))
    with open(path) as stream:
        lines = stream.readlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("1\t"))
    with open(path, "w") as stream:
        stream.writelines(lines[: first + 1] + lines[first:])


def change_a_loss(run):
    entries = json.loads((run / STATS).read_text())
    entries[1]["train_loss"] = float(np.nextafter(entries[1]["train_loss"], 9))
    (run / STATS).write_text(json.dumps(entries))


def change_a_bit(run):
    prefix = find_checkpoint(str(run))
    arrays = read_arrays(prefix)
    arrays["linear/b"] = np.nextafter(arrays["linear/b"], np.float32(9))
    write_tensorflow(prefix, arrays)


@pytest.mark.parametrize(
    "change, found",
    [
        (lose_an_epoch, ["stats.json of {} has not each epoch once"]),
        (repeat_a_row, ["the table of {} has not each epoch once"]),
        (change_a_loss, ["epoch 2: train_loss differs"]),
        (change_a_bit, ["linear/b is not the same bit for bit"]),
    ],
)
def test_the_soak_sees(change, found, finished_run, differences, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(str(finished_run), str(run))
    assert differences(run, finished_run) == []
    change(run)
    assert differences(run, finished_run)[: len(found)] == [each.format(run) for each in found]


def test_the_soak_fills_no_large_file_system(tmp_path):
    """Nor starts a run there."""
    result = run_python(SOAK, "/", "--log_dir", tmp_path / "log")
    assert_refused(result, "SMALL_DIR /", "bytes free")
    assert not (tmp_path / "log").exists()
