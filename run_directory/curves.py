"""Draw the training curves of runs."""

from typing import Dict, List, Sequence

from common.figures import new_figure, plain_logarithmic, save

# Here and not where it is used: that it is not installed is not to be found when a run has ended.
from matplotlib.ticker import MaxNLocator

from run_directory.table import Row


def curves_figure(runs: Dict[str, List[Row]], references: Sequence[List[Row]] = ()):
    """Return a figure of loss and error by epoch: one colour per run, test solid, training dashed.

    runs:       label -> rows of the run's table, in which columns may be missing
    references: rows of runs whose test curves are drawn in grey behind the others
    """
    figure, axes = new_figure(1, 2, width=10, height=4.2)
    for panel, quantity, scale, label in (
        (axes[0][0], "loss", 1, "cross entropy per image"),
        (axes[0][1], "error", 100, "error (%)"),
    ):
        for rows in references:
            _line(panel, rows, "test_" + quantity, scale, color="0.75", linewidth=1)
        for index, (name, rows) in enumerate(runs.items()):
            for split, style, alpha in (("test", "-", 1.0), ("train", "--", 0.6)):
                _line(
                    panel, rows, "{}_{}".format(split, quantity), scale,
                    linestyle=style, alpha=alpha, color="C{}".format(index),
                    label="{} {}".format(name, split) if len(runs) > 1 else split,
                    marker="o" if len(rows) < 25 else None, markersize=3,
                )  # fmt: skip
        panel.set_yscale("log")
        panel.set_xlabel("epoch")
        panel.set_ylabel(label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain_logarithmic(panel.yaxis)
        panel.grid(True, which="both", alpha=0.25)
        if panel.get_legend_handles_labels()[0]:
            panel.legend()
    return figure


def _line(panel, rows: List[Row], column: str, scale: float, **options) -> None:
    points = [(row["epoch"], scale * row[column]) for row in rows if column in row]
    if points:
        panel.plot(*zip(*points), **options)


def plot_curves(runs: Dict[str, List[Row]], title: str, path: str) -> None:
    """Write the picture of the curves of runs, as .png or .svg by the ending of `path`."""
    figure = curves_figure(runs)
    figure.suptitle(title)
    save(figure, path)
