"""Figures with a layout that is computed from the texts in them, so that nothing is clipped and nothing overlaps."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from .style import DPI, MUTED, NORMAL, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LINE = 1.25
"""Height of a line of text over its size."""


def new(width: float, height: float) -> Figure:
    """Returns an empty figure of a size in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI)


def axes_at(fig: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Returns new axes at a place in inches from the figure's upper left corner."""
    whole_width, whole_height = fig.get_size_inches()
    box = (left / whole_width, 1 - (top + height) / whole_height, width / whole_width, height / whole_height)
    return fig.add_axes(box)


def write(fig: Figure, left: float, top: float, text: str, size: float = NORMAL, **how: str) -> None:
    """Writes a text with its upper left corner at a place in inches from the figure's upper left corner."""
    width, height = fig.get_size_inches()
    fig.text(left / width, 1 - top / height, text, **{"fontsize": size, "va": "top", "ha": "left", **how})  # pyright: ignore[reportArgumentType]


def nothing(text: str) -> Figure:
    """Returns a figure that only says why there is nothing to draw."""
    fig = new(max(3.0, text_width(text, NORMAL) + 0.4), 0.5)
    write(fig, 0.2, 0.15, text, color=MUTED)
    return fig


def text_width(text: str, size: float) -> float:
    """Returns the width in inches of a text of one or more lines at a size in points."""
    return max((_advance(line) for line in text.split("\n")), default=0.0) * size / 72


def text_height(text: str, size: float) -> float:
    """Returns the height in inches of a text of one or more lines at a size in points."""
    return (text.count("\n") + 1) * LINE * size / 72


def fitted(text: str, width: float, size: float) -> str:
    """Returns a label broken into lines that fit into a width in inches at a size in points."""
    letters = max(len(text), 1)
    while letters > 4 and text_width(wrapped(text, letters), size) > width:
        letters -= 1
    return wrapped(text, letters)


def fitted_words(text: str, width: float, size: float) -> str:
    """Returns a sentence broken between words so that its lines fit into a width in inches at a size in points.

    A word that does not fit by itself is broken like a label.
    """
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines += [word] if text_width(word, size) <= width else fitted(word, width, size).split("\n")
    return "\n".join(lines)


def widest(texts: Iterable[str], size: float) -> float:
    """Returns the width in inches of the widest text."""
    return max((text_width(t, size) for t in texts), default=0.0)


@lru_cache(maxsize=4096)
def _advance(line: str) -> float:
    """Returns the width of a line in units of its size."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    if not line:
        return 0.0
    at = 100.0
    width, _, _ = TextToPath().get_text_width_height_descent(line, FontProperties(size=at), False)
    return float(width) / at
