"""--hold_out: which training images are set aside, and whether all records say so."""

import json
import shutil
import sys

import numpy as np
import pytest
from conftest import CHECKOUT, TINY, assert_refused, launch, run_python
from test_npu import launch_npu

import cifar_data
import folder_data
import imagenet_data
from cifar_data import Dataset
from run_directory.checkpoints import read_arrays
from run_directory.curves import curves_figure
from run_directory.table import COLUMNS, find_table, read_rows
from sparsenet.errors import UserError
from training.command_line import parse
from training.prepare import load_data

FLAGS = [*TINY, "--hold_out", "64", "--max_epoch", "2"]
REMARK = "not on the test set"
TRAIN_KERAS = CHECKOUT / "scripts" / "train_keras.py"


def data_of(*flags):
    return load_data(parse(["--recipe", "digits", *flags]))


def as_set(images):
    return {image.tobytes() for image in images}


# Which images ------------------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [[100] * 10, [1, 2, 50, 300, 7], [0, 40, 0, 3]])
@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_each_class_gives_its_share_and_keeps_an_image(counts, share):
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    labels = np.random.RandomState(0).permutation(labels)
    spare = np.maximum(0, np.array(counts) - 1)
    count = int(share * spare.sum())
    held_out = cifar_data.held_out_of(labels, count)
    assert len(set(held_out)) == count and list(held_out) == sorted(held_out)
    found = np.bincount(labels[held_out], minlength=len(counts))
    assert np.abs(found - count * spare / spare.sum()).max() < 1
    assert (found <= spare).all()


def test_the_choice_is_a_known_one():
    """Two stacks and all machines have to make it."""
    labels = np.array([2, 0, 1, 0, 1, 0, 2, 2, 0, 1], np.int32)
    # By class, without the first of each: 3 5 8, 4 9, 6 7.
    assert cifar_data.held_out_of(labels, 3).tolist() == [3, 8, 9]
    held_out = data_of("--hold_out", "300").describe()["test"]
    assert held_out["sha256"].startswith("159cb96f0cf04708bb547c255d64b7e4")


@pytest.mark.parametrize("count", [0, 8, 10])
def test_a_class_has_to_be_left(count):
    labels = np.array([2, 0, 1, 0, 1, 0, 2, 2, 0, 1])
    with pytest.raises(UserError, match="--hold_out {}; accepted: 1 to 7, which".format(count)):
        cifar_data.held_out_of(labels, count)
    with pytest.raises(UserError, match="with more than one training image of a class only"):
        cifar_data.held_out_of(np.arange(3), 1)


def test_no_seed_and_no_test_set_is_asked():
    whole, data, other = data_of(), *(data_of("--hold_out", "90", "--seed", s) for s in "07")
    assert data.describe() == other.describe()
    train, held_out = as_set(data.train.images), as_set(data.test.images)
    assert not train & held_out and train | held_out == as_set(whole.train.images)
    alone = Dataset("digits", whole.train, None, mirror=False).hold_out(90)
    assert alone.describe() == data.describe()
    # What images are normalised by is of the images trained on.
    constants = data.preprocessing("channel", "mean")
    means, stds = cifar_data.channel_statistics(data.train.images)
    assert (constants["mean"], constants["std"]) == (means, stds)
    assert means != cifar_data.channel_statistics(whole.train.images)[0]
    of_all = cifar_data.mean_image([whole.train.images]).tolist()
    assert data.preprocessing("ascend", "black")["mean"] == of_all


def test_of_a_subset_it_is_images_of_the_subset():
    subset = as_set(data_of("--subset", "100").train.images)
    data = data_of("--subset", "100", "--hold_out", "40")
    assert len(data.train.labels) == 60
    assert as_set(data.train.images) | as_set(data.test.images) == subset


def test_images_in_files_and_in_folders():
    data = imagenet_data.fake(0)
    other = data.hold_out(100)
    assert isinstance(other, imagenet_data.ImageFolder)
    assert sorted(other.train.paths + other.test.paths) == sorted(data.train.paths)
    assert other.describe()["test"]["images"] == 100
    assert len(next(other.test_batches(2))[0].labels) == 2
    of_folder = folder_data.SortedImages(np.zeros((6, 32, 32, 3), np.uint8), np.arange(6) // 3)
    assert type(Dataset("folder", of_folder, None, True).hold_out(2).train) is type(of_folder)


def test_mistakes_cost_one_line_and_nothing_is_written(tmp_path):
    for count, words in [("0", "at least 1"), ("320", "1 to 310, "), ("400", "1 to 310, ")]:
        result = launch(*TINY, "--hold_out", count, "--log_dir", tmp_path / "runs")
        assert_refused(result, "--hold_out", count, words)
    result = launch(*TINY, "--hold_out", "280", "--log_dir", tmp_path / "runs")
    assert_refused(result, "--batch_size 64; accepted: 1 to 40, the training images")
    assert list(tmp_path.iterdir()) == []


# Runs --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def held_out_run(tmp_path_factory):
    """Return the directory of a run of two epochs, and what it printed."""
    root = tmp_path_factory.mktemp("held_out")
    result = launch(*FLAGS, "--log_dir", root, "--name", "run")
    assert result.code == 0, result
    return root / "run", result.out


@pytest.mark.trains
def test_records_and_screen_say_it(held_out_run):
    run, out = held_out_run
    record = json.loads((run / "run.json").read_text())
    assert record["settings"]["hold_out"] == 64 and record["steps_per_epoch"] == 4
    assert [record["data"][name]["images"] for name in ("train", "test")] == [256, 64]
    text = (run / "loss+perf_cpu.txt").read_text()
    assert "not over the test set" in text and ", on held-out images: test_error" in text
    assert "every test image" not in text
    rows = read_rows(find_table(str(run)))
    assert tuple(rows[0]) == COLUMNS
    assert rows[-1]["test_error"] * 64 == pytest.approx(round(rows[-1]["test_error"] * 64))
    words = " ".join(out.split())
    assert "256 training and 64 held-out images, 10 classes tested on training images" in words
    assert REMARK in words and "train error held-out error images/s" in words
    assert "held-out error {:.2%}".format(rows[-1]["test_error"]).replace("%", " %") in words
    assert "test error" not in words and "the test set 0" not in words


@pytest.mark.trains
def test_a_resumed_run_is_the_uninterrupted_one(held_out_run, tmp_path):
    run, _ = held_out_run
    cut = [*FLAGS[:-1], "1", "--log_dir", tmp_path, "--name", "cut"]
    assert launch(*cut).code == 0
    assert_refused(launch("--resume", tmp_path / "cut", "--hold_out", "64"), "--hold_out can't be")
    resumed = launch("--resume", tmp_path / "cut", "--max_epoch", "2")
    assert resumed.code == 0 and "64 held-out images" in resumed.out, resumed
    a, b = (read_arrays(str(each / "model-8")) for each in (run, tmp_path / "cut"))
    assert set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)
    assert "not over the test set" in (tmp_path / "cut" / "loss+perf_cpu.txt").read_text()


@pytest.mark.trains
def test_evaluate_tests_on_the_test_set_and_says_what_the_run_did(held_out_run):
    run, _ = held_out_run
    for flags in ([], ["--dataset_dir", "unused"]):
        result = run_python(CHECKOUT / "scripts" / "evaluate.py", run, *flags)
        assert result.code == 0, result
        assert "--hold_out 64: its own figures are of 64 training images" in result.out
        assert "all          360" in result.out


@pytest.mark.trains
def test_modelzoos_accuracy_is_not_of_held_out_images(held_out_run, tmp_path):
    run, _ = held_out_run
    flags = ["--case", "acc", "--seconds", "1", "--out", tmp_path]
    result = run_python(CHECKOUT / "scripts" / "modelzoo_report.py", run, *flags)
    assert result.code == 0, result
    assert "Final Held-out Accuracy : " in result.out and "Train Accuracy" not in result.out
    (log,) = tmp_path.glob("*.log")
    assert "HeldOutAccuracy" in log.read_text() and "TrainAccuracy" not in log.read_text()


@pytest.mark.trains
def test_curves_say_which_run_is_of_what(held_out_run, finished_run, tmp_path):
    runs = [held_out_run[0], tmp_path / "whole"]
    shutil.copytree(str(finished_run), str(runs[1]))
    out = tmp_path / "c.svg"
    for directories, words in [
        (runs, ["run (held-out)", "whole", "test or held-out"]),
        (runs[:1], ["held-out"]),
        (runs[1:], ["test"]),
    ]:
        plot = run_python(CHECKOUT / "scripts" / "plot.py", "curves", *directories, "-o", out)
        assert plot.code == 0, plot
        text = out.read_text()
        assert all("<!-- {} -->".format(each) in text for each in words), words
        assert ("held-out" in text) == ("held-out" in words[-1])


def test_a_legend_of_held_out_runs_alone_does_not_speak_of_a_test():
    rows = [{"epoch": 1, "test_error": 0.5, "test_loss": 1.0}]
    figure, _ = curves_figure({"a": rows, "b": rows}, held_out=("a", "b"))
    entries = [text.get_text() for text in figure.legends[0].get_texts()]
    assert entries == ["a", "b", "held-out", "training"]


@pytest.mark.trains
@pytest.mark.skipif(sys.version_info < (3, 10), reason="the comparison is tested on one stack")
def test_compare_names_the_difference_and_does_not_mix_errors(held_out_run, tmp_path):
    compare, run = CHECKOUT / "scripts" / "compare.py", held_out_run[0]
    same = run_python(compare, run, run, "--html", tmp_path / "same.html")
    words = " ".join(same.out.split())
    assert same.code == 0 and "64 held-out images (run.json)" in words, same
    assert "A: test_* are of 64 held-out training images, not of the test set" in words
    assert "on held-out images" in words and "<!-- held-out -->" in report_of(
        tmp_path / "same.html"
    )
    flags = [*TINY, "--max_epoch", "2", "--steps_per_epoch", "4", "--log_dir", tmp_path]
    assert launch(*flags, "--name", "whole").code == 0
    result = run_python(compare, tmp_path / "whole", run, "--html", tmp_path / "mixed.html")
    words = " ".join(result.out.split())
    assert result.code == 1 and "first settings.hold_out: absent | 64" in words, result
    assert "are of different images, and are not compared" in words
    assert "test_error" not in words and "test_loss," not in words
    assert "test or held-out" in report_of(tmp_path / "mixed.html")
    references = []
    for number in range(4):
        references.append(tmp_path / str(number))
        shutil.copytree(str(tmp_path / "whole"), str(references[-1]))
    refused = run_python(compare, run, run, "--reference", *references)
    assert_refused(refused, str(references[0]), "it was tested on other images than A and B")


def report_of(path):
    """The text of a report, with that of its pictures."""
    import base64
    import re

    page = path.read_text()
    pictures = re.findall('data:image/svg[+]xml;base64,([^"]+)', page)
    return page + "".join(base64.b64decode(each).decode() for each in pictures)


@pytest.mark.trains
def test_an_npu_run_holds_out_the_same_images(held_out_run, tmp_path):
    result = launch_npu(*FLAGS[:-1], "1", "--log_dir", tmp_path, "--name", "run")
    assert result.code == 0 and "64 held-out images" in result.out, result
    records = [
        json.loads((each / "run.json").read_text()) for each in (tmp_path / "run", held_out_run[0])
    ]
    assert records[0]["data"] == records[1]["data"]


@pytest.mark.trains
@pytest.mark.skipif(sys.version_info < (3, 10), reason="Keras 3 needs Python 3.10")
def test_keras_holds_out_the_same_images(held_out_run, tmp_path):
    flags = [*FLAGS[:-1], "1", "--log_dir", tmp_path, "--name", "run"]
    result = run_python(TRAIN_KERAS, *flags, env={"KERAS_BACKEND": "jax"})
    assert result.code == 0, result
    words = " ".join(result.out.split())
    assert REMARK in words and "train error held-out error" in words and "of 64 held-out" in words
    records = [
        json.loads((each / "run.json").read_text()) for each in (tmp_path / "run", held_out_run[0])
    ]
    for field in ("data", "preprocessing", "steps_per_epoch"):
        assert records[0][field] == records[1][field]
    assert [row["global_step"] for row in read_rows(find_table(str(tmp_path / "run")))] == [4]
    again = run_python(TRAIN_KERAS, "--resume", tmp_path / "run", "--hold_out", "64")
    assert_refused(again, "--hold_out can't be changed")
