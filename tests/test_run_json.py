"""run.json with wrong values anywhere: every reader of it says which, in a sentence, or does not
mind."""

import argparse
import copy
import json
import os
import shutil
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, launch, run_python

import common.flags
from comparison.records import compare_records
from comparison.sources import Source
from evaluation import trained_network
from evaluation.exports import normalized
from platforms import npu_options
from run_directory import record as record_file
from run_directory.schema import FIELDS
from run_directory.settings import settings_to_dict
from sparsenet.errors import UserError
from sparsenet.plan import variable_shapes

RUN = CHECKOUT / "tests" / "old_runs" / "modern"
WHOLE = record_file.read_record(str(RUN))
ODD = (
    None, True, False, -1, 0, 1, 5, 1.5, -0.5, 2**32, 10**9, 10**30, 10**400, 1e300, float("nan"),
    float("inf"), "", "x", "5", "a\0b", "\ud800", "\x1b[2J", [], [1, 2], [1, 2, 3], [None], ["x"],
    [[1, 2], [3]], [10**9, 10**9], {}, {"x": 1}, {"\ud800": 1}, [[[[]]]],
)  # fmt: skip


def paths_in(value, path=()):
    """Every field of a record, sections included."""
    for name, each in value.items():
        yield path + (name,)
        if isinstance(each, dict):
            yield from paths_in(each, path + (name,))


def changed(path, value):
    """The record with the value of a field changed."""
    record = copy.deepcopy(WHOLE)
    section = record
    for name in path[:-1]:
        section = section.setdefault(name, {})
    section[path[-1]] = value
    return record


def no_flags():
    parser = argparse.ArgumentParser()
    common.flags.add_network_flags(parser)
    common.flags.add_data_flags(parser)
    return parser.parse_args([])


FLAGS = no_flags()


def read_by_resume(folder):
    settings = record_file.read_settings(folder)
    json.dumps(settings_to_dict(settings))
    record = record_file.read_record(folder)
    list(record.get("resumed", ())), len(record.get("devices", ()))
    os.path.exists(settings.dataset_dir or "")


def read_by_evaluate(folder):
    args = argparse.Namespace(**dict(vars(FLAGS), checkpoint=folder))
    described = trained_network.describe(args)
    side = described.recipe.config.image_size
    found = normalized(np.full((1, side, side, 3), 255, np.uint8), described.preprocessing)
    assert found.shape == (1, side, side, 3) and np.isfinite(found).all()
    assert len(variable_shapes(described.recipe.config)) > 10
    described.class_names()


def read_by_compare(folder):
    records = [Source(folder, record_file.read_record(folder)), Source("b", WHOLE)]
    json.dumps(list(compare_records(*records).lines), allow_nan=False)


READERS = (read_by_resume, read_by_evaluate, read_by_compare, npu_options.recorded)
KNOWN = sorted(
    {*paths_in(WHOLE), *(tuple(field.path.split(".")) for field in FIELDS), ("npu",),
     ("npu", "loss_scale"), ("npu", "precision_mode"), ("settings", "extra"), ("new", "field")}
)  # fmt: skip


@pytest.mark.parametrize("path", KNOWN, ids=".".join)
def test_any_value_of_a_field_is_read_or_refused(path, tmp_path):
    refused = 0
    for value in ODD:
        (tmp_path / "run.json").write_text(json.dumps(changed(path, value)))
        for reader in READERS:
            try:
                reader(str(tmp_path))
            except UserError as error:
                refused += 1
                assert len(str(error)) < 500
    assert refused


@pytest.mark.parametrize("path", KNOWN, ids=".".join)
def test_any_field_may_be_absent_or_is_named(path, tmp_path):
    record = changed(path, None)
    section = record
    for name in path[:-1]:
        section = section[name]
    del section[path[-1]]
    (tmp_path / "run.json").write_text(json.dumps(record))
    for reader in READERS:
        try:
            reader(str(tmp_path))
        except UserError as error:
            assert path[-1] in str(error)


@pytest.mark.parametrize(
    "path, value, words",
    [
        ("devices", 5, "`devices` is 5; accepted: a list of text"),
        ("preprocessing.mean", None, "`preprocessing.mean` is None; accepted: a number, one"),
        ("preprocessing.mean", [1, 2], "`preprocessing.mean` is 1,2; accepted: a number, one"),
        ("preprocessing.mean", "x", "`preprocessing.mean` is x; accepted: a number, one"),
        ("preprocessing.mean", [[[1] * 3] * 32] * 31, "`preprocessing.mean` is"),
        ("preprocessing.std", [1, 0, 1], "`preprocessing.std` is 1,0,1; accepted: .* 1e-6"),
        ("seed", -1, "`seed` is -1; accepted: a whole number from 0 to 4294967295"),
        ("settings.seed", -1, "`seed` is -1; accepted: a whole number from 0 to 4294967295"),
        ("settings.subset", 0, "`subset` is 0; accepted: a whole number of at least 1"),
        ("settings.gpus", [0, 0], "`gpus` is 0,0; accepted: different numbers"),
        ("recipe.config.layers", [10**9], "`layers` is 1000000000; accepted: at most 5000"),
        ("recipe.config.layers", [1] * 5000, "`layers` is 1,1.* ... .*: at most 6 blocks"),
        ("recipe.config.growth_rate", [10**9] * 2, "accepted: at most 4096"),
        ("recipe.config.stem_channels", 10**9, "accepted: at most 8192"),
        ("recipe.config.classes", 10**9, "accepted: at most 100000"),
        ("recipe.learning_rate", 1e300, "`learning_rate` is 1e.300"),
        ("settings.log_dir", "a\0b", "`settings` is .*; accepted: text in UTF-8"),
        ("future", {"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]},
         "`future` is nested deeper than 32 levels"),
    ],
)  # fmt: skip
def test_the_field_is_named_and_what_is_accepted(path, value, words, tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(changed(tuple(path.split(".")), value)))
    with pytest.raises(UserError, match=words):
        record_file.read_settings(str(tmp_path))


@pytest.mark.parametrize(
    "network",
    [
        {"layers": [5000], "fetch": "dense"},
        {"layers": [5000], "fetch": "nearest_farthest", "nearest": 10**9},
        {"layers": [5000], "fetch": "channel_window"},
        {"layers": [1000], "fetch": "channel_window", "farthest": 1000},
    ],
)
def test_a_network_that_takes_minutes_to_lay_out_is_refused(network, tmp_path):
    record = changed(("recipe", "config", "growth_rate"), [4])
    record["recipe"]["config"].update(network)
    (tmp_path / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="`layers` is .*at most 500000 outputs are read"):
        record_file.read_settings(str(tmp_path))


def test_a_field_of_a_newer_version_is_passed_over(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(dict(changed(("format",), 3), novelty={"a": 1})))
    for reader in READERS:
        reader(str(tmp_path))


@pytest.mark.parametrize(
    "text, words",
    [
        ("[" * 100000, "can't be read"),
        ('{"a":' * 900 + "1" + "}" * 900, "nested deeper|can't be read"),
        ('{"a": ' + "1" * 400 + "}", "64 bits|can't be read"),
        ("{}" + " " * 2**20, "larger than"),
        ('{"a": NaN}', "64 bits|can't be read"),
        ("\ufeff{}", "`settings` is missing"),
        ('{"settings": {}}', "`recipe` is missing"),
    ],
)
def test_a_text_that_is_no_record(text, words, tmp_path):
    (tmp_path / "run.json").write_bytes(text.encode())
    with pytest.raises(UserError, match="run.json.*({})".format(words)):
        record_file.read_settings(str(tmp_path))


COMMANDS = {
    "main_gpu.py": ["--resume"],
    "scripts/evaluate.py": [],
    "scripts/freeze_graph.py": [],
    "scripts/activations.py": ["--images", "1", "--out", "a.npz"],
    "scripts/pack.py": ["--out", "a.zip"],
    "scripts/plot.py": ["curves", "-o", "a.png"],
    "scripts/predict.py": [],
    "scripts/convert.py": [],
    "scripts/compare.py": [str(RUN)],
    "scripts/modelzoo_report.py": ["--case", "acc", "--seconds", "1", "--out", "."],
}
LAST = {"scripts/predict.py": ["a.png"], "scripts/convert.py": ["a.npz"]}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_refuses_it_in_one_line_and_writes_nothing(command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(str(RUN), str(run))
    shutil.copy(str(CHECKOUT / "results" / "pictures" / "connections.png"), str(tmp_path / "a.png"))
    (run / "run.json").write_text(json.dumps(changed(("devices",), "\x1b[2J" * 100)))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    arguments = [*COMMANDS[command], run, *LAST.get(command, [])]
    result = run_python(CHECKOUT / command, *arguments, cwd=tmp_path)
    assert_refused(result, "run.json: `devices` is \\x1b[2J", " ... ", "; accepted: a list of text")
    assert len(result.err) < 500
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_record_without_a_recipe(tmp_path):
    run = tmp_path / "run"
    shutil.copytree(str(RUN), str(run))
    record = copy.deepcopy(WHOLE)
    del record["recipe"]
    (run / "run.json").write_text(json.dumps(record))
    plot = run_python(CHECKOUT / "scripts/plot.py", "curves", run, "-o", tmp_path / "a.png")
    assert_refused(plot, "run.json is not complete: `recipe.name` is missing")
    for result in (
        run_python(CHECKOUT / "scripts/evaluate.py", run),
        launch("--resume", run),
    ):
        assert_refused(result, "run.json is not complete: `recipe` is missing")


@pytest.mark.skipif(sys.version_info < (3, 10), reason="Keras 3 runs on the modern stack")
@pytest.mark.parametrize("command", ["scripts/train_keras.py", "scripts/export.py"])
def test_the_commands_of_keras_refuse_it_too(command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(str(RUN), str(run))
    (run / "run.json").write_text(json.dumps(changed(("devices",), 5)))
    flags = ["--resume", run] if "train" in command else [run, "--format", "keras"]
    assert_refused(run_python(CHECKOUT / command, *flags, cwd=tmp_path), "`devices` is 5")
