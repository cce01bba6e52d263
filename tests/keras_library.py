"""Write the number of parameters of each named model to a JSON file: `keras_library.py FILE`."""

import json
import sys

import numpy as np


def main(path):
    import sparsenet.keras as library

    names = [name for name in library.__all__ if name.startswith("SparseNet")]
    counts = {}
    for name in names:
        model = getattr(library, name)()
        counts[name] = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    with open(path, "w") as stream:
        json.dump(counts, stream)


if __name__ == "__main__":
    main(sys.argv[1])
