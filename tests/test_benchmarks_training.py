"""The benchmarks of growth, memory and inference, small."""

import json
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python

from benchmarks import growth, inference, training_steps
from sparsenet.recipes import DepthRule

BENCHMARK = CHECKOUT / "scripts" / "benchmark.py"
FEW = ["--rounds", "1", "--batch_size", "2"]

if sys.version_info < (3, 10):
    pytest.skip("measured on the modern stack", allow_module_level=True)


def measured(tmp_path, *arguments):
    """Return what a benchmark printed, and the medians that it wrote down, by case and arm."""
    path = tmp_path / "found.json"
    result = run_python(BENCHMARK, *arguments, *FEW, "--json", path, alone=True)
    assert result.code == 0, result
    found = json.loads(path.read_text())["cases"]
    return result.out, {
        case: {arm: v[0] for arm, v in arms.items()} for case, arms in found.items()
    }


@pytest.mark.slow
def test_growth_is_measured_and_drawn(tmp_path):
    sizes = ["--depth", "7", "10", "--growth_rate", "4", "--at_depth", "7", "--at_growth_rate", "4"]
    picture = tmp_path / "growth.png"
    out, found = measured(tmp_path, "growth", *sizes, "--steps", "1", "--picture", picture)
    assert picture.stat().st_size > 1000
    nodes = found["graph, nodes by depth"]
    assert nodes["depth 10"] > nodes["depth 7"] > 100
    assert "graph, nodes grows as depth to the power of" in out
    assert len(found) == 2 * len(growth.COSTS)


@pytest.mark.slow
def test_memory_is_measured(tmp_path):
    flags = ["--depth", "7", "--growth_rate", "4", "--fetch", "sparse"]
    _, found = measured(tmp_path, "memory", *flags, "--kinds", "standard", "recompute")
    (arms,) = found.values()
    assert set(arms) == {"SparseNet, standard", "SparseNet, recompute"} and min(arms.values()) > 0


@pytest.mark.slow
def test_inference_is_measured(tmp_path):
    _, found = measured(tmp_path, "inference", "--pairs", "40-12", "--images", "2")
    (arms,) = found.values()
    assert set(arms) == {"densenet-40-12", "sparse 40-12"} and min(arms.values()) > 0


def test_exponents():
    sizes = np.array([10.0, 30.0, 100.0])
    assert growth.exponent(sizes, 7 * sizes**1.5) == pytest.approx(1.5)


def test_networks_of_a_pair_have_equal_depth_and_growth():
    for pair in ("40-12", "100-12", "100-24"):
        dense, sparse = (recipe.config for recipe in inference.recipes_of(pair))
        assert (dense.fetch, sparse.fetch) == ("dense", "sparse")
        assert dense.growth_rate == sparse.growth_rate
        assert DepthRule().depth(dense) == DepthRule().depth(sparse) == int(pair.split("-")[0])


def test_memory_counts_what_a_process_takes():
    before = training_steps.memory("VmHWM")
    array = np.ones(2**25)  # 256 MB
    assert training_steps.memory("VmHWM") - before > 2**27 and array[0]


def test_a_depth_that_no_network_has():
    result = run_python(BENCHMARK, "memory", "--depth", "41", alone=True)
    assert_refused(result, "depth", "40")
