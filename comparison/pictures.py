"""The figures of the report, as images embedded in the page."""

import base64
import io
import math
from typing import Collection, List, Optional, Sequence

from common.figures import fit, new_figure, plain_text, write

import numpy as np

from comparison.activations import Layer
from comparison.checkpoints import KINDS, Comparison, worst
from run_directory.curves import curves_figure
from run_directory.table import Row

SHOWN_HISTOGRAMS = 12
NOTHING = 1e-9  # drawn for a distance of 0 on a logarithmic axis


def data_uri(figure, bottom: float = 0.0) -> str:
    """Return a figure as the `src` of an <img>; bottom: share of the height that a legend takes."""
    fit(figure, bottom)
    stream = io.BytesIO()
    write(figure, stream, "svg")
    return "data:image/svg+xml;base64," + base64.b64encode(stream.getvalue()).decode()


def curves(
    runs: Sequence[List[Row]], references: Sequence[List[Row]], held_out: Collection[str]
) -> str:
    """Draw loss and top-1 error of both runs, with the reference runs in grey behind them.

    held_out: those of `A` and `B` that were tested on held-out images
    """
    return data_uri(*curves_figure(dict(zip("AB", runs)), references, held_out))


def distances(labels: Sequence[str], found: Sequence, threshold: Optional[float]) -> Optional[str]:
    """Draw relative distance and 1 - cosine of each array, in network order; None of no array."""
    if not labels:
        return None
    figure, axes = new_figure(2, 1, width=10, height=5)
    places = np.arange(len(labels))
    for panel, values, title in (
        (axes[0][0], [each.relative_distance for each in found], "relative distance"),
        (axes[1][0], [1 - each.cosine for each in found], "1 - cosine"),
    ):
        heights = [max(v, NOTHING) if math.isfinite(v) else 1.0 for v in values]
        panel.vlines(places, NOTHING, heights, color="C0", linewidth=0.8, alpha=0.5)
        panel.plot(places, heights, "o", color="C0", markersize=3)
        panel.set_yscale("log")
        panel.set_ylim(NOTHING / 2, max(2.0, 2 * max(heights)))
        panel.set_ylabel(title)
        panel.set_xlim(-0.5, len(labels) - 0.5)
        panel.grid(True, axis="y", alpha=0.25)
        panel.set_xticks([])
    if threshold is not None:
        axes[0][0].axhline(threshold, color="C3", linewidth=0.8)
    shown = places[:: max(1, math.ceil(len(labels) / 40))]
    axes[1][0].set_xticks(shown)
    axes[1][0].set_xticklabels([plain_text(labels[i]) for i in shown], rotation=90, fontsize=6)
    return data_uri(figure)


def variables(comparison: Comparison, threshold: Optional[float]) -> Optional[str]:
    """Draw the distance of each weight and moving statistic."""
    found = [v for v in comparison.variables if v.distance and v.kind in KINDS[:2]]
    return distances([v.name for v in found], [v.distance for v in found], threshold)


def layers(found: Sequence[Layer]) -> Optional[str]:
    """Draw the distance of each activation and gradient."""
    compared = [layer for layer in found if layer.distance]
    return distances([x.name for x in compared], [x.distance for x in compared], None)


def histograms(comparison: Comparison) -> Optional[str]:
    """Draw histograms of the differences of the worst variables; None if all are equal."""
    shown = [
        (v.name, v.histogram, v.edges) for v in worst(comparison.variables)
        if v.histogram and v.edges and v.kind != "other"
    ][:SHOWN_HISTOGRAMS]  # fmt: skip
    if not shown:
        return None
    columns = min(4, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure, axes = new_figure(rows, columns, width=2.6 * columns, height=1.9 * rows)
    panels = [panel for row in axes for panel in row]
    for panel, (name, counts, (low, high)) in zip(panels, shown):
        panel.stairs(counts, np.linspace(low, high, len(counts) + 1), fill=True)
        panel.set_yscale("symlog", linthresh=1)
        panel.set_title(plain_text(name), fontsize=6)
        panel.tick_params(labelsize=6)
        panel.set_xticks([low, 0, high])
        panel.set_xticklabels(["{:.1e}".format(low), "0", "{:.1e}".format(high)])
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    return data_uri(figure)
