"""A short campaign of scripts/fuzz.py, and that it finds what it looks for.

results/fuzz has the record of a long one.
"""

import os
import sys
import time

import hypothesis
import pytest
from conftest import CHECKOUT
from hypothesis import strategies

from sparsenet.errors import UserError

sys.path.insert(0, str(CHECKOUT / "scripts"))
import fuzz  # noqa: E402
from fuzz_readers import READERS, Plan, Reader, input_of  # noqa: E402

HERE = [
    "cifar-python", "cifar-binary", "svhn", "tar", "zip", "pack", "image", "val.txt",
    "solution.csv", "run.json", "command-line", "table", "log", "csv", "npz",
]  # fmt: skip
INPUTS = 400


@pytest.mark.parametrize("name", HERE)
def test_every_input_is_read_or_refused(name, tmp_path, capfd):
    reader = READERS[name]
    samples, path = reader.samples(), tmp_path / reader.name
    longest = 0.0

    @hypothesis.settings(
        max_examples=INPUTS,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(strategies.binary(max_size=fuzz.PLAN))
    def read(plan):
        nonlocal longest
        path.write_bytes(input_of(reader, samples, plan))
        start = time.perf_counter()
        try:
            reader.read(str(path))
        except UserError as error:
            assert 0 < len(str(error)) < 2000
        longest = max(longest, time.perf_counter() - start)

    read()
    assert longest < fuzz.SECONDS


@pytest.mark.parametrize("name", sorted(READERS))
def test_some_sample_of_each_reader_is_read(name, tmp_path):
    """Else nothing that is changed in it would be looked at."""
    reader, read = READERS[name], 0
    for content in reader.samples():
        (tmp_path / reader.name).write_bytes(content)
        try:
            reader.read(str(tmp_path / reader.name))
            read += 1
        except UserError:
            pass
    assert read or name in ("val.txt", "solution.csv", "graph"), name


def crash(path):
    os.abort()


def hang(path):
    while True:
        pass


def fill(path):
    return bytes(2**31)


def fail(path):
    raise KeyError("a name")


def refuse(path):
    raise UserError("no")


def read(path):
    with open(path, "rb") as stream:
        return stream.read()


def on_change(function):
    """Do a thing to an input that is no sample."""

    def one(path):
        if read(path) != b"sample":
            function(path)

    return one


@pytest.mark.parametrize(
    "function, words",
    [
        (on_change(crash), "the process ended"),
        (on_change(hang), "Hang"),
        (on_change(fill), "MemoryError"),
        (on_change(fail), "KeyError: 'a name'"),
        (refuse, None),
        (read, None),
    ],
)
def test_a_campaign_finds_what_it_looks_for(function, words, monkeypatch):
    monkeypatch.setattr(fuzz, "SECONDS", 0.2)
    found = fuzz.campaign(Reader(function, "a", lambda: [b"sample"]), 50, 60, 0)
    assert bool(found["failures"]) == bool(words)
    if words:
        assert words in found["failures"][0][0]
        assert found["failures"][0][1] != b"sample"
    else:
        assert found["refused" if function is refuse else "read"] >= 50


def test_a_plan_says_all_of_an_input():
    assert [Plan(b"\7\1").below(4), Plan(b"\7\1").below(300)] == [3, 7 + 256]
    reader = READERS["cifar-binary"]
    samples = reader.samples()
    for number in range(50):
        plan = bytes([number]) * 12
        assert input_of(reader, samples, plan) == input_of(reader, samples, plan)
    assert input_of(reader, samples, b"") == samples[0]
