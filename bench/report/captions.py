"""Short texts beside points of a panel: placed where there is room, and left out where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from .canvas import text_height, text_width
from .style import MUTED, SMALL

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Box = tuple[float, float, float, float]
"""Left, lower, right and upper end in inches from a panel's lower left corner."""

MARKER = 0.11
"""Room of a marker in inches."""

GAP = 0.03


def caption_points(
    ax: Axes,
    size: tuple[float, float],
    named: Sequence[tuple[float, float, str]],
    others: Sequence[tuple[float, float]],
) -> None:
    """Writes the names of points beside them; the axes must have their final limits.

    Args:
        ax: the panel, linear on both axes.
        size: its width and height in inches.
        named: (x, y, name) of points.
        others: (x, y) of points that have no name and must not be covered.
    """
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="white")]  # lines pass behind
    spots = [(*_inches(ax, size, x, y), name) for x, y, name in named]
    taken = [_around(x, y, MARKER) for x, y, _ in spots]
    taken += [_around(*_inches(ax, size, x, y), MARKER) for x, y in others]
    for (x, y, name), (at_x, at_y, _) in zip(spots, named, strict=True):
        for box, how in _places(x, y, name):
            if _inside(box, size) and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                ax.annotate(
                    name, (at_x, at_y), textcoords="offset points", fontsize=SMALL, color=MUTED, zorder=4,
                    path_effects=halo, **how
                )  # fmt: skip
                break


def _places(x: float, y: float, name: str) -> Iterator[tuple[Box, dict[str, Any]]]:
    """Yields where a name may stand: right, left, above, below, each with how matplotlib is told."""
    width, height, far = text_width(name, SMALL), text_height(name, SMALL), MARKER / 2 + GAP
    points = 72 * far
    yield (
        (x + far, y - height / 2, x + far + width, y + height / 2),
        {"xytext": (points, 0), "ha": "left", "va": "center"},
    )
    yield (
        (x - far - width, y - height / 2, x - far, y + height / 2),
        {"xytext": (-points, 0), "ha": "right", "va": "center"},
    )
    middle = (x - width / 2, x + width / 2)
    yield (middle[0], y + far, middle[1], y + far + height), {"xytext": (0, points), "ha": "center", "va": "bottom"}
    yield (middle[0], y - far - height, middle[1], y - far), {"xytext": (0, -points), "ha": "center", "va": "top"}


def _inches(ax: Axes, size: tuple[float, float], x: float, y: float) -> tuple[float, float]:
    (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
    return (x - left) / (right - left) * size[0], (y - low) / (high - low) * size[1]


def _around(x: float, y: float, width: float) -> Box:
    return x - width / 2, y - width / 2, x + width / 2, y + width / 2


def _inside(box: Box, size: tuple[float, float]) -> bool:
    return box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
