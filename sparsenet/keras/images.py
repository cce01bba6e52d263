"""What goes into a model and comes out of it: normalised images, and classes by their names."""

from typing import Any, List, Mapping, Optional, Sequence, Tuple, Union

import keras
import numpy as np

from sparsenet.errors import require
from sparsenet.known_data import CHANNEL_STATISTICS, CLASS_NAMES


def preprocess_input(
    x, data_format: Optional[str] = None, preprocessing: Union[str, Mapping[str, Any]] = "c10"
):
    """Return images as the networks read them: (x - mean) / std, float, in a new array or tensor.

    x:             [N, H, W, 3], [H, W, 3], or channels first; RGB, from 0 to 255
    data_format:   channels_last or channels_first; by default Keras's
    preprocessing: name of the data that the weights were trained on (c10, c100, imagenet), or the
                   record that stands beside a converted model, with `mean` and `std`
    """
    data_format = data_format or keras.config.image_data_format()
    formats = ("channels_last", "channels_first")
    require(data_format in formats, "data_format", data_format, ", ".join(formats))
    if isinstance(preprocessing, str):
        known = ", ".join(CHANNEL_STATISTICS)
        require(preprocessing in CHANNEL_STATISTICS, "preprocessing", preprocessing, known)
        preprocessing = CHANNEL_STATISTICS[preprocessing]
    mean, std = (np.asarray(preprocessing[name], np.float32) for name in ("mean", "std"))
    if data_format == "channels_first":
        mean, std = (_channels_first(constant) for constant in (mean, std))
    if isinstance(x, np.ndarray):
        return (x.astype(np.float32) - mean) / std
    return (keras.ops.cast(x, "float32") - mean) / std


def _channels_first(constant: np.ndarray) -> np.ndarray:
    """Return a number, one number a colour [3] or an image [H, W, 3] for images [3, H, W]."""
    if constant.ndim == 1:
        return constant[:, None, None]
    return np.moveaxis(constant, -1, 0) if constant.ndim == 3 else constant


def decode_predictions(
    preds, top: int = 5, class_names: Optional[Sequence[str]] = None
) -> List[List[Tuple[Any, str, float]]]:
    """Return for each image its `top` likeliest classes: (label, name, score), best first.

    preds:       probabilities or logits [N, classes]
    class_names: by default those of CIFAR-10, CIFAR-100 and ImageNet, by the number of classes;
                 Keras downloads ImageNet's, whose labels are WordNet's, such as n01440764
    """
    preds = np.asarray(keras.ops.convert_to_numpy(preds))
    require(preds.ndim == 2, "preds", preds.shape, "[N, classes]")
    classes = preds.shape[1]
    if class_names is None and classes == 1000:
        return keras.applications.imagenet_utils.decode_predictions(preds, top=top)
    if class_names is None:
        by_count = {10: CLASS_NAMES["c10"], 100: CLASS_NAMES["c100"]}
        require(classes in by_count, "classes", classes, "10, 100, 1000, or class_names")
        class_names = by_count[classes]
    require(
        len(class_names) == classes, "class_names", len(class_names), "{} names".format(classes)
    )
    best = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [
        [(int(label), class_names[label], float(scores[label])) for label in labels]
        for labels, scores in zip(best, preds)
    ]
