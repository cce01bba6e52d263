"""The parser of every command, and the types of its flags."""

import argparse
import difflib
import os
import re
import sys
from typing import Callable, List, Optional, Sequence, Tuple

from sparsenet.errors import UserError


class Parser(argparse.ArgumentParser):
    """An argument parser: a mistake is one line, `-` may stand for `_` in flags, `~` is a home."""

    def __init__(self, **options):
        options.update(allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else args
        parts = [part for arg in args for part in self._separated(_underscored(arg))]
        args = [_with_home(part) for part in parts]
        for arg in args[: args.index("--")] if "--" in args else args:
            self._refuse_value(arg)
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

    def _refuse_value(self, argument: str) -> None:
        """Refuse a value of a flag that has none: Python 3.7 raises IndexError on `-h=`."""
        flag, equals, value = argument.partition("=")
        action = self._option_string_actions.get(flag)
        if equals and action is not None and action.nargs == 0:
            self.error("argument {}: {}; accepted: without a value".format(flag, quoted(value)))

    def parse_args(self, args=None, namespace=None):
        args, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._no_such(unknown[0]))
        return args

    def _no_such(self, argument: str) -> str:
        """Return that an argument is not known, and the flags that look like it."""
        if not argument.startswith("-"):
            return "{} is one argument too many".format(quoted(argument))
        flag, flags = argument.partition("=")[0], self._all_flags()
        similar = [each for each in flags if _initials(each) == flag]  # --lr for --learning_rate
        similar = similar or difflib.get_close_matches(flag, flags, 2)
        suggestion = "; is it {}?".format(" or ".join(similar)) if similar else ""
        return "{}: no such flag{}".format(quoted(flag)[1:-1], suggestion)

    def _all_flags(self) -> List[str]:
        """Return the flags of this parser and of its subcommands."""
        flags = list(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    flags += parser._all_flags()
        return flags

    def _check_value(self, action, value):
        # An empty list is what `nargs="*"` makes of no argument.
        if action.choices is not None and value not in action.choices and value != []:
            accepted = closest(str(value), list(map(str, action.choices)))
            raise argparse.ArgumentError(
                action, "{}; accepted: {}".format(quoted(str(value)), accepted)
            )

    def _get_values(self, action, arg_strings):
        # Only of `--flag=--`: argparse drops the value as if it ended the flags, and has none left.
        if action.option_strings and "--" in arg_strings:
            raise argparse.ArgumentError(action, "'--'; accepted: a value")
        return super()._get_values(action, arg_strings)

    def error(self, message):
        raise UserError("{} (see --help)".format(message))


FEW = 12  # names that are listed where one of them is accepted


def closest(value: str, choices: Sequence[str]) -> str:
    """Return the choices in one line: all if they are few, else those that look like `value`."""
    if len(choices) <= FEW:
        return ", ".join(choices)
    similar = difflib.get_close_matches(value, choices, 3, 0.5) or choices[:3]
    return ", ".join([*similar, "..."]) + " ({} names)".format(len(choices))


def _initials(flag: str) -> str:
    return "--" + "".join(word[:1] for word in flag[2:].split("_"))


def _underscored(argument: str) -> str:
    """Return a long flag with underscores: `--batch-size=64` -> `--batch_size=64`.

    The original codes spell some flags one way and some both ways.
    """
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return "--" + flag[2:].replace("-", "_") + equals + value


def _with_home(argument: str) -> str:
    """Return an argument with a home folder in place of `~`, also in `--flag=~/x`.

    The shell leaves that one as it is.
    """
    if argument.startswith("~"):
        return os.path.expanduser(argument)
    name, equals, value = argument.partition("=")
    return name + equals + os.path.expanduser(value)


LONGEST_SHOWN = 100  # characters of a value, in a message
MOST = 2**31 - 1  # of whole numbers: what TensorFlow counts with
LARGEST = 1e38  # within the range of float32
WHOLE = re.compile(r"[+-]?[0-9]{1,400}\Z")
NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?\Z")


def quoted(text: str) -> str:
    """Return a value as a message shows it: quoted, escaped, and not longer than a line."""
    return repr(text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "...")


def refused(text: str, accepted: str) -> argparse.ArgumentTypeError:
    """Return the error of a flag's value that is not accepted."""
    return argparse.ArgumentTypeError("{}; accepted: {}".format(quoted(text), accepted))


def whole_number(text: str) -> Optional[int]:
    """Return the whole number that a text is, in plain digits; None if it is none."""
    return int(text) if WHOLE.match(text) else None


def number(text: str) -> float:
    """Return the number that a text is, in plain digits; NaN if it is none."""
    return float(text) if NUMBER.match(text) else float("nan")


def int_at_least(minimum: int, maximum: Optional[int] = None) -> Callable[[str], int]:
    """Return the flag type of a whole number from `minimum` to `maximum`, or to MOST."""
    accepted = "a whole number of at least {}".format(minimum)
    if maximum is not None:
        accepted = "a whole number from {} to {}".format(minimum, maximum)
    most = MOST if maximum is None else maximum

    def convert(text):
        found = whole_number(text)
        if found is not None and found > most:
            raise refused(text, "at most {}".format(most))
        if found is None or found < minimum:
            raise refused(text, accepted)
        return found

    return convert


def float_where(accepted: str, test: Callable[[float], bool]) -> Callable[[str], float]:
    """Return the flag type of a number that passes `test`; `accepted` describes such numbers."""

    def convert(text):
        value = number(text)
        if not test(value):
            raise refused(text, accepted)
        return value

    return convert


def ints_at_least(minimum: int) -> Callable[[str], Tuple[int, ...]]:
    """Return the flag type of whole numbers from `minimum` to MOST, separated by commas."""
    one = int_at_least(minimum)

    def convert(text):
        try:
            return tuple(map(one, text.split(",")))
        except argparse.ArgumentTypeError:
            raise refused(
                text,
                "whole numbers of at least {}, at most {}, separated by commas".format(
                    minimum, MOST
                ),
            )

    return convert


def milestones(text: str) -> Tuple[Tuple[int, float], ...]:
    """Return `150:0.1,225:0.01` as (epoch, divisor) pairs, and `none` as no pairs.

    The factors are of the initial learning rate, after that epoch.
    """
    if text == "none":
        return ()
    one = int_at_least(1)
    try:
        pairs = [part.split(":") for part in text.split(",")]
        found = tuple((one(epoch), round(1 / number(factor), 9)) for epoch, factor in pairs)
    except (ValueError, ZeroDivisionError, argparse.ArgumentTypeError):
        found = ()
    if not found or not all(0 < divisor < LARGEST for _, divisor in found):
        raise refused(text, "EPOCH:FACTOR,..., such as 150:0.1,225:0.01, or none")
    return found


def device_ids(text: str) -> Tuple[int, ...]:
    """Return the different whole numbers that `text` lists, separated by commas.

    `none` and `-1`, as CUDA_VISIBLE_DEVICES has it, list no device.
    """
    if text in ("none", "-1"):
        return ()
    ids = ints_at_least(0)(text)
    if len(set(ids)) < len(ids):
        raise refused(text, "each device once")
    return ids


def directory_name(text: str) -> str:
    """Return `text` if it is the name of a directory and not a path."""
    if text in ("", ".", "..") or os.path.basename(text) != text or len(os.fsencode(text)) > 200:
        raise refused(text, "a name without a path, of at most 200 bytes")
    return text


def new_file(*endings: str) -> Callable[[str], str]:
    """Return the flag type of a path to write to.

    Its folder has to exist; the name has to end in one of `endings`, if any are given.
    """

    def convert(text):
        if endings and not text.endswith(endings):
            raise refused(text, "a name that ends in {}".format(" or ".join(endings)))
        folder, name = os.path.split(os.path.abspath(text))
        if not text or os.path.isdir(text) or len(os.fsencode(name)) > LONGEST_NAME:
            raise refused(text, "the name of a file, of at most {} bytes".format(LONGEST_NAME))
        if not os.path.isdir(folder):
            raise argparse.ArgumentTypeError("{}: its folder does not exist".format(quoted(text)))
        return text

    return convert


LONGEST_NAME = 200  # bytes of a name, to which more is added while the file is written


def new_folder(text: str) -> str:
    """Return the path of a folder to make: absent or empty, in a folder that exists."""
    path = os.path.abspath(text)
    if not os.path.isdir(os.path.dirname(path)):
        raise argparse.ArgumentTypeError("{}: its folder does not exist".format(quoted(text)))
    is_long = len(os.fsencode(os.path.basename(path))) > LONGEST_NAME
    if is_long or os.path.exists(path) and not (os.path.isdir(path) and not os.listdir(path)):
        raise refused(text, "a new or empty folder")
    return path


fraction = float_where("at least 0 and below 1", lambda value: 0 <= value < 1)

compression = float_where("0 or 1 for none, or a fraction between", lambda value: 0 <= value <= 1)

seconds = float_where("seconds above 0, below 1e8", lambda value: 0 < value < 1e8)

positive = float_where("a number above 0, below 1e9", lambda value: 0 < value < 1e9)

not_negative = float_where("a number from 0 to 1e9", lambda value: 0 <= value < 1e9)
