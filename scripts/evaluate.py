"""Error and loss of a trained network over a test set, in all and by class.

python scripts/evaluate.py RUN_OR_CHECKPOINT [--dataset_dir DIR] [--logits FILE.npz]
python scripts/evaluate.py CHECKPOINT --recipe ascend --depth 12 --growth_rate 8 --fetch sparse \
    --dataset c10 --dataset_dir DIR
"""

import _checkout  # noqa: F401, I001
import os
import sys
import time

from command_line import Parser, add_data_flags, add_network_flags, recipe_from, whole
from errors import UserError, exit_code_of
from run_directory import RECORD, read_record, read_settings


def parser() -> Parser:
    """The command line."""
    parser = Parser(
        description="Error and loss over a test set.",
        epilog="Without a run.json beside the checkpoint, --recipe and the network flags say what\n"
        "network it holds; normalisation constants then come from the data.",
    )
    parser.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    network = parser.add_argument_group("network, where there is no run.json")
    add_network_flags(network)
    data = parser.add_argument_group("data")
    add_data_flags(data)
    data.add_argument("--batch_size", type=whole(1), metavar="N", default=100, help="[100]")
    data.add_argument("--logits", metavar="FILE.npz", help="keep logits and labels there")
    return parser


def network_flags(args) -> list:
    """The names of the network flags that were given."""
    group = Parser()
    add_network_flags(group)
    return sorted(name for name in vars(group.parse_args([])) if getattr(args, name) is not None)


def main() -> None:
    args = parser().parse_args()
    if args.logits and not os.path.isdir(os.path.dirname(os.path.abspath(args.logits))):
        raise UserError("--logits {}: its folder does not exist".format(args.logits))
    run = args.checkpoint if os.path.isdir(args.checkpoint) else os.path.dirname(args.checkpoint)
    recorded = os.path.isfile(os.path.join(run, RECORD))
    if recorded:
        given = network_flags(args)
        if given:
            raise UserError(
                "--{}; accepted: no network flags, {} has a {}".format(given[0], run, RECORD)
            )
        settings = read_settings(run)
        recipe = settings.recipe
        if args.dataset is not None and args.dataset != recipe.dataset:
            raise UserError(
                "--dataset {}; accepted: {}, what {} was trained on".format(
                    args.dataset, recipe.dataset, run
                )
            )
        directory = args.dataset_dir or settings.dataset_dir
    else:
        recipe, directory = recipe_from(args), args.dataset_dir
    import datasets
    import evaluation  # TensorFlow takes seconds to start: mistakes in the command are told before
    from checkpoints import find_checkpoint, network_weights

    weights = network_weights(find_checkpoint(args.checkpoint), recipe.config)
    data = datasets.load(recipe.dataset, directory, not args.no_verify)
    if recorded:
        preprocessing = read_record(run)["preprocessing"]
    else:
        preprocessing = data.preprocessing(recipe.normalize, recipe.border)
    start = time.perf_counter()
    result = evaluation.evaluate(
        recipe.config,
        weights,
        preprocessing,
        data,
        min(args.batch_size, len(data.test.labels)),
    )
    print_result(result, data, time.perf_counter() - start)
    if args.logits:
        result.save(args.logits)


def print_result(result, data, seconds: float) -> None:
    """A line for each class, one for all, and the speed."""
    print("{:<8} {:>7} {:>8} {:>9}".format("class", "images", "error", "loss"))
    for label in range(data.classes):
        members = result.labels == label
        if members.any():
            print_line(label, result.wrong[members], result.losses[members])
    print_line("all", result.wrong, result.losses)
    speed = len(result.labels) / seconds
    print("\n{:.0f} images/s, the start of the network included".format(speed))


def print_line(name, wrong, losses) -> None:
    """Number of images, error and loss of some images."""
    print("{:<8} {:>7} {:>8.2%} {:>9.4f}".format(name, len(wrong), wrong.mean(), losses.mean()))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
