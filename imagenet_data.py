"""ILSVRC-2012 in the folders that it unpacks to: find, decode, crop and batch its images.

    DIR/train/<wnid>/*.JPEG            classes are the sorted names of these folders
    DIR/val/<wnid>/*.JPEG              or
    DIR/val/*.JPEG and DIR/val.txt     lines of `FILE LABEL`, a number from 0 or a wnid

Images stay uint8 [N, 224, 224, 3], RGB, until they are on the device. As with the small images,
the images of an epoch are a function of (seed, epoch, index) alone; threads only decode them ahead
of time.
"""

import collections
import concurrent.futures
import hashlib
import itertools
import os
from typing import Callable, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import numpy as np

from cifar_data import Batch, Dataset
from sparsenet.errors import RunFailed, UserError
from sparsenet.known_data import CHANNEL_STATISTICS
from sparsenet.recipes import CLASSES

SIZE = 224
TEST_SIZE = 256  # shorter side of a test image before its centre is cut out
# The random crops of Szegedy et al. 2015: fraction of the area, and width over height.
AREA = (0.08, 1.0)
ASPECT = (3.0 / 4, 4.0 / 3)
ATTEMPTS = 10
JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"
EXTENSIONS = (".jpeg", ".jpg", ".png")
BATCHES_AHEAD = 3


class ImageFiles(NamedTuple):
    """A set of images in files.

    paths: of the images, or numbers of random images; labels: int32 [N]
    """

    paths: List[str]
    labels: np.ndarray

    def first(self, count: int) -> "ImageFiles":
        """Return `count` images, or all of them if there are fewer.

        They are spread over the set, since the files are sorted by class.
        """
        count = min(count, len(self.paths))
        chosen = np.arange(count) * len(self.paths) // count
        return ImageFiles([self.paths[i] for i in chosen], self.labels[chosen])

    def fingerprint(self) -> dict:
        """Return the number of images, and a SHA-256 of names, sizes and labels.

        The contents, 140 GB, are not read.
        """
        digest = hashlib.sha256()
        for path, label in zip(self.paths, self.labels):
            size = os.path.getsize(path) if os.path.exists(path) else 0
            digest.update("{} {} {}\n".format(os.path.basename(path), size, label).encode())
        return {"images": len(self.labels), "sha256": digest.hexdigest()}


class ImageFolder(Dataset):
    """Training and test images in files, which are decoded when they are needed."""

    def __init__(self, train: ImageFiles, test: ImageFiles, decode: Callable[[str], np.ndarray]):
        super().__init__("imagenet", train, test, mirror=True)
        self.decode = decode

    def preprocessing(self, normalize: str, pad_value: str) -> dict:
        """Return what is done to an image, for run.json and the graph.

        Raises UserError for another `normalize` than `channel`.
        """
        if normalize != "channel":
            raise UserError("--normalize {}; accepted with imagenet: channel".format(normalize))
        return {**CHANNEL_STATISTICS["imagenet"], "normalize": normalize, "mirror": self.mirror,
                "crop_area": list(AREA), "crop_aspect": list(ASPECT)}  # fmt: skip

    def training_batches(
        self, batch_size: int, seed: int, steps: int, first_epoch: int, preprocessing: dict,
        part: Tuple[int, int] = (0, 1),
    ) -> Iterator[Batch]:  # fmt: skip
        """Yield batches without end: the first `steps` of each epoch, from `first_epoch` on.

        part: (i, n) for the i-th of n equal parts of each batch, which one of n workers trains on
        """

        def crop(job):
            epoch, index = job
            stream = np.random.RandomState([seed, epoch, index])
            return random_crop(self.decode(self.train.paths[index]), stream)

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


def random_crop(image: np.ndarray, stream: np.random.RandomState) -> np.ndarray:
    """Return a part of random area and aspect, mirrored or not: uint8 [H, W, 3] -> [224, 224, 3].

    Crops are those of Szegedy et al. 2015.
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
    return part[:, ::-1] if stream.randint(2) else part


def center_crop(image: np.ndarray) -> np.ndarray:
    """Return the centre after scaling the shorter side to 256: uint8 [H, W, 3] -> [224, 224, 3]."""
    import cv2

    height, width = image.shape[:2]
    scale = TEST_SIZE / float(min(height, width))
    size = max(SIZE, int(round(width * scale))), max(SIZE, int(round(height * scale)))
    image = cv2.resize(image, size)
    y, x = (image.shape[0] - SIZE) // 2, (image.shape[1] - SIZE) // 2
    return image[y : y + SIZE, x : x + SIZE]


# Files -----------------------------------------------------------------------------------------


def decode_file(path: str) -> np.ndarray:
    """Return an image file as uint8 [H, W, 3], RGB; RunFailed if it is truncated or damaged."""
    import cv2

    with open(path, "rb") as stream:
        content = stream.read()
    # The decoder fills in what a truncated JPEG lacks. An end in its head may be a thumbnail's.
    is_cut = content.startswith(JPEG_START) and content.rfind(JPEG_END) < len(content) // 2
    buffer = np.frombuffer(content, np.uint8)
    image = cv2.imdecode(buffer, cv2.IMREAD_COLOR) if content and not is_cut else None
    if image is None:
        raise RunFailed("{} can't be decoded".format(path))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def load(directory: Optional[str]) -> ImageFolder:
    """Return the images in a directory; UserError if it is not laid out as described above."""
    if not directory:
        raise UserError("--dataset imagenet needs --dataset_dir DIR, the folder of its files")
    if not os.path.isdir(directory):
        raise UserError(
            "--dataset_dir {} does not exist; accepted: a folder with train/<wnid>/*.JPEG".format(
                directory
            )
        )
    wnids = _folders(os.path.join(directory, "train"))
    if not wnids or len(wnids) > CLASSES["imagenet"]:
        raise UserError(
            "--dataset_dir {} holds {} folders train/<wnid>; accepted: 1 to {}".format(
                directory, len(wnids), CLASSES["imagenet"]
            )
        )
    train = _from_folders(os.path.join(directory, "train"), wnids)
    test = _validation(directory, wnids)
    for split, files in (("train", train), ("val", test)):
        if not files.paths:
            raise UserError(
                "--dataset_dir {} holds no images in {}; accepted: {}".format(
                    directory,
                    split,
                    "val/<wnid>/*.JPEG, or val/*.JPEG with val.txt"
                    if split == "val"
                    else "train/<wnid>/*.JPEG",
                )
            )
    if len(wnids) < CLASSES["imagenet"]:
        print("note: {} of the {} classes found".format(len(wnids), CLASSES["imagenet"]))
    return ImageFolder(train, test, decode_file)


def _folders(directory: str) -> List[str]:
    if not os.path.isdir(directory):
        return []
    return sorted(entry.name for entry in os.scandir(directory) if entry.is_dir())


def _images(directory: str) -> List[str]:
    return sorted(
        os.path.join(directory, name)
        for name in os.listdir(directory)
        if name.lower().endswith(EXTENSIONS)
    )


def _from_folders(directory: str, wnids: List[str]) -> ImageFiles:
    paths, labels = [], []
    for label, wnid in enumerate(wnids):
        folder = os.path.join(directory, wnid)
        found = _images(folder) if os.path.isdir(folder) else []
        paths.extend(found)
        labels.extend([label] * len(found))
    return ImageFiles(paths, np.array(labels, np.int32))


def _validation(directory: str, wnids: List[str]) -> ImageFiles:
    folder, table = os.path.join(directory, "val"), os.path.join(directory, "val.txt")
    if not os.path.isfile(table):
        unknown = sorted(set(_folders(folder)) - set(wnids))
        if unknown:
            raise UserError("{} is a class of val and not of train".format(unknown[0]))
        return _from_folders(folder, wnids)
    paths, labels = [], []
    numbers = {wnid: label for label, wnid in enumerate(wnids)}
    # Names of files are bytes.
    with open(table, encoding="utf-8", errors="surrogateescape") as stream:
        for number, line in enumerate(stream, start=1):
            words = line.split()
            label = numbers.get(words[-1]) if len(words) == 2 else None
            if label is None and len(words) == 2 and words[1].isdigit():
                label = int(words[1])
            if label is None or label >= CLASSES["imagenet"]:
                raise UserError(
                    "{}, line {}: {!r}; accepted: FILE LABEL, a number below {} or a folder of "
                    "train".format(table, number, line.strip(), CLASSES["imagenet"])
                )
            paths.append(os.path.join(folder, words[0]))
            labels.append(label)
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        raise UserError("{} names {}, which does not exist".format(table, missing[0]))
    return ImageFiles(paths, np.array(labels, np.int32))


def fake(seed: int) -> ImageFolder:
    """Return random images in place of files: 1,024 for training, 256 for testing."""

    def decode(name):
        stream = np.random.RandomState([seed, int(name)])
        return np.frombuffer(stream.bytes(TEST_SIZE**2 * 3), np.uint8).reshape(
            TEST_SIZE, TEST_SIZE, 3
        )

    labels = np.random.RandomState(seed).randint(0, CLASSES["imagenet"], 1280).astype(np.int32)
    names = [str(i) for i in range(len(labels))]
    return ImageFolder(
        ImageFiles(names[:1024], labels[:1024]), ImageFiles(names[1024:], labels[1024:]), decode
    )
