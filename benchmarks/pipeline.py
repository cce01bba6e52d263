"""How fast training images are made in one process, augmented and in batches."""

import argparse
import time
from typing import Dict, Iterator, Sequence

import cifar_data
from benchmarks.measuring import Arm, Benchmark, Case
from cifar_data import PAD, SIZE, Augmentation, Dataset
from common.cli import int_at_least

AUGMENTATION = Augmentation(PAD, (0, 0, 0), True)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add --images and --batch_size."""
    parser.add_argument(
        "--images", type=int_at_least(64), default=50000, metavar="N", help="of an epoch [50000]"
    )
    parser.add_argument(
        "--batch", type=int_at_least(1, 64), default=64, metavar="N", help="images a batch [64]"
    )


def cases(args: argparse.Namespace, flags: Sequence[str]) -> Iterator[Case]:
    """Yield one case: images a second of one process."""
    data = cifar_data.fake("c10", 0).first(args.images)
    arms: Dict[str, Arm] = {
        "tensorpack, image by image": lambda: tensorpack_rate(data, args.batch),
        "this project": lambda: own_rate(data, args.batch),
    }
    yield Case("augmented images", arms)


def own_rate(data: Dataset, batch_size: int) -> float:
    """Return the images a second of an epoch of padded, cropped, mirrored batches."""
    start, count = time.perf_counter(), 0
    for batch in cifar_data.training_epoch(data.train, batch_size, 0, 1, AUGMENTATION):
        count += len(batch.labels)
    return count / (time.perf_counter() - start)


def tensorpack_rate(data: Dataset, batch_size: int) -> float:
    """Return the same of tensorpack's own augmentors, as its example of CIFAR has them."""
    from common.tf_stack import tf  # noqa: F401

    from tensorpack.dataflow import AugmentImageComponent, BatchData, DataFromList, imgaug

    flow = DataFromList(list(zip(data.train.images, data.train.labels)), shuffle=True)
    augmentors = [
        imgaug.CenterPaste((SIZE + 2 * PAD, SIZE + 2 * PAD)),
        imgaug.RandomCrop((SIZE, SIZE)),
        imgaug.Flip(horiz=True),
    ]
    flow = BatchData(AugmentImageComponent(flow, augmentors, copy=False), batch_size)
    flow.reset_state()
    start, count = time.perf_counter(), 0
    for images, _ in flow:
        count += len(images)
    return count / (time.perf_counter() - start)


BENCHMARK = Benchmark(
    "augmented images a second of one process, against tensorpack's augmentors",
    "images/s",
    cases,
    add_flags,
)
