"""Which NPU this process has, and which of how many it is, as the environment says.

Ascend's launch scripts set RANK_ID and RANK_SIZE beside a rank table; without one, CM_* say where
the processes meet. TensorFlow is not imported.
"""

import ipaddress
import os
import re
from typing import Callable, Tuple

from sparsenet.errors import UserError

# In place of a rank table: all five, or none.
MEETING = ("CM_CHIEF_IP", "CM_CHIEF_PORT", "CM_CHIEF_DEVICE", "CM_WORKER_SIZE", "CM_WORKER_IP")
DEVICE = ("ASCEND_DEVICE_ID", "DEVICE_ID")  # the second as older releases call it


def without_rank_table() -> bool:
    """Return whether CM_* say where the processes meet."""
    return any(os.environ.get(name) for name in MEETING)


def rank_and_world_size() -> Tuple[int, int]:
    """Return the rank of this process and the number of all.

    Raises UserError for what is invalid, missing or contradictory.
    """
    if without_rank_table():
        return _of_those_that_meet()
    world_size = _number("RANK_SIZE", "1", "a whole number of at least 1", lambda n: n >= 1)
    rank = _rank("RANK_SIZE", world_size)
    table = os.environ.get("RANK_TABLE_FILE", "")
    if world_size > 1 and not os.path.isfile(table):
        raise UserError(
            "RANK_TABLE_FILE is {!r}; accepted: with RANK_SIZE {}, the file that lists the "
            "devices (hccl.json), or in its place {}".format(table, world_size, ", ".join(MEETING))
        )
    return rank, world_size


def _of_those_that_meet() -> Tuple[int, int]:
    """Return rank and number where CM_* say them; UserError as above.

    A device's number is its rank, but where RANK_ID says another: on a host that is not the
    chief's, or where the devices are not the first ones.
    """
    _require_all_that_say_where()
    is_at_chief = _address("CM_WORKER_IP") == _address("CM_CHIEF_IP")
    _number("CM_CHIEF_PORT", "", "a whole number from 0 to 65520", lambda n: n <= 65520)
    _number("CM_CHIEF_DEVICE", "", "a whole number of at least 0", lambda n: n >= 0)
    size = _number(
        "CM_WORKER_SIZE", "", "a whole number from 1 to 32768", lambda n: 1 <= n <= 32768
    )
    as_large = "nothing, or CM_WORKER_SIZE, which is {}".format(size)
    _number("RANK_SIZE", str(size), as_large, lambda n: n == size)
    if size == 1 or os.environ.get("RANK_ID"):
        return _rank("CM_WORKER_SIZE", size), size
    if not (is_at_chief and any(os.environ.get(name) for name in DEVICE)):
        raise UserError(
            "{} is not set; accepted: 0 to {}, another one for each process".format(
                DEVICE[0] if is_at_chief else "RANK_ID", size - 1
            )
        )
    accepted = "0 to {}, below CM_WORKER_SIZE, or RANK_ID beside it".format(size - 1)
    return _number(_device_variable(), "", accepted, lambda n: n < size), size


def _require_all_that_say_where() -> None:
    """Raise UserError beside a rank table, or where one of CM_* is missing."""
    found = [name for name in MEETING if os.environ.get(name)]
    if os.environ.get("RANK_TABLE_FILE"):
        raise UserError(
            "RANK_TABLE_FILE and {} are set; accepted: a rank table, or {}".format(
                found[0], ", ".join(MEETING)
            )
        )
    missing = [name for name in MEETING if name not in found]
    if missing:
        raise UserError(
            "{} is set without {}; accepted: all of {}, or none".format(
                found[0], ", ".join(missing), ", ".join(MEETING)
            )
        )


def device_id() -> int:
    """Return the number of this process's device; UserError if it is no number."""
    return _number(_device_variable(), "0", "a whole number of at least 0", lambda n: n >= 0)


def _device_variable() -> str:
    return DEVICE[0] if os.environ.get(DEVICE[0]) else DEVICE[1]


def _rank(size_variable: str, world_size: int) -> int:
    accepted = "0 to {}, below {}".format(world_size - 1, size_variable)
    return _number("RANK_ID", "0", accepted, lambda n: n < world_size)


def _address(name: str) -> str:
    """Return an IP address, in its usual spelling; UserError if it is none."""
    try:
        return str(ipaddress.ip_address(os.environ[name]))
    except ValueError:
        raise UserError(
            "{} is {!r}; accepted: an IPv4 or IPv6 address".format(name, os.environ[name])
        )


def _number(name: str, default: str, accepted: str, is_accepted: Callable[[int], bool]) -> int:
    text = os.environ.get(name) or default
    if not re.match("[0-9]{1,9}$", text) or not is_accepted(int(text)):
        raise UserError("{} is {!r}; accepted: {}".format(name, text, accepted))
    return int(text)
