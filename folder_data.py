"""Any folder of images as a data set: train/<class>/*, and test/<class>/* or val/<class>/*.

For the networks of CIFAR, images are cut to squares, resized to 32x32 and kept in memory: all that
is done to CIFAR can be done to them. For those of ImageNet they stay in their files.
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Optional

import numpy as np
from tqdm import tqdm

import image_folders
import imagenet_data
from cifar_data import Dataset, ImageSet
from common.quiet import stderr_kept_back
from image_folders import ImageFiles
from sparsenet.errors import UserError

# A folder may hold both: what `val` is for, choosing by it, no run does.
TEST_SPLITS = ("test", "val", "valid", "validation")
# Of a longer image, the square in its centre says nothing.
LONGEST = 100


def load(directory: Optional[str], side: int) -> Dataset:
    """Return the images in a directory for a network that reads images of `side` pixels.

    Raises UserError if it is not laid out as image_folders says, or for an image that can't be
    read.
    """
    train, test, classes = image_folders.read(directory, "folder", TEST_SPLITS)
    require_classes(directory, classes)
    if side == imagenet_data.SIZE:
        return imagenet_data.ImageFolder("folder", train, test, imagenet_data.decode_file, classes)
    return Dataset("folder", _in_memory(train, side), _in_memory(test, side), True, classes)


def class_names(directory: Optional[str]):
    """Return the names of the classes of a directory; UserError if it has none."""
    classes = image_folders.class_names(directory, "folder")
    require_classes(directory, classes)
    return classes


def require_classes(directory: Optional[str], classes) -> None:
    """Raise UserError unless there is something to tell apart."""
    if len(classes) < 2:
        raise UserError(
            "--dataset_dir {} holds a single class, train/{}; accepted: at least 2".format(
                directory, classes[0]
            )
        )


class SortedImages(ImageSet):
    """A set of images that is sorted by class."""

    def first(self, count: int) -> ImageSet:
        """Return `count` images that are spread over the set."""
        return self.chosen(image_folders.spread(count, len(self.labels)))


def _in_memory(files: ImageFiles, side: int) -> SortedImages:
    """Return the images of files, uint8 [N, side, side, 3]; UserError if some can't be read."""
    images = np.empty((len(files.paths), side, side, 3), np.uint8)
    wrong = []

    def read(index: int) -> None:
        try:
            images[index] = read_image(files.paths[index], side)
        except UserError as error:
            wrong.append((index, error))

    # Decoders write to stderr of images that they can repair.
    with stderr_kept_back(), ThreadPoolExecutor(os.cpu_count()) as pool:
        done = pool.map(read, range(len(images)))
        for _ in tqdm(
            done, "reading images", len(images), leave=False, file=sys.stdout,
            disable=not sys.stdout.isatty(),
        ):  # fmt: skip
            pass
    if wrong:
        errors = [error for _, error in sorted(wrong)]
        raise UserError(image_folders.first_of(errors, len(images)))
    return SortedImages(images, files.labels)


def read_image(path: str, side: int) -> np.ndarray:
    """Return an image file as a network reads it, see fit: uint8 [side, side, 3], RGB.

    Raises UserError, which begins with the path, if it can't be read.
    """
    image = imagenet_data.decode_file(path)
    try:
        return fit(image, side)
    except UserError as error:
        raise UserError("{}: {}".format(path, error))


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """Return the part of an image that a network reads: uint8 [H, W, 3] -> [side, side, 3].

    For ImageNet's networks it is what their test images get. For the others it is the largest
    square in the centre, resized by area: an image of the right size stays as it is, and a smaller
    one by a whole factor gets each pixel repeated, as the digits are enlarged.
    """
    import cv2

    height, width = image.shape[:2]
    if max(height, width) > LONGEST * min(height, width):
        raise UserError(
            "{}x{} pixels; accepted: a side of at most {} times the other".format(
                width, height, LONGEST
            )
        )
    if side == imagenet_data.SIZE:
        return imagenet_data.center_crop(image)
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    image = image[top : top + square, left : left + square]
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
