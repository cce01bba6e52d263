"""Every command of the README, run as it stands or shortened by flags."""

import re
import shlex
import shutil
import sys

import pytest
from conftest import CHECKOUT, run_python, write_binary_layout

COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.S)
    for line in block.splitlines()
]

# Command -> flags that shorten it, or the reason why it is not run by this test.
SHORT = ["--max_epoch", "1", "--drop_1", "1", "--drop_2", "2"]
TINY_CIFAR = SHORT + ["--depth", "10", "--growth_rate", "4", "--batch_size", "20"]
ELSEWHERE = "run by test_scripts.py"
MODELZOO = "run by test_modelzoo.py"
BUILT = "by scripts/test.sh, without GPUs"
WORKERS = "run by test_workers.py, with two processes"
NOT_RUN = {
    "bash scripts/quickstart.sh": ELSEWHERE,
    "python scripts/evaluate.py CHECKPOINT --recipe ascend --depth 100 --growth_rate 24 "
    "--dataset c10 --dataset_dir DIR": "with a smaller network, by test_networks.py",
    "bash scripts/test.sh": "it is what runs this test",
    "python -m pip install -r requirements.txt": "scripts/test.sh has run it",
    'python -m pip install "tensorflow[and-cuda]==2.21.*"': "marked in README as not run here",
    "source /usr/local/Ascend/ascend-toolkit/set_env.sh": "on an Ascend host",
    "python3 -m pip install -r requirements-npu.txt": "on an Ascend host",
    "python3 ./main_npu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 "
    "--growth_rate 24 --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300": "by test_npu.py, "
    "with a stand-in of npu_bridge",
    "bash scripts/train_full_1p.sh --data_path=DIR "
    "--precision_mode=must_keep_origin_dtype": MODELZOO,
    "PLATFORM=gpu bash scripts/train_1p_ci.sh --recipe digits": MODELZOO,
    "HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 "
    "HOROVOD_GPU_OPERATIONS=NCCL python -m pip install -r requirements-horovod.txt": BUILT,
    "horovodrun --gloo -np 8 -H host1:4,host2:4 python main_gpu.py --dataset c10 "
    "--dataset_dir DIR --batch_size 512 --learning_rate 0.8": WORKERS,
    "horovodrun --gloo -np 8 -H host1:4,host2:4 python main_gpu.py --resume RUN_DIR": WORKERS,
    "python scripts/scaling.py 1,2,4 --horovod": WORKERS,
}
ORIGINAL = (
    "python ./main_gpu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 "
    "--growth_rate 24 --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300"
)
SHORTENED = {
    ORIGINAL: TINY_CIFAR,
    "python main_gpu.py --recipe digits": SHORT + ["--subset", "128"],
    "python main_gpu.py --list_recipes": [],
    "python main_gpu.py --recipe sparsenet-bc-100-24 --dataset c100 --dataset_dir DIR": SHORT
    + ["--depth", "10", "--growth_rate", "4", "--fake", "--subset", "128"],
    "python main_gpu.py --recipe liu-zeng-abc-v1-svhn --dataset_dir DIR": [
        "--max_epoch",
        "1",
        "--layers",
        "1,1,1",
        "--growth_rate",
        "4",
        "--fake",
        "--subset",
        "128",
    ],
    "python main_gpu.py --recipe digits --fetch dense": SHORT + ["--subset", "128"],
    "python main_gpu.py --recipe digits --combine sum": SHORT + ["--subset", "128"],
    "python main_gpu.py --resume RUN_DIR": ["--max_epoch", "4"],
    "python main_gpu.py --help": [],
    "python scripts/ledger.py": ["--check"],
    "python scripts/plot.py connections densenet-40-12 sparsenet-40-24 liu-zeng-basic-v1 "
    "--layers 20 -o connections.png": [],
    "python scripts/plot.py curves RUN_DIR -o curves.svg": [],
    "python scripts/evaluate.py RUN_DIR": [],
    "python3 main_npu.py --help": [],
    "python3 main_npu.py --dry_run --npu_option deterministic=1": [],
    "python scripts/freeze_graph.py RUN_DIR --out sparsenet.pb": [],
    "python scripts/activations.py RUN_DIR/model-0 --gradients --out RUN_DIR/activations.npz": [],
    "python cifar_data.py --dataset_dir DIR": [],
}
COMPARE = "python scripts/compare.py RUN_A RUN_B --html report.html"
if sys.version_info >= (3, 10):
    SHORTENED[COMPARE] = []
else:
    NOT_RUN[COMPARE] = "it runs on the modern stack"


def test_every_command_is_known():
    assert sorted(COMMANDS) == sorted(list(NOT_RUN) + list(SHORTENED))


def test_generated_tables_are_not_stale():
    """What stands between a command in a comment and `end` is what the command prints."""
    text = (CHECKOUT / "README.md").read_text()
    blocks = re.findall(r"<!-- (python .*?) -->\n(.*?)\n<!-- end -->", text, re.S)
    assert blocks
    for command, table in blocks:
        words = shlex.split(command)
        assert run_python(CHECKOUT / words[1], *words[2:]).out.strip() == table


@pytest.mark.parametrize("command", SHORTENED)
def test_command(command, tmp_path, finished_run):
    data, run = tmp_path / "data", tmp_path / "run"
    write_binary_layout(data)
    shutil.copytree(str(finished_run), str(run))
    places = {"RUN_DIR": run, "RUN_A": run, "RUN_B": run, "DIR": data}
    words = [
        re.sub("^(RUN_DIR|RUN_A|RUN_B|DIR)(?=/|$)", lambda name: str(places[name.group()]), word)
        for word in shlex.split(command)
    ]
    result = run_python(CHECKOUT / words[1], *words[2:], *SHORTENED[command], cwd=tmp_path)
    assert result.code == 0, result
    assert result.err == "", result
    assert result.out
