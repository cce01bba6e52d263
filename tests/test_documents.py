"""Every command of the documents, run as it stands or shortened by flags; their links and tables.

Run alone, this file writes the generated tables anew:
    python tests/test_documents.py
"""

import re
import shlex
import shutil
import sys
from typing import List

import cv2
import numpy as np
import pytest
from conftest import CHECKOUT, run_python, write_binary_layout

README = CHECKOUT / "README.md"
WITH_COMMANDS = [README, CHECKOUT / "CONTRIBUTING.md"] + sorted((CHECKOUT / "docs").glob("*.md"))
DOCUMENTS = (
    WITH_COMMANDS
    + [CHECKOUT / "CHANGELOG.md"]
    + sorted((CHECKOUT / "results").glob("*.md"))
)  # fmt: skip
BASH_BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.S | re.M)
CODE_BLOCK = re.compile(r"^```.*?^```$", re.S | re.M)
INLINE_COMMAND = re.compile(r"`((?:python3?|bash|horovodrun) [^`]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
GENERATED = re.compile(r"<!-- (python .*?) -->\n(.*?)\n<!-- end -->", re.S)


def name_of(path) -> str:
    return path.relative_to(CHECKOUT).as_posix()


def commands_of(text: str) -> List[str]:
    """The commands of a document: lines of its bash blocks, joined at `\\`, and those in a text."""
    found = []
    for block in BASH_BLOCK.findall(text):
        found += re.sub(r"\s*\\\n\s*", " ", block).splitlines()
    return found + INLINE_COMMAND.findall(CODE_BLOCK.sub("", text))


COMMANDS = {
    command: name_of(path)
    for path in reversed(WITH_COMMANDS)
    for command in commands_of(path.read_text(encoding="utf-8"))
}  # -> the first document that has it

# Command -> flags that shorten it, or the reason why it is not run by this test.
SHORT = ["--max_epoch", "1", "--drop_1", "1", "--drop_2", "2"]
TINY_CIFAR = SHORT + ["--depth", "10", "--growth_rate", "4", "--batch_size", "20"]
ELSEWHERE = "run by test_scripts.py"
MODELZOO = "run by test_modelzoo.py"
BUILT = "by scripts/test.sh, without GPUs"
ASCEND = "run by test_ascend_npy.py"
WORKERS = "run by test_workers.py, with two processes"
SET_UP = "scripts/test.sh does the same"
CONVERTED = "run by test_convert.py"
FOLDERS = "with smaller networks, by test_image_folders.py"
THIS = "it is what runs this test"
NOT_RUN = {
    "python scripts/ledger.py --only sparsenet-121 --measure": "by test_ledger.py, a small one",
    "python scripts/activations.py RUN_DIR/model-0 --ascend_npy NPY_DIR": ASCEND,
    "python main_gpu.py --recipe sparsenet-40-24 --dataset folder --dataset_dir DIR": FOLDERS,
    "python main_gpu.py --recipe sparsenet-121-32 --dataset folder --dataset_dir DIR": FOLDERS,
    "bash scripts/quickstart.sh": ELSEWHERE,
    "python scripts/evaluate.py CHECKPOINT --recipe ascend --depth 100 --growth_rate 24 "
    "--dataset c10 --dataset_dir DIR": "with a smaller network, by test_networks.py",
    "bash scripts/test.sh": THIS,
    "bash scripts/test.sh --fast": THIS,
    "python tests/test_documents.py": "test_generated_tables_are_not_stale does the same",
    "python3.11 -m venv .venv": SET_UP,
    ".venv/bin/python -m pip install -r requirements.txt -r requirements/dev.txt": SET_UP,
    "python3.7 -m venv .venv-tf1": SET_UP,
    ".venv-tf1/bin/python -m pip install -r requirements.txt -r requirements/dev.txt": SET_UP,
    "pre-commit install": "it would change the checkout's hooks",
    "python -m pip install -r requirements.txt": "scripts/test.sh has run it",
    'python -m pip install "tensorflow[and-cuda]==2.21.*"': "marked in README as not run here",
    "source /usr/local/Ascend/ascend-toolkit/set_env.sh": "on an Ascend host",
    "python3 -m pip install -r requirements/npu.txt": "on an Ascend host",
    "python3 ./main_npu.py --dataset c10 --dataset_dir DIR --fetch sparse --depth 100 "
    "--growth_rate 24 --batch_size 64 --drop_1 150 --drop_2 225 --max_epoch 300": "by test_npu.py, "
    "with a stand-in of npu_bridge",
    "bash scripts/train_full_1p.sh --data_path=DIR "
    "--precision_mode=must_keep_origin_dtype": MODELZOO,
    "PLATFORM=gpu bash scripts/train_1p_ci.sh --recipe digits": MODELZOO,
    "HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITH_GLOO=1 HOROVOD_WITHOUT_MPI=1 "
    "HOROVOD_GPU_OPERATIONS=NCCL python -m pip install -r requirements/horovod.txt": BUILT,
    "horovodrun --gloo -np 8 -H host1:4,host2:4 python main_gpu.py --dataset c10 "
    "--dataset_dir DIR --batch_size 512 --learning_rate 0.8": WORKERS,
    "horovodrun --gloo -np 8 -H host1:4,host2:4 python main_gpu.py --resume RUN_DIR": WORKERS,
    "python scripts/scaling.py 1,2,4 --horovod": WORKERS,
    "python -m pip install . jax": "test_keras_library.py looks into what it installs",
    "python -m pip install -r requirements/keras.txt": SET_UP,
    "python scripts/convert.py RUN_DIR model.keras": CONVERTED,
    "python scripts/convert.py model.keras model-0": CONVERTED,
    "python scripts/convert.py IN.safetensors OUT.keras --recipe official-pytorch --depth 22 "
    "--growth_rate 8 --bottleneck 1 --compression 0.5 --dataset c10": CONVERTED,
    "python main_gpu.py --recipe digits --hold_out 287": "run by test_hold_out.py, on a subset",
    "python scripts/train_keras.py --recipe digits": "run by test_train_keras.py",
    "python scripts/fuzz.py --out results/fuzz": "for hours; test_fuzz.py is a short one",
    "python scripts/fuzz.py svhn tar --inputs 20000": "test_fuzz.py does the same",
    "bash scripts/gpu_reproduce.sh DIR": "run by test_train_keras.py, with a tiny network",
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
    "python main_gpu.py --recipe digits --load RUN_DIR --new_head": SHORT
    + ["--depth", "7", "--subset", "128"],
    "python main_gpu.py --help": [],
    "python scripts/ledger.py": [],
    "python scripts/ledger.py --check": [],
    "python scripts/pack.py RUN_DIR": [],
    "python scripts/ledger.py --depth 40 --growth_rate 12": [],
    "python scripts/ledger.py --recipe liu-zeng-basic-v1 --nearest 4 --farthest 4 "
    "--growth_rate 24": [],
    "python scripts/plot.py connections --depth 40 --growth_rate 12 --base 3 "
    "-o connections.png": [],
    "python scripts/plot.py connections densenet-40-12 sparsenet-40-24 liu-zeng-basic-v1 "
    "--layers 20 -o connections.png": [],
    "python scripts/plot.py curves RUN_DIR -o curves.svg": [],
    "python scripts/evaluate.py RUN_DIR": [],
    "python scripts/evaluate.py RUN_DIR --picture confusion.png": [],
    "python scripts/predict.py RUN_DIR IMAGES": [],
    "python scripts/predict.py RUN_DIR IMAGES --top 3": [],
    "python scripts/predict.py RUN_DIR IMAGES --json": [],
    "python3 main_npu.py --help": [],
    "python3 main_npu.py --dry_run --npu_option deterministic=1": [],
    "python scripts/freeze_graph.py RUN_DIR --out sparsenet.pb": [],
    "python scripts/activations.py RUN_DIR/model-0 --gradients --out RUN_DIR/activations.npz": [],
    "python cifar_data.py --dataset_dir DIR": [],
}
EXPORT = "python scripts/export.py RUN_DIR --format onnx"
ON_THE_MODERN_STACK = ["python scripts/compare.py RUN_A RUN_B --html report.html", EXPORT]
if sys.version_info >= (3, 10):
    SHORTENED.update((command, []) for command in ON_THE_MODERN_STACK)
else:
    NOT_RUN.update((command, "it runs on the modern stack") for command in ON_THE_MODERN_STACK)


def test_every_command_is_known():
    unknown = {c: where for c, where in COMMANDS.items() if c not in NOT_RUN and c not in SHORTENED}
    assert not unknown
    assert sorted(COMMANDS) == sorted(list(NOT_RUN) + list(SHORTENED))


@pytest.mark.parametrize("command", SHORTENED)
def test_command(command, tmp_path, finished_run):
    data, run = tmp_path / "data", tmp_path / "run"
    write_binary_layout(data)
    shutil.copytree(str(finished_run), str(run))
    images = tmp_path / "images"
    images.mkdir()
    cv2.imwrite(str(images / "gray.png"), np.full((40, 60, 3), 128, np.uint8))
    places = {"RUN_DIR": run, "RUN_A": run, "RUN_B": run, "DIR": data, "IMAGES": images}
    words = [
        re.sub(
            "^(RUN_DIR|RUN_A|RUN_B|DIR|IMAGES)(?=/|$)", lambda name: str(places[name.group()]), word
        )
        for word in shlex.split(command)
    ]
    arguments = [*words[2:], *SHORTENED[command]]
    # It needs Keras on TensorFlow, which tensorpack's stack in this process does not allow.
    is_alone = command == EXPORT
    result = run_python(CHECKOUT / words[1], *arguments, cwd=tmp_path, alone=is_alone)
    assert result.code == 0, result
    assert result.err == "", result
    assert result.out


def test_the_front_page_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 200


def anchors(text: str) -> List[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", CODE_BLOCK.sub("", text), re.M)
    return [re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_relative_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for link in LINK.findall(CODE_BLOCK.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


def test_the_front_page_leads_to_every_page():
    links = {link.partition("#")[0] for link in LINK.findall(README.read_text(encoding="utf-8"))}
    pages = {name_of(path) for path in DOCUMENTS} - {"README.md", "results/graphs.md"}
    assert pages <= links


def generate(command: str) -> str:
    """What stands below a command in a comment: its output."""
    words = shlex.split(command)
    result = run_python(CHECKOUT / words[1], *words[2:], alone=True)
    assert result.code == 0, result
    return result.out.strip()


def test_generated_tables_are_not_stale():
    """What stands between a command in a comment and `end` is what the command prints."""
    blocks = [
        (name_of(path), *block)
        for path in DOCUMENTS
        for block in GENERATED.findall(path.read_text(encoding="utf-8"))
    ]
    assert {name for name, _, _ in blocks} == {
        "README.md",
        "docs/published-networks.md",
        "results/performance.md",
    }
    stale = [name for name, command, table in blocks if generate(command) != table]
    assert not stale, "written anew by: python tests/test_documents.py"


def write_generated_tables() -> None:
    """Write what the commands print into all documents."""
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        new = GENERATED.sub(
            lambda block: "<!-- {} -->\n{}\n<!-- end -->".format(
                block.group(1), generate(block.group(1))
            ),
            text,
        )
        if new != text:
            path.write_text(new, encoding="utf-8")
            print("{}: written".format(name_of(path)))


if __name__ == "__main__":
    write_generated_tables()
