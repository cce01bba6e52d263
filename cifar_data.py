"""CIFAR-10, CIFAR-100, SVHN and the embedded digits: find, verify, read, shuffle and augment them.

Images stay uint8 [N, 32, 32, 3], RGB, until they are on the device. The batches of an epoch are a
function of (seed, epoch, index) alone, so that a resumed run sees what the uninterrupted one would
have seen, and two platforms can be fed the same images.

Run as a command, this file measures how many images per second it delivers:
    python cifar_data.py --dataset_dir DIR
"""

import common.supported_python  # noqa: F401, I001  (first: it refuses an unsupported Python)
import copy
import hashlib
import itertools
import pickle
import time
from collections import namedtuple
from typing import Any, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

import data_files
from common import matlab, safe_pickle
from data_files import Layout
from sparsenet.errors import UserError, exit_code_of, note
from sparsenet.recipes import CLASSES

SIZE = 32
PAD = 4  # pixels on each side before the random crop (He et al. 2016, section 4.2)


class ImageSet(NamedTuple):
    """A set of images in memory.

    images: uint8 [N, 32, 32, 3]; labels: int32 [N]
    """

    images: np.ndarray
    labels: np.ndarray

    def first(self, count: int) -> "ImageSet":
        """Return the first `count` images, or all of them if there are fewer."""
        return ImageSet(self.images[:count], self.labels[:count])

    def chosen(self, numbers: np.ndarray) -> "ImageSet":
        """Return the images with these numbers, in this order."""
        return self._replace(images=self.images[numbers], labels=self.labels[numbers])

    def fingerprint(self) -> dict:
        """Return the number of images, in all and per class, and a SHA-256 of images and labels.

        It shows whether two runs saw the same data.
        """
        digest = hashlib.sha256(np.ascontiguousarray(self.images).data)
        digest.update(self.labels.astype("<i4").tobytes())
        return {
            "images": len(self.labels),
            "per_class": np.bincount(self.labels).tolist(),
            "sha256": digest.hexdigest(),
        }


class Augmentation(NamedTuple):
    """How training images are augmented: a random crop after padding, and mirroring.

    pad: pixels on each side; pad_value: their colour; mirror: mirror half of the images
    """

    pad: int
    pad_value: Sequence[int]
    mirror: bool


class Dataset:
    """A training and a test set of small images, and what a run needs of them.

    name:        one of DATASETS
    train, test: an ImageSet each; in imagenet_data.ImageFolder, ImageFiles. The second one is what
                 is tested on: the test set, or training images in its place, see hold_out
    mirror:      whether a mirrored image still shows what its label says
    class_names: in the order of the labels, where the data have them
    """

    def __init__(
        self, name: str, train: Any, test: Any, mirror: bool, class_names: Sequence[str] = ()
    ):
        self.name = name
        self.train = train
        self.test = test
        self.mirror = mirror
        self.class_names = tuple(class_names)

    @property
    def classes(self) -> int:
        """Return the number of classes of the data set, whether or not all of them occur."""
        return len(self.class_names) or CLASSES[self.name]

    def first(self, count: int) -> "Dataset":
        """Return a data set of the first `count` images of both sets."""
        smaller = copy.copy(self)
        smaller.train, smaller.test = self.train.first(count), self.test.first(count)
        return smaller

    def hold_out(self, count: int) -> "Dataset":
        """Return a data set that is tested on `count` of the training images, and lacks them.

        Raises UserError unless an image of every class is left to train on.
        """
        held_out = held_out_of(self.train.labels, count)
        left = np.delete(np.arange(len(self.train.labels)), held_out)
        other = copy.copy(self)
        other.train, other.test = self.train.chosen(left), self.train.chosen(held_out)
        return other

    def describe(self) -> dict:
        """Return name, fingerprints of both sets, and names of classes, for run.json."""
        described = {
            "name": self.name,
            "train": self.train.fingerprint(),
            "test": self.test.fingerprint(),
        }
        if self.class_names:
            described["classes"] = list(self.class_names)
        return described

    def preprocessing(self, normalize: str, pad_value: str, augment: str = "standard") -> dict:
        """Return what is done to an image, for run.json and the graph.

        normalize: see normalization_constants; pad_value: `black`, or `mean` of the training set;
        augment: see recipes.Recipe
        """
        colour = [0, 0, 0]
        if pad_value == "mean":
            colour = [int(round(c)) for c in channel_statistics(self.train.images)[0]]
        constants = normalization_constants(self, normalize)
        augmentation = Augmentation(
            0 if augment == "none" else PAD, colour, self.mirror and augment == "standard"
        )
        return dict(constants, normalize=normalize, **augmentation._asdict())

    def training_batches(
        self, batch_size: int, seed: int, steps: int, first_epoch: int, preprocessing: dict,
        part: Tuple[int, int] = (0, 1),
    ) -> Iterator["Batch"]:  # fmt: skip
        """Yield batches without end: the first `steps` of each epoch, from `first_epoch` on.

        part: (i, n) for the i-th of n equal parts of each batch, which one of n workers trains on
        """
        augmentation = Augmentation(*(preprocessing[name] for name in Augmentation._fields))
        for epoch in itertools.count(first_epoch):
            batches = training_epoch(self.train, batch_size, seed, epoch, augmentation, part)
            yield from itertools.islice(batches, steps)

    def test_batches(self, batch_size: int) -> Iterator[Tuple["Batch", int]]:
        """Yield all test images in order, see :func:`in_order`."""
        return in_order(self.test, batch_size)


# Reading -------------------------------------------------------------------------------------


def load(name: str, directory: Optional[str], verify: bool = True, extra: bool = True) -> Dataset:
    """Return the data set `name` (a key of LAYOUTS) from `directory`; `digits` need none.

    extra: also use the training images of files that may be absent, as SVHN has them

    Prints one line for each set whose size is not the official one. Raises UserError if files are
    missing, truncated, corrupt or, with `verify`, of the official size but not the official MD5.
    """
    if name == "digits":
        return _digits()
    if name not in LAYOUTS:
        raise UserError("--dataset {}; accepted here: digits, {}".format(name, ", ".join(LAYOUTS)))
    if not directory:
        raise UserError(
            "--dataset {} needs --dataset_dir DIR, the folder of its files".format(name)
        )
    layouts = [layout if extra else layout.without_optional() for layout in LAYOUTS[name]]
    parts = data_files.read(name, layouts, directory, CLASSES[name], verify)
    train, test = map(_concatenate, parts)
    for split, images in (("training", train), ("test", test)):
        _say_if_unofficial(name, split, images)
    return Dataset(name, train, test, mirror=name != "svhn")


OFFICIAL_COUNTS = {
    ("c10", "training"): (50000,),
    ("c100", "training"): (50000,),
    ("svhn", "training"): (73257, 604388),  # without and with the extra images
    ("c10", "test"): (10000,),
    ("c100", "test"): (10000,),
    ("svhn", "test"): (26032,),
}


def _say_if_unofficial(name, split, images):
    official = OFFICIAL_COUNTS[name, split]
    if len(images.labels) not in official:
        note(
            "{} {} images found, the official {} set has {}".format(
                len(images.labels), split, name, " or ".join(map(str, official))
            )
        )


def _concatenate(parts: List[ImageSet]) -> ImageSet:
    if len(parts) == 1:
        return parts[0]
    return ImageSet(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.labels for part in parts]),
    )


def _checked(planes: np.ndarray, labels: np.ndarray, file: str, classes: int) -> ImageSet:
    """Return the ImageSet of uint8 planes [N, 3072] (R, G, B) and labels [N].

    Raises UserError for a label that is out of range.
    """
    outside = np.flatnonzero((labels < 0) | (labels >= classes))
    if len(outside):
        raise UserError(
            "{}: image {} has label {}; accepted: 0 to {}".format(
                file, outside[0], labels[outside[0]], classes - 1
            )
        )
    images = planes.reshape(-1, 3, SIZE, SIZE).transpose(0, 2, 3, 1)
    return ImageSet(np.ascontiguousarray(images), labels.astype(np.int32))


def _read_binary(content: bytes, file: str, classes: int) -> ImageSet:
    """Return the images of a file in the official binary layout.

    A record has label bytes (CIFAR-100: coarse, fine), then 3072 pixel bytes.
    """
    label_bytes = 2 if classes == 100 else 1
    record = label_bytes + 3 * SIZE * SIZE
    if not content or len(content) % record:
        raise UserError(
            "{} has {} bytes; accepted: whole records of {} bytes".format(
                file, len(content), record
            )
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, record)
    labels = records[:, label_bytes - 1].astype(np.int64)
    return _checked(records[:, label_bytes:], labels, file, classes)


def _read_python(content: bytes, file: str, classes: int) -> ImageSet:
    """Return the images of a file in the official python layout.

    It is a pickled dictionary with `data` and `labels` (CIFAR-100: `fine_labels`).
    """
    try:
        batch = safe_pickle.loads(content)
        labels = safe_pickle.as_array(batch["fine_labels" if classes == 100 else "labels"])
        planes = safe_pickle.as_array(batch["data"])
    except KeyError as missing:
        raise UserError("{} is not a CIFAR batch in the python layout: no {}".format(file, missing))
    except pickle.UnpicklingError as error:
        raise UserError("{} is not a CIFAR batch in the python layout: {}".format(file, error))
    count = len(planes) if planes.ndim else 0
    if planes.dtype != np.uint8 or planes.shape != (count, 3 * SIZE * SIZE) or not count:
        raise UserError(
            "{}: `data` is {} {}; accepted: uint8 [N, 3072]".format(
                file, planes.dtype, list(planes.shape)
            )
        )
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise UserError(
            "{}: `labels` is {} {}; accepted: {} whole numbers".format(
                file, labels.dtype, list(labels.shape), count
            )
        )
    return _checked(planes, labels.astype(np.int64), file, classes)


def _read_svhn(content: bytes, file: str, classes: int) -> ImageSet:
    """Return the images of a file of SVHN's cropped digits.

    `X` is uint8 [32, 32, 3, N], `y` [N, 1] with 10 for the digit zero.
    """
    try:
        matrices = matlab.read_arrays(content, ("X", "y"))
        images, labels = matrices["X"], matrices["y"].reshape(-1)
    except KeyError as missing:
        raise UserError("{} is not an SVHN file of cropped digits: no {}".format(file, missing))
    except (ValueError, MemoryError) as error:
        raise UserError("{} is not an SVHN file of cropped digits: {}".format(file, error))
    if images.dtype != np.uint8 or images.shape != (SIZE, SIZE, 3, len(labels)) or not len(labels):
        raise UserError(
            "{}: `X` is {} {} for {} labels; accepted: uint8 [32, 32, 3, N]".format(
                file, images.dtype, list(images.shape), len(labels)
            )
        )
    outside = np.flatnonzero(~np.isin(labels, np.arange(1, classes + 1)))
    if len(outside):
        raise UserError(
            "{}: image {} has label {}; accepted: 1 to {}".format(
                file, outside[0], labels[outside[0]], classes
            )
        )
    images = np.ascontiguousarray(images.transpose(3, 0, 1, 2))
    return ImageSet(images, (labels % classes).astype(np.int32))


def _digits() -> Dataset:
    """Return scikit-learn's 1,797 digits, each pixel enlarged to 4x4.

    They are split into 1,437 and 360, with each class in proportion.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    gray = (digits.images * 255 // 16).astype(np.uint8)  # 17 levels, 0 to 16
    images = gray.repeat(SIZE // 8, axis=1).repeat(SIZE // 8, axis=2)
    images = np.repeat(images[..., np.newaxis], 3, axis=3)
    labels = digits.target.astype(np.int32)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=360, random_state=0, stratify=labels
    )
    return Dataset(
        "digits",
        ImageSet(images[train], labels[train]),
        ImageSet(images[test], labels[test]),
        mirror=False,
    )


def fake(name: str, seed: int) -> Dataset:
    """Return random images and labels, as many as the data set `name` has, for smoke tests."""
    counts = {"digits": (1437, 360), "svhn": (73257, 26032)}.get(name, (50000, 10000))
    stream = np.random.RandomState(seed)
    sets = [
        ImageSet(
            _random_bytes(stream, n * SIZE * SIZE * 3).reshape(n, SIZE, SIZE, 3),
            stream.randint(0, CLASSES[name], n).astype(np.int32),
        )
        for n in counts
    ]
    return Dataset(name, sets[0], sets[1], mirror=name in ("c10", "c100"))


def _random_bytes(stream: np.random.RandomState, count: int) -> np.ndarray:
    """Return what stream.bytes(count) does, as uint8 [count], without its copies; 4 divides it."""
    numbers = stream.randint(0, 2**32, count // 4, dtype=np.uint32)
    return numbers.astype("<u4", copy=False).view(np.uint8)


_CIFAR10_TRAIN = tuple("data_batch_{}".format(i) for i in range(1, 6))

LAYOUTS = {
    "c10": (
        Layout(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            _CIFAR10_TRAIN,
            ("test_batch",),
            _read_python,
            {
                "data_batch_1": (31035704, "c99cafc152244af753f735de768cd75f"),
                "data_batch_2": (31035320, "d4bba439e000b95fd0a9bffe97cbabec"),
                "data_batch_3": (31035999, "54ebc095f3ab1f0389bbae665268c751"),
                "data_batch_4": (31035696, "634d18415352ddfa80567beed471001a"),
                "data_batch_5": (31035623, "482c414d41f54cd18b22e5b47cb7c3cb"),
                "test_batch": (31035526, "40351d587109b95175f43aff81a1287e"),
            },
        ),
        Layout(
            "cifar-10-batches-bin",
            "cifar-10-binary.tar.gz",
            tuple(file + ".bin" for file in _CIFAR10_TRAIN),
            ("test_batch.bin",),
            _read_binary,
        ),
    ),
    "c100": (
        Layout(
            "cifar-100-python",
            "cifar-100-python.tar.gz",
            ("train",),
            ("test",),
            _read_python,
            {
                "train": (155249918, "16019d7e3df5f24257cddd939b257f8d"),
                "test": (31049893, "f0ef6b0ae62326f3e7ffdfab6717acfc"),
            },
        ),
        Layout(
            "cifar-100-binary",
            "cifar-100-binary.tar.gz",
            ("train.bin",),
            ("test.bin",),
            _read_binary,
        ),
    ),
    "svhn": (
        Layout(
            "svhn",
            None,
            ("train_32x32.mat", "extra_32x32.mat"),
            ("test_32x32.mat",),
            _read_svhn,
            optional=("extra_32x32.mat",),
        ),
    ),
}


# Held-out images ------------------------------------------------------------------------------


def held_out_of(labels: np.ndarray, count: int) -> np.ndarray:
    """Return the numbers of the training images to hold out, sorted: labels [N] -> [count].

    They are evenly apart in the list of all images but the first of each class, sorted by class.
    So of each class there are as many as its share, up to one, and nothing is drawn at random.

    Raises UserError unless `count` is 1 to the length of that list.
    """
    by_class = np.argsort(labels, kind="stable")
    is_first = np.diff(labels[by_class], prepend=-1) != 0
    others = by_class[~is_first]
    if not 1 <= count <= len(others):
        accepted = "1 to {}, which leaves a training image of every class".format(len(others))
        if not len(others):
            accepted = "with more than one training image of a class only"
        raise UserError("--hold_out {}; accepted: {}".format(count, accepted))
    return np.sort(others[np.arange(count) * len(others) // count])


# What a run records ---------------------------------------------------------------------------


def normalization_constants(data: Dataset, normalize: str) -> dict:
    """Return `mean` and `std` such that the network reads (image - mean) / std.

    `channel`: lists of 3, over the training set. `pixel_mean`: its mean image, [32, 32, 3], and
    255. `ascend` and `official`: what the public TensorFlow codes do, with the mean image over
    training and test set; the former divides by 255, the latter by 128 and subtracts 1. `unit`: 0
    and 255. Where images are held out, they are the test set, and no part of the training set.
    """
    if normalize == "channel":
        means, stds = channel_statistics(data.train.images)
        return {"mean": means, "std": stds}
    if normalize == "unit":
        return {"mean": [0.0, 0.0, 0.0], "std": 255.0}
    if normalize == "pixel_mean":
        return {"mean": mean_image([data.train.images]).tolist(), "std": 255.0}
    mean = mean_image([data.train.images, data.test.images])
    if normalize == "ascend":
        return {"mean": mean.tolist(), "std": 255.0}
    return {"mean": (mean + 128).tolist(), "std": 128.0}


def mean_image(sets: List[np.ndarray]) -> np.ndarray:
    """Return the mean image of uint8 sets [N, 32, 32, 3]; exact, as the sums are whole numbers."""
    total = sum(images.sum(axis=0, dtype=np.uint64) for images in sets)
    return total / float(sum(len(images) for images in sets))


EXACT = 256  # squares of bytes: their sum is below 2 ** 24, so float32 has it exactly


def channel_statistics(images: np.ndarray) -> Tuple[List[float], List[float]]:
    """Return the mean and the standard deviation of each colour of uint8 images [N, 32, 32, 3].

    They are computed from whole numbers: the same on every machine.
    """
    sums, squares = np.zeros((2, 3))
    for start in range(0, len(images), EXACT):
        part = images[start : start + EXACT].astype(np.float32)
        sums += part.sum(axis=0).reshape(-1, 3).sum(axis=0, dtype=np.float64)
        part *= part
        squares += part.sum(axis=0).reshape(-1, 3).sum(axis=0, dtype=np.float64)
    pixels = float(images.size // 3)
    means, stds = [], []
    for total, total_of_squares in zip(sums, squares):
        mean = int(total) / pixels
        variance = int(total_of_squares) / pixels - mean**2
        means.append(mean)
        # A colour that never changes has no spread to divide by.
        stds.append(variance**0.5 if variance > 0 else 1.0)
    return means, stds


# Batches -------------------------------------------------------------------------------------

Batch = namedtuple("Batch", "images labels")


class Draws(NamedTuple):
    """What an epoch draws at random, for the i-th image it reads: each [N].

    order:         its index in the training set
    rows, columns: of its crop's first pixel in the padded image
    mirrored:      whether it is mirrored
    """

    order: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    mirrored: np.ndarray


def draw_epoch(count: int, seed: int, epoch: int, augmentation: Augmentation) -> Draws:
    """Return what an epoch over `count` images draws, a function of seed and epoch."""
    # RandomState: NumPy's compatibility policy freezes its streams, but not those of Generator.
    stream = np.random.RandomState([seed, epoch])
    order = stream.permutation(count)
    rows, columns = stream.randint(0, 2 * augmentation.pad + 1, size=(2, count))
    mirrored = stream.randint(0, 2, size=count).astype(bool) & augmentation.mirror
    return Draws(order, rows, columns, mirrored)


def training_epoch(
    data: ImageSet, batch_size: int, seed: int, epoch: int, augmentation: Augmentation,
    part: Tuple[int, int] = (0, 1),
) -> Iterator[Batch]:  # fmt: skip
    """Yield the shuffled, augmented whole batches of an epoch: uint8 [B / n, 32, 32, 3] and int32.

    part: (i, n) for the i-th of n equal parts of each batch; random numbers are drawn for whole
    batches, images are made for the part only

    Standard augmentation (paper, section 4.1): pad, crop 32x32 at random, mirror half of the
    images. The last images, which fill no batch, are left out; in each epoch they are others.
    """
    count, pad = len(data.labels), augmentation.pad
    order, rows, columns, mirrored = draw_epoch(count, seed, epoch, augmentation)
    size = batch_size // part[1]
    padded = np.empty((size, SIZE + 2 * pad, SIZE + 2 * pad, 3), np.uint8)
    padded[:] = augmentation.pad_value
    crops, rows_of_bytes = _windows(padded), padded.reshape(size, len(padded[0]), -1)
    for start in range(part[0] * size, count - batch_size + 1 + part[0] * size, batch_size):
        own = slice(start, start + size)
        chosen = data.images[order[own]].reshape(size, SIZE, -1)
        rows_of_bytes[:, pad : pad + SIZE, 3 * pad : 3 * (pad + SIZE)] = chosen
        images = crops[np.arange(size), rows[own], columns[own]]
        flip = mirrored[own]
        if flip.any():
            images[flip] = _mirrored(images[flip])
        yield Batch(images, data.labels[order[own]])


def _mirrored(images: np.ndarray) -> np.ndarray:
    """Return images [N, 32, 32, 3] with their columns in reverse, three times as fast as numpy."""
    import cv2

    return cv2.flip(images.reshape(-1, SIZE, 3), 1).reshape(images.shape)


def _windows(images: np.ndarray) -> np.ndarray:
    """Return all 32x32 windows of images, without a copy.

    uint8 [B, H, W, 3] -> [B, rows, columns, 32, 32, 3].
    """
    b, h, w, c = images.shape
    sb, sh, sw, sc = images.strides
    return np.lib.stride_tricks.as_strided(
        images,
        shape=(b, h - SIZE + 1, w - SIZE + 1, SIZE, SIZE, c),
        strides=(sb, sh, sw, sh, sw, sc),
        writeable=False,
    )


def in_order(data: ImageSet, batch_size: int) -> Iterator[Tuple[Batch, int]]:
    """Yield all images in order, in batches of one shape: (batch, number of its images that count).

    Accelerators need fixed shapes: the last batch is filled up with copies of its first image,
    which do not count in results.
    """
    for start in range(0, len(data.labels), batch_size):
        images = data.images[start : start + batch_size]
        labels = data.labels[start : start + batch_size]
        count = len(labels)
        if count < batch_size:
            fill = np.zeros(batch_size - count, int)
            images = np.concatenate([images, images[fill]])
            labels = np.concatenate([labels, labels[fill]])
        yield Batch(images, labels), count


# The speed test --------------------------------------------------------------------------------


def _measure(data: Dataset, batch_size: int, epochs: int) -> List[float]:
    """Return the images per second of each of `epochs` epochs."""
    rates, augmentation = [], Augmentation(PAD, (0, 0, 0), data.mirror)
    for epoch in range(1, epochs + 1):
        start, count = time.perf_counter(), 0
        for batch in training_epoch(data.train, batch_size, 0, epoch, augmentation):
            count += len(batch.labels)
        rates.append(count / (time.perf_counter() - start))
    return rates


def main() -> None:
    """Print how many augmented training images a second one process delivers."""
    from common.cli import int_at_least
    from common.flags import data_parser

    parser = data_parser("Measure how fast training batches are made, in one process.")
    parser.add_argument("--batch_size", type=int_at_least(1), default=64, metavar="N", help="[64]")
    parser.add_argument(
        "--epochs", type=int_at_least(1), default=3, metavar="N", help="to time [3]"
    )
    args = parser.parse_args()
    data = load(args.dataset, args.dataset_dir, verify=not args.no_verify)
    if args.batch_size > len(data.train.labels):
        raise UserError(
            "--batch_size {}; accepted: 1 to {}, the training images".format(
                args.batch_size, len(data.train.labels)
            )
        )
    rates = _measure(data, args.batch_size, args.epochs)
    print(
        "{}: {:,.0f} images/s (median of {} epochs, {:,.0f} to {:,.0f}; {} images, batches of {},"
        " shuffled and augmented)".format(
            args.dataset,
            np.median(rates),
            len(rates),
            min(rates),
            max(rates),
            len(data.train.labels),
            args.batch_size,
        )  # fmt: skip
    )


if __name__ == "__main__":
    raise SystemExit(exit_code_of(main))
