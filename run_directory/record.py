"""Where a run directory goes, and run.json in it, which says what the run is.

run.json holds recipe, settings, data, platform and versions. TensorFlow is not needed to read it.
"""

import datetime
import json
import os
from typing import Optional

from common import json_records, json_text
from common.files import write_whole
from run_directory.checkpoints import files_of, unfinished_files
from run_directory.schema import require_valid, required
from run_directory.settings import DEFAULT_SEED, STANDARD, Settings, settings_from_dict
from sparsenet.errors import UserError
from sparsenet.recipes import Recipe, check

RECORD = "run.json"
GRAPH = "graph.pbtxt"
CURVES = "curves.png"
MOST_BYTES = 2**20  # of run.json: a mean image takes 0.1 MB
FORMAT = 2  # of run.json; 1 had other names for some fields, see RENAMED
ABOUT = "about"  # entry of a file of activations: the network and images that it is for


# The directory -------------------------------------------------------------------------------


def choose_path(settings: Settings, platform: str, now: datetime.datetime) -> str:
    """Return the path of a new run in `--log_dir`; `--name` is its last part if it is given.

    Else that is made of recipe, data, platform, seed (where it is not the default) and time.
    Raises UserError if the path is taken or can't be written; writes nothing. See :func:`claim`.
    """
    name = settings.name
    try:
        settings.log_dir.encode("utf-8")
    except UnicodeEncodeError:
        raise UserError("--log_dir {!r}; accepted: a path in UTF-8".format(settings.log_dir))
    if name is None:
        recipe = settings.recipe
        parts = [recipe.name, recipe.dataset, platform]
        parts += [] if settings.seed == DEFAULT_SEED else ["seed-{}".format(settings.seed)]
        parts.append(now.strftime("%Y%m%d-%H%M%S"))
        name = "-".join(part for i, part in enumerate(parts) if part not in parts[:i])
    path = os.path.join(settings.log_dir, name)
    if settings.name is not None:
        require_new(path)
    parent = os.path.abspath(settings.log_dir)
    while not os.path.exists(parent):
        parent = os.path.dirname(parent)
    if not os.path.isdir(parent) or not os.access(parent, os.W_OK):
        raise UserError("--log_dir {}: {} can't be written to".format(settings.log_dir, parent))
    return path


def require_new(path: str) -> None:
    """Raise UserError if there is anything at the path of a new run but an empty directory.

    What a run has left half written that ended before its first file was whole does not count.
    """
    if os.path.lexists(path) and not _is_empty(path):
        raise UserError(
            "run directory {0} exists; accepted: another --name, or --resume {0}".format(path)
        )


def _is_empty(path: str) -> bool:
    return os.path.isdir(path) and len(os.listdir(path)) == len(unfinished_files(path))


def claim(path: str, may_be_numbered: bool) -> str:
    """Make the directory of a new run and return its path: `path`, or `path-2`, `path-3`, ...

    may_be_numbered: take the next number if there is one already; else an empty one is taken

    Making a directory is what one process alone can do, of several that start in the same second.
    """
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    candidate, number = path, 1
    while True:
        try:
            os.mkdir(candidate)
            return candidate
        except FileExistsError:
            if not may_be_numbered:
                require_new(path)
                return path
        number += 1
        candidate = "{}-{}".format(path, number)


def run_directory_of(path: str) -> str:
    """Return the run directory that a path means: itself, or that of a file or checkpoint in it."""
    folder = os.path.dirname(path) or os.curdir
    is_directory = os.path.isdir(path) or not os.path.isfile(os.path.join(folder, RECORD))
    is_within = os.path.isfile(path) or bool(files_of(path))
    return path if is_directory or not is_within else folder


# run.json ------------------------------------------------------------------------------------


def write_record(directory: str, record: dict) -> None:
    """Write run.json, whole or not at all."""
    write_whole(os.path.join(directory, RECORD), json.dumps(record, indent=1) + "\n")


def read_record(directory: str) -> dict:
    """Return run.json of a run directory; UserError if it is missing or damaged."""
    path = os.path.join(directory, RECORD)
    if not os.path.isfile(path):
        raise UserError(
            "{} is no run directory: it holds no {}; accepted: a directory that a run has "
            "written".format(directory, RECORD)
        )
    return read_json_record(path)


def read_json_record(path: str) -> dict:
    """Return run.json, or the record beside a converted file; UserError if it is damaged.

    Each of its fields is of a value that it may have, see schema.py; some may be absent.
    """
    record = json_text.load(path, MOST_BYTES)
    if not isinstance(record, dict):
        raise UserError("{} can't be read: not an object".format(path))
    record = in_todays_words(record)
    require_valid(record, path)
    return record


def kernels_of(record: dict) -> str:
    """Return what computed the layers of a run on a CPU, one of KERNELS."""
    return record.get("cpu", {}).get("kernels", STANDARD)


def recomputes(record: dict) -> bool:
    """Return whether a run was asked to recompute, which adds gradients up in another order."""
    return record.get("settings", {}).get("recompute", False)


def hold_out_of(record: dict) -> Optional[int]:
    """Return how many training images a run held out and was tested on; None for the test set."""
    return record.get("settings", {}).get("hold_out")


# section -> name of a field in format 1 -> name today.
RENAMED = {
    "": {"continued": "resumed"},
    "recipe": {
        "drops": "lr_milestones",
        "decayed": "weight_decay_scope",
        "border": "pad_value",
    },
    "preprocessing": {"border": "pad_value"},
}
# Fields of `recipe` in older records that say nothing about the run.
RETIRED = ("family", "published")
# Fields of `recipe` that older records do not have, with what such runs did.
ADDED = {"augment": "standard", "lr_schedule": "drops", "warm_up": 0.0}
OLD_PRECISIONS = {"bfloat16": "mixed_bfloat16"}  # of Keras's runs -> name today


def in_todays_words(record: dict) -> dict:
    """Return a record with the fields of this version, under the names of this version."""
    for section, names in RENAMED.items():
        fields = record.get(section) if section else record
        if isinstance(fields, dict):
            for old in set(names) & set(fields):
                fields[names[old]] = fields.pop(old)
    if isinstance(record.get("recipe"), dict):
        for field in RETIRED:
            record["recipe"].pop(field, None)
        for field, value in ADDED.items():
            record["recipe"].setdefault(field, value)
    precision = record.get("precision")
    if isinstance(precision, str):
        record["precision"] = OLD_PRECISIONS.get(precision, precision)
    return record


def read_settings(directory: str) -> Settings:
    """Return the settings of the run in `directory`; UserError if run.json is not complete."""
    return settings_of(read_record(directory), os.path.join(directory, RECORD))


def settings_of(record: dict, path: str) -> Settings:
    """Return the settings in the run.json that was read from `path`; UserError if it has none."""
    return settings_from_dict(required(record, "settings", path), recipe_of(record, path))


def recipe_of(record: dict, path: str) -> Recipe:
    """Return the recipe in a record that was read from `path`; UserError if it has none."""
    return recipe_from_dict(required(record, "recipe", path))


def recipe_from_dict(data: dict) -> Recipe:
    """Return the recipe that recipes.to_dict wrote; UserError if this version can't read it."""
    recipe = json_records.read(Recipe, data)
    check(recipe)
    return recipe
