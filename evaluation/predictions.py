"""Predict the classes of image files, by a checkpoint or by an exported network."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Union

import numpy as np

from common.quiet import stderr_kept_back
from evaluation import exports, trained_network
from evaluation.logits import logits_of
from folder_data import read_image
from sparsenet.errors import UserError


class Model(NamedTuple):
    """What predicts.

    probabilities: images, uint8 [N, side, side, 3] -> [N, classes], for N up to a batch
    names:         of the classes; None if they are not known
    """

    probabilities: Callable[[np.ndarray], np.ndarray]
    side: int
    classes: int
    names: Optional[Sequence[str]]


def open_model(args, batch_size: int) -> Model:
    """Return the model of a checkpoint or an export; UserError if there is none."""
    if exports.format_of(args.checkpoint) is None:
        return _open_checkpoint(args, batch_size)
    return _open_export(args)


def _open_checkpoint(args, batch_size: int) -> Model:
    network = trained_network.load(args, with_data=False)
    run = logits_of(network, batch_size)

    def probabilities(images):
        count = len(images)
        fill = np.zeros((batch_size - count,) + images.shape[1:], images.dtype)
        return softmax(run(np.concatenate([images, fill]))[:count])

    config = network.recipe.config
    return Model(probabilities, config.image_size, config.classes, network.classes)


def _open_export(args) -> Model:
    """Return the model of an export; what it does not say itself comes from its record or flags."""
    path = args.checkpoint
    export = exports.open_export(path)
    record = trained_network.record_path(path)
    described, output = None, None
    if record is not None or args.dataset is not None or trained_network.network_flags(args):
        described = trained_network.describe(args)
    if record is not None:
        output = _recorded_output(record)
    normalise = _normalisation(args, described) if export.input_dtype == "float32" else None

    def probabilities(images):
        found = export.predict(images if normalise is None else normalise(images))
        return as_probabilities(np.asarray(found), output)

    try:
        found = probabilities(np.zeros((1,) + export.shape, np.uint8))
    except Exception as error:  # each runtime has its own, and lists none
        raise UserError("{} does not predict: {}".format(path, str(error).strip().split("\n")[0]))
    names = None if described is None else described.class_names()
    if found.ndim != 2 or export.shape[0] != export.shape[1]:
        raise UserError(
            "{} makes {} of an image {}; accepted: [N, classes] of a square one".format(
                path, list(found.shape), list(export.shape)
            )
        )
    if names is not None and len(names) != found.shape[1]:
        raise UserError(
            "{} has {} classes; accepted: {}, as described".format(path, found.shape[1], len(names))
        )
    return Model(probabilities, export.shape[0], found.shape[1], names)


def _recorded_output(path: str) -> Optional[str]:
    """Return what a record says that the model returns, None if it does not say."""
    return trained_network.read_json_record(path).get("model", {}).get("output")


def _normalisation(args, described) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function that normalises images; UserError if it is not known how."""
    if described is None:
        raise UserError(
            "{} reads normalised images and has no record of how; accepted: with its record {}{}, "
            "or with --recipe".format(
                args.checkpoint, os.path.normpath(args.checkpoint), trained_network.RECORD_ENDING
            )
        )
    preprocessing = trained_network.preprocessing_for(args, described)
    return lambda images: exports.normalized(images, preprocessing)


def as_probabilities(outputs: np.ndarray, output: Optional[str]) -> np.ndarray:
    """Return what a model returned, [N, classes], as probabilities.

    output: what it is, one of schema.OUTPUTS; None if that is not known: then rows without a
            negative number whose sum is 1 are taken for probabilities
    """
    if output is None:
        are = (outputs >= 0).all() and np.allclose(outputs.sum(axis=-1), 1, atol=1e-3)
        output = "probabilities" if are else "logits"
    return softmax(outputs) if output == "logits" else outputs


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities of logits, [N, classes]."""
    exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def predict(
    model: Model, paths: Sequence[str], batch_size: int
) -> Iterator[Tuple[str, Union[np.ndarray, UserError]]]:
    """Yield each path with the probabilities of its image, [classes], or with what is wrong."""

    def read(path: str) -> Union[np.ndarray, UserError]:
        try:
            return read_image(path, model.side)
        except UserError as error:
            return error

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            with stderr_kept_back():  # decoders write to it of damaged images
                results: List[Union[np.ndarray, UserError]] = list(pool.map(read, batch))
            good = [i for i, result in enumerate(results) if isinstance(result, np.ndarray)]
            if good:
                images = np.stack([results[i] for i in good])  # type: ignore[misc]
                for i, row in zip(good, model.probabilities(images)):
                    results[i] = row
            yield from zip(batch, results)
