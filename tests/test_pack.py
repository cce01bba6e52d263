"""Packs of run directories, requirements.txt in them, and what TensorBoard is given."""

import glob
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, launch, run_python

from common import streams
from run_directory.pack import unpacked
from sparsenet.errors import UserError

PACK = CHECKOUT / "scripts" / "pack.py"


def test_a_pack_holds_what_shows_a_run(finished_run, tmp_path):
    out = tmp_path / "run.zip"
    result = run_python(PACK, finished_run, "--out", out)
    assert result.code == 0, result
    assert max(map(len, result.out.splitlines()[:-1])) <= 80
    with unpacked(str(out)) as directory:
        steps = sorted(glob.glob(directory + "/model-*.index"))
        names = sorted(path[len(directory) + 1 :] for path in glob.glob(directory + "/*"))
        assert {"run.json", "requirements.txt", "graph.pbtxt", "loss+perf_cpu.txt"} <= set(names)
        assert len(steps) == 2 and steps[0].endswith("model-0.index")
        for name in names:
            assert (finished_run / name).read_bytes() == Path(directory, name).read_bytes()
    assert_refused(run_python(PACK, finished_run, "--out", out), "run.zip exists")
    assert_refused(run_python(PACK, tmp_path), "no run directory")


def test_requirements_are_what_is_installed(finished_run):
    lines = (finished_run / "requirements.txt").read_text().splitlines()
    assert "numpy=={}".format(np.__version__) in lines
    assert all(re.fullmatch(r"[\w.-]+==\S+", line) for line in lines)
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(names)


@pytest.mark.parametrize(
    "names", [["../run.json"], ["/run.json"], ["a/b/run.json"], ["a/run.json", "b/x"], [], ["x"]]
)
def test_what_is_no_pack_is_refused(tmp_path, names):
    path = str(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, "{}")
    with pytest.raises(UserError, match="no pack"), unpacked(path):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["a.zip"]


def test_a_bomb_and_a_damaged_file_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(streams, "SMALL", 2**22)
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/run.json", bytes(range(256)) * 2**12)
    damaged = bytearray(path.read_bytes())
    damaged[60] ^= 255
    with zipfile.ZipFile(str(path), "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/run.json", "a/model-0.index"):
            archive.writestr(name, bytes(3 * 2**20))
    with pytest.raises(UserError, match="no pack.*more than 4,194,304 bytes"), unpacked(str(path)):
        pass
    with zipfile.ZipFile(str(path), "w") as archive:
        for number in range(1001):
            archive.writestr("a/{}".format(number), b"")
    with pytest.raises(UserError, match="no pack.*1,001 files"), unpacked(str(path)):
        pass
    for content in (b"PK\3\4 and no more", b"", damaged):
        path.write_bytes(content)
        with pytest.raises(UserError, match="can't be unpacked"), unpacked(str(path)):
            pass


@pytest.mark.trains
def test_events_and_log(tmp_path):
    """The log without colours; loss by step, images as augmented, weights; the subset is told."""
    from common.tf_stack import tf

    result = launch(
        "--recipe", "digits", "--depth", "7", "--growth_rate", "4", "--batch_size", "16",
        "--subset", "400", "--max_epoch", "1", "--histograms", "--log_dir", tmp_path,
        "--name", "run",
    )  # fmt: skip
    assert result.code == 0, result
    assert "median" not in result.out and re.search("seconds +an epoch [0-9.]+, the", result.out)
    log = (tmp_path / "run" / "log.log").read_text()
    assert "INFO" in log and "\x1b" not in log
    values = {}
    (events,) = glob.glob(str(tmp_path / "run" / "events*"))
    for event in tf.train.summary_iterator(events):
        for value in event.summary.value:
            values.setdefault(value.tag, []).append(value)
    losses = [value.simple_value for value in values["train_loss_by_step"]]
    steps = [10, 10, 5]
    mean = values["train_loss"][0].simple_value
    assert np.average(losses, weights=steps) == pytest.approx(mean, rel=1e-5)
    (image,) = values["training_images"]
    png = np.frombuffer(image.image.encoded_image_string, np.uint8)
    assert cv2.imdecode(png, cv2.IMREAD_COLOR).shape == (4 * 32, 4 * 32, 3)
    assert len(values["weights/linear/W"]) == 2
    assert {"learning_rate", "test_error", "images_per_second"} <= set(values)
    assert launch("--resume", tmp_path / "run", "--max_epoch", "2").code == 0
    again = [event for path in glob.glob(str(tmp_path / "run" / "events*")) if path != events
             for event in tf.train.summary_iterator(path)]  # fmt: skip
    tags = {value.tag for event in again for value in event.summary.value}
    assert "train_loss_by_step" in tags and "training_images" not in tags
    tested = run_python("scripts/evaluate.py", tmp_path / "run")
    assert "--subset 400" in tested.out and re.search(r"all +360", tested.out), tested
