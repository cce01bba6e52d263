"""Compute error and loss of a trained network over a test set, in all and by class.

python scripts/evaluate.py RUN_OR_CHECKPOINT [--dataset_dir DIR] [--logits FILE.npz]
python scripts/evaluate.py CHECKPOINT --recipe ascend --depth 12 --growth_rate 8 --fetch sparse \
    --dataset c10 --dataset_dir DIR
"""

import _checkout  # noqa: F401, I001
import sys

from evaluation import trained_network
from common.cli import Parser, new_file, int_at_least
from sparsenet.errors import exit_code_of


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Error and loss over a test set.", epilog=trained_network.WITHOUT_RECORD
    )
    trained_network.add_flags(parser)
    evaluation = parser.add_argument_group("evaluation")
    evaluation.add_argument(
        "--batch_size", type=int_at_least(1), metavar="N", default=100, help="images per step [100]"
    )
    evaluation.add_argument(
        "--logits", type=new_file(".npz"), metavar="FILE.npz", help="write logits and labels to it"
    )
    return parser


def main() -> None:
    args = parser().parse_args()
    network = trained_network.load(args)
    from evaluation.evaluate import evaluate

    data = network.data
    result = evaluate(
        network.recipe.config,
        network.weights,
        network.preprocessing,
        data,
        min(args.batch_size, len(data.test.labels)),
    )
    print_result(result, data)
    if args.logits:
        result.save(args.logits)


def print_result(result, data) -> None:
    """Print a line for each class, one for all of them, and the speed."""
    print("{:<8} {:>7} {:>8} {:>9}".format("class", "images", "error", "loss"))
    for label in range(data.classes):
        members = result.labels == label
        if members.any():
            print_line(label, result.incorrect[members], result.losses[members])
    print_line("all", result.incorrect, result.losses)
    speed = len(result.labels) / result.seconds
    print("\n{:.0f} images/s ({:.2f} s)".format(speed, result.seconds))


def print_line(name, incorrect, losses) -> None:
    """Print the number, the error and the mean loss of some images."""
    line = "{:<8} {:>7} {:>8.2%} {:>9.4f}"
    print(line.format(name, len(incorrect), incorrect.mean(), losses.mean()))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
