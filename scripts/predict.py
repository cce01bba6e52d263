"""Predict the classes of images: of files, and of all that lie in folders.

python scripts/predict.py RUN_OR_CHECKPOINT cat.png folder --top 3
python scripts/predict.py model.onnx folder --json > predictions.jsonl
"""

import _checkout  # noqa: F401, I001
import contextlib
import json
import sys
import textwrap
from typing import List, Sequence

from tqdm import tqdm

from common.cli import Parser, int_at_least
from evaluation import trained_network
from evaluation.image_files import find_images
from evaluation.predictions import Model, open_model, predict
from sparsenet.errors import EXIT_MISUSE, UserError, exit_code_of, printable, report

MODELS = """\
MODEL  a run directory, a checkpoint, .keras, .weights.h5, .npz, a checkpoint of the
       authors' PyTorch code, or an export: a SavedModel's folder, .onnx, .pb, .tflite
IMAGE  a JPEG, PNG, WebP, BMP, TIFF or PPM file, or a folder: all of them below it

An image may have any size. The largest square in its centre is resized to what the
network reads; for ImageNet's networks its shorter side becomes 256, and 224x224 are
cut out of the centre. An orientation in EXIF data is ignored.

With --json there is a line for each image:
{"image": "a.png", "predictions": [{"label": 3, "class": "cat", "probability": 0.9}]}
The class is null if its name is not known.

Images that can't be read are reported, the others still predicted; the exit code is 2.
"""
BATCH_SIZE = 32
MANY = 100  # with more images than this, a terminal shows a bar
SHOWN = 5
NO_BREAK = "\u00a0"  # a line is not to end within a name


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Predict the classes of images.",
        epilog=MODELS + "\n" + trained_network.WITHOUT_RECORD,
    )
    trained_network.add_flags(parser, "MODEL")
    parser.add_argument("images", nargs="+", metavar="IMAGE")
    group = parser.add_argument_group("predictions")
    group.add_argument(
        "--top", type=int_at_least(1), metavar="K",
        help="print the K likeliest classes [{}]".format(SHOWN),
    )  # fmt: skip
    group.add_argument("--json", action="store_true", help="print a line of JSON for each image")
    return parser


def main() -> int:
    args = parser().parse_intermixed_args()
    paths, errors = find_images(args.images)
    for error in errors:
        report(error, EXIT_MISUSE)
    has_bad = bool(paths) and print_predictions(args, paths)
    return EXIT_MISUSE if errors or has_bad else 0


def print_predictions(args, paths: Sequence[str]) -> bool:
    """Print the likeliest classes of images; return whether some could not be read."""
    batch_size = min(BATCH_SIZE, len(paths))
    with contextlib.redirect_stdout(sys.stderr):  # notes on data, where they are loaded
        model = open_model(args, batch_size)
    if args.top is not None and args.top > model.classes:
        raise UserError("--top {}; accepted: 1 to {}".format(args.top, model.classes))
    has_bad = False
    is_shown = len(paths) > MANY and sys.stderr.isatty()
    with tqdm(total=len(paths), unit=" images", dynamic_ncols=True, disable=not is_shown) as bar:
        for path, result in predict(model, paths, batch_size):
            bar.update()
            if isinstance(result, UserError):
                has_bad = True
                bar.clear()
                report(result, EXIT_MISUSE)
            else:
                found = likeliest(model, result, args.top or SHOWN)
                bar.write(as_json(path, found) if args.json else as_text(path, found), sys.stdout)
    return has_bad


def likeliest(model: Model, probabilities, top: int) -> List[dict]:
    """Return the `top` likeliest classes of an image, the likeliest first."""
    labels = (-probabilities).argsort(kind="stable")[:top].tolist()
    return [
        {
            "label": label,
            "class": model.names[label] if model.names else None,
            "probability": float(probabilities[label]),
        }
        for label in labels
    ]


def as_json(path: str, found: List[dict]) -> str:
    """Return the line of an image."""
    return json.dumps({"image": path, "predictions": found})


def as_text(path: str, found: List[dict]) -> str:
    """Return the path of an image and, in lines of at most 80 characters, its classes."""
    names = [printable(each["class"] or "class {}".format(each["label"])) for each in found]
    classes = ", ".join(
        "{:.1%} {}".format(each["probability"], name).replace(" ", NO_BREAK)
        for each, name in zip(found, names)
    )
    lines = textwrap.wrap(classes, 78, break_long_words=False, break_on_hyphens=False)
    return "\n  ".join([printable(path)] + [line.replace(NO_BREAK, " ") for line in lines])


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
