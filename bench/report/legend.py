"""A legend below the panels of a figure, as high as its names need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .canvas import text_height, widest, write
from .style import MUTED, SMALL, dot, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LINE = 0.2
"""Height of the line of a mark in inches: a ring is larger than a text."""


class Legend:
    """Names with their markers in columns under the panels, where they cover no data.

    Args:
        names: in the order in which they are to be read, line by line.
        width: of the figure in inches.
        note: a text of one or more lines below them.
        left: where they begin, in inches.
        marks: what a mark on a point means to how it is drawn; read after the names.
        note: a line under the names.
        left: where the first column begins, in inches.

    Attributes:
        height: what the legend takes, in inches.
    """

    def __init__(
        self,
        names: Sequence[str],
        width: float,
        note: str = "",
        left: float = 0.75,
        marks: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        self.left, self.note, self.marks = left, note, dict(marks or {})
        self.names = list(names)
        self.labels = [wrapped(n, 36) for n in names]
        column = widest(self.labels, SMALL) + 0.45
        self.columns = max(1, min(len(self.labels), int((width - self.left) / column)))
        self.column = (width - self.left) / self.columns
        self.lines = [
            max(text_height(t, SMALL) for t in self.labels[i : i + self.columns]) + 0.06
            for i in range(0, len(self.labels), self.columns)
        ]
        # Marks have lines of their own: their texts are sentences and would widen every column.
        self.above = sum(self.lines) + LINE * len(self.marks)
        self.height = self.above + (0.2 + text_height(note, SMALL) if note else 0.1)

    def draw(self, fig: Figure, look: Mapping[str, tuple[str, str]], top: float) -> None:
        """Draws the legend below ``top``, in inches from the figure's upper edge."""
        for i, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            across = self.left + (i % self.columns) * self.column
            _entry(fig, dot(look[name]), across, top + sum(self.lines[: i // self.columns]), label)
        for i, (text, how) in enumerate(self.marks.items()):
            _entry(fig, how, self.left, top + sum(self.lines) + LINE * i, text)
        write(fig, self.left, top + self.above + 0.08, self.note, SMALL, color=MUTED)


def _entry(fig: Figure, how: Mapping[str, Any], left: float, top: float, text: str) -> None:
    from matplotlib.lines import Line2D

    width, height = fig.get_size_inches()
    fig.add_artist(Line2D([(left + 0.08) / width], [1 - (top + 0.075) / height], **how))
    write(fig, left + 0.25, top, text, SMALL)
