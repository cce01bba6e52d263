"""The scripts that measure a run against another: benchmark.py and soak.py."""

import json
import shutil

import numpy as np
import pytest
from conftest import CHECKOUT, SCHEDULE, TINY, assert_refused, run_python

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
    seconds = json.loads(path.read_text())["seconds"]
    assert set(seconds) == {"without records", "with records"}
    for rounds in seconds.values():
        assert len(rounds) == 2 and min(rounds) > 0


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
