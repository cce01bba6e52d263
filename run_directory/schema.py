"""What the fields of run.json may hold, as one table; the network and the settings have their own.

A field that is absent is no matter here: older records lack some, those of converted files most.
Nor is one that is not known: a newer version may have written it.
"""

import math
from typing import Any, Callable, List, NamedTuple, Optional, Tuple

from run_directory.settings import KERNELS, MAX_SEED
from sparsenet.errors import UserError, wrong_value

DEEPEST = 32  # lists and objects within each other
MOST_DIGITS_LOG2 = 64  # of whole numbers anywhere
LARGEST = 1e300
IMAGE = (32, 32, 3)  # shape of a mean image
OUTPUTS = ("probabilities", "logits")


class Field(NamedTuple):
    """A field: its path, whether a value is one of its values, and these in words."""

    path: str
    test: Callable[[Any], bool]
    accepted: str


def is_text(value: Any) -> bool:
    """Return whether a value is text that can be a path; json_text reads none but whole text."""
    return isinstance(value, str) and "\0" not in value


def is_number(value: Any) -> bool:
    """Return whether a value is a number, neither infinite nor far beyond any use."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value.bit_length() <= MOST_DIGITS_LOG2
    return isinstance(value, float) and math.isfinite(value) and abs(value) <= LARGEST


def whole(least: int, most: int = 2**MOST_DIGITS_LOG2) -> Callable[[Any], bool]:
    """Return the test of whole numbers from `least` to `most`."""
    return lambda value: type(value) is int and least <= value <= most


def number(test: Callable[[float], bool]) -> Callable[[Any], bool]:
    """Return the test of numbers that pass a test."""
    return lambda value: is_number(value) and test(value)


def many(test: Callable[[Any], bool], count: Optional[int] = None) -> Callable[[Any], bool]:
    """Return the test of lists, of `count` values or any number, that all pass a test."""
    return lambda value: (
        isinstance(value, list) and count in (None, len(value)) and all(map(test, value))
    )


def optional(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """Return the test of values that pass a test, or are null."""
    return lambda value: value is None or test(value)


def constants(test: Callable[[float], bool]) -> Callable[[Any], bool]:
    """Return the test of what images are normalised by: a number, one a colour, or an image."""
    each = number(test)
    image = each
    for side in reversed(IMAGE):
        image = many(image, side)
    return lambda value: each(value) or many(each, 3)(value) or image(value)


def is_object(value: Any) -> bool:
    """Return whether a value is a JSON object."""
    return isinstance(value, dict)


TEXT, OBJECT = "text", "a JSON object"
TEXTS, WHOLE, POSITIVE = "a list of text", "a whole number", "a whole number of at least 1"
CONSTANTS = "a number, one for each of 3 colours, or one for each value of an image of 32x32"
DEVIATIONS = CONSTANTS + ", from 1e-6 to 1e6"
PAIR = "two numbers above 0, or null"
_pair = optional(many(number(lambda value: value > 0), 2))

FIELDS = (
    Field("command", many(is_text), TEXTS),
    Field("started", is_text, TEXT),
    Field("devices", many(is_text), TEXTS),
    Field("threads", whole(1), POSITIVE),
    Field("workers", whole(1), POSITIVE),
    Field("commit", optional(is_text), TEXT + " or null"),
    Field("versions", is_object, OBJECT),
    Field("format", whole(1), POSITIVE),
    Field("recipe", is_object, OBJECT),
    Field("recipe.name", is_text, TEXT),
    Field("recipe.dataset", is_text, TEXT),
    Field("recipe.batch_size", whole(1), POSITIVE),
    Field("recipe.lr_milestones", many(many(is_number, 2)), "a list of pairs of numbers"),
    Field("recipe.config", is_object, OBJECT),
    Field("recipe.config.layers", many(whole(1)), "a list of whole numbers of at least 1"),
    Field("recipe.config.growth_rate", many(whole(1)), "a list of whole numbers of at least 1"),
    Field("settings", is_object, OBJECT),
    Field("settings.gpus", optional(many(whole(0))), "a list of whole numbers, or null"),
    Field("settings.hold_out", optional(whole(1)), POSITIVE + ", or null"),
    Field("settings.recompute", lambda value: isinstance(value, bool), "true or false"),
    Field("parameters", whole(0), WHOLE),
    Field("engine", is_text, TEXT),
    Field("platform", is_text, TEXT),
    Field("precision", is_text, TEXT),
    Field("cpu", is_object, OBJECT),
    Field("cpu.kernels", lambda value: value in KERNELS, ", ".join(KERNELS)),
    Field("seed", whole(0, MAX_SEED), "a whole number from 0 to {}".format(MAX_SEED)),
    Field("steps_per_epoch", whole(1), POSITIVE),
    Field("data", is_object, OBJECT),
    Field("data.name", is_text, TEXT),
    Field("data.classes", many(is_text), TEXTS),
    Field("preprocessing", optional(is_object), OBJECT + " or null"),
    Field("preprocessing.mean", constants(lambda value: abs(value) <= 1e6), CONSTANTS),
    Field("preprocessing.std", constants(lambda value: 1e-6 <= value <= 1e6), DEVIATIONS),
    Field("preprocessing.normalize", is_text, TEXT),
    Field("preprocessing.pad", whole(0, 2**10), "a whole number from 0 to 1024"),
    Field("preprocessing.pad_value", many(whole(0, 255), 3), "3 whole numbers from 0 to 255"),
    Field("preprocessing.mirror", lambda value: isinstance(value, bool), "true or false"),
    Field("preprocessing.crop_area", _pair, PAIR),
    Field("preprocessing.crop_aspect", _pair, PAIR),
    Field("classes", optional(many(is_text)), TEXTS + " or null"),
    Field("converted_from", is_text, TEXT),
    Field("model", is_object, OBJECT),
    Field("model.output", lambda value: value in OUTPUTS, ", ".join(OUTPUTS)),
    Field("resumed", many(is_object), "a list of JSON objects"),
    *(Field("data." + split, is_object, OBJECT) for split in ("train", "test")),
    *(Field("data.{}.images".format(split), whole(0), WHOLE) for split in ("train", "test")),
)


def require_valid(record: dict, path: str) -> None:
    """Raise UserError, naming the field, for a value of run.json that no version writes.

    path: of the file, for the message
    """
    problem = _unusable(record)
    if problem:
        raise UserError("{}: {}".format(path, problem))
    for field in FIELDS:
        found, value = _value(record, field.path)
        if found and not field.test(value):
            raise UserError("{}: {}".format(path, wrong_value(field.path, value, field.accepted)))


def required(record: dict, field: str, path: str) -> Any:
    """Return the value of a field; UserError if it is absent."""
    found, value = _value(record, field)
    if not found:
        raise UserError("{} is not complete: `{}` is missing".format(path, field))
    return value


def _value(record: dict, path: str) -> Tuple[bool, Any]:
    """Return whether there is a field, and its value; what lies on its way is an object or null."""
    value: Any = record
    for name in path.split("."):
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


def _unusable(record: dict) -> str:
    """Return in words which value anywhere in a record can't be used, "" if there is none."""
    waiting: List[Tuple[str, Any, int]] = [("", record, 0)]
    while waiting:
        name, value, depth = waiting.pop()
        if depth > DEEPEST:
            return "`{}` is nested deeper than {} levels".format(name, DEEPEST)
        if isinstance(value, dict):
            if not all(map(is_text, value)):
                return "the name of a field is no text in UTF-8"
            waiting += [(name or key, each, depth + 1) for key, each in value.items()]
        elif isinstance(value, list):
            waiting += [(name, each, depth + 1) for each in value]
        elif isinstance(value, str) and not is_text(value):
            return wrong_value(name, value, "text in UTF-8")
        elif isinstance(value, (int, float)) and not (isinstance(value, bool) or is_number(value)):
            return wrong_value(name, value, "numbers of up to 64 bits")
    return ""
