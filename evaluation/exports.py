"""Open a network that was exported, in the runtime of its format.

Nothing of this project's network is needed for that: an exported file computes by itself.
"""

import importlib.util
import os
import sys
from typing import Callable, NamedTuple, Optional, Tuple

import numpy as np

from common.keras_stack import choose_backend
from common.quiet import stderr_kept_back
from sparsenet.errors import UserError

# Format -> how the names of its files end. A saved_model is a folder.
ENDINGS = {
    "saved_model": "-saved_model",
    "onnx": ".onnx",
    "keras": ".keras",
    "frozen": ".pb",
    "tflite": ".tflite",
}
SIGNATURE = "serving_default"  # of a SavedModel: the name that TensorFlow Serving looks for
OPSET = 17  # of ONNX: operators of 2022, which what reads ONNX has had the time to learn
# Tensors of a frozen graph, see evaluation/frozen.py
FROZEN_INPUT, FROZEN_OUTPUT = "image:0", "linear/output:0"

Predict = Callable[[np.ndarray], np.ndarray]


class Export(NamedTuple):
    """An exported network, loaded.

    format:      a key of ENDINGS
    input_dtype: of the images: uint8, or float32
    shape:       of one image, (H, W, 3)
    predict:     images [N, H, W, 3] of that type -> what the network returns of them, [N, classes]
    """

    format: str
    input_dtype: str
    shape: Tuple[int, ...]
    predict: Predict


def format_of(path: str) -> Optional[str]:
    """Return the format of an exported file or folder, None if it is neither."""
    if os.path.isdir(path):
        return "saved_model" if os.path.isfile(os.path.join(path, "saved_model.pb")) else None
    ending = os.path.splitext(path)[1]
    return next((name for name, its in ENDINGS.items() if its == ending), None)


def open_export(path: str) -> Export:
    """Return the exported network at `path`, which its own runtime computes.

    Raises UserError if there is none, if it can't be read, or if its runtime is not installed.
    """
    if not os.path.exists(path):
        raise UserError("{} does not exist; accepted: an exported network".format(path))
    format = format_of(path)
    if format is None:
        raise UserError(
            "{}; accepted: the folder of a SavedModel, or a file that ends in {}".format(
                path, ", ".join(each for each in ENDINGS.values() if each.startswith("."))
            )
        )
    load, packages = _RUNTIMES[format]
    require_packages(*packages)
    with stderr_kept_back():
        try:
            dtype, shape, predict = load(path)
        except (UserError, MemoryError):
            raise
        except Exception as error:  # each runtime has its own for a damaged file, and lists none
            reason = (str(error).strip() or type(error).__name__).split("\n")[0]
            raise UserError("{} can't be read as {}: {}".format(path, format, reason))
    if len(shape) != 4 or None in shape[1:] or shape[3] != 3 or dtype not in ("uint8", "float32"):
        raise UserError(
            "{} reads {} {}; accepted: images [N, H, W, 3], uint8 or float32".format(
                path, dtype, ["any" if side is None else side for side in shape]
            )
        )
    return Export(format, dtype, tuple(shape[1:]), predict)


def normalized(images: np.ndarray, preprocessing: dict) -> np.ndarray:
    """Return (x - mean) / std of uint8 images [N, H, W, 3], float32: what some exports read."""
    mean, std = (np.asarray(preprocessing[name], np.float32) for name in ("mean", "std"))
    return (images.astype(np.float32) - mean) / std


def require_packages(*names: str) -> None:
    """Raise UserError, with the command that installs them, for packages that are not there."""
    missing = [name.replace("_", "-") for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            "not installed: {}; install what is needed with: {} -m pip install {}".format(
                ", ".join(missing), sys.executable, " ".join(missing)
            )
        )


# One function a runtime: path -> type of the input, shape of the input, predict ---------------

Loaded = Tuple[str, list, Predict]


def _load_saved_model(path: str) -> Loaded:
    from common.quiet_tensorflow import tensorflow

    tf = tensorflow.compat.v1
    # In a graph and a session of its own, it loads in a process without eager execution as well.
    with tf.Graph().as_default() as graph:
        session = tf.Session(graph=graph)
        signatures = tf.saved_model.load(session, ["serve"], path).signature_def
    signature = signatures[SIGNATURE]
    (source,), (target,) = signature.inputs.values(), signature.outputs.values()
    return _in_session(session, source.name, target.name)


def _load_frozen(path: str) -> Loaded:
    from common.quiet_tensorflow import tensorflow

    tf = tensorflow.compat.v1
    graph_def = tf.GraphDef()
    with open(path, "rb") as stream:
        graph_def.ParseFromString(stream.read())
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
    return _in_session(tf.Session(graph=graph), FROZEN_INPUT, FROZEN_OUTPUT)


def _in_session(session, source: str, target: str) -> Loaded:
    """Return what a loader returns, for tensors of the graph of a session."""
    images = session.graph.get_tensor_by_name(source)
    session.graph.get_tensor_by_name(target)
    return (
        images.dtype.name,
        images.shape.as_list(),
        lambda values: session.run(target, {source: values}),
    )


def _load_onnx(path: str) -> Loaded:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # fatal alone
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (source,) = session.get_inputs()
    dtype = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}.get(source.type, source.type)
    shape = [side if isinstance(side, int) else None for side in source.shape]
    return dtype, shape, lambda values: session.run(None, {source.name: values})[0]


def _load_keras(path: str) -> Loaded:
    choose_backend()
    from sparsenet.keras.weights import load_model

    model = load_model(path)
    (source,) = model.inputs
    return source.dtype, list(source.shape), model.predict_on_batch


def _load_tflite(path: str) -> Loaded:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(path)
    interpreter.allocate_tensors()  # it prints a message, once
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()

    def predict(values: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(source["index"], values.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(source["index"], values)
        interpreter.invoke()
        return interpreter.get_tensor(target["index"])

    return np.dtype(source["dtype"]).name, source["shape_signature"].tolist(), predict


# Format -> its loader, and the packages that this needs. TensorFlow's own interpreter of TFLite is
# to be deleted; LiteRT is where it went.
_RUNTIMES = {
    "saved_model": (_load_saved_model, ["tensorflow"]),
    "onnx": (_load_onnx, ["onnxruntime"]),
    "keras": (_load_keras, ["keras"]),
    "frozen": (_load_frozen, ["tensorflow"]),
    "tflite": (_load_tflite, ["ai_edge_litert"]),
}
