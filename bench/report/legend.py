"""A legend below the panels of a figure, as high as its names need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from .canvas import text_height, widest, write
from .style import MUTED, SMALL, dot, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Legend:
    """Names with their markers in columns under the panels, where they cover no data.

    Args:
        names: in the order in which they are to be read, line by line.
        width: of the figure in inches.
        note: a line under the names.
        left: where the first column begins, in inches.

    Attributes:
        height: what the legend takes, in inches.
    """

    def __init__(self, names: Sequence[str], width: float, note: str = "", left: float = 0.75) -> None:
        self.left, self.note = left, note
        self.names = list(names)
        self.labels = [wrapped(n, 36) for n in names]
        column = widest(self.labels, SMALL) + 0.45
        self.columns = max(1, min(len(self.labels), int((width - self.left) / column)))
        self.column = (width - self.left) / self.columns
        self.lines = [
            max(text_height(t, SMALL) for t in self.labels[i : i + self.columns]) + 0.06
            for i in range(0, len(self.labels), self.columns)
        ]
        self.height = sum(self.lines) + (0.35 if note else 0.1)

    def draw(self, fig: Figure, look: Mapping[str, tuple[str, str]], top: float) -> None:
        """Draws the legend below ``top``, in inches from the figure's upper edge."""
        from matplotlib.lines import Line2D

        width, height = fig.get_size_inches()
        for i, (name, label) in enumerate(zip(self.names, self.labels, strict=True)):
            at = self.left + (i % self.columns) * self.column
            y = top + sum(self.lines[: i // self.columns])
            fig.add_artist(Line2D([(at + 0.08) / width], [1 - (y + 0.075) / height], **dot(look[name])))
            write(fig, at + 0.25, y, label, SMALL)
        write(fig, self.left, top + sum(self.lines) + 0.08, self.note, SMALL, color=MUTED)
