import itertools
import json

import cv2
import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, launch, run_python

import imagenet_data
from run_directory.table import find_table, read_rows
from sparsenet.errors import UserError


def write_folder(root, classes=3, per_class=6, sizes=((300, 400), (500, 260), (256, 256))):
    """train/<wnid>/*.JPEG and val/<wnid>/*.JPEG with photographs of noise."""
    stream = np.random.RandomState(0)
    for split, count in (("train", per_class), ("val", 2)):
        for label in range(classes):
            folder = root / split / "n{:08d}".format(label)
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = sizes[index % len(sizes)]
                image = np.full((height, width, 3), 60 * label, np.uint8)
                image += stream.randint(0, 40, image.shape).astype(np.uint8)
                cv2.imwrite(str(folder / "{}.JPEG".format(index)), image)


def batches(data, seed=0, first_epoch=1, count=4):
    constants = data.preprocessing("channel", "black")
    stream = data.training_batches(4, seed, 4, first_epoch, constants)
    return list(itertools.islice(stream, count))


def test_folders(tmp_path, capsys):
    write_folder(tmp_path)
    data = imagenet_data.load(str(tmp_path))
    assert "3 of the 1000 classes" in capsys.readouterr().out
    assert data.train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.first(4).train.labels.tolist() == [0, 0, 1, 2]
    assert data.describe()["train"]["images"] == 18


def test_validation_by_list(tmp_path):
    write_folder(tmp_path)
    flat = sorted((tmp_path / "val").glob("*/*.JPEG"))
    lines = []
    for index, path in enumerate(flat):
        path.rename(tmp_path / "val" / "{}.JPEG".format(index))
        lines.append("{}.JPEG {}".format(index, path.parent.name if index % 2 else index // 2))
    (tmp_path / "val.txt").write_text("\n".join(lines))
    assert imagenet_data.load(str(tmp_path)).test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    (tmp_path / "val.txt").write_text("0.JPEG n99")
    with pytest.raises(UserError, match="line 1.*n99"):
        imagenet_data.load(str(tmp_path))
    (tmp_path / "val.txt").write_text("77.JPEG 0")
    with pytest.raises(UserError, match="77.JPEG"):
        imagenet_data.load(str(tmp_path))


def test_batches_are_a_function_of_seed_epoch_and_index(tmp_path):
    write_folder(tmp_path)
    data = imagenet_data.load(str(tmp_path))
    whole = batches(data, count=8)
    assert whole[0].images.shape == (4, 224, 224, 3) and whole[0].images.dtype == np.uint8
    for one, other in zip(whole, batches(data, count=8)):
        assert np.array_equal(one.images, other.images)
    for one, other in zip(whole[4:], batches(data, first_epoch=2)):
        assert np.array_equal(one.images, other.images)
    assert not np.array_equal(whole[0].images, batches(data, seed=1)[0].images)
    labels = np.concatenate([batch.labels for batch in whole[:4]])
    assert max(np.bincount(labels)) <= 6  # no image twice in an epoch


def test_every_test_image_counts_once(tmp_path):
    write_folder(tmp_path)
    data = imagenet_data.load(str(tmp_path))
    seen = [(batch, count) for batch, count in data.test_batches(4)]
    assert [count for _, count in seen] == [4, 2]
    assert all(batch.images.shape == (4, 224, 224, 3) for batch, _ in seen)
    colours = [batch.images[:count].mean() for batch, count in seen]
    assert colours[0] < colours[1]  # in order


def test_center_crop_is_the_centre():
    image = np.zeros((512, 1024, 3), np.uint8)
    image[156:356, 412:612] = 255
    crop = imagenet_data.center_crop(image)
    assert crop.shape == (224, 224, 3)
    assert crop[112, 112, 0] == 255 and crop[20, 112, 0] == 0
    assert crop.mean() / 255 == pytest.approx((100 / 224) ** 2, rel=0.05)


def test_random_crops_are_parts_and_sometimes_mirrored():
    """Columns count up: a crop does too, or down where it is mirrored; its span is its width."""
    image = np.repeat(np.arange(240, dtype=np.uint8)[None, :, None], 240, axis=0).repeat(3, axis=2)
    spans, mirrored = [], 0
    for seed in range(60):
        crop = imagenet_data.random_crop(image, np.random.RandomState(seed)).astype(int)
        spans.append(abs(crop[0, -1, 0] - crop[0, 0, 0]))
        mirrored += crop[0, -1, 0] < crop[0, 0, 0]
    assert 15 < mirrored < 45
    assert min(spans) < 110 and max(spans) > 190


def test_colours_are_rgb(tmp_path):
    path = str(tmp_path / "red.png")
    cv2.imwrite(path, np.full((300, 300, 3), (0, 0, 255), np.uint8))  # OpenCV writes BGR
    assert imagenet_data.decode_file(path)[0, 0].tolist() == [255, 0, 0]


def test_bad_folders(tmp_path):
    for path in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(UserError, match="train/<class>"):
            imagenet_data.load(str(path))
    write_folder(tmp_path / "a")
    (tmp_path / "a" / "val" / "n00000000").rename(tmp_path / "a" / "val" / "n77")
    with pytest.raises(UserError, match="n77"):
        imagenet_data.load(str(tmp_path / "a"))
    broken = tmp_path / "broken.JPEG"
    broken.write_bytes(b"not a picture")
    with pytest.raises(UserError, match="broken.JPEG"):
        imagenet_data.decode_file(str(broken))
    whole = (tmp_path / "a" / "train" / "n00000000" / "0.JPEG").read_bytes()
    broken.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(UserError, match="broken.JPEG"):
        imagenet_data.decode_file(str(broken))
    (tmp_path / "a" / "val.txt").write_bytes(b"\xff\xfd.JPEG 0\n")
    with pytest.raises(UserError, match="val.txt names"):
        imagenet_data.load(str(tmp_path / "a"))


@pytest.mark.trains
def test_it_trains(tmp_path):
    write_folder(tmp_path / "data", per_class=8)
    flags = ["--recipe", "sparsenet-121-32", "--layers", "1,1,1,1", "--growth_rate", "4",
             "--batch_size", "8", "--max_epoch", "1", "--log_dir", tmp_path]  # fmt: skip
    result = launch(*flags, "--dataset_dir", tmp_path / "data", "--name", "run")
    assert result.code == 0, result
    assert (tmp_path / "run" / "model-3.index").exists()
    (row,) = read_rows(find_table(str(tmp_path / "run")))
    assert 0 <= row["test_top5_error"] <= row["test_error"] <= 1
    assert "top-5 error" in result.out
    resumed = launch("--resume", tmp_path / "run", "--max_epoch", "2")
    assert resumed.code == 0, resumed
    stats = json.loads((tmp_path / "run" / "stats.json").read_text())
    assert stats[0]["test_top5_error"] == pytest.approx(row["test_top5_error"], rel=1e-5)
    # Images that are damaged since: those of the test are known by their sizes alone.
    for split in ("train", "val"):
        for path in (tmp_path / "data" / split / "n00000001").iterdir():
            path.write_bytes(bytes(path.stat().st_size))
    failed = launch("--resume", tmp_path / "run", "--max_epoch", "3")
    assert failed.code == 1 and failed.err.count("\n") == 1, failed
    assert ".JPEG: damaged, or no image" in failed.err and "model-6" in failed.err
    evaluated = run_python(CHECKOUT / "scripts" / "evaluate.py", tmp_path / "run")
    assert_refused(evaluated, "val/n00000001/0.JPEG: damaged, or no image")
    assert_refused(
        launch(*flags, "--dataset", "c10", "--fake"), "c10", "imagenet, folder with recipe"
    )
    assert_refused(launch(*flags, "--fake", "--normalize", "pixel_mean"), "pixel_mean")
