"""Find image files, and read them as a network's images."""

import os
from typing import Iterable, List, Tuple

import numpy as np

import imagenet_data
from sparsenet.errors import RunFailed, UserError

ACCEPTED = "PNG, JPEG and WebP"
ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
# A longer image would take far more memory scaled than it has pixels.
LONGEST = 100


def find_images(paths: Iterable[str]) -> Tuple[List[str], List[UserError]]:
    """Return the files that paths name, and what is wrong with paths that name none.

    A folder stands for the images anywhere below it, in the order of their names; hidden ones are
    left out.
    """
    found: List[str] = []
    errors = []
    for path in paths:
        files = _below(path) if os.path.isdir(path) else [path] * os.path.isfile(path)
        found += files
        if not files:
            kind = "folder holds no image" if os.path.isdir(path) else "there is no such file"
            errors.append(UserError("{}: {}; accepted: {}".format(path, kind, ACCEPTED)))
    return found, errors


def _below(folder: str) -> List[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [
            os.path.join(place, name)
            for name in sorted(files)
            if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    return found


def read_image(path: str, side: int) -> np.ndarray:
    """Return an image file as a network reads it, see fit: uint8 [side, side, 3], RGB.

    An orientation in its EXIF data is followed, as in training. Raises UserError, which begins with
    the path, if it can't be read.
    """
    import cv2

    try:
        return fit(imagenet_data.decode_file(path), side)
    except RunFailed:
        raise UserError("{}: damaged, or no image; accepted: {}".format(path, ACCEPTED))
    except UserError as error:
        raise UserError("{}: {}".format(path, error))
    except (cv2.error, MemoryError):
        raise UserError("{}: too large to be decoded".format(path))
    except OSError as error:
        raise UserError("{}: {}".format(path, error.strerror or error))


def fit(image: np.ndarray, side: int) -> np.ndarray:
    """Return the part of an image that a network reads: uint8 [H, W, 3] -> [side, side, 3].

    For ImageNet's networks it is what their test images get. For the others it is the largest
    square in the centre, resized by area: an image of the right size stays as it is, and a smaller
    one by a whole factor gets each pixel repeated, as the digits are enlarged.
    """
    import cv2

    height, width = image.shape[:2]
    if max(height, width) > LONGEST * min(height, width):
        raise UserError(
            "{}x{} pixels; accepted: a side of at most {} times the other".format(
                width, height, LONGEST
            )
        )
    if side == imagenet_data.SIZE:
        return imagenet_data.center_crop(image)
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    image = image[top : top + square, left : left + square]
    return cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
