"""How each attack's own loss fell, and how accurate its readers became."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .canvas import axes_at, fitted, new, nothing
from .curves import Panel
from .legend import Legend
from .style import GRID, NORMAL, PAGE_WIDTH, SMALL, marker_size, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.1
"""Height of the data area in inches."""


def convergence(panels: Sequence[Panel], defenses: Sequence[str]) -> Figure:
    """Draws a panel per attack and kind of curve, and a line per defense.

    Args:
        panels: curves that share an axis.
        defenses: all of the suite, in its order, so that each one looks as in the other figures.
    """
    panels = [p for p in panels if p.lines]
    if not panels:
        return nothing("no attack reported a curve")
    look = styles(defenses)
    across = min(3, len(panels))
    width = PAGE_WIDTH if across > 1 else 5.2
    panel = (width - 0.15) / across - 0.75
    titles = [fitted(p.attack, panel, NORMAL) for p in panels]
    heads = [f"{title}\n{fitted(p.quantity, panel, SMALL)}" for title, p in zip(titles, panels, strict=True)]
    head = 0.12 + 0.16 * (max(t.count("\n") for t in heads) + 1)
    line_height = head + HEIGHT + 0.5
    legend = Legend([d for d in look if any(d in p.lines for p in panels)], width)
    lines = math.ceil(len(panels) / across)
    fig = new(width, lines * line_height + 0.1 + legend.height)
    for i, shown in enumerate(panels):
        ax = axes_at(fig, 0.75 + (i % across) * (panel + 0.75), (i // across) * line_height + head, panel, HEIGHT)
        for defense, points in shown.lines.items():
            steps, values = zip(*points, strict=True)
            colour, marker = look[defense]
            every = max(1, len(steps) // 6)
            marks = {"marker": marker, "markersize": marker_size(marker, 4), "markevery": every}
            ax.plot(steps, values, color=colour, linewidth=0.9, **marks)
        if shown.share:
            ax.set_ylim(0, 1.02)
            ax.tick_params(labelsize=SMALL)
        else:
            _log_axis(ax, [p[1] for points in shown.lines.values() for p in points])
        ax.set_title(heads[i], fontsize=SMALL, loc="left", pad=4)
        ax.set_xlabel("step or epoch", fontsize=NORMAL)
        ax.set_ylabel("share of images (up: better)" if shown.share else "loss (down: better)", fontsize=SMALL)
        ax.grid(color=GRID, linewidth=0.5)
    legend.draw(fig, look, lines * line_height + 0.05)
    return fig


def log_ticks(low: float, high: float) -> list[float]:
    """Returns a few round ticks between two positive numbers, at least two where a factor of 2 lies between them."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0)):
        ticks = [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d * 1.0000001 <= high * 1.0000002]
        if len(ticks) >= 3:
            step = math.ceil(len(ticks) / 6)
            return ticks[::step]
    return ticks or [low, high]


def _log_axis(ax: Axes, values: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    low, high = min(values), max(values)
    ax.set_yscale("log")
    ax.set_ylim(low / 1.15, high * 1.15)
    ticks = log_ticks(low / 1.15, high * 1.15)
    ax.set_yticks(ticks, [f"{t:.4g}" if t >= 1e-4 else f"{t:.0e}" for t in ticks])
    ax.yaxis.set_minor_locator(NullLocator())
    ax.tick_params(labelsize=SMALL)
