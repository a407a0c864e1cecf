"""What each defense costs on the edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .canvas import axes_at, new, nothing, text_height, text_width, widest, write
from .columns import TIMING
from .frames import numbers
from .style import GRID, MUTED, NORMAL, PAGE_WIDTH, SMALL, styles, wrapped
from .texts import present

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MEDIAN, P95 = f"{TIMING}edge_latency_median_ms", f"{TIMING}edge_latency_p95_ms"
COLUMNS = (
    ("edge_macs", "multiply-adds on the edge\n(millions per image)", 1e-6),
    ("wire_bytes", "bytes on the wire\n(thousands per image)", 1e-3),
    (MEDIAN, "edge latency, median\n(ms per image)", 1.0),
)


def edge_cost(summary: pd.DataFrame) -> Figure:
    """Draws multiply-adds, bytes on the wire and latency of each defense, lower is cheaper."""
    shown = [c for c in COLUMNS if c[0] in summary and numbers(summary, c[0])]
    if not shown:
        return nothing("no cost was measured")
    rows = summary.drop_duplicates("defense")
    look = styles(list(dict.fromkeys(summary["defense"])))
    labels = [wrapped(d) for d in rows["defense"]]
    heights = [max(0.26, text_height(label, NORMAL) + 0.06) for label in labels]
    left = widest(labels, NORMAL) + 0.2
    width = (PAGE_WIDTH - left - 0.15 - 0.25 * (len(shown) - 1)) / len(shown)
    fig = new(PAGE_WIDTH, 0.15 + sum(heights) + 0.9)
    ends = np.cumsum([0, *heights])
    middles = (ends[:-1] + ends[1:]) / 2
    for i, (column, label, scale) in enumerate(shown):
        ax = axes_at(fig, left + i * (width + 0.25), 0.1, width, sum(heights))
        values = [float(v) * scale if present(v) else 0.0 for v in rows[column]]
        texts = [_text(row, column, scale) for row in rows.to_dict("records")]
        ax.barh(middles, values, color=[look[d][0] for d in rows["defense"]], height=0.17)
        for y, value, text in zip(middles, values, texts, strict=True):
            ax.annotate(text, (value, y), (3, 0), textcoords="offset points", va="center", fontsize=SMALL)
        room = widest(texts, SMALL) + 0.1
        ax.set_xlim(0, max([*values, 1e-9]) * width / max(width - room, 0.3 * width))
        ax.set_ylim(ends[-1], 0)
        ax.set_yticks(middles, labels if i == 0 else [""] * len(labels), fontsize=NORMAL)
        ax.set_xlabel(label, fontsize=NORMAL)
        ax.tick_params(axis="x", labelsize=SMALL)
        ax.tick_params(axis="y", length=0)
        ax.grid(axis="x", color=GRID, linewidth=0.5)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    if any(c == MEDIAN for c, _, _ in shown):
        note = "p95: 95th percentile"
        write(fig, PAGE_WIDTH - 0.15 - text_width(note, SMALL), 0.15 + sum(heights) + 0.66, note, SMALL, color=MUTED)
    return fig


def _text(row: Mapping[Any, Any], column: str, scale: float) -> str:
    if not present(row[column]):
        return "not measured"
    # A bar for the 95th percentile would make the medians unreadable where one pass in twenty was disturbed.
    tail = f" (p95 {row[P95]:.3g})" if column == MEDIAN and present(row.get(P95)) else ""
    return f"{row[column] * scale:.3g}{tail}"
