"""Train a SparseNet with Keras 3, on JAX, TensorFlow or PyTorch; the flags are main_gpu.py's.

python scripts/train_keras.py --recipe digits
KERAS_BACKEND=jax python scripts/train_keras.py --recipe digits --precision mixed_bfloat16

Batches, schedule, initial weights and records are those of main_gpu.py: scripts/compare.py holds
one run against the other. KERAS_BACKEND chooses the backend, JAX if it is installed: on it the
training set stays in the memory of the device, and a compiled loop runs over the steps.
"""

import _checkout  # noqa: F401, I001
import os
import sys

from common.cli import Parser, int_at_least
from common.keras_stack import choose_backend
from platforms.keras_platform import PRECISIONS, platform
from run_directory.record import read_record
from run_directory.settings import FLOAT32
from sparsenet.errors import UserError, exit_code_of
from training.command_line import refuse_kernels, settings_from, training_parser


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = training_parser()
    group = parser.add_argument_group("Keras")
    group.add_argument(
        "--devices", type=int_at_least(1), metavar="N", help="devices of this process [1]"
    )
    group.add_argument(
        "--coordinator", metavar="HOST:PORT", help="of process 0, where several train together"
    )
    group.add_argument("--processes", type=int_at_least(2), metavar="N", help="how many they are")
    group.add_argument(
        "--process_id", type=int_at_least(0), metavar="I", help="which one this is, from 0"
    )
    return parser


def main() -> None:
    args = parser().parse_args()
    own = {
        name: vars(args).pop(name) for name in ("devices", "coordinator", "processes", "process_id")
    }
    if args.gpu:
        raise UserError(
            "--gpu; accepted: none, --devices N, and CUDA_VISIBLE_DEVICES to choose them"
        )
    refuse_kernels(args.kernels, "main_gpu.py")
    if args.precision not in (None, *PRECISIONS):
        raise UserError(
            "--precision {}; accepted with Keras: {}".format(args.precision, ", ".join(PRECISIONS))
        )
    if args.recompute:
        raise UserError("--recompute; accepted: by main_gpu.py and main_npu.py")
    if args.histograms:
        raise UserError("--histograms; accepted: by main_gpu.py, which writes events")
    settings = settings_from(args)
    if settings is None:
        return
    if settings.gpus == ():
        os.environ.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    started = {} if settings.resume is None else read_record(settings.resume)
    backend = choose_backend("jax")
    from training.keras_run import train

    chosen = platform(
        backend,
        settings.precision or started.get("precision", FLOAT32),
        own["devices"] or len(started.get("devices", ())) or 1,
        processes_from(own),
    )
    train(settings, chosen)


def processes_from(own):
    """Return (address, number of processes, number of this one), or None for a single process."""
    values = tuple(own[name] for name in ("coordinator", "processes", "process_id"))
    if values == (None, None, None):
        return None
    if None in values:
        raise UserError("--coordinator, --processes and --process_id; accepted: all three or none")
    if values[2] >= values[1]:
        raise UserError("--process_id {}; accepted: 0 to {}".format(values[2], values[1] - 1))
    return values


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
