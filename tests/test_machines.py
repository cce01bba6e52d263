"""The machines that people have: launchers, notebooks, other repositories around the code."""

import datetime
import os
import subprocess
import sys
from collections import namedtuple

import pytest
from conftest import CHECKOUT, assert_refused, launch, run_python

from common import missing_modules
from platforms import gpu, workers
from platforms import platform as any_platform
from platforms.workers import Workers, require_one_network, started_together
from run_directory.record import choose_path, claim, require_new
from run_directory.table import COLUMNS
from sparsenet.errors import UserError
from training.command_line import parse
from training.records import describe_commit

DRAW = """
import sys
from run_directory.curves import plot_curves
rows = [dict.fromkeys({columns}, 0.5)]
plot_curves({{"cpu": rows}}, "title", sys.argv[1])
"""


def test_pictures_are_the_same_whatever_the_notebook_and_matplotlibrc_say(tmp_path):
    rc = tmp_path / "matplotlibrc"
    rc.write_text("text.usetex: True\nfont.size: 30\n")
    pictures = []
    for number, env in enumerate(
        [{}, {"MPLBACKEND": "module://not_installed.backend", "MATPLOTLIBRC": str(rc)}]
    ):
        path = tmp_path / "{}.png".format(number)
        result = run_python("-c", DRAW.format(columns=COLUMNS), path, env=env)
        assert result.code == 0, result
        pictures.append(path.read_bytes())
    assert pictures[0] == pictures[1]


def test_pictures_need_no_home_folder(tmp_path):
    file = tmp_path / "file"
    file.touch()
    homes = dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"), str(file / "home"))
    code = DRAW.format(columns=COLUMNS)
    result = run_python("-c", code, tmp_path / "picture.png", env=homes)
    assert (result.code, result.err) == (0, "")


# Launchers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment, together",
    [
        ("", False),
        ("HOROVOD_SIZE=2 HOROVOD_RANK=0", True),
        ("HOROVOD_SIZE=1 HOROVOD_RANK=0", False),
        ("OMPI_COMM_WORLD_SIZE=1 OMPI_COMM_WORLD_RANK=0 PMIX_RANK=0", False),
        ("OMPI_COMM_WORLD_SIZE=4 OMPI_COMM_WORLD_RANK=0", True),
        ("PMI_SIZE=2 PMI_RANK=0", True),
        ("MV2_COMM_WORLD_SIZE=2", True),
        ("PMIX_RANK=1", True),
        ("WORLD_SIZE=2 RANK=0 LOCAL_RANK=0", True),
        # srun, with one task and with several.
        ("SLURM_JOB_ID=7 SLURM_NTASKS=1 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", False),
        ("SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=4", True),
        ("SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=3", True),
        # The shell of salloc, the script of sbatch, a step of one task in a job of four.
        ("SLURM_JOB_ID=7 SLURM_NTASKS=4", False),
        ("SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0", False),
        ("SLURM_JOB_ID=7 SLURM_NTASKS=4 SLURM_PROCID=0 SLURM_STEP_NUM_TASKS=1", False),
        ('TF_CONFIG={"cluster":{"worker":["a:1","b:1"]}}', True),
        ('TF_CONFIG={"cluster":{"worker":["a:1"],"evaluator":["b:1"]}}', False),
        ("TF_CONFIG=nonsense", False),
    ],
)
def test_several_processes_are_noticed(monkeypatch, environment, together):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "PMI", "OMPI_", "HOROVOD_")) or name in workers.ALONE:
            monkeypatch.delenv(name)
    for assignment in environment.split():
        monkeypatch.setenv(*assignment.split("=", 1))
    assert (started_together() is not None) == together
    require_one_network(Workers(0, 2))  # they see each other
    if together:
        with pytest.raises(UserError, match="{}.*one process".format(environment[:4])):
            require_one_network(Workers())
    else:
        require_one_network(Workers())


def test_processes_that_would_train_alone_are_refused(tmp_path):
    """As srun starts one of two: without Horovod, or with one that does not see the other."""
    (tmp_path / "horovod").mkdir()
    (tmp_path / "horovod" / "__init__.py").write_text("")
    (tmp_path / "horovod" / "tensorflow.py").write_text(
        "def init(): pass\ndef rank(): return 0\ndef size(): return 1\n"
    )
    env = {"SLURM_STEP_NUM_TASKS": "2", "PYTHONPATH": str(tmp_path)}
    flags = ["--recipe", "digits", "--gpu", "none", "--log_dir", tmp_path / "runs"]
    result = launch(*flags, env=env)
    assert_refused(result, "SLURM_STEP_NUM_TASKS=2", "don't see each other", "several-devices.md")
    assert not (tmp_path / "runs").exists()


# Devices -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["none", "-1"])
def test_no_gpu_is_the_cpu(text):
    settings = parse(["--recipe", "digits", "--gpu", text])
    assert settings.gpus == ()
    chosen = gpu.platform(settings)
    assert chosen.name == "cpu" and chosen.session_config.device_count["GPU"] == 0
    assert chosen.remark is None


def test_gpus_have_the_names_that_tensorflow_gives_them(monkeypatch):
    device = namedtuple("Device", "device_type physical_device_desc")
    listed = [
        device("CPU", ""),
        device("GPU", "device: 0, name: Tesla T4, pci bus id: 0000:65:00.0, compute capability: 7"),
        device("XLA_GPU", "device: XLA_GPU device"),
        device("GPU", "another description"),
    ]
    monkeypatch.setattr(gpu.device_lib, "list_local_devices", lambda config: listed)
    assert gpu.describe_gpus(None) == ["Tesla T4", "GPU 1"]


def test_cores_that_may_not_be_used_do_not_count(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 5, 6}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    assert any_platform.threads() == 3
    assert any_platform.describe_cpu().endswith(", 3 of 64 cores")
    monkeypatch.setattr(any_platform, "_cpu_info", {"model name": "A", "flags": "sse avx2"}.get)
    assert any_platform.describe_cpu() == "A with AVX2, 3 of 64 cores"
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "2")
    assert any_platform.threads() == 2


# The run directory ---------------------------------------------------------------------------


def test_a_name_belongs_to_the_run_that_made_it(tmp_path):
    path = str(tmp_path / "root" / "run")
    names = [claim(path, may_be_numbered=True) for _ in range(3)]
    assert names == [path, path + "-2", path + "-3"]
    # A name of one's own: an empty directory is taken, one with a run in it is not.
    assert claim(path, may_be_numbered=False) == path
    (tmp_path / "root" / "run" / "run.json").write_text("{}")
    for refuse in (require_new, lambda path: claim(path, may_be_numbered=False)):
        with pytest.raises(UserError, match="run exists; accepted: another --name"):
            refuse(path)


def test_the_name_of_a_run_holds_its_seed(tmp_path):
    now = datetime.datetime(2020, 1, 2, 3, 4, 5)
    root = ["--recipe", "digits", "--log_dir", str(tmp_path)]
    names = [
        os.path.basename(choose_path(parse(root + seed), "cpu", now))
        for seed in ([], ["--seed", "0"], ["--seed", "12"])
    ]
    assert names == ["digits-cpu-20200102-030405"] * 2 + ["digits-cpu-seed-12-20200102-030405"]


# The commit ----------------------------------------------------------------------------------


def git(folder, *arguments):
    command = ["git", "-C", str(folder), "-c", "user.name=n", "-c", "user.email=e"]
    return subprocess.run(command + list(arguments), check=True, capture_output=True).stdout


def test_the_commit_is_that_of_this_code(tmp_path, monkeypatch):
    code = tmp_path / "repository" / "code"
    code.mkdir(parents=True)
    (code / "file").write_text("text")
    git(code.parent, "init", "-q")
    git(code.parent, "add", ".")
    git(code.parent, "commit", "-q", "-m", "all")
    head = git(code.parent, "rev-parse", "HEAD").decode().strip()
    assert describe_commit(str(code.parent)) == head
    assert describe_commit(str(code)) is None  # unpacked within another's repository
    assert describe_commit(str(tmp_path)) is None
    # A hook names its repository in the environment.
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert describe_commit(str(code.parent)) == head
    (code / "file").write_text("changed")
    assert describe_commit(str(code.parent)) == head + "+"


# What is not installed ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "module, words",
    [
        ("dacite", ["pip install -r", "/requirements.txt"]),
        ("sklearn.datasets", ["/requirements.txt"]),
        ("onnx", ["/requirements/export.txt"]),
        ("safetensors", ["/requirements/keras.txt"]),
        ("horovod", ["/requirements/horovod.txt"]),
        ("torch", ["pip install torch"]),
        ("fcntl", ["Linux, macOS, or WSL"]),
        ("_lzma", ["built without it"]),
        ("training.absent", ["not complete"]),
    ],
)
def test_what_is_missing_is_said_with_where_it_comes_from(module, words):
    error = ModuleNotFoundError("No module named '{}'".format(module), name=module)
    for word in [module] + words:
        assert word in missing_modules.sentence(error)


def test_an_ascend_host_is_not_told_to_replace_its_tensorflow(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main_npu.py"])
    assert missing_modules.requirements_of("dacite").endswith("/requirements/npu.txt")


def test_a_bare_python_is_told_what_to_install():
    """Without site-packages; modules are imported before a command starts."""
    for command in ("main_gpu.py", "scripts/predict.py"):
        result = run_python("-S", CHECKOUT / command, alone=True)
        assert_refused(result, "pip install -r", "requirements.txt")


def test_scripts_run_as_modules_too():
    """Those that import what lies beside them."""
    for arguments in (["scripts.compare", "--help"], ["scripts.ledger", "--only", "resnet-110"]):
        result = run_python("-m", *arguments, alone=True)
        assert result.code == 0 and result.err == "", result


def test_a_library_that_can_not_be_loaded_is_named():
    text = "\nADVICE!\n\nOriginal error was: libGL.so.1: cannot open shared object file\n"
    assert missing_modules.sentence(ImportError(text)).startswith(
        "Original error was: libGL.so.1: cannot open shared object file; install"
    )
