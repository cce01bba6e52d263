"""Place labels beside the points of a picture, so that none covers a point or another label."""

import math
from typing import Any, List, NamedTuple, Sequence

# In degrees, best first: beside the point.
ANGLES = (0, 180, 90, 270, 30, 150, 210, 330, 60, 120, 240, 300)
# From point to label, in 1/72 inch.
DISTANCES = (6, 9, 12, 17, 23, 30, 38, 47, 57, 70, 85, 100)
LINE_FROM = 9  # from this distance on, a line connects a label to its point
MARKER = 5  # half the side of the square around a point that is kept free


class Label(NamedTuple):
    """A text for the point (x, y), which is in the units of the axes."""

    x: float
    y: float
    text: str
    color: str


class Place(NamedTuple):
    """A place for a label: its box and the line to its point, in pixels."""

    box: Any
    line: Any
    distance: int


def place_labels(axes, labels: Sequence[Label], size: float) -> None:
    """Write each label at the nearest free place around its point.

    From left to right, each takes the first place that is free, so that the same points give the
    same picture. The axes must have their final limits and position in the figure.
    """
    from matplotlib.transforms import Bbox

    renderer, unit = axes.figure.canvas.get_renderer(), axes.figure.dpi / 72
    labels = sorted(labels)
    points = axes.transData.transform([(label.x, label.y) for label in labels])
    markers = [Bbox([point - MARKER * unit, point + MARKER * unit]) for point in points]
    frame, boxes = axes.get_window_extent(renderer), list(markers)
    lines: List[Any] = []
    for label, point, marker in zip(labels, points, markers):
        text = axes.annotate(
            label.text, (label.x, label.y), xytext=(0, 0), textcoords="offset points",
            ha="center", va="center", fontsize=size, color=label.color,
        )  # fmt: skip
        places = _places(point, text.get_window_extent(renderer), unit)
        free = (p for p in places if _is_free(p, marker, frame, boxes, lines))
        place = next(free, places[0])
        middle = (place.box.min + place.box.max) / 2
        text.set_position(tuple((middle - point) / unit))
        boxes.append(place.box)
        if place.distance >= LINE_FROM:
            lines.append(place.line)
            _draw(axes, place.line, label.color)


def _places(point, centred, unit: float) -> List[Place]:
    """Return the places, best first, for the label whose box is `centred` on its point."""
    from matplotlib.path import Path

    places = []
    for distance in DISTANCES:
        for angle in map(math.radians, ANGLES):
            # The edge of the box, not its middle, is at the distance.
            right = math.cos(angle) * (distance * unit + centred.width / 2)
            up = math.sin(angle) * (distance * unit + centred.height / 2)
            box = centred.translated(right, up)
            nearest = point.clip(box.min, box.max)
            places.append(Place(box, Path([point, nearest]), distance))
    return places


def _is_free(place: Place, own_marker, frame, boxes, lines) -> bool:
    """Return whether a label may be placed there.

    It has to stay within the axes, and neither it nor its line may cover anything.
    """
    is_inside = (place.box.min > frame.min).all() and (place.box.max < frame.max).all()
    covers = place.box.count_overlaps(boxes) or any(_cross(line, place.box) for line in lines)
    crosses = any(_cross(place.line, box) for box in boxes if box is not own_marker)
    return is_inside and not covers and not crosses


def _cross(line, box) -> bool:
    return line.intersects_bbox(box, filled=False)


def _draw(axes, line, color: str) -> None:
    """Draw a thin line, without a change of the limits of the axes."""
    xs, ys = axes.transData.inverted().transform(line.vertices).T
    axes.plot(xs, ys, lw=0.5, color=color, scalex=False, scaley=False)
