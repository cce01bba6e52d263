"""Load a trained network from a run directory, or from a file of weights and flags."""

import json
import os
from typing import Any, Dict, NamedTuple, Optional, Tuple

from common.cli import Parser
from common.files import write_whole
from common.flags import add_data_flags, add_network_flags, network_flags, recipe_from
from run_directory import schema
from run_directory.checkpoints import find_checkpoint
from run_directory.record import (
    RECORD,
    hold_out_of,
    read_json_record,
    recipe_of,
    settings_of,
)
from run_directory.schema import required
from run_directory.weights import KERAS_FILES, read_weights
from sparsenet import official_pytorch
from sparsenet.errors import UserError
from sparsenet.known_data import CHANNEL_STATISTICS, CLASS_NAMES
from sparsenet.recipes import Recipe, to_dict

WITHOUT_RECORD = (
    "Without a run.json beside the checkpoint, --recipe and the network flags describe the\n"
    "network; normalisation constants then come from the data."
)
RECORD_ENDING = ".json"  # FILE.json describes FILE, as run.json describes a run


class TrainedNetwork(NamedTuple):
    """A network with its weights, its data, and how these are normalised.

    prefix: of the checkpoint; weights: arrays by variable
    data: a cifar_data.Dataset, used for its test set; None if not loaded
    classes: their names, in the order of the labels; None if they are not known
    is_fake: whether random images stand for the data
    subset: how many images of each set its run used; None for all
    hold_out: how many training images its run was tested on; None for the test set
    """

    recipe: Recipe
    prefix: str
    weights: Dict
    data: Any
    preprocessing: dict
    classes: Optional[Tuple[str, ...]]
    is_fake: bool
    subset: Optional[int] = None
    hold_out: Optional[int] = None


def add_flags(parser: Parser, metavar: str = "RUN_OR_CHECKPOINT") -> None:
    """Add RUN_OR_CHECKPOINT, the network flags and those of the data."""
    parser.add_argument("checkpoint", metavar=metavar)
    add_network_flags(parser.add_argument_group("network, where there is no run.json"))
    add_data_flags(parser.add_argument_group("data"))


class Description(NamedTuple):
    """What a record or the command line says of a network, see TrainedNetwork.

    dataset_dir: of its data; fake_seed: of random images in their place, None for real ones
    subset: how many images of each set the run used; None for all
    hold_out: how many training images the run was tested on; None for the test set
    preprocessing, classes: None where there is no record of it
    """

    recipe: Recipe
    dataset_dir: Optional[str]
    fake_seed: Optional[int]
    preprocessing: Optional[dict]
    classes: Optional[Tuple[str, ...]]
    subset: Optional[int] = None
    hold_out: Optional[int] = None

    def class_names(self) -> Optional[Tuple[str, ...]]:
        """Return the names of the classes, as recorded or as known of the data."""
        known = self.classes or CLASS_NAMES.get(self.recipe.dataset, ())
        return tuple(known) if len(known) == self.recipe.config.classes else None


def load(args, with_data: bool = True) -> TrainedNetwork:
    """Return the network that the command line names; UserError if flags and files don't fit.

    with_data: if False, load the data only if nothing else says how they are normalised
    """
    described = describe(args)
    prefix, weights = read_weights(args.checkpoint, described.recipe.config)
    if with_data:
        data = load_data(args, described)
        if data.classes != described.recipe.config.classes:
            raise UserError(
                "{} has {} classes; accepted: {}, as {} has".format(
                    args.checkpoint, described.recipe.config.classes, data.classes, data.name
                )
            )
        _require_same_classes(args.checkpoint, described.classes, data.class_names)
        preprocessing = preprocessing_of(described, data)
    else:
        data, preprocessing = None, preprocessing_for(args, described)
    return TrainedNetwork(
        described.recipe,
        prefix,
        weights,
        data,
        preprocessing,
        described.class_names(),
        described.fake_seed is not None,
        described.subset,
        described.hold_out,
    )


def _require_same_classes(checkpoint: str, trained, found) -> None:
    """Raise UserError if data have other classes than a network was trained on."""
    if not (trained and found):
        return
    for label, (then, now) in enumerate(zip(trained, found)):
        if then != now:
            raise UserError(
                "class {} of {} is {}, in the data it is {}; accepted: the same classes".format(
                    label, checkpoint, then, now
                )
            )


def describe(args) -> Description:
    """Return what is known of the network, from the record beside its file or from flags."""
    path = record_path(args.checkpoint)
    if path is not None:
        return _recorded(args, path)
    recipe = recipe_from(args)
    if recipe.dataset != "folder":
        return Description(recipe, args.dataset_dir, None, None, None)
    import datasets
    import folder_data

    classes = folder_data.class_names(args.dataset_dir)
    recipe = datasets.with_classes(recipe, len(classes))
    return Description(recipe, args.dataset_dir, None, None, classes)


def record_path(checkpoint: str) -> Optional[str]:
    """Return the path of the record of a run directory or a file, None where there is none."""
    is_folder = os.path.isdir(checkpoint)
    folder = checkpoint if is_folder else os.path.dirname(checkpoint)
    beside = os.path.normpath(checkpoint) + RECORD_ENDING
    candidates = [os.path.join(folder, RECORD), beside]
    if not is_folder:
        candidates.reverse()
    return next((path for path in candidates if os.path.isfile(path)), None)


def stem_of(path: str) -> str:
    """Return what names of files made from a network begin with: its file without the ending.

    Of a run directory or a checkpoint, that is the prefix; UserError if there is none.
    """
    endings = (*KERAS_FILES, *official_pytorch.FILES)
    ending = next((each for each in endings if path.endswith(each)), None)
    return path[: -len(ending)] if ending else find_checkpoint(path)


def load_data(args, described: Description):
    """Return the data of a network."""
    import datasets  # it takes a moment: mistakes in the flags are reported first

    return datasets.load(
        described.recipe,
        described.dataset_dir,
        not args.no_verify,
        described.fake_seed,
    )


def known_preprocessing(args, described: Description) -> Optional[dict]:
    """Return how the images of a network are normalised, None if that is not known.

    It is what the record says, or comes from the data that the command names; or it is known.
    """
    recipe = described.recipe
    if described.preprocessing is not None:
        return described.preprocessing
    if described.dataset_dir is not None or recipe.dataset == "digits":
        return preprocessing_of(described, load_data(args, described))
    if recipe.normalize == "channel" and recipe.dataset in CHANNEL_STATISTICS:
        return dict(CHANNEL_STATISTICS[recipe.dataset], normalize="channel")
    return None


def preprocessing_for(args, described: Description) -> dict:
    """Return how the images of a network are normalised; UserError if that is not known."""
    preprocessing = known_preprocessing(args, described)
    if preprocessing is None:
        raise UserError(
            "{}: its normalisation `{}` comes from the data; accepted: with --dataset_dir, the "
            "folder of {}".format(
                args.checkpoint, described.recipe.normalize, described.recipe.dataset
            )
        )
    return preprocessing


def write_record(
    path: str, source: str, described: Description, preprocessing: Optional[dict], model=None
) -> None:
    """Write the record of a file that was made from `source`, which describe() reads again.

    model: what an executable one reads and returns
    """
    record = {
        "recipe": to_dict(described.recipe),
        "preprocessing": preprocessing,
        "classes": described.class_names(),
        "converted_from": os.path.basename(os.path.abspath(source)),
    }
    if model is not None:
        record["model"] = model
    write_whole(path + RECORD_ENDING, json.dumps(record, indent=1) + "\n")


def preprocessing_of(described: Description, data) -> dict:
    """Return how the images of a network are normalised: as recorded, or from its data."""
    if described.preprocessing is not None:
        return described.preprocessing
    recipe = described.recipe
    return data.preprocessing(recipe.normalize, recipe.pad_value, recipe.augment)


def _recorded(args, path: str) -> Description:
    """Return what a record says; UserError for flags that contradict it."""
    given = network_flags(args)
    if given:
        raise UserError(
            "--{} {}; accepted: no network flags, {} describes the network".format(
                given[0], getattr(args, given[0]), path
            )
        )
    record = read_json_record(path)
    recipe = recipe_of(record, path)
    if args.dataset is not None and args.dataset != recipe.dataset:
        raise UserError(
            "--dataset {}; accepted: {}, what {} was trained on".format(
                args.dataset, recipe.dataset, args.checkpoint
            )
        )
    classes = _recorded_classes(record, path, recipe.config.classes)
    preprocessing = record.get("preprocessing")
    is_run = os.path.basename(path) == RECORD
    if preprocessing is None and not is_run:
        return Description(recipe, args.dataset_dir, None, None, classes)
    for name in ("mean", "std"):
        constant = required(record, "preprocessing." + name, path)
        if recipe.config.image_size != schema.IMAGE[0] and _is_image(constant):
            raise UserError(
                "{}: `preprocessing.{}` is an image of 32x32; accepted: constants of {} "
                "pixels".format(path, name, recipe.config.image_size)
            )
    held_out = hold_out_of(record)
    if not is_run or args.dataset_dir is not None:
        return Description(
            recipe, args.dataset_dir, None, preprocessing, classes, hold_out=held_out
        )
    settings = settings_of(record, path)
    fake_seed = settings.seed if settings.fake else None
    return Description(
        recipe, settings.dataset_dir, fake_seed, preprocessing, classes, settings.subset, held_out
    )


def _is_image(constant) -> bool:
    return isinstance(constant, list) and isinstance(constant[0], list)


def _recorded_classes(record: dict, path: str, count: int) -> Optional[Tuple[str, ...]]:
    """Return the names of the classes that a record has, None if it has none."""
    names = record.get("classes") or record.get("data", {}).get("classes")
    if names is None:
        return None
    if len(names) != count:
        raise UserError(
            "{}: `classes` has {} names; accepted: {}, as the network has".format(
                path, len(names), count
            )
        )
    return tuple(names)
