"""Figures, and the pictures of training curves that every run leaves."""

from decimal import Decimal
from typing import Dict, List, Optional

from run_directory import Row


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
    """Write a figure as .png or .svg, by the ending of `path`; the same figure, the same bytes.

    bottom: share of the height to leave free below the axes, for a legend of the figure.
    """
    import matplotlib

    figure.tight_layout(rect=(0, bottom, 1, 1))
    without_date = {"Date": None} if path.endswith(".svg") else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "sparsenet"}):
        figure.savefig(path, metadata=without_date)


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


def plot_curves(runs: Dict[str, List[Row]], title: str, path: str) -> None:
    """Draw loss and error by epoch, one colour a run, test solid and training dashed.

    runs: label -> rows of its table. path: .png or .svg, by its ending.
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(1, 2, width=10, height=4.2)
    loss, error = axes[0]
    for index, (label, rows) in enumerate(runs.items()):
        epochs = [row["epoch"] for row in rows]
        color = "C{}".format(index)
        prefix = label + " " if len(runs) > 1 else ""
        marker = "o" if len(rows) < 25 else None
        for axes, quantity, scale in ((loss, "loss", 1), (error, "error", 100)):
            for split, style in (("test", "-"), ("train", "--")):
                values = [scale * row["{}_{}".format(split, quantity)] for row in rows]
                axes.plot(
                    epochs, values, style, color=color, label=prefix + split,
                    marker=marker, markersize=3, alpha=1.0 if split == "test" else 0.6,
                )  # fmt: skip
    for axes, label in ((loss, "cross entropy per image"), (error, "error (%)")):
        axes.set_yscale("log")
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        plain_logarithmic(axes.yaxis)
        axes.grid(True, which="both", alpha=0.25)
        axes.legend()
    figure.suptitle(title)
    save(figure, path)
