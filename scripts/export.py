"""Export a trained network for the runtimes of others, and check that its logits are the same.

python scripts/export.py RUN_OR_CHECKPOINT --format onnx [--out FILE.onnx] [--without_preprocessing]
"""

import _checkout  # noqa: F401, I001
import os
import sys
from typing import Optional

import numpy as np

from common.cli import Parser
from common.files import written_beside, written_whole
from common.keras_stack import choose_backend
from common.quiet import stderr_kept_back
from evaluation import trained_network
from evaluation.exports import (
    ENDINGS,
    OPSET,
    Export,
    normalized,
    open_export,
    require_packages,
)
from run_directory.weights import read_weights
from sparsenet.errors import RunFailed, UserError, exit_code_of

EXPLANATION = """\
An export reads images [N, S, S, 3] as the data set holds them, uint8 from 0 to 255, or with
--without_preprocessing normalised ones, float32. It returns their logits, whose softmax are the
probabilities. N is any number.

The export is opened in its own runtime and compared with the network, on the first {} test images,
or on random ones where the data are not at hand. Where the logits differ by more than {:g} of
the largest one, nothing is written.

Beside it, a record OUT.json says what the network is and how its images are normalised.
"""
IMAGES = 100  # that the logits are compared on
BATCH_SIZES = (1, 20)
# Of the largest logit. Runtimes add up in different orders; what float32 loses by that is below
# 1e-6 in most networks, and was up to 4e-5 in deep ones with attention and random weights.
TOLERANCE = 1e-4

# Format -> packages that write it and that open it.
PACKAGES = {
    "saved_model": ("tensorflow",),
    "onnx": ("tensorflow", "tf2onnx", "onnx", "onnxruntime"),
    "keras": (),
    "frozen": ("tensorflow", "tensorpack"),
    "tflite": ("tensorflow", "ai_edge_litert"),
}
ON_TENSORFLOW = ("saved_model", "onnx", "tflite")


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Export a trained network for the runtimes of others.",
        epilog=EXPLANATION.format(IMAGES, TOLERANCE) + "\n" + trained_network.WITHOUT_RECORD,
    )
    trained_network.add_flags(parser)
    export = parser.add_argument_group("export")
    export.add_argument("--format", choices=list(ENDINGS), required=True)
    export.add_argument(
        "--out", metavar="OUT", help="file, or folder of a saved_model [beside the checkpoint]"
    )
    export.add_argument(
        "--without_preprocessing", action="store_true", help="leave the normalisation outside"
    )
    return parser


def main() -> None:
    args = parser().parse_args()
    require_packages("keras", *PACKAGES[args.format])
    target = target_of(args)
    prepare(args.format)
    described = trained_network.describe(args)
    _, weights = read_weights(args.checkpoint, described.recipe.config)
    data = data_at_hand(args, described)
    preprocessing: Optional[dict]
    if data is not None:
        preprocessing = trained_network.preprocessing_of(described, data)
    elif args.without_preprocessing:
        preprocessing = trained_network.known_preprocessing(args, described)
    else:
        preprocessing = trained_network.preprocessing_for(args, described)
    images, kind = images_of(data, described, preprocessing)
    scaled = images if preprocessing is None else normalized(images, preprocessing)
    expected = logits_of(described.recipe, weights, scaled)
    inside = None if args.without_preprocessing else preprocessing
    try:
        with written_beside(target) as partial:
            with stderr_kept_back():
                write(args.format, partial, described.recipe, weights, inside)
            export = open_export(partial)
            difference = check(export, scaled if inside is None else images, expected, target)
        model = about(args.format, inside)
        trained_network.write_record(target, args.checkpoint, described, preprocessing, model)
    except OSError as error:
        raise RunFailed("{}: {}".format(target, error.strerror or error))
    report(target, export, model, expected.shape[1])
    print("checked on {} {}: within {:.0e} of the largest logit".format(
        len(images), kind, difference))  # fmt: skip


def target_of(args) -> str:
    """Return the path to write to; UserError if it can't be written, or is the source."""
    ending = ENDINGS[args.format]
    is_folder = args.format == "saved_model"
    if args.out is None:
        target = trained_network.stem_of(args.checkpoint) + ending
    else:
        target = os.path.normpath(args.out)
        if not is_folder and not target.endswith(ending):
            raise UserError("--out {}; accepted: a name that ends in {}".format(args.out, ending))
    if not os.path.isdir(os.path.dirname(os.path.abspath(target))):
        raise UserError("{}: its folder does not exist".format(target))
    if is_folder and os.path.exists(target) and not is_empty_folder(target):
        raise UserError("{} exists; accepted: another --out".format(target))
    if not is_folder and os.path.isdir(target):
        raise UserError("{}; accepted: the name of a file".format(target))
    if os.path.exists(target) and os.path.realpath(target) == os.path.realpath(args.checkpoint):
        raise UserError("{}; accepted: --out, another file than this".format(target))
    return target


def is_empty_folder(path: str) -> bool:
    """Return whether there is a folder at `path`, and nothing in it."""
    return os.path.isdir(path) and not os.listdir(path)


def prepare(format: str) -> None:
    """Choose where Keras computes: on the CPU, since a GPU rounds more than TOLERANCE."""
    os.environ.update(CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu")
    if format in ON_TENSORFLOW:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    choose_backend()
    import keras

    keras.config.set_image_data_format("channels_last")


def data_at_hand(args, described):
    """Return the network's data, None if they are not here; UserError if the command names them."""
    try:
        return trained_network.load_data(args, described)
    except UserError:
        if args.dataset_dir is not None:
            raise
        return None


def images_of(data, described, preprocessing):
    """Return the images that the logits are compared on, [N, S, S, 3], and what they are."""
    if data is not None:
        batch, count = next(data.first(IMAGES).test_batches(IMAGES))
        kind = "test images" if described.fake_seed is None else "random images"
        return batch[0][:count], kind
    side = described.recipe.config.image_size
    shape = (IMAGES, side, side, 3)
    stream = np.random.RandomState(0)
    if preprocessing is None:
        return stream.standard_normal(shape).astype(np.float32), "normalised random images"
    images = stream.randint(0, 256, shape).astype(np.uint8)
    return images, "random images (no data here)"


def logits_of(recipe, weights, scaled: np.ndarray) -> np.ndarray:
    """Return the logits of normalised images, [N, classes], by the network's Keras model."""
    from evaluation.keras_models import trained_model

    model = trained_model(recipe, weights)
    return np.concatenate([model.predict_on_batch(part) for part in parts(scaled, BATCH_SIZES[-1])])


def parts(images: np.ndarray, size: int) -> list:
    """Return the images in batches of `size`; the last one may be smaller."""
    return [images[start : start + size] for start in range(0, len(images), size)]


def write(format: str, path: str, recipe, weights, preprocessing) -> None:
    """Write the network at `path`; preprocessing: None to leave the normalisation outside."""
    if format == "frozen":
        from evaluation.frozen import UNCHANGED, freeze

        dtype = "float32" if preprocessing is None else "uint8"
        graph = freeze(recipe.config, weights, preprocessing or UNCHANGED, dtype)
        with written_whole(path, "wb") as stream:
            stream.write(graph.SerializeToString())
    elif format == "keras":
        from evaluation.keras_models import trained_model

        trained_model(recipe, weights, preprocessing).save(path)
    else:
        from evaluation import keras_exports

        getattr(keras_exports, "write_" + format)(path, recipe, weights, preprocessing)


def about(format: str, preprocessing) -> dict:
    """Return what the record says of an export; preprocessing: None if it is outside."""
    found = {
        "format": format,
        "input": "normalised images" if preprocessing is None else "images from 0 to 255",
        "output": "logits",
    }
    return dict(found, opset=OPSET) if format == "onnx" else found


def check(export: Export, images: np.ndarray, expected: np.ndarray, target: str) -> float:
    """Return how far an export's logits are from those expected, of the largest.

    Raises RunFailed if that is more than TOLERANCE.
    """
    found = [export.predict(images[: BATCH_SIZES[0]])]
    found += [export.predict(part) for part in parts(images, BATCH_SIZES[-1])]
    wanted = np.concatenate([expected[: BATCH_SIZES[0]], expected])
    difference = np.abs(np.concatenate(found) - wanted).max() / np.abs(wanted).max()
    if not difference <= TOLERANCE:
        raise RunFailed(
            "{} was not written: its logits differ from those of the network by {:.1e} of the "
            "largest; accepted: at most {:g}".format(target, difference, TOLERANCE)
        )
    return difference


def report(target: str, export: Export, model: dict, classes: int) -> None:
    """Print where the export is, what it reads and what it returns."""
    print(target)
    print("input   {} [any, {}, {}, {}], {}".format(
        export.input_dtype, *export.shape, model["input"]))  # fmt: skip
    print("output  logits [any, {}]".format(classes))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
