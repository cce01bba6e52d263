"""Draw the training curves of runs."""

import os
from typing import Any, Collection, Dict, List, Sequence, Tuple

from common.figures import legend_below, logarithmic, new_figure, plain_text, save

# Here and not where they are used: that matplotlib is not installed is not to be found when a run
# has ended.
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from run_directory.table import HELD_OUT, TEST, Row

DISTINCT_COLOURS = 10  # matplotlib's C0 to C9


def curves_figure(
    runs: Dict[str, List[Row]],
    references: Sequence[List[Row]] = (),
    held_out: Collection[str] = (),
):
    """Return a figure of loss and error by epoch, and the share of its height below the panels.

    One colour per run, test solid, training dashed.

    runs:       label -> rows of the run's table, in which columns may be missing
    references: rows of runs whose test curves are drawn in grey behind the others
    held_out:   labels of the runs that were tested on held-out images, which the legend says
    """
    figure, axes = new_figure(1, 2, width=10, height=4.2)
    for panel, quantity, scale, label in (
        (axes[0][0], "loss", 1, "cross entropy per image"),
        (axes[0][1], "error", 100, "error (%)"),
    ):
        points = []  # of all lines
        for rows in references:
            points += _line(panel, rows, "test_" + quantity, scale, color="0.75", linewidth=1)
        for rows, color in zip(runs.values(), _colours(len(runs))):
            for split, style, alpha in (("test", "-", 1.0), ("train", "--", 0.6)):
                points += _line(
                    panel, rows, "{}_{}".format(split, quantity), scale,
                    linestyle=style, alpha=alpha, color=color,
                    marker="o" if len(rows) < 25 else None, markersize=3,
                )  # fmt: skip
        panel.set_xlabel("epoch")
        panel.set_ylabel(label)
        _whole_epochs(panel, {epoch for epoch, _ in points})
        logarithmic(panel, [value for _, value in points])
        panel.grid(True, which="both", alpha=0.25)
    return figure, legend_below(figure, _legend(list(runs), _colours(len(runs)), held_out))


def _line(panel, rows: List[Row], column: str, scale: float, **options) -> List[Tuple]:
    """Draw a column, and return its points; a run without it has none."""
    points = [(row["epoch"], scale * row[column]) for row in rows if column in row]
    if points:
        panel.plot(*zip(*points), **options)
    return points


def _colours(count: int) -> List[Any]:
    """Return as many colours as there are runs, all different."""
    if count <= DISTINCT_COLOURS:
        return ["C{}".format(i) for i in range(count)]
    from matplotlib import colormaps

    return [colormaps["turbo"](i / (count - 1)) for i in range(count)]


def _whole_epochs(panel, epochs: set) -> None:
    """Mark whole epochs only; around a single one, leave as much room as between two."""
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    if len(epochs) == 1:
        (epoch,) = epochs
        panel.set_xlim(epoch - 1, epoch + 1)
        panel.set_xticks([epoch])


def _legend(names: List[str], colours: List[Any], held_out: Collection[str]) -> Dict[str, Any]:
    """Return the entries of the legend: each run by its colour, the sets by their style."""
    tested_on = TEST
    if held_out:
        is_mixed = not set(names) <= set(held_out)
        tested_on = "{} or {}".format(TEST, HELD_OUT) if is_mixed else HELD_OUT
        if is_mixed:
            names = [name + " ({})".format(HELD_OUT) * (name in held_out) for name in names]
    runs = zip(names, colours) if len(names) > 1 else ()
    handles = {name: Line2D([], [], color=color) for name, color in runs}
    color = "0.2" if len(names) > 1 else "C0"
    for label, style in ((tested_on, "-"), ("training", "--")):
        handles[label if label not in handles else label + " set"] = Line2D(
            [], [], color=color, linestyle=style
        )
    return handles


def names_of_runs(paths: Sequence[str]) -> List[str]:
    """Return a name for each path: as many of its last parts as tell all of them apart."""
    parts = [os.path.abspath(path).split(os.sep) for path in paths]
    for count in range(1, max(map(len, parts))):
        names = [os.path.join(*each[-count:]) for each in parts]
        if len(set(map(plain_text, names))) == len({*map(tuple, parts)}):
            return names
    return ["{} {}".format(i, path) for i, path in enumerate(paths, 1)]  # alike when shortened


def plot_curves(
    runs: Dict[str, List[Row]], title: str, path: str, held_out: Collection[str] = ()
) -> None:
    """Write the picture of the curves of runs, as .png or .svg by the ending of `path`.

    held_out: labels of the runs that were tested on held-out images
    """
    figure, below = curves_figure(runs, held_out=held_out)
    figure.suptitle(plain_text(title, longest=100))
    save(figure, path, bottom=below)
