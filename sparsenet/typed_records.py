"""Checks that a record read from JSON has the types that its dataclass declares."""

import dataclasses
import typing

from sparsenet.errors import require


def check_types(record) -> None:
    """Raise UserError, naming the field, where a dataclass instance holds another type.

    Knows what the records of this project are made of: plain types, Optional, Tuple and
    dataclasses; a whole number passes for a float.
    """
    hints = typing.get_type_hints(type(record))
    for field in dataclasses.fields(record):
        value, hint = getattr(record, field.name), hints[field.name]
        accepted = str(hint).replace("typing.", "")
        if isinstance(hint, type):
            accepted = hint.__name__
        require(_is_of(value, hint), field.name, value, accepted)


def _is_of(value, hint) -> bool:
    parts = getattr(hint, "__args__", None)
    origin = getattr(hint, "__origin__", None)
    if origin is typing.Union:
        return any(_is_of(value, part) for part in parts)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if parts[-1] is Ellipsis:
            return all(_is_of(each, parts[0]) for each in value)
        return len(value) == len(parts) and all(map(_is_of, value, parts))
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
