"""The scripts in ModelZoo's conventions, end to end on the embedded data."""

import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from conftest import ASCEND_IS_TESTED_ELSEWHERE, CHECKOUT, CLEAN_ENVIRONMENT, Result

pytestmark = [
    pytest.mark.trains,
    pytest.mark.skipif(
        ASCEND_IS_TESTED_ELSEWHERE, reason="tested on the TensorFlow 1.15 stack, which is here too"
    ),
]

SHORT = ["--recipe", "digits", "--depth", "7", "--subset", "320"]
NETWORK = "SparseNet_ID1616_for_TensorFlow"


def bash(script, *arguments, cwd=CHECKOUT, **env):
    """Run a script with this Python as the python3 on the PATH."""
    found = dict(CLEAN_ENVIRONMENT, **env)
    found["PATH"] = "{}:{}".format(os.path.dirname(sys.executable), os.environ["PATH"])
    done = subprocess.run(
        ["bash", str(script)] + [str(a) for a in arguments],
        cwd=str(cwd),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=found,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def script(name):
    return CHECKOUT / "scripts" / name


def stats_of(out):
    (run,) = out.glob("run-*")
    return run, json.loads((run / "stats.json").read_text())


def final(result):
    """The closing lines by name."""
    lines = result.out.partition("------------------ Final result ------------------\n")[2]
    return dict(line.split(" : ") for line in lines.splitlines() if " : " in line)


def test_full_run_has_the_figures_of_its_records(tmp_path):
    out = tmp_path / "out put"
    result = bash(script("train_full_1p.sh"), *SHORT, "--max_epoch", "3", "--output_path", out,
                  PLATFORM="gpu", cwd=tmp_path)  # fmt: skip
    assert result.code == 0, result
    _, stats = stats_of(out)
    speeds = sorted(row["images_per_second"] for row in stats[1:])
    speed = sum(speeds) / 2  # the median of two; the first epoch is left out
    found = final(result)
    assert float(found["Final Performance images/sec"]) == pytest.approx(speed, rel=1e-5)
    assert float(found["Final Performance sec/step"]) == pytest.approx(64 / speed, rel=1e-4)
    accuracy = 1 - stats[-1]["test_error"]
    assert float(found["Final Train Accuracy"]) == pytest.approx(accuracy, abs=1e-6)
    assert found["E2E Training Duration sec"].isdigit()
    case = NETWORK + "_bs64_1p_acc"
    kept = dict(line.split(" = ") for line in (out / (case + ".log")).read_text().splitlines())
    assert list(kept) == [
        "Network", "RankSize", "BatchSize", "DeviceType", "CaseName", "ActualFPS",
        "TrainingTime", "TrainAccuracy", "ActualLoss", "E2ETrainingTime",
    ]  # fmt: skip
    assert kept["CaseName"] == case and kept["DeviceType"] == platform.machine()
    assert kept["Network"] == NETWORK and kept["RankSize"] == "1" and kept["BatchSize"] == "64"
    assert kept["ActualFPS"] == found["Final Performance images/sec"]
    losses = (out / "train_{}_loss.txt".format(case)).read_text().split()
    assert [float(x) for x in losses] == pytest.approx(
        [row["train_loss"] for row in stats], rel=1e-5
    )
    assert kept["ActualLoss"] == losses[-1]
    screen = (out / "train_output.log").read_text()
    assert screen == result.out
    assert "test error" in (out / "train_0.log").read_text()


def test_the_check_of_a_checkout_is_one_epoch(tmp_path):
    result = bash(script("train_1p_ci.sh"), *SHORT, "--output_path=out", PLATFORM="gpu",
                  ASCEND_DEVICE_ID="3", cwd=tmp_path)  # fmt: skip
    assert result.code == 0, result
    lines = result.out.splitlines()
    assert re.match(r"\d{14}-\[INFO\] start to run train_1p\.sh", lines[0])
    assert re.match(r"\d{14}-\[INFO\] finish to run train_1p\.sh", lines[-1])
    run, stats = stats_of(tmp_path / "out")
    assert len(stats) == 1
    assert float(final(result)["Final Performance images/sec"]) == pytest.approx(
        stats[0]["images_per_second"], rel=1e-5
    )
    assert (tmp_path / "out" / "train_3.log").exists()


def test_performance_is_two_epochs_on_the_npu(tmp_path):
    stand_in = os.pathsep.join([str(CHECKOUT / "tests" / "stand_in"), str(CHECKOUT)])
    result = bash(
        script("train_performance_1p.sh"), *SHORT, "--output_path={}".format(tmp_path / "out"),
        "--precision_mode=must_keep_origin_dtype", "--over_dump=False", "--profiling=False",
        "--data_dump_step=10", PYTHONPATH=stand_in, NPU_STAND_IN=os.devnull,
    )  # fmt: skip
    assert result.code == 0, result
    run, stats = stats_of(tmp_path / "out")
    assert len(stats) == 2
    record = json.loads((run / "run.json").read_text())
    assert record["platform"] == "npu" and record["precision"] == "must_keep_origin_dtype"
    assert record["npu"]["dump_step"] == "10"
    assert (tmp_path / "out" / (NETWORK + "_bs64_1p_perf.log")).exists()


def test_eight_processes_and_one_that_fails(tmp_path):
    """Two of them here; each with a rank and a device, the first one writes."""
    table = tmp_path / "hccl.json"
    table.write_text("{}")
    stand_in = os.pathsep.join([str(CHECKOUT / "tests" / "stand_in"), str(CHECKOUT)])
    env = {"PYTHONPATH": stand_in, "NPU_STAND_IN": os.devnull, "RANK_SIZE": "2",
           "RANK_TABLE_FILE": str(table)}  # fmt: skip
    flags = SHORT + ["--max_epoch", "1", "--batch_size", "32",
                     "--output_path={}".format(tmp_path / "out" / "0")]  # fmt: skip
    result = bash(script("train_full_8p.sh"), *flags, **env)
    assert result.code == 0, result
    kept = (tmp_path / "out" / "0" / (NETWORK + "_bs16_2p_acc.log")).read_text()
    assert "RankSize = 2\n" in kept
    assert (tmp_path / "out" / "0" / "train_1.log").exists()
    assert "run directory" in (tmp_path / "out" / "0" / "train_0.log").read_text()
    assert "run directory" in result.out
    met = dict.fromkeys(["CM_CHIEF_IP", "CM_WORKER_IP"], "127.0.0.1")
    met.update(CM_CHIEF_PORT="6000", CM_CHIEF_DEVICE="0", CM_WORKER_SIZE="2", PYTHONPATH=stand_in)
    result = bash(script("train_full_8p.sh"), *flags, "--depth", "8", **met)
    # Of each process, or of the first that failed: it ends the others.
    assert result.code == 1 and "`depth` is 8" in result.out
    result = bash(script("train_full_8p.sh"), *flags, PLATFORM="gpu")
    assert result.code == 2 and "horovodrun" in result.err


def test_called_through_a_link_with_odd_settings_of_the_shell(tmp_path):
    link = tmp_path / "check.sh"
    link.symlink_to(str(script("train_1p_ci.sh")))
    result = bash(link, *SHORT, "--max-epoch", "1", "--log-dir={}".format(tmp_path / "l g"),
                  "--output_path=out", PLATFORM="gpu", cwd=tmp_path, CDPATH=".:/tmp",
                  RANK_ID="3", RANK_SIZE="8")  # fmt: skip
    assert result.code == 0, result
    assert "Final Performance images/sec" in result.out
    assert list((tmp_path / "l g").glob("run-*/stats.json"))


def test_what_trains_nothing_has_no_figures(tmp_path):
    """On one device: what the environment says of several others has no effect."""
    flags = ["--output-path={}".format(tmp_path), "--data_dump_step", "0|5", "--over_dump", "True"]
    result = bash(script("train_full_1p.sh"), *SHORT, *flags, "--dry_run", CM_WORKER_SIZE="8")
    assert result.code == 0 and "NpuOptimizer" in result.out and "Final" not in result.out
    assert "0|5" in result.out and "enable_dump_debug" in result.out


@pytest.mark.parametrize(
    "number, word", [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")]
)
def test_a_signal_to_the_script_ends_the_training(tmp_path, number, word):
    """As a scheduler sends it: to the script alone."""
    env = dict(CLEAN_ENVIRONMENT, PLATFORM="gpu")
    env["PATH"] = "{}:{}".format(os.path.dirname(sys.executable), os.environ["PATH"])
    process = subprocess.Popen(
        ["bash", str(script("run_1p.sh"))] + SHORT + ["--max_epoch", "5000", "--output_path=out"],
        cwd=str(tmp_path), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, env=env, preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    while not list(tmp_path.glob("out/run-*/model-10.index")):
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.2)
    process.send_signal(number)
    out = process.communicate(timeout=60)[0].decode()  # until all that writes to it has ended
    assert process.returncode != 0
    assert word in out and "Final" not in out
    (run,) = tmp_path.glob("out/run-*")
    (table,) = tmp_path.glob("loss+perf_*.txt")
    assert table.read_text() == (run / table.name).read_text()
    assert "# after epoch" in table.read_text()


@pytest.mark.parametrize("where", ["scripts", "."])
def test_run_1p_leaves_its_table_where_it_was_called(tmp_path, where):
    """In a checkout of its own: outputs go into it, data are found in it. The root has one too."""
    checkout = tmp_path / "check out"
    names = shutil.ignore_patterns(".*", "results", "tests", "train_log", "test", "data")
    shutil.copytree(str(CHECKOUT), str(checkout), ignore=names)
    cwd = checkout / where
    result = bash("run_1p.sh", *SHORT, "--max_epoch", "1", cwd=cwd)
    assert result.code == 0, result
    out = checkout / "test" / "output" / "0"
    run, stats = stats_of(out)
    (table,) = cwd.glob("loss+perf_*.txt")
    assert table.read_text() == (run / table.name).read_text()
    assert (out / "train_output.log").exists()


@pytest.mark.parametrize(
    "name",
    ["run_1p.sh", "train_1p_ci.sh", "test/train_full_1p.sh", "test/train_performance_1p.sh",
     "test/train_full_8p.sh"]
)  # fmt: skip
def test_without_data_the_harness_is_told(tmp_path, name):
    env = {"DATA_PATH": ""} if name.endswith("run_1p.sh") else {}
    if name.endswith("run_1p.sh") and (CHECKOUT / "data").is_dir():
        pytest.skip("this checkout holds data")
    result = bash(CHECKOUT / name, cwd=tmp_path, **env)
    assert result.code == 1
    assert result.out == '[Error] para "data_path" must be confing\n'
    assert not os.listdir(str(tmp_path))


def test_mistakes_end_the_script(tmp_path):
    out = "--output_path={}".format(tmp_path)
    for value in (["--data_path", "no where"], ["--data-path=~/no where"]):
        result = bash(script("train_full_1p.sh"), *value, out, PLATFORM="gpu", HOME=str(tmp_path))
        assert result.code == 2 and "{}/no where".format(
            tmp_path if "~" in value[0] else CHECKOUT) in result.out  # fmt: skip
        assert "Final" not in result.out
    for value in ([], ["--max_epoch", "1"]):
        result = bash(script("train_full_1p.sh"), out, "--data_path", *value)
        assert result.code == 2 and result.err.startswith("error: --data_path has no value;")
    result = bash(script("train_full_1p.sh"), *SHORT, "--fetsh", "x", out, PLATFORM="gpu")
    assert result.code == 2 and "--fetsh" in result.out
    result = bash(script("train_full_1p.sh"), *SHORT, out, PLATFORM="tpu")
    assert result.code == 2 and "gpu, npu" in result.err
    for name in ("x", "../../../zz", "-1"):
        result = bash(script("train_1p_ci.sh"), *SHORT, out, ASCEND_DEVICE_ID=name)
        assert result.code == 2 and "ASCEND_DEVICE_ID" in result.err
    result = bash(script("train_full_1p.sh"), "--help")
    assert result.code == 0 and max(map(len, result.out.splitlines())) <= 80
