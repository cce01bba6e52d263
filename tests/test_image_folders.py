"""Folders of images: which files are images and classes, and training on any of them."""

import json
import os

import cv2
import numpy as np
import pytest
from conftest import CHECKOUT, assert_refused, launch, run_python

import cifar_data
import folder_data
import image_folders
from sparsenet.errors import UserError


def write_image(path, colour=0, side=8):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((side, side, 3), colour, np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())


@pytest.fixture
def folder(tmp_path):
    """Return a folder with two classes, cat and dog, of three training and two test images."""
    for split, count in (("train", 3), ("test", 2)):
        for label, name in enumerate(["cat", "dog"]):
            for index in range(count):
                write_image(tmp_path / split / name / "{}.png".format(index), 100 * label)
    return tmp_path


def read(directory, *splits):
    return image_folders.read(str(directory), "folder", splits or folder_data.TEST_SPLITS)


def names(files):
    return [os.path.basename(path) for path in files.paths]


# Path of a file beside the images -> whether it holds an image.
NO_DATA = [
    ("train/.ipynb_checkpoints/0-checkpoint.png", True),
    ("train/@eaDir/thumb.jpg", True),
    ("train/__MACOSX/cat/0.png", True),
    ("train/$RECYCLE.BIN/0.png", True),
    ("train/cat/.ipynb_checkpoints/0-checkpoint.png", True),
    ("train/cat/._0.png", False),
    ("train/cat/Thumbs.db", False),
    ("train/.DS_Store", False),
    ("train/annotations/0.xml", False),
    ("test/.ipynb_checkpoints/0.png", True),
    ("test/annotations/0.xml", False),
    ("test/dog/._1.png", False),
]


@pytest.mark.parametrize("path, is_image", NO_DATA, ids=[path for path, _ in NO_DATA])
def test_what_is_no_class_and_no_image_is_left_out(folder, path, is_image):
    if is_image:
        write_image(folder / path)
    else:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(b"\0\5\26\7")
    found = read(folder)
    assert found.classes == ("cat", "dog")
    assert found.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert names(found.train) == ["0.png", "1.png", "2.png"] * 2
    assert found.test.labels.tolist() == [0, 0, 1, 1]


def test_an_empty_folder_is_no_class_and_that_is_said(folder, capsys):
    (folder / "train" / "bird").mkdir()
    assert read(folder).classes == ("cat", "dog")
    assert "train/bird holds no image: it is no class" in capsys.readouterr().out


def test_names_of_folders_move_no_cursor(folder, capsys):
    (folder / "train" / "bird\x1b[2J\n\u202e").mkdir()
    read(folder)
    said = capsys.readouterr().out
    assert r"train/bird\x1b[2J\n\u202e holds" in said and said.count("\n") == 1


def test_every_readable_ending_counts_and_folders_may_be_nested(folder):
    for name in ("a.webp", "b.JPG", "c.bmp", "deeper/d.jpeg", "deeper/e.tif"):
        write_image(folder / "train" / "emu" / name, 50)
    found = read(folder)
    assert names(found.train)[6:] == ["a.webp", "b.JPG", "c.bmp", "d.jpeg", "e.tif"]
    data = folder_data.load(str(folder), 32)
    assert data.train.images[6:].shape == (5, 32, 32, 3)
    assert np.abs(data.train.images[6:].astype(int) - 50).max() <= 2


def test_a_class_of_unreadable_images_is_refused(folder, capsys):
    (folder / "train" / "dog" / "x.gif").write_bytes(b"GIF89a")
    read(folder)
    assert "dog/x.gif can't be read: left out" in capsys.readouterr().out
    (folder / "train" / "emu").mkdir()
    (folder / "train" / "emu" / "a.heic").write_bytes(b"ftypheic")
    with pytest.raises(UserError, match="train/emu holds images, such as a.heic.*accepted: JPEG"):
        read(folder)


def put_link(path):
    path.symlink_to("nowhere.png")


def put_empty(path):
    path.write_bytes(b"")


def put_pipe(path):
    os.mkfifo(str(path))


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize(
    "put, why",
    [(put_link, "a link to nothing"), (put_empty, "is empty"), (put_pipe, "is no file")],
)
def test_a_file_that_is_none_is_found_before_the_start(folder, split, put, why):
    put(folder / split / "dog" / "7.png")
    with pytest.raises(UserError, match="dog/7.png .*{}".format(why)):
        read(folder)


def test_a_class_that_is_a_link_to_nothing_is_refused(folder):
    (folder / "train" / "emu").symlink_to("nowhere")
    with pytest.raises(UserError, match="train/emu is a link to nothing"):
        read(folder)


def test_a_damaged_image_is_found_before_the_start(folder):
    (folder / "train" / "dog" / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"dog/1.png: damaged.*JPEG, [^(]*$"):
        folder_data.load(str(folder), 32)
    (folder / "train" / "cat" / "2.png").write_bytes(b"no image either")
    with pytest.raises(UserError, match=r"cat/2.png: damaged.* \(so 2 of 6 images\)"):
        folder_data.load(str(folder), 32)


@pytest.mark.parametrize(
    "name, content, words",
    [
        ("val.txt", b"0.png " + b"9" * 10**6, "val.txt, line 1: '0.png 9*'; accepted"),
        ("LOC_val_solution.csv", b"0,n1\n" + b"1" * 200000, "csv, line 1: '0 n1'; accepted"),
        ("LOC_val_solution.csv", b"1" * 200000, "csv, line 1: field larger than"),
        ("val.txt", b"\xff\xfea\0b", "val.txt, line 1: .*truncated"),
        ("val.txt", b"a" * 10**6 + b" cat", "val.txt names a{100}, which"),
        ("val.txt", b"0 1\n0 1\n", "val.txt names 0 twice"),
    ],
)
def test_a_damaged_table_is_refused_in_a_short_line(folder, name, content, words):
    (folder / "test").rename(folder / "val")
    for path in sorted((folder / "val").glob("*/*.png")):
        path.rename(folder / "val" / path.name)
    (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=words) as error:
        read(folder, "val")
    assert len(str(error.value)) < 500


def test_layouts_that_are_none(folder, tmp_path):
    for directory, message in [
        (tmp_path / "nowhere", "does not exist"),
        (folder / "train" / "cat" / "0.png", "is a file"),
        (folder / "train", "holds no folder train, but cat, dog"),
    ]:
        with pytest.raises(UserError, match=message):
            read(directory)
    with pytest.raises(UserError, match="no images with a class in val/, but test, train;"):
        read(folder, "val")
    (folder / "test" / "dog").rename(folder / "test" / "wolf")
    with pytest.raises(UserError, match="test/wolf is a class of test and not of train"):
        read(folder)
    (folder / "train" / "cat").rename(folder / "cat")
    with pytest.raises(UserError, match="a single class, train/dog; accepted: at least 2"):
        folder_data.class_names(str(folder))


def test_test_comes_before_val_if_it_has_classes(folder):
    write_image(folder / "val" / "cat" / "9.png")
    assert len(read(folder).test.labels) == 4
    (folder / "test").rename(folder / "labelled")
    write_image(folder / "test" / "unlabelled.png")
    assert names(read(folder).test) == ["9.png"]


# Table, the file that it is -> labels of the images 0 and 1.
TABLES = [
    ("val.txt", "0.png dog\n1.png 0\n", [1, 0]),
    ("val.txt", "\ufeff0.png 1\r\n1.png 0\r\n\r\n", [1, 0]),
    ("val.txt", "val/1.png 1\n./0.png 0\n", [1, 0]),
    ("val.txt", "val\\1.png dog\r\nval\\0.png cat\r\n", [1, 0]),
    ("LOC_val_solution.csv", "ImageId,PredictionString\n1,dog 1 2 3 4 cat 5\n0,cat 1\n", [1, 0]),
    ("val/val_annotations.txt", "0.png\tcat\t0\t0\t62\t62\n1.png\tdog\t1\t2\t3\t4\n", [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize("name, text, labels", TABLES)
def test_a_table_gives_classes_to_images_that_lie_flat(folder, name, text, labels):
    for index in range(2):
        write_image(folder / "val" / "{}.png".format(index))
    (folder / name).write_bytes(text.encode("utf-8"))
    assert read(folder, "val").test.labels.tolist() == labels
    (folder / name).write_bytes(text.replace("\ufeff", "").encode("utf-16"))
    assert read(folder, "val").test.labels.tolist() == labels


def test_what_kaggle_unpacks_is_known_by_both_of_its_folders(folder, tmp_path):
    inner = tmp_path / "kaggle" / "ILSVRC" / "Data" / "CLS-LOC"
    inner.mkdir(parents=True)
    (folder / "train").rename(inner / "train")
    write_image(inner / "val" / "ILSVRC2012_val_1.JPEG")
    table = "ImageId,PredictionString\nILSVRC2012_val_1,dog 1 2 3 4\n"
    (tmp_path / "kaggle" / "LOC_val_solution.csv").write_text(table)
    for directory in (tmp_path / "kaggle", inner):
        found = read(directory, "val")
        assert found.classes == ("cat", "dog") and found.test.labels.tolist() == [1]


@pytest.mark.parametrize(
    "text, message",
    [
        ("0.png 2", r"line 1: '0.png 2'; accepted: FILE LABEL, a number below 2"),
        ("0.png 0\n1.png wolf", "line 2: .*wolf"),
        ("0.png -1", "line 1"),
        ("0.png", "line 1"),
        ("7.png 0", "names 7.png, which does not exist"),
        ("0.png 0\n0.png 1", "names 0.png twice"),
    ],
)
def test_wrong_lines_of_a_table(folder, text, message):
    write_image(folder / "val" / "0.png")
    write_image(folder / "val" / "1.png")
    (folder / "val.txt").write_text(text)
    with pytest.raises(UserError, match=message):
        read(folder, "val")


def test_images_that_a_table_leaves_out_are_said(folder, capsys):
    for index in range(3):
        write_image(folder / "val" / "{}.png".format(index))
    (folder / "val.txt").write_text("2.png 1")
    assert read(folder, "val").test.labels.tolist() == [1]
    assert "val/0.png and 1 more not in" in capsys.readouterr().out


def test_orientation_in_exif_is_ignored(tmp_path):
    """As torchvision and the original readers of ImageNet do."""
    image = np.zeros((40, 40, 3), np.uint8)
    image[:20] = 255
    cv2.imwrite(str(tmp_path / "plain.jpg"), image)
    content = (tmp_path / "plain.jpg").read_bytes()
    # APP1 with one entry: orientation (0x0112) = 6, a quarter turn.
    entry = bytes.fromhex("011200030000000100060000")
    tiff = b"MM\0*" + bytes.fromhex("000000080001") + entry + bytes(4)
    segment = b"Exif\0\0" + tiff
    exif = b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment
    (tmp_path / "turned.jpg").write_bytes(content[:2] + exif + content[2:])
    turned = cv2.imread(str(tmp_path / "turned.jpg"))
    assert not np.array_equal(turned, cv2.imread(str(tmp_path / "plain.jpg")))  # it says something
    for side in (32, 224):
        plain, read = (
            folder_data.read_image(str(tmp_path / name), side)
            for name in ("plain.jpg", "turned.jpg")
        )
        assert np.array_equal(plain, read)


# Training --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits_folder(tmp_path_factory):
    """Return the digits 0 to 2 as PNG files."""
    folder, digits = tmp_path_factory.mktemp("digits"), cifar_data.load("digits", None)
    for split, images in (("train", digits.train), ("test", digits.test)):
        for index in np.flatnonzero(images.labels < 3):
            path = folder / split / "digit {}".format(images.labels[index])
            path.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path / "{:04}.png".format(index)), images.images[index])
    return folder


def test_images_of_32_pixels_are_what_was_written(digits_folder):
    digits, data = cifar_data.load("digits", None), folder_data.load(str(digits_folder), 32)
    for found, expected in ((data.train, digits.train), (data.test, digits.test)):
        for label in range(3):
            wanted = expected.images[expected.labels == label]
            assert np.array_equal(found.images[found.labels == label], wanted)


@pytest.mark.parametrize("side", [32, 224])
def test_a_subset_has_images_of_every_class(digits_folder, side):
    data = folder_data.load(str(digits_folder), side).first(9)
    assert len(data.train.labels) == 9
    assert set(data.train.labels.tolist()) == set(data.test.labels.tolist()) == {0, 1, 2}


def test_at_224_pixels_images_stay_in_their_files(digits_folder):
    data = folder_data.load(str(digits_folder), 224)
    preprocessing = data.preprocessing("channel", "black", "none")
    batch = next(data.training_batches(4, 0, 2, 1, preprocessing))
    again = next(data.training_batches(4, 1, 2, 1, preprocessing))
    assert batch.images.shape == (4, 224, 224, 3)
    # Without augmentation an image is the same under every seed.
    order = np.random.RandomState([0, 1]).permutation(len(data.train.labels))
    other = np.random.RandomState([1, 1]).permutation(len(data.train.labels))
    for images, indices in ((batch.images, order), (again.images, other)):
        for image, index in zip(images, indices[:4]):
            path = data.train.paths[index]
            assert np.array_equal(image, folder_data.read_image(path, 224))


@pytest.mark.trains
def test_any_folder_trains_and_its_classes_are_kept(digits_folder, tmp_path):
    flags = ["--dataset", "folder", "--dataset_dir", digits_folder, "--log_dir", tmp_path]
    small = ["--layers", "2,2", "--growth_rate", "6", "--augment", "crop", "--max_epoch", "4"]
    result = launch("--recipe", "digits", *flags, *small, "--name", "run")
    assert result.code == 0, result
    assert "3 classes" in result.out
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    names = ["digit 0", "digit 1", "digit 2"]
    assert record["recipe"]["config"]["classes"] == 3 and record["data"]["classes"] == names
    assert record["recipe"]["augment"] == "crop" and not record["preprocessing"]["mirror"]

    tested = run_python("scripts/evaluate.py", tmp_path / "run")
    assert tested.code == 0 and all(name in tested.out for name in names), tested
    image = sorted((digits_folder / "test" / "digit 2").iterdir())[0]
    predicted = run_python("scripts/predict.py", tmp_path / "run", image)
    assert predicted.code == 0 and "digit" in predicted.out, predicted
    without = ["--recipe", "digits", *small[:4], "--dataset", "folder"]
    bare = tmp_path / "bare.npz"
    assert run_python("scripts/convert.py", tmp_path / "run", bare).code == 0
    (tmp_path / "bare.npz.json").unlink()
    flagged = run_python(
        "scripts/predict.py", bare, image, *without, "--dataset_dir", digits_folder
    )
    assert flagged.code == 0 and flagged.out == predicted.out, flagged

    other = tmp_path / "other"
    for split in ("train", "test"):
        for name in names[1:] + ["digit 9"]:
            write_image(other / split / name / "0.png")
    result = run_python("scripts/evaluate.py", tmp_path / "run", "--dataset_dir", other)
    assert_refused(result, "class 0 of", "is digit 0, in the data it is digit 1")


@pytest.mark.trains
def test_a_folder_trains_a_network_for_large_images(digits_folder, tmp_path):
    result = launch(
        "--recipe", "sparsenet-121-32", "--layers", "1,1,1,1", "--growth_rate", "4",
        "--dataset", "folder", "--dataset_dir", digits_folder, "--subset", "16",
        "--batch_size", "8", "--max_epoch", "1", "--log_dir", tmp_path, "--name", "run",
    )  # fmt: skip
    assert result.code == 0, result
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["recipe"]["config"]["classes"] == 3


def test_random_images_have_no_classes_to_go_by(tmp_path):
    result = launch("--dataset", "folder", "--fake", "--log_dir", tmp_path)
    assert_refused(result, "--fake", "classes are known")


def test_none_of_the_augmentation(tmp_path):
    data = cifar_data.fake("c10", 0).first(64)
    preprocessing = data.preprocessing("channel", "black", "none")
    batch = next(data.training_batches(64, 0, 1, 1, preprocessing))
    assert sorted(map(bytes, batch.images)) == sorted(map(bytes, data.train.images))
    assert not data.preprocessing("channel", "black", "crop")["mirror"]


CAFE = {"composed": "caf\u00e9", "decomposed": "cafe\u0301"}


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C", "PYTHONUTF8": "0"}], ids=["utf-8", "ascii"])
@pytest.mark.parametrize("form", CAFE)
def test_classes_have_one_name_on_every_machine(folder, form, locale):
    """macOS hands out decomposed names, and an ASCII locale bytes that Python can't decode."""
    for split in ("train", "test"):
        write_image(folder / split / CAFE[form] / "0.png", 200)
    result = run_python(
        "-c",
        "import folder_data, sys\n"
        "data = folder_data.load(sys.argv[1], 32)\n"
        "print(ascii(data.class_names), data.test.labels.tolist())\n",
        folder,
        env=locale,
    )
    assert result.out == "('caf\\xe9', 'cat', 'dog') [0, 1, 1, 2, 2]\n", result


@pytest.mark.trains
def test_names_that_are_not_utf_8_go_all_the_way(folder, tmp_path):
    """They stand in run.json as Python has them, and are shown escaped."""
    name = os.fsdecode(b"caf\xe9")
    for split in ("train", "test"):
        write_image(folder / split / name / "0.png", 200)
    run, picture = tmp_path / "runs" / "run", tmp_path / "confusion.png"
    flags = ["--depth", "7", "--growth_rate", "4", "--batch_size", "7", "--max_epoch", "1"]
    result = launch("--dataset", "folder", "--dataset_dir", folder, *flags, "--log_dir",
                    run.parent, "--name", run.name)  # fmt: skip
    assert result.code == 0, result
    result = run_python(CHECKOUT / "scripts" / "evaluate.py", run, "--picture", picture)
    assert result.code == 0, result
    assert r"caf\udce9" in result.out and picture.exists()


def test_one_class_in_two_forms_is_refused(folder):
    for form in CAFE.values():
        write_image(folder / "train" / form / "0.png")
    with pytest.raises(UserError, match="is there twice, composed and decomposed"):
        read(folder)
