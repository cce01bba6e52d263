"""Write a trained network as one frozen graph (.pb), which Ascend's offline converter (ATC) reads.

python scripts/freeze_graph.py RUN_OR_CHECKPOINT [--out FILE.pb] [--input uint8|float] \
    [--batch_size N]

Batch norm is in inference form and normalisation is part of the graph: the input is an image as the
data set holds it, [N, S, S, 3] with values from 0 to 255, the output the logits `linear/output`.
Ascend's tools read graphs of TensorFlow 1.15: run this script there.
"""

import _checkout  # noqa: F401, I001
import sys

from common.files import written_whole
from evaluation import trained_network
from common.cli import Parser, new_file, int_at_least
from run_directory.weights import require_without_keras
from sparsenet.errors import exit_code_of

DTYPES = {"uint8": "uint8", "float": "float32"}


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Freeze a trained network: variables become constants.",
        epilog=trained_network.WITHOUT_RECORD,
    )
    trained_network.add_flags(parser)
    graph = parser.add_argument_group("graph")
    graph.add_argument(
        "--out", type=new_file(".pb"), metavar="FILE.pb", help="[beside the checkpoint]"
    )
    graph.add_argument(
        "--input", choices=list(DTYPES), default="uint8", help="type of the input [uint8]"
    )
    graph.add_argument(
        "--batch_size", type=int_at_least(1), metavar="N", help="batch size of the graph [any]"
    )
    return parser


def main() -> None:
    args = parser().parse_args()
    require_without_keras(args.checkpoint)
    network = trained_network.load(args, with_data=False)
    from evaluation.frozen import INPUT, freeze
    from sparsenet_model import LOGITS

    path = args.out or network.prefix + ".pb"
    config = network.recipe.config
    frozen = freeze(
        config, network.weights, network.preprocessing, DTYPES[args.input], args.batch_size
    )
    with written_whole(path, "wb") as stream:
        stream.write(frozen.SerializeToString())
    side = config.image_size
    print(path)
    print("input   {} {} [{}, {side}, {side}, 3]".format(
        INPUT, args.input, args.batch_size or "any", side=side))  # fmt: skip
    print("output  {} [.., {}]".format(LOGITS, config.classes))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
