"""Read JSON from files, which may come from anybody, within bounds that any use of it can bear."""

import itertools
import json
from typing import Any, List, Tuple

from common.files import read_file
from sparsenet.errors import UserError

DEEPEST = 50
LONGEST_NUMBER = 100  # digits of a whole number
MOST_CONTAINERS = 300000  # lists and objects


def parse(text: str) -> Any:
    """Return what JSON says: plain containers, numbers and text; ValueError for any other text.

    Nothing in it is nested deeper than DEEPEST. Text is of whole characters, and of such halves as
    Python has in place of bytes of a file's name that are not UTF-8.
    """
    if text.count("[") + text.count("{") > MOST_CONTAINERS:
        raise ValueError("it has more than {:,} lists and objects".format(MOST_CONTAINERS))
    try:
        found = json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise ValueError("it is nested deeper than {}".format(DEEPEST))
    _require_usable(found)
    return found


def load(path: str, most: int) -> Any:
    """Return what the JSON in a file says; UserError if it can't be read.

    most: bytes that the file may have
    """
    try:
        return parse(read_file(path, most).decode("utf-8-sig"))
    except OSError as error:
        raise UserError("{} can't be read: {}".format(path, error.strerror or error))
    except ValueError as error:
        raise UserError("{} can't be read: {}".format(path, error))


def _whole_number(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError("it has a number of {:,} digits".format(len(digits)))
    return int(digits)


def _require_usable(found: Any) -> None:
    pending: List[Tuple[Any, int]] = [([found], 0)]
    while pending:
        container, depth = pending.pop()
        if depth > DEEPEST:
            raise ValueError("it is nested deeper than {}".format(DEEPEST))
        keys = container if isinstance(container, dict) else ()
        for value in itertools.chain(keys, container.values() if keys else container):
            if isinstance(value, str):
                try:
                    value.encode("utf-8", "surrogateescape")
                except UnicodeEncodeError:
                    raise ValueError("it has half of a character: {!r}".format(value[:30]))
            elif isinstance(value, (dict, list)):
                pending.append((value, depth + 1))
