"""Compute error and loss of a trained network over a test set, in all and by class.

python scripts/evaluate.py RUN_OR_CHECKPOINT [--dataset_dir DIR] [--logits FILE.npz]
python scripts/evaluate.py model.keras --picture confusion.png
python scripts/evaluate.py CHECKPOINT --recipe ascend --depth 12 --growth_rate 8 --fetch sparse \
    --dataset c10 --dataset_dir DIR
"""

import _checkout  # noqa: F401, I001
import sys

from evaluation import trained_network
from evaluation.evaluate import Evaluation, evaluate
from evaluation.exports import require_packages
from evaluation.logits import logits_of
from evaluation.confusion import confusion_matrix, plot_confusion
from common.cli import Parser, new_file, int_at_least
from sparsenet.errors import exit_code_of, note, printable, shortened
from sparsenet.published import errors_as_trained

MANY = 20  # with more classes than this, the top-5 error is printed too
LONGEST_NAME = 40  # of a class, for a line of at most 80 characters


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
    evaluation.add_argument(
        "--picture", type=new_file(".png", ".svg"), metavar="FILE", help="draw a confusion matrix"
    )
    return parser


def main() -> None:
    args = parser().parse_args()
    if args.picture:
        require_packages("matplotlib")  # and not only after the test
    network = trained_network.load(args)
    batch_size = min(args.batch_size, len(network.data.test.labels))
    result = evaluate(logits_of(network, batch_size), network.data, batch_size)
    names = network.classes or [str(label) for label in range(network.data.classes)]
    if network.subset is not None:
        note("the run used --subset {}; this is the whole test set".format(network.subset))
    if network.hold_out is not None:
        note(
            "the run used --hold_out {0}: its own figures are of {0} training images; this is the "
            "test set".format(network.hold_out)
        )
    print_result(result, names)
    print_published(network)
    print(
        "\n{:.0f} images/s ({:.2f} s)".format(len(result.labels) / result.seconds, result.seconds)
    )
    if args.logits:
        result.save(args.logits)
    if args.picture:
        recipe = network.recipe
        title = "{} on {}: error {:.2%}".format(
            recipe.name, recipe.dataset, result.incorrect().mean()
        )
        matrix = confusion_matrix(result.labels, result.predicted, len(names))
        plot_confusion(matrix, names, title, args.picture)


def print_result(result: Evaluation, names) -> None:
    """Print a line for each class that has images, and one for all of them."""
    has_top_5 = len(names) > MANY
    names = [shortened(printable(name), LONGEST_NAME) for name in names]
    width = max(8, *map(len, names))
    figures = [("error", "{:>8.2%}", result.incorrect())]
    if has_top_5:
        figures.append(("top-5", "{:>8.2%}", result.incorrect(5)))
    figures.append(("loss", "{:>9.4f}", result.losses()))

    def line(name, chosen):
        cells = [form.format(values[chosen].mean()) for _, form, values in figures]
        print("{:<{}} {:>7} {}".format(name, width, chosen.sum(), " ".join(cells)))

    titles = ["{:>{}}".format(title, len(form.format(0))) for title, form, _ in figures]
    print("{:<{}} {:>7} {}".format("class", width, "images", " ".join(titles)))
    for label, name in enumerate(names):
        if (result.labels == label).any():
            line(name, result.labels == label)
    line("all", result.labels >= 0)


def print_published(network: trained_network.TrainedNetwork) -> None:
    """Print the published errors of a network of a recipe on the data that it was tested on."""
    if network.is_fake:
        return
    for error in errors_as_trained(network.recipe):
        print("published: {:.2f}% ({})".format(error.percent, error.source))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
