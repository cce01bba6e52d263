"""Make pictures without a window system, the same byte for byte, with plain numbers on axes.

Modules that import parts of matplotlib import this one before.
"""

import os
from decimal import Decimal
from typing import Optional

# matplotlib refuses to be imported where this names a backend that is not installed, such as that
# of the notebook that a command was started from.
os.environ["MPLBACKEND"] = "agg"


def new_figure(rows: int, columns: int, width: float, height: float):
    """Return a figure of `width` x `height` inches and its axes[rows][columns].

    It is made without pyplot, which would ask for a window system and keep state, and looks the
    same whatever the user's matplotlibrc says.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    matplotlib.rcdefaults()
    figure = Figure(figsize=(width, height), dpi=110)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure, path: str, bottom: float = 0.0) -> None:
    """Write a figure as .png or .svg, by the ending of `path`.

    bottom: fraction of the height to leave free below the axes, for a legend of the figure
    """
    figure.tight_layout(rect=(0, bottom, 1, 1))
    write(figure, path, "svg" if path.endswith(".svg") else "png")


def write(figure, stream, format: str) -> None:
    """Write a figure to a path or stream; the same figure gives the same bytes."""
    import matplotlib

    without_date = {"Date": None} if format == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "sparsenet"}):
        figure.savefig(stream, format=format, metadata=without_date)


def plain(value: float, _position: Optional[int] = None) -> str:
    """Return the label of a tick, never with an exponent: 1e7 -> 10,000,000; 1e-5 -> 0.00001."""
    return "{:,f}".format(Decimal("{:g}".format(value)))


def plain_logarithmic(axis) -> None:
    """Give a logarithmic axis ticks with plain numbers; its data have to be drawn already."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    axis.axes.autoscale_view()
    low, high = sorted(axis.get_view_interval())
    if high < 4 * low:  # too short for more than one of 1, 2, 5
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    else:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 1000 * low else (1,)))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_formatter(NullFormatter())
