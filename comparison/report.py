"""Write the comparison as one self-contained HTML page: no network, no other file."""

import os
from typing import Dict, Optional, Sequence

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from comparison import pictures
from comparison.checkpoints import KINDS, worst
from comparison.findings import ABSENT, Part, Thresholds, verdict
from comparison.records import short
from comparison.sources import Source
from comparison.terminal import verdict_text
from sparsenet.errors import printable

TEMPLATE = "report.html"


def page(parts: Sequence[Part], a: Source, b: Source, thresholds: Thresholds) -> str:
    """Return the report as HTML."""
    environment = Environment(
        loader=FileSystemLoader(os.path.dirname(os.path.abspath(__file__))),
        autoescape=True,
        finalize=_printable,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(short=short, figure=figure)
    by_name = {part.name: part for part in parts if part.verdict != ABSENT}
    return environment.get_template(TEMPLATE).render(
        a=a,
        b=b,
        parts=parts,
        by_name=by_name,
        thresholds=thresholds,
        verdict=verdict(parts),
        verdict_text=verdict_text(parts),
        kinds=KINDS,
        worst=worst,
        pictures=_pictures(by_name, thresholds),
    )


def _printable(value):
    """Return text that comes from files as text that can be shown, and anything else as it is."""
    return printable(value) if type(value) is str else value


def figure(value: float) -> str:
    """Return a number for a table: three digits, over many orders of magnitude."""
    return "0" if value == 0 else "{:.3g}".format(value)


def _pictures(by_name: Dict[str, Part], thresholds: Thresholds) -> Dict[str, Optional[str]]:
    """Return the `src` of each image that the parts have data for, by name."""
    found: Dict[str, Optional[str]] = {}
    if "curves" in by_name:
        data = by_name["curves"].data
        found["curves"] = pictures.curves(data["rows"], data["references"], data["held_out"])
    if "checkpoints" in by_name:
        for each in by_name["checkpoints"].data["comparisons"]:
            limit = thresholds.distance if each.judged_by else None
            found["variables " + each.step] = pictures.variables(each, limit)
            found["histograms " + each.step] = pictures.histograms(each)
    if "activations" in by_name:
        found["layers"] = pictures.layers(by_name["activations"].data["layers"])
    return found
