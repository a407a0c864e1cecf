"""The heat map defense × attack of one figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .canvas import axes_at, fitted, new, nothing, text_height, text_width, widest, write
from .columns import HIGH, LOW, figure
from .frames import numbers, select
from .matrix import is_alike
from .style import MUTED, NORMAL, PAGE_WIDTH, SMALL, wrapped
from .texts import ONE_SEED, fixed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NARROWEST, WIDEST = 0.92, 1.25
"""Width of a cell in inches: the narrowest holds an interval."""

GAP, HEAD = 0.25, 0.24
BAR = 2.4
"""Length of the bar of colours in inches."""

MAP = "cividis"
"""Blue to yellow, rising evenly in lightness: it reads the same with every form of colour blindness and in print."""

NOTE = "mean over images and seeds\n[95 % interval]"
ALIKE_NOTE = "corner: not distinguishable from none under the same attack"
ALONE_NOTE = f"for corners {ONE_SEED}"


def heatmap(matrix: pd.DataFrame, name: str) -> Figure:
    """Draws defense × attack with intervals, a panel per knowledge level; what is missing says so in its cell.

    Args:
        matrix: rows of one dataset, backbone and cut, from :func:`.matrix.build_matrix`.
        name: the figure's column.
    """
    levels, defenses, attacks = (list(dict.fromkeys(matrix[c])) for c in ("knowledge", "defense", "attack"))
    if not defenses or not attacks:
        return nothing("the suite has no cell here")
    rows = {(r["knowledge"], r["defense"], r["attack"]): r for r in matrix.to_dict("records")}
    labels = [wrapped(d) for d in defenses]
    left = widest(labels, NORMAL) + 0.2
    panels, cell = _arranged(levels, attacks, PAGE_WIDTH - left - 0.1)
    columns = [fitted(a, cell - 0.06, NORMAL) for a in attacks]
    heights = [max(0.42, text_height(label, NORMAL) + 0.08) for label in labels]
    foot = max(text_height(c, NORMAL) for c in columns) + 0.12
    panel_height = HEAD + sum(heights) + foot + 0.12
    bar = left + BAR + 0.3 + text_width("0.00", SMALL) / 2  # where the note beside the colours begins
    width = max(left + 0.1 + max(_panel_width(p, cell) for p in panels), 5.2, bar + text_width(NOTE, SMALL) + 0.1)
    alike = [row for row in rows.values() if is_alike(row, name)]
    corner = "\n".join((ALIKE_NOTE, ALONE_NOTE) if any(row["seeds"] == 1 for row in alike) else (ALIKE_NOTE,))
    below = HEAD + len(panels) * panel_height
    fig = new(width, below + (0.65 + text_height(corner, SMALL) if alike else 0.55))
    write(fig, 0.1, 0.05, figure(name).axis, weight="bold")
    scale, extend = colour_scale(matrix, name)
    digits = decimals(numbers(matrix, name))
    for i, panel in enumerate(panels):
        at, top = left, HEAD + i * panel_height + HEAD
        for j, (level, some) in enumerate(panel):
            ax = axes_at(fig, at, top, cell * len(some), sum(heights))
            found = [[rows.get((level, d, attacks[k])) for k in some] for d in defenses]
            _panel(ax, found, name, heights, scale, digits)
            part = f" ({some[0] + 1} to {some[-1] + 1} of {len(attacks)} attacks)" if len(some) < len(attacks) else ""
            ax.set_title(level + part, fontsize=NORMAL, loc="left", pad=4)
            ax.set_xticks([k + 0.5 for k in range(len(some))], [columns[k] for k in some], fontsize=NORMAL)
            ends = np.cumsum([0, *heights])
            ax.set_yticks((ends[:-1] + ends[1:]) / 2, labels if j == 0 else [""] * len(labels), fontsize=NORMAL)
            ax.tick_params(length=0)
            at += cell * len(some) + GAP
    _colour_bar(fig, left, below + 0.05, scale, digits, extend)
    if alike:
        _explain_corner(fig, max(0.1, min(left, width - 0.3 - text_width(corner, SMALL))), below + 0.55, corner)
    return fig


def decimals(values: Sequence[float]) -> int:
    """Returns how many decimals show three significant digits of the greatest value."""
    top = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    return min(4, max(0, 2 - math.floor(math.log10(top)))) if top > 0 else 2


def short(value: float, digits: int) -> str:
    """Returns a number without the zero before two decimals or more: an interval has to fit into a cell."""
    text = fixed(value, digits)
    return text.replace("0.", ".", 1) if digits > 1 and text.lstrip("-").startswith("0.") else text


def _arranged(
    levels: Sequence[str], attacks: Sequence[str], room: float
) -> tuple[list[list[tuple[str, list[int]]]], float]:
    """Returns lines of panels (level, indices of attacks), and the width of a cell, so that each line fits."""
    indices = list(range(len(attacks)))
    beside = (room - GAP * (len(levels) - 1)) / (len(levels) * len(attacks))
    if beside >= NARROWEST:
        return [[(level, indices) for level in levels]], min(beside, WIDEST)
    most = max(1, int(room / NARROWEST))
    lines = math.ceil(len(attacks) / most)
    each = math.ceil(len(attacks) / lines)
    parts = [indices[k : k + each] for k in range(0, len(attacks), each)]
    return [[(level, part)] for level in levels for part in parts], min(room / each, WIDEST)


def _panel_width(panel: Sequence[tuple[str, list[int]]], cell: float) -> float:
    return cell * sum(len(some) for _, some in panel) + GAP * (len(panel) - 1)


def colour_scale(matrix: pd.DataFrame, name: str) -> tuple[tuple[float, float], str]:
    """Returns the ends of the colour scale and which of them values exceed: neither, min, max or both.

    Controls such as the prior do not count: they would stretch the scale until all attacks look alike.
    """
    every = numbers(matrix, name)
    shown = numbers(select(matrix, ~matrix["control"].astype(bool)), name) or every
    if not shown:
        return (0.0, 0.0), "neither"
    low, high = min(shown), max(shown)
    beyond = (min(every) < low, max(every) > high)
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    return (low, high), extend


def _panel(
    ax: Axes,
    found: Sequence[Sequence[dict[str, Any] | None]],
    name: str,
    heights: Sequence[float],
    scale: tuple[float, float],
    digits: int,
) -> None:
    import matplotlib
    from matplotlib.colors import Normalize

    colours, norm = matplotlib.colormaps[MAP], Normalize(scale[0], max(scale[1], scale[0] + 1e-9), clip=True)
    ends = np.cumsum([0, *heights])
    for i, line in enumerate(found):
        middle = (ends[i] + ends[i + 1]) / 2
        for k, row in enumerate(line):
            value = None if row is None or row["state"] else row[name]
            if row is None or value is None or pd.isna(value):
                text = "left out" if row is None else row["state"] or "no value"
                bad = row is not None and "failed" in text
                fill = {"facecolor": "#ffffff" if bad else "#f2f2f2", "hatch": "////" if bad else None}
                ax.add_patch(_box(k, ends[i], heights[i], edgecolor="#dddddd", **fill))
                box = {"facecolor": "#ffffff", "edgecolor": "none", "pad": 1.5} if bad else None
                ax.text(
                    k + 0.5, middle, text, ha="center", va="center", fontsize=SMALL, linespacing=1.05, bbox=box,
                    color="#9b1c1c" if bad else MUTED, weight="bold" if bad else "normal",
                )  # fmt: skip
                continue
            colour = colours(norm(float(value)))
            ax.add_patch(_box(k, ends[i], heights[i], facecolor=colour, edgecolor="white", linewidth=0.5))
            ink = ink_on(colour[:3])
            ax.text(k + 0.5, middle - 0.09, fixed(value, digits), ha="center", va="center", fontsize=NORMAL, color=ink)
            if is_alike(row, name):
                ax.add_patch(_corner(k + 1, ends[i], ink))
            ends_text = f"[{short(row[name + LOW], digits)}, {short(row[name + HIGH], digits)}]"
            ax.text(k + 0.5, middle + 0.09, ends_text, ha="center", va="center", fontsize=SMALL, color=ink)
    ax.set_xlim(0, len(found[0]))
    ax.set_ylim(ends[-1], 0)
    for spine in ax.spines.values():
        spine.set_visible(False)


def ink_on(colour: Sequence[float]) -> str:
    """Returns black or white, whichever has the greater contrast on a colour (red, green, blue in [0, 1])."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def _box(k: int, top: float, height: float, **how: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((k, top), 1, height, **how)


def _corner(right: float, top: float, colour: str) -> Any:
    """Returns the triangle in a cell's upper right corner, in the axes' units: cells across, inches down."""
    from matplotlib.patches import Polygon

    side = 0.11
    return Polygon([(right - side, top), (right, top), (right, top + side)], facecolor=colour, linewidth=0, gid="alike")


def _explain_corner(fig: Figure, left: float, top: float, note: str) -> None:
    """Draws the corner's entry in the legend."""
    from matplotlib.patches import Polygon

    width, height = fig.get_size_inches()
    ends = [(left, top + 0.03), (left + 0.11, top + 0.03), (left + 0.11, top + 0.14)]
    fig.add_artist(Polygon([(x / width, 1 - y / height) for x, y in ends], facecolor="black", linewidth=0))
    write(fig, left + 0.2, top, note, SMALL, color=MUTED)


def _colour_bar(fig: Figure, left: float, top: float, scale: tuple[float, float], digits: int, extend: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    if scale[1] - scale[0] < 10.0**-digits:  # one value, or none: there is nothing to tell apart
        write(fig, left, top, NOTE, SMALL, color=MUTED)
        return
    ax = axes_at(fig, left, top, BAR, 0.12)
    bar = fig.colorbar(
        ScalarMappable(Normalize(*scale), MAP), cax=ax, orientation="horizontal", ticks=MaxNLocator(4),
        extend=extend, format=f"%.{digits}f" if digits < 3 else None,
    )  # fmt: skip
    bar.ax.tick_params(labelsize=SMALL, length=2)
    write(fig, left + BAR + 0.3 + text_width("0.00", SMALL) / 2, top - 0.02, NOTE, SMALL, color=MUTED)
