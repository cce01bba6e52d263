"""Read records of this project from JSON, with one sentence for what is wrong."""

from typing import Type, TypeVar

import dacite

from sparsenet.errors import UserError, require, wrong_value

Record = TypeVar("Record")


def read(record_type: Type[Record], data: object) -> Record:
    """Return the dataclass instance that JSON `data` describes; lists become tuples.

    Raises UserError, naming the field, for a value of another type, a missing field and an unknown
    one.
    """
    require(isinstance(data, dict), record_type.__name__, data, "a JSON object")
    try:
        return dacite.from_dict(record_type, _with_tuples(data), CONFIG)
    except dacite.WrongTypeError as error:
        raise UserError(wrong_value(str(error.field_path), error.value, _name_of(error.field_type)))
    except dacite.MissingValueError as error:
        raise UserError("`{}` is missing".format(error.field_path))
    except dacite.DaciteError as error:
        raise UserError("{}".format(error))


def _name_of(hint) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def _with_tuples(value):
    """Return JSON data with its lists as the tuples that they were written from."""
    if isinstance(value, dict):
        return {key: _with_tuples(each) for key, each in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, (list, tuple)) else value


def _int(value):
    """Return a whole number; refuse True and False, which Python takes for 1 and 0."""
    if isinstance(value, bool):
        raise dacite.WrongTypeError(int, value)
    return value


def _float(value):
    """Return a number as a float: JSON writes 1.0 and 1 alike."""
    if isinstance(value, bool):
        raise dacite.WrongTypeError(float, value)
    return float(value) if isinstance(value, int) and abs(value) <= LARGEST else value


LARGEST = 1e308  # close to the largest float
CONFIG = dacite.Config(strict=True, type_hooks={int: _int, float: _float})
