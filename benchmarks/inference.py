"""Images a second that SparseNets classify, against DenseNets."""

import argparse
import dataclasses
import functools
import time
from typing import Dict, Iterator, List, Sequence

from benchmarks.measuring import Arm, Benchmark, Case
from benchmarks.training_steps import NORMALIZATION, random_batch
from common.cli import int_at_least
from sparsenet.costs import macs
from sparsenet.initial_weights import initial_weights
from sparsenet.published import RECIPES
from sparsenet.recipes import Recipe

# DenseNet, then what is measured against it.
PAIRS = {
    # of equal depth and growth rate
    "40-12": ("densenet-40-12", "sparse"),
    "100-12": ("densenet-100-12", "sparse"),
    "100-24": ("densenet-100-24", "sparsenet-100-24"),
    # of nearly the same error in Zhu et al. 2018: on CIFAR-10, 4.04 and 4.03, 4.68 and 4.64;
    # on CIFAR-100, 17.53 and 17.71; on ImageNet, 25.0 and 25.6
    "error-4.0": ("densenet-100-24", "sparsenet-bc-100-24"),
    "error-4.7": ("densenet-bc-100-12", "sparsenet-100-24"),
    "error-17.6": ("densenet-bc-190-40", "sparsenet-bc-100-32-64-128"),
    "imagenet": ("densenet-121", "sparsenet-121-32-gap"),
}


def cases(args: argparse.Namespace, _flags: Sequence[str]) -> Iterator[Case]:
    """Yield a case for each pair and batch size; its name has how many times fewer MACs there are.

    An arm that takes 1.5 times the images a second of the first one is 1.5 times as fast.
    """
    for pair in args.pairs:
        recipes = recipes_of(pair)
        fewer = macs(recipes[0].config) / macs(recipes[1].config)
        for size in args.batch_size:
            name = "{}, batch {} ({:.2f} times fewer MACs)".format(pair, size, fewer)
            arms: Dict[str, Arm] = {
                each.name: functools.partial(rate, classifier(each, size), each, size, args.images)
                for each in recipes
            }
            yield Case(name, arms)


def recipes_of(pair: str) -> List[Recipe]:
    """Return the DenseNet of a pair and the other network."""
    first = RECIPES[PAIRS[pair][0]]
    if PAIRS[pair][1] != "sparse":
        return [first, RECIPES[PAIRS[pair][1]]]
    config = dataclasses.replace(first.config, fetch="sparse")
    return [first, dataclasses.replace(first, name="sparse " + pair, config=config)]


def classifier(recipe: Recipe, batch_size: int):
    """Return the function from images to logits, by TensorFlow's graph, with initial weights."""
    from evaluation import graph

    weights = initial_weights(recipe.config, 0)
    return graph.logits_of(recipe, weights, NORMALIZATION, batch_size)


def rate(classify, recipe: Recipe, batch_size: int, images: int) -> float:
    """Return the images a second, over at least `images` in whole batches."""
    batch, _ = random_batch(recipe.config, batch_size)
    batches = -(-images // batch_size)
    start = time.perf_counter()
    for _ in range(batches):
        classify(batch)
    return batches * batch_size / (time.perf_counter() - start)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add what is measured."""
    whole = int_at_least(1)
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--batch_size", type=whole, nargs="+", metavar="N", default=[64, 1000])
    parser.add_argument("--images", type=whole, metavar="N", default=10_000, help="a round")


BENCHMARK = Benchmark("images classified a second, against DenseNet", "images/s", cases, add_flags)
