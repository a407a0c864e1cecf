"""Colours, markers, sizes and labels that every figure shares, keyed by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from .sweeps import sweeps

# Okabe and Ito's palette, its yellow (unreadable on white) replaced by a dark brown: told apart with every common form
# of colour blindness, and in print by their markers.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A4A12")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")

PAGE_WIDTH = 9.6
"""Greatest width of a figure in inches: what is wider would be shrunk by the page, texts and all."""

CSS_PER_INCH = 100
"""Pixels of the page per inch of a figure, so that a text of 8 points is 11 px high."""

DPI = 200
"""Pixels of the picture per inch: twice as many as the page's, for print and dense screens."""

PHOTOGRAPH_DPI = 125
"""The same for grids of pictures, which have few pixels of their own and take most of the page's size."""

NORMAL, SMALL = 9.0, 8.0
"""Sizes of texts in points: labels; and ticks, intervals and notes. Nothing is smaller."""

MUTED = "#555555"
GRID = "#dddddd"


Look = tuple[str, str]
"""A colour and a marker."""


def styles(names: Sequence[str]) -> dict[str, Look]:
    """Returns name to (colour, marker); the order of the suite decides, 88 names differ."""
    return {
        n: (COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]) for i, n in enumerate(names)
    }


def shared_styles(names: Sequence[str]) -> dict[str, Look]:
    """Returns name to (colour, marker), where all settings of a sweep look like the first of them in :func:`styles`.

    Everything else looks as it does there, so that figures can be read side by side.
    """
    first = {label: min(sweep.settings, key=list(names).index) for sweep in sweeps(names) for label in sweep.settings}
    look = styles(names)
    return {n: look[first.get(n, n)] for n in names}


def marker_size(marker: str, size: float = 7) -> float:
    """Returns the size in points at which a marker looks as large as the others."""
    return 1.4 * size if marker == "*" else size


def dot(look: tuple[str, str]) -> dict[str, Any]:
    """Returns how a single point of a (colour, marker) is drawn, in a plot and in its legend."""
    size = marker_size(look[1])
    edge = {"markeredgecolor": "white", "markeredgewidth": 0.6}
    return {"color": look[0], "marker": look[1], "markersize": size, "linestyle": "none", **edge}


def ring(size: float = 11, marker: str = "o", colour: str = MUTED) -> dict[str, Any]:
    """Returns how the ring (or another shape) is drawn around a point that cannot be told apart from the undefended target."""
    edge = {"markeredgecolor": colour, "markeredgewidth": 0.9}
    return {"marker": marker, "markersize": size, "linestyle": "none", "markerfacecolor": "none", **edge}


def wrapped(text: str, width: int = 22) -> str:
    """Returns a label broken so that no line is longer than ``width``: at its joints if it can be, else anywhere."""
    pieces = [p for whole in _JOINTS.findall(text) for p in ([whole] if len(whole) <= width else _SEAMS.findall(whole))]
    out, line = [], ""
    for piece in pieces:
        if line and len(line) + len(piece.rstrip()) > width:
            out.append(line)
            line = ""
        line += piece
        while len(line) > width:
            out.append(line[:width])
            line = line[width:]
    return "\n".join(part.strip() for part in [*out, line] if part.strip())


def joints(text: str) -> list[str]:
    """Returns the pieces of a label between which a line may be broken."""
    return _JOINTS.findall(text)


_JOINTS = re.compile(r".[^+(,@ ]*[+, ]?")
"""Pieces of a label that are not broken if that can be helped: parts of a composition, parameters."""

_SEAMS = re.compile(r"[^=._/-]*[=._/-]?")
"""Smaller ones."""
