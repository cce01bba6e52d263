"""Measure arms side by side: rounds in turn, a warm-up first, median and range of each.

The machines that this runs on differ, and other work runs beside it: what counts is an arm's ratio
to the first one of its case, which was measured in the same minutes.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Callable, Dict, Iterable, Iterator, List, NamedTuple, Sequence, Tuple

from common import json_text
from platforms.platform import describe_cpu
from sparsenet.errors import UserError

# A round more than this is not counted: the first one sets up memory, files and kernels.
WARM_UP_ROUNDS = 1
LARGEST = 2**24  # bytes of a file of results
LIBRARIES = ("tensorflow", "torch", "numpy")  # whose versions are written down

Arm = Callable[[], float]


class Case(NamedTuple):
    """What is measured on the same work: a name, and arms that return one measurement each.

    The first arm is the one that the others are compared with.
    """

    name: str
    arms: Dict[str, Arm]


class Benchmark(NamedTuple):
    """A kind of comparison.

    about:     what it measures, in a phrase
    unit:      of what an arm returns
    cases:     returns its cases, from the parsed flags and from those that are not its own
    add_flags: adds its own flags to a parser
    passes_on: whether flags that are not its own are main_gpu.py's; else they are refused
    """

    about: str
    unit: str
    cases: Callable[[argparse.Namespace, Sequence[str]], Iterable[Case]]
    add_flags: Callable[[argparse.ArgumentParser], None] = lambda parser: None
    passes_on: bool = False


def side_by_side(case: Case, rounds: int) -> Dict[str, List[float]]:
    """Return what each arm of a case measured, in rounds after the warm-up."""
    found: Dict[str, List[float]] = {name: [] for name in case.arms}
    for number in range(WARM_UP_ROUNDS + rounds):
        for name, measure in case.arms.items():
            value = measure()
            if number >= WARM_UP_ROUNDS:
                found[name].append(value)
    return found


def in_fresh_process(measure: Callable[..., Any], *arguments) -> Any:
    """Call a function in a process of its own: nothing is left over from what ran before."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(measure, *arguments).result()


def conditions() -> Dict[str, Any]:
    """Return on what was measured: processor, versions, and how busy the machine was before."""
    return {
        "processor": describe_cpu(),
        "versions": dict(in_fresh_process(versions), python=platform.python_version()),
        "load_before": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
    }


def versions() -> Dict[str, str]:
    """Return those of the libraries. TensorFlow changes the environment when it is imported."""
    return {name: import_module(name).__version__ for name in LIBRARIES if find_spec(name)}


def lines(case: str, values: Dict[str, List[float]], unit: str) -> Iterator[str]:
    """Yield a table of one case for the terminal."""
    width = max(map(len, [case, *values]))
    yield "{:<{}} {:>9} {:>9} {:>9} {:>7}".format(case, width, unit, "least", "most", "ratio")
    for name, cells in _rows(values):
        yield "{:<{}} {:>9} {:>9} {:>9} {:>7}".format(name, width, *cells)


def markdown(found: Dict[str, Any]) -> Iterator[str]:
    """Yield a table in Markdown, with the conditions under it, of what a benchmark wrote down."""
    yield "| | | {} | least | most | ratio |".format(found["unit"])
    yield "|---|---|--:|--:|--:|--:|"
    for case, values in found["cases"].items():
        for name, cells in _rows(values):
            yield "| {} |".format(" | ".join([case, name, *cells]))
            case = ""
    counts = sorted({len(each) for arms in found["cases"].values() for each in arms.values()})
    where = found["conditions"]
    yield ""
    yield "`{}`: medians of {} rounds; {}; {}; load before: {}.".format(
        " ".join(found["command"]),
        " to ".join(map(str, sorted({counts[0], counts[-1]}))),
        where["processor"],
        ", ".join("{} {}".format(*each) for each in sorted(where["versions"].items())),
        where["load_before"],
    )


def _rows(values: Dict[str, List[float]]) -> Iterator[Tuple[str, List[str]]]:
    """Yield name and cells of each arm: median, least, most, ratio to the first arm's median."""
    base = statistics.median(next(iter(values.values())))
    for name, each in values.items():
        median = statistics.median(each)
        cells = ["{:.4g}".format(value) for value in (median, min(each), max(each))]
        yield name, [*cells, "{:.3f}".format(median / base)]


def read_found(path: str) -> Dict[str, Any]:
    """Return what a benchmark wrote down; UserError if the file is something else."""
    found = json_text.load(path, LARGEST)
    if not isinstance(found, dict) or not {"unit", "cases", "conditions", "command"} <= set(found):
        raise UserError("{} has no measurements; accepted: what --json writes".format(path))
    return found
