"""The grid of truths and reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .canvas import axes_at, new, nothing, text_height, text_width, widest, write
from .style import MUTED, NORMAL, SMALL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Line = tuple[str, np.ndarray | str]
"""A label, and images (n, H, W, C) uint8 or a text where there are none."""

SIDE, GAP = 0.72, 0.05
"""Height of a picture, and the room between two, in inches."""


def reconstructions(lines: Sequence[Line]) -> Figure:
    """Draws a grid: a label and the same private images in every line, pixels as they are."""
    shapes = {images.shape[1:] for _, images in lines if not isinstance(images, str) and len(images)}
    if not shapes:
        return nothing("no reconstruction is stored")
    height, width, _ = shapes.pop()
    count = max(len(images) for _, images in lines if not isinstance(images, str))
    across = SIDE * width / height
    left = widest((label for label, _ in lines), NORMAL) + 0.25
    # A line without pictures needs no more room than its words.
    sides = [text_height(label, NORMAL) + 0.1 if isinstance(images, str) else SIDE for label, images in lines]
    tall = [max(side, text_height(label, NORMAL)) + GAP for side, (label, _) in zip(sides, lines, strict=True)]
    whole = left + count * (across + GAP) + 0.05
    fig = new(whole, sum(tall) + 0.1)
    top = 0.05
    for (label, images), side, room in zip(lines, sides, tall, strict=True):
        at = top + max(0.0, (side - text_height(label, NORMAL)) / 2)
        write(fig, left - 0.1, at, label, ha="right", multialignment="right")
        if isinstance(images, str):
            write(fig, left, top + side / 2 - 0.06, _cut(images, whole - left - 0.1), SMALL, color=MUTED)
        else:
            row = _joined(images, max(1, round(GAP / across * width)))
            ax = axes_at(fig, left, top, len(images) * (across + GAP) - GAP, SIDE)
            ax.imshow(row, cmap="gray", vmin=0, vmax=255, interpolation="nearest", aspect="auto")
            ax.set_axis_off()
        top += room
    return fig


def _cut(text: str, width: float) -> str:
    """Returns as much of a text as fits into a width in inches."""
    if text_width(text, SMALL) <= width:
        return text
    while text and text_width(text + " …", SMALL) > width:
        text = text[:-1]
    return text.rstrip() + " …"


def _joined(images: np.ndarray, gap: int) -> np.ndarray:
    """Returns images side by side with white between them, (H, W', C) or (H, W') for grey ones."""
    n, height, _, channels = images.shape
    white = np.full((height, gap, channels), 255, dtype=np.uint8)
    parts = [p for image in images for p in (white, image)][1:] if n else [white]
    row = np.concatenate(parts, axis=1)
    return row[..., 0] if channels == 1 else row
