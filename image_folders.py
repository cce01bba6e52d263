"""Find image files, and the classes that folders give them.

    DIR/train/<class>/**          classes are the sorted names of these folders
    DIR/val/<class>/**            or
    DIR/val/** and a table        of files and their classes, see TABLES

Other splits may stand for `val`. What Kaggle's ImageNet unpacks to is known, and so is Tiny
ImageNet. Hidden files and folders, what systems leave behind and folders without an image are no
part of the data. Nothing is decoded here; every file is looked at.
"""

import csv
import hashlib
import io
import os
import stat
import unicodedata
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from common.files import encoding_of, read_file
from sparsenet.errors import UserError, note

ENDINGS = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".pgm", ".ppm", ".tif", ".tiff")
# Images that OpenCV's usual builds don't read.
UNREADABLE = (".avif", ".gif", ".heic", ".heif", ".jp2", ".jxl", ".svg")
ACCEPTED = "JPEG, PNG, WebP, BMP, TIFF, PPM"
# Thumbnails and left-overs, by macOS, NAS systems, Windows, ext4 and Python.
SERVICE_FOLDERS = (
    "__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found",
    "__pycache__",
)  # fmt: skip
LONGEST_NUMBER = 9  # digits
LONGEST_SHOWN = 100  # characters of a row, in a message
MOST_BYTES_OF_TABLE = 2**26
KAGGLE = os.path.join("ILSVRC", "Data", "CLS-LOC")  # in which train/ and val/ lie there


class ImageFiles(NamedTuple):
    """A set of images in files.

    paths: of the images, or numbers of random images; labels: int32 [N]; sizes: in bytes, [N]
    """

    paths: List[str]
    labels: np.ndarray
    sizes: np.ndarray

    def first(self, count: int) -> "ImageFiles":
        """Return `count` images, or all of them if there are fewer.

        They are spread over the set, since the files are sorted by class.
        """
        return self.chosen(spread(count, len(self.paths)))

    def chosen(self, numbers: np.ndarray) -> "ImageFiles":
        """Return the images with these numbers, in this order."""
        paths = [self.paths[i] for i in numbers]
        return ImageFiles(paths, self.labels[numbers], self.sizes[numbers])

    def fingerprint(self) -> dict:
        """Return the number of images, and a SHA-256 of names, sizes and labels.

        The contents, of ImageNet 140 GB, are not read.
        """
        digest = hashlib.sha256()
        for path, size, label in zip(self.paths, self.sizes, self.labels):
            line = "{} {} {}\n".format(os.path.basename(path), size, label)
            digest.update(line.encode("utf-8", "surrogateescape"))
        return {"images": len(self.labels), "sha256": digest.hexdigest()}


def spread(count: int, total: int) -> np.ndarray:
    """Return `count` numbers below `total`, evenly apart, or all of them if there are fewer."""
    count = min(count, total)
    return np.arange(count) * total // count


class Folder(NamedTuple):
    """What a folder holds: training and test images, and the names of the classes."""

    train: ImageFiles
    test: ImageFiles
    classes: Tuple[str, ...]


def read(directory: Optional[str], dataset: str, test_splits: Sequence[str]) -> Folder:
    """Return the images in a directory, those for testing from the first of `test_splits` it has.

    Raises UserError if it is not laid out as described above, or for a file that is none.
    """
    root = _root(directory, dataset)
    by_class = _images_by_class(os.path.join(root, "train"))
    classes = tuple(by_class)
    train = _labelled(
        [(path, label) for label, name in enumerate(classes) for path in by_class[name]]
    )
    for split in test_splits:
        labelled = _test_images(root, split, classes)
        if labelled:
            return Folder(train, _labelled(labelled), classes)
    raise UserError(
        "{} holds no images with a class in {}, but {}; accepted: {}/<class>/*.jpg".format(
            root, " or ".join(split + "/" for split in test_splits), _held(root), test_splits[0]
        )
    )


def class_names(directory: Optional[str], dataset: str) -> Tuple[str, ...]:
    """Return the names of the classes of a directory; UserError if it has none."""
    return tuple(_images_by_class(os.path.join(_root(directory, dataset), "train")))


def images_below(folder: str) -> List[str]:
    """Return the images anywhere below a folder, in the order of their names."""
    return [path for path in _files_below(folder) if _ends_in(path, ENDINGS)]


# Folders ---------------------------------------------------------------------------------------


def _root(directory: Optional[str], dataset: str) -> str:
    """Return the folder that train/ lies in."""
    layout = "a folder with train/<class>/*.jpg"
    if not directory:
        raise UserError("--dataset {} needs --dataset_dir DIR, {}".format(dataset, layout))
    for root in (directory, os.path.join(directory, KAGGLE)):
        if os.path.isdir(os.path.join(root, "train")):
            return root
    if not os.path.exists(directory):
        found = "does not exist"
    elif not os.path.isdir(directory):
        found = "is a file"
    else:
        found = "holds no folder train, but {}".format(_held(directory))
    raise UserError("--dataset_dir {} {}; accepted: {}".format(directory, found, layout))


def _held(directory: str) -> str:
    """Return what a directory holds, in a few words."""
    names = sorted(name for name in os.listdir(directory) if _is_visible(name))
    return _shortened(names) or "nothing"


def class_name(folder: str) -> str:
    """Return the name of the class that a folder, as Python names it, stands for.

    It is the same on every machine: names are UTF-8, whatever the locale says, and in the composed
    form, which macOS does not keep.
    """
    text = os.fsencode(folder).decode("utf-8", "surrogateescape")
    return unicodedata.normalize("NFC", text)


def _images_by_class(train: str) -> Dict[str, List[str]]:
    """Return the images of each class that a folder in train/ has some of, sorted by its name."""
    images: Dict[str, List[str]] = {}
    for name in sorted(_folders(train), key=class_name):
        folder = os.path.join(train, name)
        files = list(_files_below(folder))
        found = [path for path in files if _ends_in(path, ENDINGS)]
        unreadable = [path for path in files if _ends_in(path, UNREADABLE)]
        if unreadable and not found:
            raise UserError(
                "{} holds images, such as {}, that can't be read; accepted: {}".format(
                    folder, os.path.basename(unreadable[0]), ACCEPTED
                )
            )
        if unreadable:
            note("{} can't be read: left out".format(_numbered(unreadable)))
        if found and class_name(name) in images:
            raise UserError("{} is there twice, composed and decomposed".format(folder))
        if found:
            images[class_name(name)] = found
        else:
            note("{} holds no image: it is no class".format(folder))
    if not images:
        raise UserError(
            "{} holds no folders of images; accepted: train/<class>/*.jpg".format(train)
        )
    return images


def _folders(directory: str) -> List[str]:
    """Return the names of the folders that may be classes; UserError for a link to nothing."""
    names = sorted(name for name in os.listdir(directory) if _is_visible(name))
    for name in names:
        path = os.path.join(directory, name)
        if not os.path.exists(path):
            raise UserError("{} is a link to nothing".format(path))
    return [name for name in names if os.path.isdir(os.path.join(directory, name))]


def _files_below(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(filter(_is_visible, folders))
        for name in sorted(filter(_is_visible, files)):
            yield os.path.join(place, name)


def _is_visible(name: str) -> bool:
    return not name.startswith(".") and name not in SERVICE_FOLDERS


def _ends_in(path: str, endings: Tuple[str, ...]) -> bool:
    return path.lower().endswith(endings)


def _labelled(images: Sequence[Tuple[str, int]]) -> ImageFiles:
    """Return images with their labels; UserError for a file that is missing, empty or no file."""
    sizes, wrong = [], []
    for path, _ in images:
        size, fault = _look_at(path)
        sizes.append(size)
        if fault:
            wrong.append("{} {}".format(path, fault))
    if wrong:
        raise UserError(first_of(wrong, len(images)))
    labels = np.array([label for _, label in images], np.int32)
    return ImageFiles([path for path, _ in images], labels, np.array(sizes, np.int64))


def _look_at(path: str) -> Tuple[int, str]:
    """Return the size of a file, and what is wrong with it."""
    try:
        found = os.stat(path)
    except OSError as error:
        is_dangling = os.path.islink(path) and not os.path.exists(path)
        return 0, "is a link to nothing" if is_dangling else "can't be read: " + str(error.strerror)
    if not stat.S_ISREG(found.st_mode):
        return 0, "is no file"
    return found.st_size, "" if found.st_size else "is empty"


def first_of(wrong: Sequence[object], total: int) -> str:
    """Return the first of some faults of images, and how many of all have one."""
    others = " (so {} of {} images)".format(len(wrong), total) if wrong[1:] else ""
    return "{}{}".format(wrong[0], others)


def _shortened(names: Sequence[str], shown: int = 3) -> str:
    return ", ".join(names[:shown]) + (", ..." if names[shown:] else "")


def _numbered(paths: Sequence[str]) -> str:
    """Return the first of some paths, and how many there are besides."""
    return paths[0] + (" and {} more".format(len(paths) - 1) if paths[1:] else "")


# Test images -----------------------------------------------------------------------------------


def _test_images(root: str, split: str, classes: Sequence[str]) -> List[Tuple[str, int]]:
    """Return the images of a split with their labels, none if it is not there or has no classes."""
    folder = os.path.join(root, split)
    if not os.path.isdir(folder):
        return []
    table = _find_table(root, split)
    if table is not None:
        return _by_table(table, folder, classes)
    numbers = {name: label for label, name in enumerate(classes)}
    labelled = []
    for name in _folders(folder):
        images = images_below(os.path.join(folder, name))
        if images and class_name(name) not in numbers:
            raise UserError(
                "{} is a class of {} and not of train".format(os.path.join(folder, name), split)
            )
        labelled += [(path, numbers[class_name(name)]) for path in images]
    return labelled


class Table(NamedTuple):
    """A kind of file that says which image is of which class.

    name:   of the file, where {} stands for the split
    rows:   lines -> the fields of each, of which the first two are file and class
    format: for messages
    """

    name: str
    rows: Callable[[Iterable[str]], Iterator[List[str]]]
    format: str


def _space_separated(lines: Iterable[str]) -> Iterator[List[str]]:
    for line in lines:
        yield line.rsplit(None, 1)


def _tab_separated(lines: Iterable[str]) -> Iterator[List[str]]:
    for line in lines:
        yield line.rstrip("\n").split("\t")


def _kaggle(lines: Iterable[str]) -> Iterator[List[str]]:
    """Yield image and class of rows `ImageId,PredictionString`: a class, its box, and so on."""
    for row in csv.reader(lines):
        image, *boxes = row or [""]
        words = boxes[0].split() if boxes else []
        yield [] if [image, *words] == ["ImageId", "PredictionString"] else [image] + words


TABLES = (
    Table("{}.txt", _space_separated, "FILE LABEL"),
    Table("LOC_{}_solution.csv", _kaggle, "ImageId,CLASS BOX"),
    Table("{}_annotations.txt", _tab_separated, "FILE, tab, CLASS"),
)


def _find_table(root: str, split: str) -> Optional[Tuple[Table, str]]:
    """Return the table of a split: beside it, in it, or where Kaggle's archive has it."""
    places = [root, os.path.join(root, split)]
    if os.path.abspath(root).endswith(os.sep + KAGGLE):
        places.append(os.path.join(root, *[os.pardir] * len(KAGGLE.split(os.sep))))
    for table in TABLES:
        for place in places:
            path = os.path.normpath(os.path.join(place, table.name.format(split)))
            if os.path.isfile(path):
                return table, path
    return None


def _by_table(found: Tuple[Table, str], folder: str, classes) -> List[Tuple[str, int]]:
    """Return the images that a table names, with their labels.

    Raises UserError for an unknown class, and for an image that is missing or named twice.
    """
    table, path = found
    numbers = {name: label for label, name in enumerate(classes)}
    images = _by_name(folder)
    labels: Dict[str, int] = {}
    for number, row in _rows(table, path):
        if not "".join(row).strip():
            continue
        label = _label(row[1], numbers) if len(row) > 1 else None
        if label is None:
            raise UserError(
                "{}, line {}: {!r}; accepted: {}, a number below {} or a folder of train".format(
                    path, number, " ".join(row)[:LONGEST_SHOWN], table.format, len(classes)
                )
            )
        file = row[0].replace("\\", "/")
        image = images.get(file) or images.get(os.path.basename(file))
        if image is None:
            raise UserError(
                "{} names {}, which does not exist".format(path, row[0][:LONGEST_SHOWN])
            )
        if image in labels:
            raise UserError("{} names {} twice".format(path, row[0][:LONGEST_SHOWN]))
        labels[image] = label
    left_out = sorted(set(images.values()) - set(labels))
    if left_out:
        note("{} not in {}: left out".format(_numbered(left_out), path))
    return list(labels.items())


def _rows(table: Table, path: str) -> Iterator[Tuple[int, List[str]]]:
    """Yield number and fields of each row of a table; UserError if it can't be read."""
    number = 0
    try:
        content = read_file(path, MOST_BYTES_OF_TABLE)
        # Names of files are bytes.
        text = content.decode(encoding_of(content), "surrogateescape")
        for row in table.rows(io.StringIO(text, newline=None)):
            number += 1
            yield number, row
    except (OSError, UnicodeError, csv.Error) as error:
        raise UserError("{}, line {}: {}".format(path, number + 1, error))


def _by_name(folder: str) -> Dict[str, str]:
    """Return the images below a folder by path in it, by name, and by name without the ending."""
    images = {}
    for path in images_below(folder):
        name = os.path.basename(path)
        for key in (os.path.splitext(name)[0], name, os.path.relpath(path, folder)):
            images[key] = path
    return images


def _label(word: str, numbers: Dict[str, int]) -> Optional[int]:
    """Return the label that a class has: a folder of train, or its number; None if it is none."""
    name = unicodedata.normalize("NFC", word)
    if name in numbers:
        return numbers[name]
    is_number = word.isdigit() and word.isascii() and len(word) <= LONGEST_NUMBER
    return int(word) if is_number and int(word) < len(numbers) else None
