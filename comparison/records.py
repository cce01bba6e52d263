"""Compare the run.json of two runs field by field, the most suspicious first."""

import dataclasses
import math
import re
from typing import Dict, List, Optional

from comparison.findings import DIFFERENT, SAME, Part, absent, count_words, plural
from comparison.sources import Source
from run_directory.record import kernels_of, recomputes

SAME_NUMBER = 1e-6  # relative: the last bits of a mean depend on the order of summation

# The most suspicious first: (pattern of fields, what they are, whether they decide). Names are
# those of run_directory.record.FORMAT: read_record renames the fields of older records.
GROUPS = [
    (r"settings\.hold_out$", "data", True),
    (r"data\.", "data", True),
    (r"preprocessing\.", "preprocessing", True),
    (r"recipe\.(config|dataset|normalize|pad_value|augment)\b", "recipe", True),
    (
        r"recipe\.(batch_size|epochs|learning_rate|lr_schedule|lr_milestones|warm_up|weight_decay"
        r"|weight_decay_scope)\b",
        "recipe",
        True,
    ),
    (r"steps_per_epoch$|parameters$", "recipe", True),
    (r"seed$|settings\.seed$", "seed", True),
    (r"(settings\.)?precision$|loss_scale", "precision", False),
    (r"settings\.(load|subset|steps_per_epoch|fake)$", "settings", False),
    (r"platform$", "platform", False),
    (r"settings\.recompute$", "memory", False),
    (r"devices|workers$|threads$", "devices", False),
    (r"npu\.|cpu\.|session", "platform", False),
    (r"resumed", "resumed", False),
    (r"commit$|format$", "code", False),
    (r"versions\.", "versions", False),
    (r"recipe\.", "recipe's name", False),
    (r"(?!command|started$|settings\.)", "other", False),
    (r"", "paths and times", False),
]


@dataclasses.dataclass
class Field:
    """A field of run.json that differs; group, decides: see GROUPS."""

    name: str
    a: object
    b: object
    group: str
    decides: bool


def compare_records(a: Source, b: Source) -> Part:
    """Compare two records: recipe, data, preprocessing and seed decide, the rest is reported."""
    if a.record is None or b.record is None:
        lacking = a if a.record is None else b
        return absent("records", "no run.json in {}".format(lacking.path))
    found = differing_fields(a.record, b.record)
    deciding = [field for field in found if field.decides]
    groups: Dict[str, int] = {}
    for field in deciding:
        groups[field.group] = groups.get(field.group, 0) + 1
    headline = (
        "recipe, data, preprocessing and seed are the same"
        if not deciding
        else "{} differ: {}; first {}".format(
            plural(len(deciding), "deciding field"), count_words(groups), _text(deciding[0])
        )
    )
    return Part(
        "records",
        DIFFERENT if deciding else SAME,
        headline,
        "recipe, data, preprocessing and seed; the rest never decides",
        [_text(field) for field in deciding]
        + ["({})".format(_text(field)) for field in found if not field.decides],
        data={"fields": found},
    )


def differing_fields(a: dict, b: dict) -> List[Field]:
    """Return the fields of two records that differ, the most suspicious first."""
    flat_a, flat_b = flatten(a), flatten(b)
    found = []
    for name in sorted(set(flat_a) | set(flat_b)):
        values = flat_a.get(name), flat_b.get(name)
        if not same_value(*values):
            rank = _rank(name)
            found.append((rank, Field(name, *values, GROUPS[rank][1], GROUPS[rank][2])))
    found.sort(key=lambda each: each[0])
    return [field for _, field in found]


def _rank(name: str) -> int:
    return next(i for i, (pattern, _, _) in enumerate(GROUPS) if re.match(pattern, name))


def flatten(record, prefix: str = "") -> dict:
    """Return nested fields as one level: `{"a.b": 1}` for `{"a": {"b": 1}}`; lists are kept."""
    leaves = {}
    for key, value in record.items():
        if isinstance(value, dict) and value:
            leaves.update(flatten(value, prefix + key + "."))
        else:
            leaves[prefix + key] = value
    return leaves


def same_value(a, b) -> bool:
    """Return whether two values are equal, numbers up to SAME_NUMBER."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_value, a, b))
    numbers = [isinstance(x, (int, float)) and not isinstance(x, bool) for x in (a, b)]
    if all(numbers):
        return a == b or math.isclose(a, b, rel_tol=SAME_NUMBER)
    return a == b


def _text(field: Field) -> str:
    return "{}: {} | {}".format(field.name, short(field.a), short(field.b))


def short(value, length: int = 60) -> str:
    """Return a value as one line of at most `length` characters."""
    if isinstance(value, float):
        text = "{:.9g}".format(value)
    elif isinstance(value, list):
        text = "[{}]".format(", ".join(short(each) for each in value))
    else:
        text = "absent" if value is None else str(value)
    return text if len(text) <= length else text[: length - 3] + "..."


def stack_of(source: Source) -> Optional[tuple]:
    """Return what has to be the same for two runs to be equal bit for bit; None if not recorded.

    That is platform, engine, its version, precision, seed, devices, number of threads, kernels and
    whether it recomputes.
    """
    record = source.record or source.beside or {}
    engine = str(record.get("engine", "tensorpack"))
    library = "tensorflow" if engine == "tensorpack" else engine.split(" ")[-1]  # `keras jax`
    versions = record.get("versions")
    version = versions.get(library) if isinstance(versions, dict) else None
    fields = ("platform", "precision", "seed", "devices", "threads")
    found = (engine, version, kernels_of(record), recomputes(record), *map(record.get, fields))
    return None if None in found else found
