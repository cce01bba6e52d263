"""Folders of op outputs for Ascend's accuracy comparison: written, read, compared."""

import re
import sys

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, run_python
from google.protobuf import text_format

from comparison import findings, sources
from comparison.activations import compare_activation_files
from evaluation.ascend_npy import file_names
from sparsenet.errors import UserError

ACTIVATIONS = CHECKOUT / "scripts" / "activations.py"
RUN = CHECKOUT / "tests" / "old_runs" / ("modern" if sys.version_info >= (3, 10) else "legacy")
NAME = re.compile(r"([A-Za-z0-9_-]+)\.(\d+)\.(\d{16})\.npy")


# Writing -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder that a checkpoint gives, and the .npz of the same computation beside it."""
    root = tmp_path_factory.mktemp("written")
    out = ["--out", root / "own.npz", "--ascend_npy", root / "npy"]
    result = run_python(ACTIVATIONS, RUN / "model-0", "--images", "2", "--gradients", *out)
    assert result.code == 0, result
    return root / "npy"


def test_each_output_of_the_training_graph_has_a_file(written):
    """Their names are those of the run's own graph, and their timestamps follow its edges."""
    meta = text_format.Parse(
        (RUN / "graph.pbtxt").read_text(), tf.MetaGraphDef(), allow_unknown_field=True
    )
    nodes = {node.name.replace("/", "_"): node for node in meta.graph_def.node}
    found = [NAME.fullmatch(path.name).groups() for path in written.iterdir()]
    first = {op: int(time) for op, _, time in sorted(found, reverse=True)}
    assert first.keys() <= nodes.keys() and len({time for _, _, time in found}) == len(found)
    assert {"conv0_Conv2D", "block1_concat", "linear_output", "cost", "wrong"} <= first.keys()
    assert any(op.startswith("gradients_conv0_") for op in first)
    for op, time in first.items():
        for name in nodes[op].input:
            source = name.split(":")[0].replace("/", "_")
            assert first.get(source, 0) < time, (source, op)


def test_the_values_are_those_of_the_other_form(written):
    with np.load(str(written.parent / "own.npz")) as own:
        for op, name in [("conv0_output", "training/conv0"), ("linear_output", "training/linear")]:
            (path,) = written.glob(op + ".0.*.npy")
            assert np.array_equal(np.load(str(path)), own[name])


def test_mistakes_in_writing(written, tmp_path):
    assert_refused(run_python(ACTIVATIONS, RUN / "model-0"), "--out FILE.npz, --ascend_npy DIR")
    refused = run_python(ACTIVATIONS, RUN / "model-0", "--out", "x.npz", "--npu_dump", tmp_path)
    assert_refused(refused, "with --npu only")
    refused = run_python(ACTIVATIONS, RUN / "model-0", "--ascend_npy", written)
    assert_refused(refused, "a new or empty folder")
    refused = run_python(ACTIVATIONS, RUN / "model-0", "--ascend_npy", tmp_path / "no" / "npy")
    assert_refused(refused, "its folder does not exist")


def test_characters_of_names_and_two_ops_of_one_name():
    names = file_names(dict.fromkeys(["a/b.c\\d e:0", "a/b.c\\d e:1"]), 10**15)
    assert list(names.values()) == [
        "a_b_c_d_e.0.1000000000000000.npy", "a_b_c_d_e.1.1000000000000001.npy"
    ]  # fmt: skip
    with pytest.raises(UserError, match="a/b and a_b have one name"):
        file_names(dict.fromkeys(["a/b:0", "a_b:0"]), 10**15)


# Comparing ---------------------------------------------------------------------------------------


def values_of(seed=0):
    stream = np.random.RandomState(seed)
    shapes = {"conv0_Conv2D.0": (2, 8, 8, 24), "bn1_FusedBatchNormV3.0": (2, 8, 8, 24),
              "linear_output.0": (2, 10)}  # fmt: skip
    return {name: stream.normal(size=shape).astype("f") for name, shape in shapes.items()}


def benchmark(folder, values, start=10**15):
    """Write a folder as a debugger's user names its files."""
    folder.mkdir(exist_ok=True)
    for place, (name, value) in enumerate(values.items()):
        np.save(str(folder / "{}.{}.npy".format(name, start + place)), value)
    return folder


def converted(folder, values, ids="7.3", start=2 * 10**15):
    """Write a folder as msaccucmp.py converts an NPU's dumps: by type, with inputs too."""
    folder.mkdir(exist_ok=True)
    for place, (name, value) in enumerate(values.items()):
        op, index = name.split(".")
        stem = "Type.{}.{}.{}".format(op, ids, start + place)
        np.save(str(folder / "{}.output.{}.npy".format(stem, index)), value)
        np.save(str(folder / "{}.input.0.npy".format(stem)), -value)
    return folder


def compared(a, b):
    found = sources.find(str(a)), sources.find(str(b))
    return compare_activation_files(*found, findings.Thresholds())


@pytest.mark.parametrize("ids", ["7", "7.3"])
def test_dumps_of_an_npu_against_the_benchmark(tmp_path, ids):
    """In float16; the NPU has ops of its own, and lacks a fused one."""
    values = values_of()
    npu = {name: value.astype(np.float16) for name, value in values.items()}
    npu["trans_Cast_0.0"] = npu.pop("bn1_FusedBatchNormV3.0")
    a, b = benchmark(tmp_path / "a", values), converted(tmp_path / "b", npu, ids)
    for pair in ((a, b), (b, a)):
        part = compared(*pair)
        assert part.verdict == findings.SAME and part.headline.startswith("2 arrays"), part
        assert any("1 array, such as trans_Cast_0.0" in line for line in part.always)
        assert any("such as bn1_FusedBatchNormV3.0" in line for line in part.always)


def test_the_first_op_that_goes_apart_is_named(tmp_path):
    """By timestamp, not by name: bn1 comes before conv0 in the alphabet."""
    npu = values_of()
    for name in ("conv0_Conv2D.0", "bn1_FusedBatchNormV3.0"):
        npu[name] = npu[name][::-1]
    part = compared(benchmark(tmp_path / "a", values_of()), converted(tmp_path / "b", npu))
    assert part.verdict == findings.DIFFERENT and part.data["first"] == "conv0_Conv2D.0"
    npu = dict(values_of(), **{"linear_output.0": np.full((2, 10), np.nan, "f")})
    part = compared(tmp_path / "a", converted(tmp_path / "c", npu))
    assert "linear_output.0: NaN or infinite in 20 elements" in part.headline


def test_layouts_are_undone_and_said(tmp_path):
    values = values_of()
    convolved = values["conv0_Conv2D.0"]
    filled = np.pad(convolved, [(0, 0)] * 3 + [(0, 8)], "constant")
    npu = {
        "conv0_Conv2D.0": filled.reshape(2, 8, 8, 2, 16).transpose(0, 3, 1, 2, 4),
        "bn1_FusedBatchNormV3.0": values["bn1_FusedBatchNormV3.0"].transpose(0, 3, 1, 2),
        "linear_output.0": values["linear_output.0"][:, None, None],
    }
    a, b = benchmark(tmp_path / "a", values), converted(tmp_path / "b", npu)
    layouts = ["NC1HWC0 in B", "NCHW in B", "sides of 1 in B"]
    for pair in ((a, b), (b, a)):
        part = compared(*pair)
        assert part.verdict == findings.SAME, part
        assert [layer.layout for layer in part.data["layers"]] == layouts
        assert any("{}: 1 array, such as conv0".format(layouts[0]) in x for x in part.always)
        layouts = ["NC1HWC0 in A", "NHWC in B", "sides of 1 in B"]
    npu["conv0_Conv2D.0"] = npu["conv0_Conv2D.0"][:, :1]
    part = compared(a, converted(tmp_path / "b", npu))
    assert part.data["first"] == "conv0_Conv2D.0"
    assert "shape [2, 8, 8, 24] | [2, 1, 8, 8, 16]" in part.headline


def test_steps_are_paired_in_their_order(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    for step, seed in enumerate((0, 1, 2)):
        converted(a, values_of(seed), start=(2 + step) * 10**15)
    for step, seed in enumerate((0, 5)):
        benchmark(b, values_of(seed), start=(2 + step) * 10**15)
    part = compared(a, b)
    assert part.data["first"] == "conv0_Conv2D.0 #2" and part.headline.startswith("3 of 6 arrays")
    assert any("such as conv0_Conv2D.0 #3" in line for line in part.always)


def test_what_a_device_keeps_for_itself_is_not_compared(tmp_path):
    a, b = (
        benchmark(
            tmp_path / name, dict(values_of(), **{"bn_FusedBatchNormV3.4": np.ones(4) * sign})
        )
        for name, sign in (("a", 1), ("b", -1))
    )
    assert compared(a, b).verdict == findings.SAME


def test_mistakes_in_reading(tmp_path):
    a = benchmark(tmp_path / "a", values_of())
    others = {"other_" + name: value for name, value in values_of().items()}
    with pytest.raises(UserError, match=r"such as conv0_Conv2D\.0 \| other_conv0_Conv2D\.0"):
        compared(a, benchmark(tmp_path / "b", others))
    np.savez(str(tmp_path / "own.npz"), about=np.array("{}"), conv0=np.ones(3))
    with pytest.raises(UserError, match="no array in common"):
        compared(a, tmp_path / "own.npz")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="nothing to compare"):
        sources.find(str(tmp_path / "empty"))
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "Conv2D.conv0_Conv2D.7.3.1600000000000000").write_bytes(b"dump")
    with pytest.raises(UserError, match="msaccucmp.py convert"):
        sources.find(str(tmp_path / "raw"))
    next((tmp_path / "a").glob("conv0*")).write_bytes(b"")
    with pytest.raises(UserError, match=r"conv0_Conv2D.*can't be read"):
        compared(a, a)
