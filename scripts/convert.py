"""Convert the weights of a network: checkpoints of TensorFlow, Keras, numpy and PyTorch.

python scripts/convert.py RUN_OR_CHECKPOINT OUT.keras [--with_preprocessing] [--logits]
python scripts/convert.py model.keras train_log/RUN/model-0 --recipe sparsenet-40-24
python scripts/convert.py IN.safetensors OUT.keras --recipe official-pytorch --depth 22 \
    --growth_rate 8 --bottleneck 1 --compression 0.5 --dataset c10
"""

import _checkout  # noqa: F401, I001
import os
import sys
from typing import Optional

import numpy as np

from common.cli import Parser
from common.files import written_beside
from common.keras_stack import choose_backend
from evaluation import trained_network
from run_directory.checkpoints import DATA, INDEX, write_arrays, write_tensorflow
from run_directory.weights import KERAS_FILES, read_weights
from sparsenet.errors import RunFailed, UserError, exit_code_of

FORMATS = """\
FROM  a run directory, a checkpoint, .keras, .weights.h5, .npz, or a checkpoint of the
      authors' PyTorch code (.safetensors, .pt, .pth, .bin, .tar)
TO    .keras, .weights.h5, .npz (arrays by the names in checkpoints), or the prefix of a
      TensorFlow checkpoint, such as model-0

Beside TO, a record TO.json says what the network is and how its images are normalised.
A .keras file needs Keras alone. It reads normalised images, or with --with_preprocessing
those from 0 to 255, and returns probabilities, or with --logits the logits.
"""


def parser() -> Parser:
    """Return the parser of the command line."""
    parser = Parser(
        description="Convert the weights of a network.",
        epilog=FORMATS + "\n" + trained_network.WITHOUT_RECORD,
    )
    trained_network.add_flags(parser, "FROM")
    parser.add_argument("to", metavar="TO")
    model = parser.add_argument_group("Keras model")
    model.add_argument(
        "--with_preprocessing", action="store_true", help="make the normalisation part of it"
    )
    model.add_argument(
        "--logits", action="store_true", help="return logits in place of probabilities"
    )
    return parser


def main() -> None:
    args = parser().parse_args()
    check_target(args)
    described = trained_network.describe(args)
    _, weights = read_weights(args.checkpoint, described.recipe.config)
    preprocessing: Optional[dict]
    if args.with_preprocessing:
        preprocessing = trained_network.preprocessing_for(args, described)
    else:
        preprocessing = trained_network.known_preprocessing(args, described)
    model = None
    try:
        if args.to.endswith(".npz"):
            write_arrays(args.to, weights)
        elif args.to.endswith(KERAS_FILES):
            model = write_keras(args, described.recipe, weights, preprocessing)
        else:
            write_tensorflow(args.to, weights)
        check_written(args.to, described.recipe, weights)
        trained_network.write_record(args.to, args.checkpoint, described, preprocessing, model)
    except OSError as error:
        raise RunFailed("{}: {}".format(args.to, error.strerror or error))
    print(args.to)


def check_target(args) -> None:
    """Raise UserError for a target that can't be written, or that is the source."""
    target = args.to
    folder, name = os.path.split(os.path.abspath(target))
    known = (*KERAS_FILES, ".npz")
    ending = os.path.splitext(name)[1]
    if not name.endswith(known) and ending and not ending[1:].isdigit():
        raise UserError(
            "{}; accepted: a name that ends in {}, or the prefix of a checkpoint, such as "
            "model-0".format(target, ", ".join(known))
        )
    if not os.path.isdir(folder):
        raise UserError("{}: its folder does not exist".format(target))
    if os.path.isdir(target):
        raise UserError("{}; accepted: the name of a file".format(target))
    if os.path.exists(target) and os.path.realpath(target) == os.path.realpath(args.checkpoint):
        raise UserError("{}; accepted: another file than FROM".format(target))
    if not target.endswith(".keras"):
        for flag in ("with_preprocessing", "logits"):
            if getattr(args, flag):
                raise UserError("--{}; accepted: with a .keras file only".format(flag))


def write_keras(args, recipe, weights, preprocessing) -> dict:
    """Write a .keras or .weights.h5 file, and return what the model reads and returns."""
    choose_backend()
    from evaluation.keras_models import trained_model

    model = trained_model(
        recipe,
        weights,
        preprocessing if args.with_preprocessing else None,
        None if args.logits else "softmax",
    )
    write = model.save if args.to.endswith(".keras") else model.save_weights
    with written_beside(args.to) as partial:
        write(partial)
    return {
        "input": "images from 0 to 255" if args.with_preprocessing else "normalised images",
        "output": "logits" if args.logits else "probabilities",
    }


def check_written(path: str, recipe, weights) -> None:
    """Read back what was written; RunFailed, and no file, if it is not the same to the bit."""
    _, again = read_weights(path, recipe.config)
    different = [name for name in weights if not np.array_equal(weights[name], again[name])]
    if different:
        for each in (path, path + INDEX, path + DATA):
            if os.path.exists(each):
                os.remove(each)
        raise RunFailed("{} was not written right: {}".format(path, different[0]))


if __name__ == "__main__":
    sys.exit(exit_code_of(main))
