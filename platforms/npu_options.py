"""What can be asked of an Ascend NPU: the flags of main_npu.py, and the options with their types.

TensorFlow is not imported: a mistake in the command is reported before it starts. The options and
their types are those of `npu_bridge`'s NpuOptimizer, whose parameter map silently accepts a value
of another type and then does something else.
"""

import dataclasses
import json
import os
import re
from typing import Callable, Dict, List, NamedTuple, Optional, Tuple, Union

from common import json_records
from common.cli import number, refused
from run_directory.record import read_record
from sparsenet.errors import UserError

Value = Union[bool, int, str]


class Option(NamedTuple):
    """A key of the parameter map.

    field:       where its value goes: b, i or s
    accepted:    in words, which values are accepted
    is_accepted: whether a text is such a value
    """

    field: str
    accepted: str
    is_accepted: Callable[[str], bool] = lambda text: True


def _one_of(*values: str) -> Option:
    return Option("s", ", ".join(values), lambda text: text in values)


FLAG = Option("b", "0, 1, true, false", lambda text: text.lower() in ("0", "1", "true", "false"))
COUNT = Option("i", "a whole number", lambda text: bool(re.match(r"-?[0-9]{1,18}\Z", text)))
TEXT = Option("s", "text", lambda text: text != "")
FILE = Option("s", "a file that exists", os.path.isfile)
STEPS = Option(
    "s",
    "steps such as 0|5|10-20",
    lambda text: bool(re.match(r"[0-9]+(-[0-9]+)?(\|[0-9]+(-[0-9]+)?)*\Z", text)),
)


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


PRECISION_MODES = (
    "allow_mix_precision", "must_keep_origin_dtype", "force_fp32", "allow_fp32_to_fp16",
    "force_fp16", "cube_fp16in_fp32out",
)  # fmt: skip
OPTIONS: Dict[str, Option] = {
    "use_off_line": Option(
        "b",
        "1, true: otherwise the NPU does not compute",
        lambda text: text.lower() in ("1", "true"),
    ),
    "mix_compile_mode": FLAG,
    "enable_data_pre_proc": FLAG,
    "enable_dump": FLAG,
    "enable_dump_debug": FLAG,
    "profiling_mode": FLAG,
    "hcom_parallel": FLAG,
    "is_tailing_optimization": FLAG,
    # More than one needs tf.data on the device; here images are fed.
    "iterations_per_loop": Option("i", "1, since images are fed", lambda text: text == "1"),
    "graph_run_mode": COUNT,
    "op_debug_level": COUNT,
    "enable_exception_dump": COUNT,
    "deterministic": COUNT,
    "session_device_id": COUNT,
    "hccl_timeout": COUNT,
    "op_execute_timeout": COUNT,
    "precision_mode": _one_of(*PRECISION_MODES),
    "modify_mixlist": TEXT,
    "op_select_implmode": _one_of("high_precision", "high_performance"),
    "dump_path": TEXT,
    "dump_step": STEPS,
    "dump_mode": _one_of("input", "output", "all"),
    "dump_debug_mode": _one_of("aicore_overflow", "atomic_overflow", "all"),
    "profiling_options": Option("s", "a JSON object", _is_json_object),
    "fusion_switch_file": FILE,
    "graph_memory_max_size": TEXT,
    "variable_memory_max_size": TEXT,
    "op_compiler_cache_mode": TEXT,
    "op_compiler_cache_dir": TEXT,
    "auto_tune_mode": _one_of("RL", "GA", "RL,GA", "GA,RL"),
    "jit_compile": _one_of("true", "false", "auto"),
    "HCCL_algorithm": TEXT,
}


# Compute everything on the NPU.
ALWAYS: Dict[str, Value] = {"use_off_line": True, "mix_compile_mode": False}


@dataclasses.dataclass(frozen=True)
class LossScale:
    """A loss scale: `fixed` at `value`, or `dynamic` starting from it."""

    kind: str
    value: float


DYNAMIC = LossScale("dynamic", 2.0**32)
# Stands for a loss scale that was not asked for: dynamic if the precision mode uses float16.
BY_PRECISION = LossScale("by precision", 1.0)


NO_LOSS_SCALE = ("must_keep_origin_dtype", "force_fp32")  # precision modes without float16


def loss_scale(text: str) -> Optional[LossScale]:
    """Return the loss scale that `text` names: `fixed:1024`, `dynamic` or `none`."""
    if text == "none":
        return None
    if text == "dynamic":
        return DYNAMIC
    kind, _, value = text.partition(":")
    scale = number(value)
    if kind != "fixed" or not 1 <= scale < 2.0**126:
        raise refused(text, "fixed:N with N of at least 1, dynamic, none")
    return LossScale("fixed", scale)


def value_of(key: str, text: str) -> Value:
    """Return `text` in the type of an option; ArgumentTypeError if it is not accepted."""
    option = OPTIONS[key]
    if not option.is_accepted(text):
        raise refused(text, "for {}: {}".format(key, option.accepted))
    if option.field == "b":
        return text.lower() in ("1", "true")
    return int(text) if option.field == "i" else text


def option_of(key: str) -> Callable[[str], Value]:
    """Return the flag type of a flag that sets one option."""
    return lambda text: value_of(key, text)


def pair(text: str) -> Tuple[str, Value]:
    """Return the key and the value of an option: `deterministic=1` -> ("deterministic", 1)."""
    key, equals, value = text.partition("=")
    if not equals or key not in OPTIONS:
        raise refused(text, "KEY=VALUE with one of the keys {}".format(", ".join(OPTIONS)))
    return key, value_of(key, value)


@dataclasses.dataclass(frozen=True)
class NpuSettings:
    """What is asked of the NPU.

    options:    of the parameter map, see OPTIONS
    loss_scale: None for none
    folders:    folders that the NPU writes to, and that have to exist
    dry_run:    print the session config and train nothing
    """

    options: Dict[str, Value]
    loss_scale: Optional[LossScale]
    folders: List[str]
    dry_run: bool


def add_flags(parser) -> List[str]:
    """Add the NPU's flags and return their names."""
    group = parser.add_argument_group("NPU")
    known = set(vars(parser.parse_args([])))
    group.add_argument(
        "--precision_mode", type=option_of("precision_mode"), metavar="MODE",
        help="{} [allow_mix_precision]; to compare platforms: must_keep_origin_dtype".format(
            ", ".join(PRECISION_MODES)
        ),
    )  # fmt: skip
    group.add_argument(
        "--loss_scale", type=loss_scale, metavar="fixed:N|dynamic|none", default=BY_PRECISION,
        help="[dynamic; none for {}]".format(" and ".join(NO_LOSS_SCALE)),
    )  # fmt: skip
    for name, key, what in [
        ("over_dump", "enable_dump_debug", "dump where numbers overflow"),
        ("data_dump_flag", "enable_dump", "dump inputs and outputs of ops"),
        ("profiling", "profiling_mode", "profile the run"),
    ]:
        group.add_argument(
            "--" + name, type=option_of(key), nargs="?", const=True,
            metavar="BOOL", help=what + " [False]",
        )  # fmt: skip
    for name, key, what in [
        ("data_dump_step", "dump_step", "which steps are dumped: 0|5|10-20"),
        ("fusion_switch_file", "fusion_switch_file", "which fusions are off"),
        ("auto_tune_mode", "auto_tune_mode", "RL, GA or RL,GA"),
    ]:
        group.add_argument("--" + name, type=option_of(key), metavar="X", help=what)
    group.add_argument(
        "--npu_option", type=pair, action="append", default=[], metavar="KEY=VALUE",
        help="another option of NpuOptimizer; may be repeated",
    )  # fmt: skip
    group.add_argument(
        "--dry_run", action="store_true", help="print the session config and exit; needs no NPU"
    )
    return sorted(set(vars(parser.parse_args([]))) - known)


Start = Tuple[Dict[str, Value], Optional[LossScale]]  # options and loss scale, before flags
NEW_RUN: Start = (ALWAYS, BY_PRECISION)


def recorded(directory: str) -> Start:
    """Return what was asked of the NPU when a run was started; UserError if run.json is damaged."""
    record = read_record(directory)
    try:
        options = dict(record.get("npu", ALWAYS))
        scale = options.pop("loss_scale", None)
        for key, value in options.items():
            is_own = {"b": bool, "i": int, "s": str}[OPTIONS[key].field]
            if type(value) is not is_own:
                raise ValueError("`{}` is {!r}".format(key, value))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError("{}/run.json is not complete: npu: {}".format(directory, error))
    return options, None if scale is None else json_records.read(LossScale, scale)


def npu_settings(args, start: Start, root: str) -> NpuSettings:
    """Return what flags ask of the NPU, in addition to `start`.

    Dumps and profiles go to folders in `root` by default. Raises UserError for --npu_option with
    `precision_mode`, which has a flag of its own.
    """
    options, scale = dict(start[0]), start[1]
    for flag, key in [
        ("over_dump", "enable_dump_debug"), ("data_dump_flag", "enable_dump"),
        ("profiling", "profiling_mode"), ("data_dump_step", "dump_step"),
        ("fusion_switch_file", "fusion_switch_file"), ("auto_tune_mode", "auto_tune_mode"),
        ("precision_mode", "precision_mode"),
    ]:  # fmt: skip
        value = getattr(args, flag)
        if value or (value is False and key in options):
            options[key] = value
    for key, value in args.npu_option:
        if key == "precision_mode":
            raise UserError("--npu_option {}={}; accepted: --precision_mode".format(key, value))
        options[key] = value
    options.setdefault("precision_mode", "allow_mix_precision")
    folders = complete_dumps(options, root)
    if args.loss_scale is not BY_PRECISION:
        scale = args.loss_scale
    if scale is BY_PRECISION:
        scale = None if options["precision_mode"] in NO_LOSS_SCALE else DYNAMIC
    return NpuSettings(options, scale, folders, args.dry_run)


def complete_dumps(options: Dict[str, Value], root: str) -> List[str]:
    """Set the options that dumps and profiles need beside their switch; return their folders."""
    folders = []
    for switch, mode, name in [
        ("enable_dump_debug", "dump_debug_mode", "overflow_dump"),
        ("enable_dump", "dump_mode", "data_dump"),
    ]:
        if options.get(switch):
            options.setdefault(mode, "all")
            folders.append(str(options.setdefault("dump_path", os.path.join(root, name))))
    if options.get("profiling_mode"):
        choice = {"output": os.path.join(root, "profiling"), "training_trace": "on"}
        choice["task_trace"] = "on"
        choice = json.loads(str(options.setdefault("profiling_options", json.dumps(choice))))
        folders += [choice["output"]] if isinstance(choice.get("output"), str) else []
    return folders
