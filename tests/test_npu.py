"""main_npu.py, with a stand-in of npu_bridge in the place of the device."""

import json
import os

from common.tf_stack import tf

import numpy as np
import pytest
from conftest import ASCEND_IS_TESTED_ELSEWHERE, CHECKOUT, TINY, assert_refused, launch, run_python
from google.protobuf import text_format

from platforms import npu_options
from platforms.npu_ranks import rank_and_world_size
from sparsenet.errors import UserError

pytestmark = pytest.mark.trains

STAND_IN = CHECKOUT / "tests" / "stand_in"
SHORT = TINY + ["--max_epoch", "2", "--drop_1", "1"]
# Two processes that meet without a rank table.
MEETING = {"CM_CHIEF_IP": "10.0.0.1", "CM_CHIEF_PORT": "6000", "CM_CHIEF_DEVICE": "0",
           "CM_WORKER_SIZE": "2", "CM_WORKER_IP": "10.0.0.1"}  # fmt: skip
QUEUES = ("Queue", "Iterator", "Dataset")


def launch_npu(*arguments, record=os.devnull, **env):
    if ASCEND_IS_TESTED_ELSEWHERE:
        pytest.skip("tested on the TensorFlow 1.15 stack, which is here too")
    paths = [str(STAND_IN), str(CHECKOUT)]
    env.update(PYTHONPATH=os.pathsep.join(paths), NPU_STAND_IN=str(record))
    return run_python(CHECKOUT / "main_npu.py", *arguments, env=env)


def dry_run(*arguments, **env):
    """The options of the session's config, each as (type, value)."""
    result = run_python(CHECKOUT / "main_npu.py", "--dry_run", *arguments, env=env)
    assert result.code == 0, result
    config = text_format.Parse(result.out, tf.ConfigProto())
    (optimizer,) = config.graph_options.rewrite_options.custom_optimizers
    found = {}
    for key, value in optimizer.parameter_map.items():
        field = value.WhichOneof("value")
        found[key] = (field, getattr(value, field))
    return found


def rows(directory):
    return json.loads((directory / "stats.json").read_text())


def graph_of(directory):
    meta = text_format.Parse((directory / "graph.pbtxt").read_text(), tf.MetaGraphDef())
    return meta.graph_def


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The same run by both launchers, and what the stand-in was asked for."""
    root = tmp_path_factory.mktemp("pair")
    flags = SHORT + ["--log_dir", root, "--batch_size", "48"]
    result = launch_npu(*flags, "--name", "npu", "--precision_mode", "must_keep_origin_dtype",
                        record=root / "asked")  # fmt: skip
    assert result.code == 0, result
    result = launch(*flags, "--name", "gpu", "--kernels", "standard")
    assert result.code == 0, result
    return root


def asked(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_both_launchers_do_the_same(pair):
    """320 test images in batches of 48: the last one is padded, and every image counts."""
    assert (pair / "npu" / "loss+perf_npu.txt").exists()
    for npu, gpu in zip(rows(pair / "npu"), rows(pair / "gpu")):
        for name in ("train_loss", "train_error", "test_loss", "test_error"):
            assert npu[name] == gpu[name], name
        assert (npu["test_error"] * 320) == pytest.approx(round(npu["test_error"] * 320), abs=1e-4)


def test_the_graph_is_the_same_and_has_no_queue(pair):
    graphs = [graph_of(pair / name) for name in ("npu", "gpu")]
    assert graphs[0] == graphs[1]
    assert not [node.op for node in graphs[0].node if any(word in node.op for word in QUEUES)]


def test_no_string_and_no_double_on_the_training_path(pair):
    """Of what a step computes: the ops behind the update of the weights and its figures."""
    nodes = {node.name: node for node in graph_of(pair / "npu").node}
    pending = [n.name for n in nodes.values() if "Apply" in n.op or n.op.startswith("AssignSub")]
    assert pending
    seen = set()
    while pending:
        name = pending.pop().lstrip("^").split(":")[0]
        if name not in seen:
            seen.add(name)
            pending.extend(nodes[name].input)
    assert any("block2" in name for name in seen) and any("gradients" in name for name in seen)
    unwanted = {tf.float64.as_datatype_enum, tf.string.as_datatype_enum}
    for name in seen:
        types = {v.type for v in nodes[name].attr.values() if v.WhichOneof("value") == "type"}
        assert not types & unwanted, name


def test_every_shape_is_fixed(pair):
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(graph_of(pair / "npu"), name="")
    inputs = [op for op in graph.get_operations() if op.type == "Placeholder"]
    assert {op.name for op in inputs if "image" in op.name or "label" in op.name}
    layers = [op for op in graph.get_operations() if op.type in ("Conv2D", "MatMul")]
    for op in layers:
        assert op.outputs[0].shape.is_fully_defined(), op.name


def test_what_the_session_was_asked_for(pair):
    """One session, whose config the stand-in has checked key by key; the same in run.json."""
    (options,) = [value for what, value in asked(pair / "asked") if what == "session"]
    assert options["precision_mode"] == "must_keep_origin_dtype"
    assert not [what for what, _ in asked(pair / "asked") if what.startswith("loss scale")]
    record = json.loads((pair / "npu" / "run.json").read_text())
    assert record["platform"] == "npu" and record["precision"] == "must_keep_origin_dtype"
    assert record["npu"] == dict(options, loss_scale=None)


def test_mixed_precision_has_loss_scaling(tmp_path):
    for flags, wanted in [
        ([], ["dynamic", 2.0**32]),
        (["--loss_scale", "fixed:128"], ["fixed", 128.0]),
    ]:
        record = tmp_path / "asked"
        name = "run-{}".format(len(flags))
        result = launch_npu(*TINY, "--max_epoch", "1", "--steps_per_epoch", "2", *flags,
                            "--log_dir", tmp_path, "--name", name, record=record)  # fmt: skip
        assert result.code == 0, result
        notes = asked(record)
        assert ["loss scale", wanted] in notes
        assert ["loss scale optimizer", ["MomentumOptimizer", False]] in notes
        assert ["session"] not in notes
        written = json.loads((tmp_path / name / "run.json").read_text())
        assert written["precision"] == "allow_mix_precision"
        assert written["npu"]["loss_scale"] == dict(zip(("kind", "value"), wanted))
        record.unlink()


def test_skipped_steps_are_seen(tmp_path):
    """Five steps an epoch; the scale is halved after two that overflow."""
    flags = TINY + ["--log_dir", tmp_path, "--name", "run", "--max_epoch", "2"]
    result = launch_npu(*flags, NPU_STAND_IN_LARGEST_SCALE=str(2**30))
    assert result.code == 0, result
    assert "loss scale 1.07374e+09, 4 of 5 steps skipped\n" in result.out
    assert "loss scale 1.07374e+09, 0 of 5 steps skipped\n" in result.out
    seen = [(2**30, 4), (2**30, 0)]
    assert [(row["loss_scale"], row["skipped_steps"]) for row in rows(tmp_path / "run")] == seen
    (events,) = (tmp_path / "run").glob("events*")
    tags = {
        value.tag
        for event in tf.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert {"loss_scale", "skipped_steps"} <= tags
    again = ["--resume", tmp_path / "run", "--max_epoch", "4"]
    result = launch_npu(*again, NPU_STAND_IN_LARGEST_SCALE="1")
    assert result.code == 1 and result.err.count("\n") == 1, result
    assert "in every step of epoch 3: all 5 were skipped" in result.err
    assert "come to 2.68435e+08" in result.err and "model-10" in result.err
    assert [(row["loss_scale"], row["skipped_steps"]) for row in rows(tmp_path / "run")] == seen


def test_every_option_is_forwarded_with_its_type(tmp_path):
    switches = tmp_path / "fusion.cfg"
    switches.write_text("{}")
    texts = {
        "b": "true", "i": "3", "dump_step": "0|5|10-20", "profiling_options": '{"output": "x"}',
        "op_select_implmode": "high_precision", "dump_mode": "all", "dump_debug_mode": "all",
        "jit_compile": "auto", "fusion_switch_file": str(switches), "auto_tune_mode": "RL,GA",
        "iterations_per_loop": "1",
    }  # fmt: skip
    flags, wanted = [], {}
    for key, option in npu_options.OPTIONS.items():
        if key == "precision_mode":
            continue
        text = texts.get(key, texts.get(option.field, "text"))
        flags += ["--npu_option", "{}={}".format(key, text)]
        wanted[key] = {"b": True, "i": int(text) if text.isdigit() else None,
                       "s": text.encode()}[option.field]  # fmt: skip
    found = dry_run(*flags)
    for key, value in wanted.items():
        assert found[key] == (npu_options.OPTIONS[key].field, value), key


def test_flags_become_options(tmp_path):
    found = dry_run("--over_dump", "True", "--log_dir", tmp_path, "--data_dump_step", "0|5")
    assert found["enable_dump_debug"] == ("b", True)
    assert found["dump_debug_mode"] == ("s", b"all")
    assert found["dump_path"] == ("s", str(tmp_path / "overflow_dump").encode())
    assert found["dump_step"] == ("s", b"0|5")
    found = dry_run("--data_dump_flag", "--profiling=True", "--log_dir", tmp_path)
    assert found["enable_dump"] == ("b", True) and found["profiling_mode"] == ("b", True)
    assert json.loads(found["profiling_options"][1].decode())["output"].startswith(str(tmp_path))
    assert "enable_dump" not in dry_run("--data_dump_flag", "False", "--profiling", "False")
    assert not os.listdir(str(tmp_path))


def test_folders_of_dumps_are_made(tmp_path):
    result = launch_npu(*TINY, "--max_epoch", "1", "--steps_per_epoch", "1", "--over_dump",
                        "--log_dir", tmp_path)  # fmt: skip
    assert result.code == 0, result
    assert (tmp_path / "overflow_dump").is_dir()
    found = dry_run("--data_dump_flag", "--npu_option", "dump_path=/elsewhere")
    assert found["dump_path"] == ("s", b"/elsewhere") and found["dump_mode"] == ("s", b"all")


@pytest.mark.parametrize(
    "flags, word",
    [
        (["--precision_mode", "fp8"], "must_keep_origin_dtype"),
        (["--loss_scale", "fixed:0.5"], "fixed:N"),
        (["--loss_scale", "often"], "dynamic"),
        (["--npu_option", "deterministic=yes"], "whole number"),
        (["--npu_option", "deterministic=99999999999999999999"], "whole number"),
        (["--npu_option", "use_off_line=0"], "use_off_line"),
        (["--npu_option", "unheard_of=1"], "unheard_of"),
        (["--npu_option", "iterations_per_loop=100"], "images are fed"),
        (["--npu_option", "precision_mode=force_fp16"], "--precision_mode"),
        (["--fusion_switch_file", "/nowhere.cfg"], "/nowhere.cfg"),
        (["--auto_tune_mode", "XX"], "RL"),
        (["--data_dump_step", "5-"], "10-20"),
        (["--over_dump", "maybe"], "maybe"),
        (["--gpu", "0"], "ASCEND_DEVICE_ID"),
        (["--depth", "0"], "--depth"),
    ],
)
def test_mistakes(flags, word, tmp_path):
    assert_refused(launch_npu(*TINY, "--log_dir", tmp_path, *flags), word)
    assert not os.listdir(str(tmp_path))


@pytest.mark.parametrize(
    "env, word",
    [
        ({"RANK_SIZE": "x"}, "RANK_SIZE"),
        ({"RANK_ID": "\u00b2"}, "RANK_ID"),
        ({"RANK_SIZE": "2", "RANK_ID": "2"}, "0 to 1"),
        ({"RANK_SIZE": "2", "RANK_ID": "1"}, "RANK_TABLE_FILE"),
        ({"ASCEND_DEVICE_ID": "first"}, "ASCEND_DEVICE_ID"),
        (dict(MEETING, RANK_TABLE_FILE=os.devnull), "RANK_TABLE_FILE and CM_CHIEF_IP"),
    ],
)
def test_mistakes_in_the_environment(env, word, tmp_path):
    assert_refused(launch_npu(*TINY, "--log_dir", tmp_path, **env), word)


def test_without_npu_bridge_it_says_what_to_install(tmp_path):
    result = run_python(CHECKOUT / "main_npu.py", *TINY, "--log_dir", tmp_path)
    assert_refused(result, "npu_bridge", "set_env.sh", "requirements/npu.txt")
    assert not os.listdir(str(tmp_path))


def test_libraries_of_cann_that_are_not_sourced(tmp_path):
    """As npu_bridge fails then: where it loads its library of ops."""
    bridge = tmp_path / "npu_bridge"
    bridge.mkdir()
    (bridge / "__init__.py").write_text("")
    (bridge / "npu_init.py").write_text(
        "import tensorflow as tf\ntf.load_op_library('/nowhere/_tf_adapter.so')\n"
    )
    paths = os.pathsep.join([str(tmp_path), str(CHECKOUT)])
    result = run_python(CHECKOUT / "main_npu.py", *TINY, env={"PYTHONPATH": paths})
    assert_refused(result, "npu_bridge", "set_env.sh", "_tf_adapter.so")


def test_a_run_is_continued_as_it_was_begun(tmp_path):
    flags = TINY + ["--max_epoch", "1", "--log_dir", tmp_path, "--name", "run"]
    flags += ["--precision_mode", "force_fp16", "--loss_scale", "fixed:64"]
    flags += ["--npu_option", "deterministic=1", "--npu_option", "session_device_id=3"]
    assert launch_npu(*flags).code == 0
    again = ["--resume", tmp_path / "run", "--max_epoch", "2"]
    assert_refused(launch_npu(*again, "--precision_mode", "force_fp32"), "precision")
    assert_refused(launch(*again), "platform")
    assert launch_npu(*again, "--npu_option", "op_debug_level=1").code == 0
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["devices"] == ["Ascend NPU, device 3"]
    assert record["npu"]["loss_scale"] == {"kind": "fixed", "value": 64.0}
    assert record["resumed"][0]["npu"] == dict(record["npu"], op_debug_level=1)
    assert [row["epoch_num"] for row in rows(tmp_path / "run")] == [1, 2]


@pytest.mark.parametrize("table", ["hccl.json", None])
def test_two_devices(tmp_path, table):
    """One process a device: the first one writes; gradients, start and statistics are shared."""
    for rank in ("0", "1"):
        env = dict(MEETING, ASCEND_DEVICE_ID=rank)
        if table is not None:
            (tmp_path / table).write_text("{}")
            env = {"RANK_SIZE": "2", "RANK_ID": rank, "RANK_TABLE_FILE": str(tmp_path / table)}
        record = tmp_path / "asked-{}".format(rank)
        result = launch_npu(
            *TINY, "--max_epoch", "1", "--log_dir", tmp_path / "runs", "--name", "run",
            record=record, **env
        )  # fmt: skip
        assert result.code == 0, result
        assert bool(result.out) == (rank == "0")
        notes = asked(record)
        assert ["distributed optimizer", ["MomentumOptimizer"]] in notes
        assert ["averaged", ["2"]] in notes
        assert ["loss scale optimizer", ["NPUDistributedOptimizer", True]] in notes
        (options,) = [value for what, value in notes if what == "session"]
        assert options["hcom_parallel"] is True
        variables = [value for what, value in notes if what == "broadcast"]
        assert variables and all(root == 0 for _, root in variables)
        assert ["allreduce", ["sum"]] in notes
    assert os.listdir(str(tmp_path / "runs")) == ["run"]
    record = json.loads((tmp_path / "runs" / "run" / "run.json").read_text())
    assert record["workers"] == 2
    # Half of each batch of 64, five steps an epoch: 160 images.
    assert rows(tmp_path / "runs" / "run")[0]["global_step"] == 5


@pytest.mark.parametrize(
    "env, sentence",
    [
        ({"CM_WORKER_SIZE": "8"}, "without CM_CHIEF_IP, CM_CHIEF_PORT, CM_CHIEF_DEVICE, CM_W"),
        (dict(MEETING, CM_WORKER_IP=""), "CM_CHIEF_IP is set without CM_WORKER_IP;"),
        (dict(MEETING, CM_CHIEF_IP="10.1"), "CM_CHIEF_IP is '10.1'"),
        (dict(MEETING, CM_CHIEF_PORT="65521"), "CM_CHIEF_PORT is '65521'; accepted: a whole"),
        (dict(MEETING, CM_CHIEF_DEVICE="x"), "CM_CHIEF_DEVICE is 'x'"),
        (dict(MEETING, CM_WORKER_SIZE="0"), "CM_WORKER_SIZE is '0'; accepted: a whole number fro"),
        (MEETING, "ASCEND_DEVICE_ID is not set; accepted: 0 to 1"),
        (dict(MEETING, DEVICE_ID="2"), "DEVICE_ID is '2'; accepted: 0 to 1, below CM_WORKER_SIZE"),
        (dict(MEETING, RANK_ID="2"), "RANK_ID is '2'; accepted: 0 to 1, below CM_WORKER_SIZE"),
        (dict(MEETING, DEVICE_ID="0", RANK_SIZE="8"), "RANK_SIZE is '8'; accepted: nothing, or CM"),
        (dict(MEETING, DEVICE_ID="0", CM_WORKER_IP="10.0.0.2"), "RANK_ID is not set"),
    ],
)
def test_mistakes_of_processes_without_a_rank_table(monkeypatch, env, sentence):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as error:
        rank_and_world_size()
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "env, rank_and_size",
    [
        (dict(MEETING, DEVICE_ID="1"), (1, 2)),
        (dict(MEETING, DEVICE_ID="5", RANK_ID="1", RANK_SIZE="2"), (1, 2)),
        (dict(MEETING, DEVICE_ID="0", RANK_ID="1", CM_WORKER_IP="10.0.0.2"), (1, 2)),
        (dict(MEETING, CM_WORKER_SIZE="1"), (0, 1)),
        (dict.fromkeys(MEETING, ""), (0, 1)),
    ],
)
def test_a_rank_without_a_rank_table(monkeypatch, env, rank_and_size):
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    assert rank_and_world_size() == rank_and_size


def test_layer_outputs_are_computed_on_the_npu(pair, tmp_path):
    script, record = CHECKOUT / "scripts" / "activations.py", tmp_path / "asked"
    env = {"PYTHONPATH": os.pathsep.join([str(STAND_IN), str(CHECKOUT)]),
           "NPU_STAND_IN": str(record)}  # fmt: skip
    run = pair / "gpu" / "model-0"
    for name, flags in [("npu", ["--npu", "--npu_dump", tmp_path / "dump"]), ("cpu", [])]:
        out = tmp_path / (name + ".npz")
        result = run_python(script, run, "--out", out, "--gradients", *flags, env=env)
        assert result.code == 0, result
    found = [value for what, value in asked(record) if what == "session"]
    assert [options["precision_mode"] for options in found] == ["must_keep_origin_dtype"] * 2
    assert {options["dump_path"] for options in found} == {str(tmp_path / "dump")}
    assert (tmp_path / "dump").is_dir() and found[0]["enable_dump"] is True
    npu, cpu = (np.load(str(tmp_path / (name + ".npz"))) for name in ("npu", "cpu"))
    assert npu.files == cpu.files
    assert np.array_equal(npu["gradient/conv0/W"], cpu["gradient/conv0/W"])


def test_help_fits_a_terminal():
    result = run_python(CHECKOUT / "main_npu.py", "--help", env={"COLUMNS": "80"})
    assert result.code == 0 and max(map(len, result.out.splitlines())) <= 80
