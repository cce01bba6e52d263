"""Make pictures without a window system, the same byte for byte, with plain numbers on axes.

Modules that import parts of matplotlib import this one before.
"""

import logging
import math
import os
import warnings
from decimal import Decimal
from typing import Any, Dict, Optional, Sequence

from common.files import written_whole
from sparsenet.errors import printable

LONGEST_LABEL = 40  # characters

# matplotlib refuses to be imported where this names a backend that is not installed, such as that
# of the notebook that a command was started from.
os.environ["MPLBACKEND"] = "agg"
# In a container without a home folder it tells of the cache that it keeps elsewhere.
logging.getLogger("matplotlib").setLevel(logging.ERROR)


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


def fit(figure, bottom: float = 0.0) -> None:
    """Move the axes of a figure so that their labels have room; as far as that goes.

    bottom: fraction of the height to leave free below the axes, for a legend of the figure
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)  # labels longer than the figure
        warnings.filterwarnings("ignore", category=RuntimeWarning)  # axes beyond the numbers
        figure.tight_layout(rect=(0, bottom, 1, 1))


def save(figure, path: str, bottom: float = 0.0) -> None:
    """Write a figure as .png or .svg, by the ending of `path`.

    bottom: fraction of the height to leave free below the axes, for a legend of the figure
    """
    fit(figure, bottom)
    with written_whole(path, "wb") as stream:
        write(figure, stream, "svg" if path.endswith(".svg") else "png")


def write(figure, stream, format: str) -> None:
    """Write a figure to a path or stream; the same figure gives the same bytes."""
    import matplotlib

    without_date = {"Date": None} if format == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "sparsenet"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in another script
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        figure.savefig(stream, format=format, metadata=without_date)


def plain(value: float, _position: Optional[int] = None) -> str:
    """Return the label of a tick, never with an exponent: 1e7 -> 10,000,000; 1e-5 -> 0.00001."""
    return "{:,f}".format(Decimal("{:g}".format(value)))


def logarithmic(panel, values: Sequence[float]) -> None:
    """Give a panel's y axis a logarithmic scale with plain numbers; `values` are drawn already.

    Where some are 0, so that a line would break, the scale goes on linearly from the smallest of
    the others to 0. It is all linear where these are 0 or close together.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    finite = [value for value in values if math.isfinite(value)]
    positive = sorted(value for value in finite if value > 0)
    if positive and min(finite) > 0:
        panel.set_yscale("log")
        plain_logarithmic(panel.yaxis)
    elif positive and positive[-1] > 10 * positive[0]:
        panel.set_yscale("symlog", linthresh=positive[0], linscale=0.3)
        high = 1.3 * positive[-1]
        subs = (1, 2, 5) if high < 1000 * positive[0] else (1,)
        ticks = LogLocator(subs=subs).tick_values(positive[0], high)
        ticks = [0.0] + [tick for tick in ticks if tick >= positive[0]]
        panel.yaxis.set_major_locator(FixedLocator(ticks))
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(plain))
        panel.set_ylim(-0.15 * positive[0], high)
    else:
        panel.set_ylim(0 if positive else -0.05, None if positive else 1)
        panel.yaxis.set_major_formatter(FuncFormatter(plain))


def plain_text(name: str, longest: int = LONGEST_LABEL) -> str:
    """Return a name as a text of a picture: one short line, `$` as it is and not as mathematics."""
    text = printable(name)
    if len(text) > longest:
        text = "{}...{}".format(text[: longest // 2 - 1], text[-(longest // 2 - 2) :])
    return text.replace("$", r"\$")


def legend_below(figure, handles: Dict[str, Any]) -> float:
    """Write a legend of label -> line below the panels; return the share of the height it takes."""
    width, height = figure.get_size_inches()
    texts = [plain_text(label) for label in handles]
    columns = int(width / (0.7 + 0.075 * max(map(len, texts))))
    columns = max(1, min(len(texts), columns))
    rows = math.ceil(len(texts) / columns)
    # A legend leaves out what starts with `_`: the labels are set once it is there.
    legend = figure.legend(
        list(handles.values()), [str(i) for i in range(len(texts))],
        loc="lower center", ncol=columns, fontsize=8, frameon=False,
    )  # fmt: skip
    for artist, text in zip(legend.get_texts(), texts):
        artist.set_text(text)
    figure.set_size_inches(width, height + 0.19 * rows)
    return (0.1 + 0.19 * rows) / (height + 0.19 * rows)


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
