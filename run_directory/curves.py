"""Figures, and the pictures of training curves that every run leaves."""

from decimal import Decimal
from typing import Dict, List, Optional, Sequence

from run_directory.record import Row


def new_figure(rows: int, columns: int, width: float, height: float):
    """(figure, axes[rows][columns]), in inches.

    Without pyplot: no window system is asked for, no state is left behind.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure, path: str, bottom: float = 0.0) -> None:
    """Write a figure as .png or .svg, by the ending of `path`.

    bottom: share of the height to leave free below the axes, for a legend of the figure.
    """
    figure.tight_layout(rect=(0, bottom, 1, 1))
    write(figure, path, "svg" if path.endswith(".svg") else "png")


def write(figure, stream, format: str) -> None:
    """Write a figure to a path or stream; the same figure, the same bytes."""
    import matplotlib

    without_date = {"Date": None} if format == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "sparsenet"}):
        figure.savefig(stream, format=format, metadata=without_date)


def plain(value: float, _position: Optional[int] = None) -> str:
    """A tick's label, never with an exponent: 1e7 -> 10,000,000; 1e-5 -> 0.00001."""
    return "{:,f}".format(Decimal("{:g}".format(value)))


def plain_logarithmic(axis) -> None:
    """A logarithmic axis, after its data are drawn, with ticks written as plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis.axes.autoscale_view()
    low, high = sorted(axis.get_view_interval())
    if high < 4 * low:  # too short for more than one of 1, 2, 5
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())


def curves_figure(runs: Dict[str, List[Row]], references: Sequence[List[Row]] = ()):
    """Loss and error by epoch, one colour a run, test solid and training dashed.

    runs: label -> rows of its table, of which columns may be missing
    references: rows of runs whose test curves are drawn in grey behind them
    """
    from matplotlib.ticker import MaxNLocator

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
    """Write the picture of these runs' curves; path: .png or .svg, by its ending."""
    figure = curves_figure(runs)
    figure.suptitle(title)
    save(figure, path)
