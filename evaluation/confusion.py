"""Draw which classes a network takes for which."""

from typing import Sequence

from common.figures import new_figure, plain_text, save

import numpy as np

COUNTED = 20  # with more classes than this, a cell is too small for its number
LONGEST_TITLE = 100  # characters
NAMED = 100  # with more than this, a row is too low for its name


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many images of each class (rows) were taken for each class (columns)."""
    cells = labels.astype(np.int64) * classes + predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def plot_confusion(matrix: np.ndarray, names: Sequence[str], title: str, path: str) -> None:
    """Write the picture of a confusion matrix, as .png or .svg by the ending of `path`."""
    save(confusion_figure(matrix, names, title), path)


def confusion_figure(matrix: np.ndarray, names: Sequence[str], title: str):
    """Return the figure of a confusion matrix, coloured by the fraction of each class's images."""
    classes = len(matrix)
    side = 6.0 if classes <= COUNTED else 3 + 0.13 * min(classes, NAMED)
    figure, ((panel,),) = new_figure(1, 1, width=side + 1, height=side)
    fractions = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    # Errors are far fewer than what is right: by the root of a fraction, they are still seen.
    shown = panel.imshow(np.sqrt(fractions), cmap="Blues", vmin=0, vmax=1)
    if classes <= COUNTED:
        _write_counts(panel, matrix, fractions)
    _name_classes(panel, names)
    panel.set_xlabel("predicted class")
    panel.set_ylabel("class")
    panel.set_title(plain_text(title, LONGEST_TITLE))
    ticks = [0, 1, 5, 10, 25, 50, 75, 100]
    beside = panel.inset_axes([1 + 0.2 / side, 0, 0.2 / side, 1])
    bar = figure.colorbar(shown, cax=beside, ticks=np.sqrt(ticks) / 10)
    bar.ax.set_yticklabels(["{} %".format(each) for each in ticks])
    bar.set_label("of the images of a class")
    bar.outline.set_visible(False)
    return figure


def _write_counts(panel, matrix: np.ndarray, fractions: np.ndarray) -> None:
    """Write the number of images into each cell that has any."""
    for row, column in zip(*np.nonzero(matrix)):
        panel.text(
            column, row, "{:,}".format(matrix[row, column]), ha="center", va="center", fontsize=8,
            color="white" if fractions[row, column] > 0.3 else "0.15",
        )  # fmt: skip


def _name_classes(panel, names: Sequence[str]) -> None:
    """Give each row and column its name; if there are too many, numbers at some of them."""
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_color("0.8")
    if len(names) > NAMED:
        return
    places = range(len(names))
    size = 9 if len(names) <= COUNTED else 6.5
    panel.set_xticks(places)
    panel.set_yticks(places)
    texts = [plain_text(name) for name in names]
    panel.set_xticklabels(texts, rotation=90 if len(names) > COUNTED else 45, fontsize=size)
    panel.set_yticklabels(texts, fontsize=size)
    if len(names) <= COUNTED:
        for label in panel.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
