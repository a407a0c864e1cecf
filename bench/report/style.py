"""Colours and markers keyed by name, the same in every figure."""

from __future__ import annotations

from collections.abc import Sequence

# Okabe and Ito's palette: told apart with every common form of colour blindness, and in print by their markers.
COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8C6D31")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">", "h")


def styles(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns name to (colour, marker); the order of the suite decides, 88 names differ."""
    return {
        n: (COLOURS[i % len(COLOURS)], MARKERS[(i + i // len(COLOURS)) % len(MARKERS)]) for i, n in enumerate(names)
    }


def wrapped(text: str, width: int = 22) -> str:
    """Returns a label broken at its joints so that no line is much longer than ``width``."""
    out, line = [], ""
    for piece in text.replace("+", "+\n").replace("(", "\n(").replace(",", ",\n").split("\n"):
        if line and len(line) + len(piece) > width:
            out.append(line)
            line = piece
        else:
            line += piece
    return "\n".join([*out, line])
