"""The parser of every command, and the types of its flags."""

import argparse
import os
import sys
from typing import Callable, List, Optional, Tuple

from sparsenet.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser that reports a mistake in one line and takes `-` for `_` in flags."""

    def __init__(self, **options):
        options.update(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        args = [part for arg in args for part in self._separated(_underscored(arg))]
        return super().parse_known_args(args, namespace)

    def _separated(self, argument: str) -> List[str]:
        """Return a short flag and its value as two arguments: `-d40` -> `-d 40`.

        Python 3.7 can't read the two in one word where flags may not be abbreviated.
        """
        flags = sorted(self._option_string_actions, key=len, reverse=True)
        short = [flag for flag in flags if not flag.startswith("--") and argument.startswith(flag)]
        if not short or argument.partition("=")[0] in flags:
            return [argument]
        return [short[0], argument[len(short[0]) :]]

    def error(self, message):
        raise UserError("{} (see --help)".format(message))


def _underscored(argument: str) -> str:
    """Return a long flag with underscores: `--batch-size=64` -> `--batch_size=64`.

    The original codes spell some flags one way and some both ways.
    """
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def int_at_least(minimum: int, maximum: Optional[int] = None) -> Callable[[str], int]:
    """Return the flag type of a whole number from `minimum` to `maximum`."""
    accepted = "a whole number of at least {}".format(minimum)
    if maximum is not None:
        accepted = "a whole number from {} to {}".format(minimum, maximum)

    def convert(text):
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            raise argparse.ArgumentTypeError("{!r}; accepted: {}".format(text, accepted))
        return number

    return convert


def float_where(accepted: str, test: Callable[[float], bool]) -> Callable[[str], float]:
    """Return the flag type of a number that passes `test`; `accepted` describes such numbers."""

    def convert(text):
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not test(value):
            raise argparse.ArgumentTypeError("{!r}; accepted: {}".format(text, accepted))
        return value

    return convert


def ints_at_least(minimum: int) -> Callable[[str], Tuple[int, ...]]:
    """Return the flag type of whole numbers of at least `minimum`, separated by commas."""

    def convert(text):
        try:
            numbers = tuple(int(part) for part in text.split(","))
        except ValueError:
            numbers = ()
        if not numbers or min(numbers) < minimum:
            raise argparse.ArgumentTypeError(
                "{!r}; accepted: whole numbers of at least {}, separated by commas".format(
                    text, minimum
                )
            )
        return numbers

    return convert


def device_ids(text: str) -> Tuple[int, ...]:
    """Return the different whole numbers that `text` lists, separated by commas."""
    ids = ints_at_least(0)(text)
    if len(set(ids)) < len(ids):
        raise argparse.ArgumentTypeError("{!r}; accepted: each device once".format(text))
    return ids


def directory_name(text: str) -> str:
    """Return `text` if it is the name of a directory and not a path."""
    if text in ("", ".", "..") or os.path.basename(text) != text or len(os.fsencode(text)) > 200:
        raise argparse.ArgumentTypeError(
            "{!r}; accepted: a name without a path, of at most 200 bytes".format(text)
        )
    return text


def new_file(*endings: str) -> Callable[[str], str]:
    """Return the flag type of a path to write to.

    Its folder has to exist; the name has to end in one of `endings`, if any are given.
    """

    def convert(text):
        if endings and not text.endswith(endings):
            accepted = " or ".join(endings)
            raise argparse.ArgumentTypeError(
                "{!r}; accepted: a name that ends in {}".format(text, accepted)
            )
        if not os.path.isdir(os.path.dirname(os.path.abspath(text))):
            raise argparse.ArgumentTypeError("{!r}: its folder does not exist".format(text))
        if os.path.isdir(text):
            raise argparse.ArgumentTypeError("{!r}; accepted: the name of a file".format(text))
        return text

    return convert


fraction = float_where("at least 0 and below 1", lambda value: 0 <= value < 1)

compression = float_where("0 or 1 for none, or a fraction between", lambda value: 0 <= value <= 1)

LARGEST = 1e38  # within the range of float32

positive = float_where("a number above 0, below 1e38", lambda value: 0 < value < LARGEST)

not_negative = float_where("a number from 0 to 1e38", lambda value: 0 <= value < LARGEST)
