"""Load a trained network from a run directory, or from a checkpoint and flags."""

import os
from typing import Any, Dict, NamedTuple

from common.cli import Parser
from common.flags import add_data_flags, add_network_flags, recipe_from
from run_directory.record import RECORD, read_record, read_settings
from sparsenet.errors import UserError
from sparsenet.recipes import Recipe

WITHOUT_RECORD = (
    "Without a run.json beside the checkpoint, --recipe and the network flags describe the\n"
    "network; normalisation constants then come from the data."
)


class TrainedNetwork(NamedTuple):
    """A network with its weights, its data, and how these are normalised.

    prefix: of the checkpoint; weights: arrays by variable
    data: a cifar_data.Dataset, used for its test set; None if not loaded
    """

    recipe: Recipe
    prefix: str
    weights: Dict
    data: Any
    preprocessing: dict


def add_flags(parser: Parser) -> None:
    """Add RUN_OR_CHECKPOINT, the network flags and those of the data."""
    parser.add_argument("checkpoint", metavar="RUN_OR_CHECKPOINT")
    add_network_flags(parser.add_argument_group("network, where there is no run.json"))
    add_data_flags(parser.add_argument_group("data"))


def load(args, with_data: bool = True) -> TrainedNetwork:
    """Return the network that the command line names; UserError if flags and files don't fit.

    with_data: if False, load the data only if no record has their preprocessing
    """
    run = args.checkpoint
    if not os.path.isdir(run):
        run = os.path.dirname(run) or "."
    preprocessing = None
    if os.path.isfile(os.path.join(run, RECORD)):
        recipe, directory, fake_seed, preprocessing = _recorded(args, run)
    else:
        recipe, directory, fake_seed = recipe_from(args), args.dataset_dir, None
    import datasets  # TensorFlow takes seconds to load: mistakes in the flags are reported first
    from run_directory.checkpoints import find_checkpoint, network_weights

    prefix = find_checkpoint(args.checkpoint)
    weights = network_weights(prefix, recipe.config)
    if preprocessing is not None and not with_data:
        return TrainedNetwork(recipe, prefix, weights, None, preprocessing)
    data = datasets.load(recipe.dataset, directory, not args.no_verify, fake_seed)
    if preprocessing is None:
        preprocessing = data.preprocessing(recipe.normalize, recipe.pad_value)
    return TrainedNetwork(recipe, prefix, weights, data, preprocessing)


def _recorded(args, run: str):
    """Return (recipe, folder of the data, seed of random images or None, preprocessing)."""
    given = _network_flags(args)
    if given:
        raise UserError(
            "--{} {}; accepted: no network flags, {} has a {}".format(
                given[0], getattr(args, given[0]), run, RECORD
            )
        )
    settings = read_settings(run)
    recipe = settings.recipe
    if args.dataset is not None and args.dataset != recipe.dataset:
        raise UserError(
            "--dataset {}; accepted: {}, what {} was trained on".format(
                args.dataset, recipe.dataset, run
            )
        )
    preprocessing = read_record(run).get("preprocessing")
    if not isinstance(preprocessing, dict) or not {"mean", "std"} <= set(preprocessing):
        raise UserError("{}/{} is not complete: `preprocessing`".format(run, RECORD))
    directory = args.dataset_dir or settings.dataset_dir
    is_fake = settings.fake and args.dataset_dir is None
    return recipe, directory, settings.seed if is_fake else None, preprocessing


def _network_flags(args) -> list:
    """Return the names of the network flags that were given."""
    group = Parser()
    add_network_flags(group)
    return sorted(name for name in vars(group.parse_args([])) if getattr(args, name) is not None)
