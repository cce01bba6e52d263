"""Run directories of format 1, kept from commit 4a80404, one of each stack, in use today.

Each was begun with one epoch and resumed for the second:
main_gpu.py --recipe digits --layers 1,1 --growth_rate 4 --subset 128 --max_epoch 1 --drop_1 1
--drop_2 2 --dropout 0.1, then --resume with --max_epoch 2.
"""

import json
import shutil
import sys

import pytest
from conftest import CHECKOUT, launch, run_python

from run_directory.table import find_table, read_rows

OLD_RUNS = CHECKOUT / "tests" / "old_runs"
FLAGS = ["--recipe", "digits", "--layers", "1,1", "--growth_rate", "4", "--subset", "128",
         "--max_epoch", "2", "--drop_1", "1", "--drop_2", "2", "--dropout", "0.1"]  # fmt: skip
OLD_NAMES = {"drops", "decayed", "border", "continued"}

modern_only = pytest.mark.skipif(sys.version_info < (3, 10), reason="the comparison's stack")


@pytest.fixture(params=["modern", "legacy"])
def old_run(request, tmp_path):
    """A copy of the run directory that one of the stacks wrote."""
    shutil.copytree(str(OLD_RUNS / request.param), str(tmp_path / "old"))
    return tmp_path / "old"


def names_in(record):
    """Every name of a field, at any depth."""
    if isinstance(record, dict):
        return set(record).union(*map(names_in, record.values()))
    return set().union(*map(names_in, record)) if isinstance(record, list) else set()


@pytest.mark.trains
def test_it_is_resumed_and_written_in_todays_words(old_run):
    before = json.loads((old_run / "run.json").read_text())
    assert before["format"] == 1 and names_in(before) > OLD_NAMES
    result = launch("--resume", old_run, "--max_epoch", "3")
    assert result.code == 0, result
    rows = read_rows(find_table(str(old_run)))
    assert [row["learning_rate"] for row in rows] == [0.1, 0.01, 0.001]
    assert [row["global_step"] for row in rows] == [2, 4, 6]
    record = json.loads((old_run / "run.json").read_text())
    assert record["format"] == 2 and not names_in(record) & OLD_NAMES
    assert [each["first_epoch"] for each in record["resumed"]] == [2, 3]
    for field in ("started", "data", "seed", "parameters", "versions"):
        assert record[field] == before[field]


def test_it_is_evaluated(old_run):
    result = run_python(CHECKOUT / "scripts" / "evaluate.py", old_run, "--batch_size", "90")
    assert result.code == 0, result
    assert "all          360" in result.out


@modern_only
@pytest.mark.trains
def test_it_compares_with_a_run_of_today(old_run, tmp_path):
    result = launch(*FLAGS, "--log_dir", tmp_path, "--name", "new")
    assert result.code == 0, result
    out = tmp_path / "report.json"
    result = run_python(
        CHECKOUT / "scripts" / "compare.py", old_run, tmp_path / "new", "--json", out
    )
    assert result.code == 0, result
    parts = json.loads(out.read_text())["parts"]
    for name in ("records", "graph", "checkpoints"):
        assert parts[name]["verdict"] == "same", parts[name]["headline"]
    assert not [f for f in parts["records"]["data"]["fields"] if f["name"].startswith("recipe.")]
