"""Save the activations for the first test images, to compare across stacks and platforms.

python scripts/activations.py RUN_OR_CHECKPOINT --images 8 --out activations.npz [--gradients]
python scripts/activations.py RUN_OR_CHECKPOINT --ascend_npy DIR  (for msaccucmp.py)
"""

import _checkout  # noqa: F401, I001
import os
import sys

from evaluation import trained_network
from evaluation.activations import save
from evaluation.logits import is_for_keras
from common.cli import Parser, int_at_least, new_file, new_folder
from common.keras_stack import choose_backend
from common.quiet import stderr_kept_back
from sparsenet.errors import UserError, exit_code_of
from platforms.npu_options import ALWAYS, PRECISION_MODES


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Save the activations of every layer for the first test images.",
        epilog=trained_network.WITHOUT_RECORD + "\nA run directory stands for its newest "
        "checkpoint; RUN/model-0 names the first.",
    )
    trained_network.add_flags(parser)
    dump = parser.add_argument_group("dump")
    dump.add_argument(
        "--images", type=int_at_least(1), metavar="N", default=8, help="number of images [8]"
    )
    dump.add_argument("--out", type=new_file(".npz"), metavar="FILE.npz", help="file to write")
    dump.add_argument(
        "--ascend_npy", type=new_folder, metavar="DIR",
        help="folder to write, for msaccucmp.py: the outputs of every op (with --gradients: in "
        "training mode)",
    )  # fmt: skip
    dump.add_argument(
        "--gradients", action="store_true",
        help="also activations in training mode, and the gradients of one step",
    )  # fmt: skip
    dump.add_argument("--npu", action="store_true", help="compute on this host's Ascend NPU")
    dump.add_argument(
        "--npu_dump", type=new_folder, metavar="DIR",
        help="with --npu: folder in which CANN dumps inputs and outputs of its ops",
    )  # fmt: skip
    dump.add_argument(
        "--precision_mode", choices=PRECISION_MODES, metavar="MODE",
        default="must_keep_origin_dtype", help="of the NPU [must_keep_origin_dtype]",
    )  # fmt: skip
    return parser


def compute(args, network, batch):
    """Return the arrays of a batch, and the versions of what computed them.

    A run of Keras's, or its files, is computed by Keras, and what TensorFlow wrote by its graph.
    """
    if is_for_keras(network.prefix) and not args.npu:
        choose_backend()
        from evaluation import keras_activations as on_keras

        arrays = on_keras.compute_activations(network, batch, args.gradients)
        return arrays, on_keras.versions()
    from common.tf_stack import VERSION

    from evaluation.graph_activations import compute_activations

    arrays = compute_activations(network, batch, args.gradients, session_config(args))
    return arrays, {"tensorflow": VERSION}


def write_ascend_npy(args, network, batch) -> None:
    """Compute the outputs of every op by TensorFlow's graph, whose names the NPU's dumps have."""
    if is_for_keras(network.prefix):
        raise UserError(
            "--ascend_npy with {}; accepted: what TensorFlow's graph has trained".format(
                network.prefix
            )
        )
    from evaluation.ascend_npy import save_ascend_npy
    from evaluation.graph_activations import compute_outputs

    outputs = compute_outputs(network, batch, args.gradients, session_config(args))
    save_ascend_npy(args.ascend_npy, outputs)
    print("{}: {} arrays of {}".format(args.ascend_npy, len(outputs), network.prefix))


def session_config(args):
    """Return this stack's session config or, with --npu, that of this host's Ascend NPU."""
    if not args.npu:
        from common.tf_stack import session_config

        return session_config()
    from platforms import npu

    npu.import_bridge()
    options = dict(ALWAYS, precision_mode=args.precision_mode)
    if args.npu_dump:
        os.makedirs(args.npu_dump, exist_ok=True)
        options.update(enable_dump=True, dump_path=args.npu_dump, dump_mode="all", dump_step="0")
    return npu.npu_session_config(options)


def main() -> None:
    args = parser().parse_args()
    if not (args.out or args.ascend_npy):
        raise UserError("nothing to write; accepted: --out FILE.npz, --ascend_npy DIR, or both")
    if args.npu_dump and not args.npu:
        raise UserError("--npu_dump {}; accepted: with --npu only".format(args.npu_dump))
    network = trained_network.load(args)
    if args.images > len(network.data.test.labels):
        raise UserError(
            "--images {}; accepted: 1 to {}, the test images".format(
                args.images, len(network.data.test.labels)
            )
        )
    with stderr_kept_back():  # decoders write to it of damaged images
        batch, _ = next(network.data.test_batches(args.images))
    if args.ascend_npy:
        write_ascend_npy(args, network, batch)
    if args.out:
        arrays, versions = compute(args, network, batch)
        save(args.out, arrays, network, batch, versions)
        print("{}: {} arrays of {}".format(args.out, len(arrays), network.prefix))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
