"""What receiving several draws of the same image gives away of a random defense."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from ..knowledge import split_draws
from .canvas import axes_at, new, nothing
from .frames import select
from .legend import Legend
from .style import GRID, NORMAL, PAGE_WIDTH, SMALL, marker_size, ring, styles
from .texts import ends_of, said, undistinguished

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 2.8
"""Height of the data area in inches."""

NOTE = "bars: 95 % intervals over images and seeds   hollow: incomplete, another attack may leak more"

ALIKE = "ring: not distinguishable from the undefended target that sends as often"


def levels_with_draws(summary: pd.DataFrame) -> dict[str, list[str]]:
    """Returns each level that a suite grants with several counts of draws, and its names from the fewest draws on."""
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(summary["knowledge"]):
        found.setdefault(split_draws(name)[0], []).append(name)
    return {base: sorted(names, key=lambda n: split_draws(n)[1]) for base, names in found.items() if len(names) > 1}


def leakage_by_draws(summary: pd.DataFrame) -> Figure:
    """Draws the worst attack's leakage against the draws that it receives, a panel per level and a line per defense.

    Args:
        summary: rows of one dataset, backbone and cut.
    """
    levels = levels_with_draws(summary)
    rows = select(summary, summary["leakage"].notna())
    if not levels or rows.empty:
        return nothing("no level was granted with several counts of draws")
    look = styles(list(dict.fromkeys(summary["defense"])))
    across = min(2, len(levels))
    lines = math.ceil(len(levels) / across)
    width = PAGE_WIDTH if across > 1 else 6.4
    panel_width = (width - 0.9 - 0.3 * (across - 1)) / across
    alike = any(undistinguished(r, "leakage_change") for r in rows.to_dict("records"))
    legend = Legend([d for d in look if d in set(rows["defense"])], width, NOTE, marks={ALIKE: ring()} if alike else {})
    line_height = 0.35 + PANEL + 0.55
    fig = new(width, lines * line_height + 0.1 + legend.height)
    # An end that is not known is drawn to the border.
    ends = [
        e for row in rows.to_dict("records") for e in (row["leakage"], *ends_of(row, "leakage")) if math.isfinite(e)
    ]
    low, high = min(ends), max(ends)
    margin = max(0.06 * (high - low), 0.004)
    for i, (base, names) in enumerate(levels.items()):
        ax = axes_at(
            fig, 0.75 + (i % across) * (panel_width + 0.3), 0.35 + (i // across) * line_height, panel_width, PANEL
        )
        _panel(ax, rows, names, look)
        ax.set_ylim(low - margin, high + margin)
        ax.set_title(base, fontsize=NORMAL, weight="bold", loc="left", pad=6)
        if i % across:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("worst-case leakage score (up: leaks more)", fontsize=NORMAL)
    legend.draw(fig, look, lines * line_height + 0.05)
    return fig


def _panel(ax: Axes, rows: pd.DataFrame, names: list[str], look: Mapping[str, tuple[str, str]]) -> None:
    for defense, (colour, marker) in look.items():
        points, broken = [], []
        for row in rows[rows["defense"] == defense].to_dict("records"):
            if row["knowledge"] in names and said(row, "incomplete") != "-":
                broken.append((split_draws(str(row["knowledge"]))[1], float(row["leakage"])))
            elif row["knowledge"] in names:
                points.append((split_draws(str(row["knowledge"]))[1], float(row["leakage"]), ends_of(row, "leakage")))
        points.sort()
        for row in rows[(rows["defense"] == defense) & rows["knowledge"].isin(names)].to_dict("records"):
            if undistinguished(row, "leakage_change"):
                ax.plot(split_draws(str(row["knowledge"]))[1], float(row["leakage"]), zorder=3, **ring())
        for count, _, ends in points:
            ax.plot([count, count], ends, color=colour, linewidth=0.8, alpha=0.45, zorder=2)
        for count, value in broken:
            hollow = {"markerfacecolor": "white", "markeredgecolor": colour, "linestyle": "none"}
            ax.plot([count], [value], marker=marker, markersize=marker_size(marker, 5), zorder=3, **hollow)
        xs, ys = [p[0] for p in points], [p[1] for p in points]
        ax.plot(xs, ys, color=colour, linewidth=0.9, marker=marker, markersize=marker_size(marker, 5), zorder=3)
    counts = sorted({split_draws(n)[1] for n in names})
    ax.set_xscale("log", base=2)
    ax.set_xticks(counts, [str(c) for c in counts])
    ax.minorticks_off()
    ax.set_xlabel("draws received of each private image", fontsize=NORMAL)
    ax.grid(color=GRID, linewidth=0.5)
    ax.tick_params(labelsize=SMALL)
