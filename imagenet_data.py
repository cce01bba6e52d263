"""ILSVRC-2012, or other images of its size: decode them from their files, crop and batch them.

The files are found by image_folders.py. Images stay uint8 [N, 224, 224, 3], RGB, until they are on
the device. As with the small images, the images of an epoch are a function of (seed, epoch, index)
alone; threads only decode them ahead of time.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import os
import threading
from typing import Callable, Iterable, Iterator, Optional, Sequence, Tuple

import numpy as np

import image_folders
from cifar_data import Batch, Dataset
from common.files import read_file
from common.image_headers import require_small
from image_folders import ImageFiles
from sparsenet.errors import UserError, note
from sparsenet.known_data import CHANNEL_STATISTICS
from sparsenet.recipes import CLASSES

SIZE = 224
TEST_SIZE = 256  # shorter side of a test image before its centre is cut out
# The random crops of Szegedy et al. 2015: fraction of the area, and width over height.
AREA = (0.08, 1.0)
ASPECT = (3.0 / 4, 4.0 / 3)
ATTEMPTS = 10
LONGEST = 16  # a side of what is scaled, as a multiple of the other
MOST_BYTES = 2**28  # of a file
LARGE = 2**22  # pixels of an image that is decoded while no other large one is
LARGE_ONES = threading.Lock()
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
BATCHES_AHEAD = 3


class ImageFolder(Dataset):
    """Training and test images in files, which are decoded when they are needed."""

    def __init__(
        self, name: str, train: ImageFiles, test: ImageFiles, decode: Callable[[str], np.ndarray],
        class_names: Sequence[str] = (),
    ):  # fmt: skip
        super().__init__(name, train, test, mirror=True, class_names=class_names)
        self.decode = decode

    def preprocessing(self, normalize: str, pad_value: str, augment: str = "standard") -> dict:
        """Return what is done to an image, for run.json and the graph.

        augment: see recipes.Recipe; without it, training images get what test images do

        Raises UserError for another `normalize` than `channel`.
        """
        if normalize != "channel":
            raise UserError(
                "--normalize {}; accepted with images of {} pixels: channel".format(normalize, SIZE)
            )
        crops = augment != "none"
        return dict(
            CHANNEL_STATISTICS["imagenet"],
            normalize=normalize,
            mirror=augment == "standard",
            crop_area=list(AREA) if crops else None,
            crop_aspect=list(ASPECT) if crops else None,
        )

    def training_batches(
        self, batch_size: int, seed: int, steps: int, first_epoch: int, preprocessing: dict,
        part: Tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:  # fmt: skip
        """Yield batches without end: the first `steps` of each epoch, from `first_epoch` on.

        part: (i, n) for the i-th of n equal parts of each batch, which one of n workers trains on
        """

        def crop(job):
            epoch, index = job
            image = self.decode(self.train.paths[index])
            if preprocessing["crop_area"] is None:
                return center_crop(image)
            stream = np.random.RandomState([seed, epoch, index])
            return random_crop(image, stream, preprocessing["mirror"])

        jobs = self._training_jobs(batch_size, seed, steps, first_epoch, part)
        size = batch_size // part[1]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            images = map_ahead(pool, crop, jobs, BATCHES_AHEAD * size)
            while True:
                batch = list(itertools.islice(images, size))
                indices = [index for (_, index), _ in batch]
                yield Batch(np.stack([image for _, image in batch]), self.train.labels[indices])

    def _training_jobs(self, batch_size, seed, steps, first_epoch, part):
        index_of_part, parts = part
        for epoch in itertools.count(first_epoch):
            order = np.random.RandomState([seed, epoch]).permutation(len(self.train.labels))
            batches = order[: steps * batch_size].reshape(steps, parts, batch_size // parts)
            for index in batches[:, index_of_part].ravel():
                yield epoch, int(index)

    def test_batches(self, batch_size: int) -> Iterator[Tuple[Batch, int]]:
        """Yield all test images in order, in batches of one shape: see cifar_data.in_order."""
        count = len(self.test.labels)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            images = map_ahead(
                pool, lambda i: center_crop(self.decode(self.test.paths[i])), range(count),
                BATCHES_AHEAD * batch_size,
            )  # fmt: skip
            while True:
                batch = list(itertools.islice(images, batch_size))
                if not batch:
                    return
                valid = len(batch)
                batch += [batch[0]] * (batch_size - valid)
                labels = self.test.labels[[index for index, _ in batch]]
                yield Batch(np.stack([image for _, image in batch]), labels), valid


def map_ahead(pool, function: Callable, items: Iterable, ahead: int) -> Iterator[tuple]:
    """Yield (item, function(item)) in order.

    The function runs in the threads of `pool`, up to `ahead` items early.
    """
    waiting: collections.deque = collections.deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > ahead:
            item, future = waiting.popleft()
            yield item, future.result()
    for item, future in waiting:
        yield item, future.result()


# Crops -----------------------------------------------------------------------------------------


def random_crop(
    image: np.ndarray, stream: np.random.RandomState, mirror: bool = True
) -> np.ndarray:
    """Return a part of random area and aspect: uint8 [H, W, 3] -> [224, 224, 3].

    Crops are those of Szegedy et al. 2015. With `mirror`, half of them are mirrored.
    """
    import cv2

    height, width = image.shape[:2]
    for _ in range(ATTEMPTS):
        area = stream.uniform(*AREA) * height * width
        aspect = np.exp(stream.uniform(np.log(ASPECT[0]), np.log(ASPECT[1])))
        w, h = int(round((area * aspect) ** 0.5)), int(round((area / aspect) ** 0.5))
        if 0 < w <= width and 0 < h <= height:
            x, y = stream.randint(0, width - w + 1), stream.randint(0, height - h + 1)
            part = cv2.resize(image[y : y + h, x : x + w], (SIZE, SIZE))
            break
    else:  # a very long image: take its centre
        part = center_crop(image)
    return cv2.flip(part, 1) if mirror and stream.randint(2) else part


def center_crop(image: np.ndarray) -> np.ndarray:
    """Return the centre after scaling the shorter side to 256: uint8 [H, W, 3] -> [224, 224, 3]."""
    import cv2

    image = _without_ends(image)
    height, width = image.shape[:2]
    scale = TEST_SIZE / float(min(height, width))
    size = max(SIZE, int(round(width * scale))), max(SIZE, int(round(height * scale)))
    image = cv2.resize(image, size)
    y, x = (image.shape[0] - SIZE) // 2, (image.shape[1] - SIZE) // 2
    return image[y : y + SIZE, x : x + SIZE]


def _without_ends(image: np.ndarray) -> np.ndarray:
    """Return the middle of a very long image: scaled as a whole, it would take gigabytes."""
    middle = []
    longest = LONGEST * min(image.shape[:2])
    for side in image.shape[:2]:
        start = max(0, side - longest) // 2
        middle.append(slice(start, side - start))
    return image[tuple(middle)]


# Files -----------------------------------------------------------------------------------------


def decode_file(path: str) -> np.ndarray:
    """Return an image file as uint8 [H, W, 3], RGB; UserError, which names it, if it is damaged.

    An orientation in its EXIF data is ignored, as the field's readers of ImageNet do.
    """
    try:
        return decode(read_file(path, MOST_BYTES))
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror or error))
    except ValueError as error:
        raise UserError("{}: {}; accepted: {}".format(path, error, image_folders.ACCEPTED))


def decode(content: bytes) -> np.ndarray:
    """Return an encoded image as uint8 [H, W, 3], RGB; ValueError if it is damaged or too large."""
    import cv2

    size = require_small(content)
    # The decoder fills in what a truncated JPEG lacks. An end in its head may be a thumbnail's.
    is_cut = content.startswith(JPEG_START) and content.rfind(JPEG_END) < len(content) // 2
    buffer = np.frombuffer(content, np.uint8)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    is_large = size.width * size.height > LARGE
    try:
        with LARGE_ONES if is_large else contextlib.nullcontext():
            image = None if is_cut else cv2.imdecode(buffer, flags)
    except (cv2.error, MemoryError):
        image = None
    if image is None:
        raise ValueError("damaged, or no image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def load(directory: Optional[str]) -> ImageFolder:
    """Return the images in a directory; UserError if it is not laid out as image_folders says."""
    train, test, wnids = image_folders.read(directory, "imagenet", ("val",))
    if len(wnids) > CLASSES["imagenet"]:
        raise UserError(
            "--dataset_dir {} holds {} classes; accepted: at most {}".format(
                directory, len(wnids), CLASSES["imagenet"]
            )
        )
    if len(wnids) == CLASSES["imagenet"]:
        return ImageFolder("imagenet", train, test, decode_file, wnids)
    note("{} of the {} classes found".format(len(wnids), CLASSES["imagenet"]))
    return ImageFolder("imagenet", train, test, decode_file)


def fake(seed: int) -> ImageFolder:
    """Return random images in place of files: 1,024 for training, 256 for testing."""

    def decode(name):
        stream = np.random.RandomState([seed, int(name)])
        return np.frombuffer(stream.bytes(TEST_SIZE**2 * 3), np.uint8).reshape(
            TEST_SIZE, TEST_SIZE, 3
        )

    labels = np.random.RandomState(seed).randint(0, CLASSES["imagenet"], 1280).astype(np.int32)
    names = [str(i) for i in range(len(labels))]
    train, test = (
        ImageFiles(names[part], labels[part], np.zeros(len(names[part]), np.int64))
        for part in (slice(1024), slice(1024, None))
    )
    return ImageFolder("imagenet", train, test, decode)
