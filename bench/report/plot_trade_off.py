"""Privacy against accuracy, with the Pareto front."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from .canvas import axes_at, new, nothing, text_width
from .captions import caption_points
from .columns import HIGH, LOW
from .frames import numbers, select
from .legend import Legend
from .style import GRID, MUTED, NORMAL, PAGE_WIDTH, SMALL, Look, dot, ring, shared_styles
from .sweeps import Sweep, sweeps
from .texts import ends_of, said, undistinguished
from .usefulness import at_chance

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 3.4
"""Height of the data area in inches."""

NOTE = "bars: 95 % intervals   dots: from the truth\ndashes: Pareto front, what no other beats in both by its means"
JOINED = "dotted: settings of one sweep, in the order of the number beside them; not measured between"
BETWEEN = "_between settings"
"""Label of the lines between settings; the underscore keeps it out of legends."""
HOLLOW = "hollow: incomplete, and so not on the front"
ALIKE = {
    "leakage_change": ("ring: its leakage is not distinguishable from that of none", ring()),
    "accuracy_drop": ("square: its accuracy is not distinguishable from that of none", ring(10, "s", "#bbbbbb")),
}
"""Figures that are compared with ``none``, to what is said and drawn where the difference is within its interval."""


def trade_off(summary: pd.DataFrame, controls: Mapping[str, float] | None = None) -> Figure:
    """Draws accuracy against worst-case leakage with intervals and the Pareto front, a panel per knowledge level.

    Args:
        summary: rows of one dataset, backbone and cut.
        controls: reference row to its leakage score, marked above the panels.
    """
    rows = select(summary, summary["leakage"].notna() & summary["accuracy"].notna())
    levels = list(dict.fromkeys(rows["knowledge"]))
    if not levels:
        return nothing("no defense has both a leakage score and an accuracy")
    # Colours go by the whole suite, so that a defense looks alike where another one has failed.
    look = shared_styles(list(dict.fromkeys(summary["defense"])))
    swept = sweeps([d for d in look if d in set(rows["defense"])])
    names = {label: sweep.title for sweep in swept for label in sweep.settings}
    shown = {names.get(d, d): look[d] for d in look if d in set(rows["defense"])}
    across = min(2, len(levels))
    lines = math.ceil(len(levels) / across)
    width = PAGE_WIDTH if across > 1 else 6.4
    panel_width = (width - 0.75 - 0.15 - 0.3 * (across - 1)) / across
    notes = [NOTE, JOINED if swept else "", "" if all(_whole(r) for r in rows.to_dict("records")) else HOLLOW]
    alike = [how for name, how in ALIKE.items() if any(undistinguished(r, name) for r in rows.to_dict("records"))]
    legend = Legend(list(shown), width, "\n".join(n for n in notes if n), marks=dict(alike))
    line_height = 0.75 + PANEL + 0.55
    fig = new(width, lines * line_height + 0.15 + legend.height)
    limits = _limits(rows)
    for i, level in enumerate(levels):
        left = 0.75 + (i % across) * (panel_width + 0.3)
        ax = axes_at(fig, left, 0.75 + (i // across) * line_height, panel_width, PANEL)
        here = select(rows, rows["knowledge"] == level)
        ax.set_xlim(limits[0])
        ax.set_ylim(limits[1])
        _panel(ax, here, look)
        _join(ax, here, swept, sweeps(list(look)), look, (panel_width, PANEL))
        ax.set_title(level, fontsize=NORMAL, weight="bold", loc="left", pad=34)
        _mark_controls(ax, controls or {}, panel_width)
        if i % across:
            ax.tick_params(labelleft=False)
        else:
            ax.set_ylabel("accuracy, share of images (up: more useful)", fontsize=NORMAL)
    legend.draw(fig, shown, lines * line_height + 0.1)
    return fig


def front_of(summary: pd.DataFrame, level: str) -> list[str]:
    """Returns the defenses on a knowledge level's Pareto front, by leakage: incomplete rows and those at chance are not."""
    rows = select(summary, (summary["knowledge"] == level) & summary["leakage"].notna() & summary["accuracy"].notna())
    whole = [r for r in rows.to_dict("records") if _whole(r) and not at_chance(r)]
    points = [(float(r["leakage"]), float(r["accuracy"])) for r in whole]
    names = dict(zip(reversed(points), (str(r["defense"]) for r in reversed(whole)), strict=True))
    return [names[p] for p in pareto(points)]


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the points that no other beats in both (less leakage, more accuracy), by leakage."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda p: (p[0], -p[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def _panel(ax: Axes, rows: pd.DataFrame, look: Mapping[str, Look]) -> None:
    points = []
    for row in rows.to_dict("records"):
        x, y = float(row["leakage"]), float(row["accuracy"])
        for name, across in (("leakage", True), ("accuracy", False)):
            ends = ends_of(row, name)
            at = (ends, [y, y]) if across else ([x, x], ends)
            ax.plot(*at, color=look[row["defense"]][0], linewidth=0.8, alpha=0.45, zorder=2)
        style = dot(look[row["defense"]])
        if _whole(row):
            points += [] if at_chance(row) else [(x, y)]
        else:
            style |= {"markerfacecolor": "white", "markeredgecolor": style["color"], "markeredgewidth": 1.2}
        ax.plot(x, y, zorder=3, **style)
        for name, (_, how) in ALIKE.items():
            if undistinguished(row, name):
                ax.plot(x, y, zorder=2.5, **how)
    front = pareto(points)
    # Steps, not straight lines: between two defenses there is nothing to choose.
    if front:
        ax.plot(
            *zip(*front, strict=True), color="#777777", linewidth=1, linestyle="--", drawstyle="steps-post", zorder=1
        )
    ax.set_xlabel("worst-case leakage score (right: leaks more)", fontsize=NORMAL)
    ax.grid(color=GRID, linewidth=0.5)
    ax.tick_params(labelsize=SMALL)


def _join(
    ax: Axes,
    rows: pd.DataFrame,
    swept: Sequence[Sweep],
    every: Sequence[Sweep],
    look: Mapping[str, Look],
    size: tuple[float, float],
) -> None:
    """Joins the settings of each sweep in the order of its number, which stands beside them where there is room.

    Nothing is joined across a setting that failed, is incomplete or at chance, nor across 0: neither does the table of
    defenses at equal accuracy interpolate there.
    """
    records = rows.to_dict("records")
    at = {str(r["defense"]): (float(r["leakage"]), float(r["accuracy"])) for r in records}
    ends = {str(r["defense"]) for r in records if _whole(r) and not at_chance(r)}
    for sweep in every:
        for a, b in itertools.pairwise(sweep.settings):
            across = float(sweep.settings[a]) < 0 < float(sweep.settings[b])
            if {a, b} <= ends and not across:
                line = zip(at[a], at[b], strict=True)
                ax.plot(*line, color=look[a][0], linewidth=0.9, alpha=0.7, linestyle=":", zorder=1, label=BETWEEN)
    named = []
    for sweep in swept:
        there = [d for d in sweep.settings if d in at]
        # The ends come first: where room is short they say which way the line runs.
        named += [(*at[d], sweep.settings[d]) for d in (*there[:1], *there[:0:-1])]
    caption_points(ax, size, named, [p for d, p in at.items() if not any(d in s.settings for s in swept)])


def _limits(rows: pd.DataFrame) -> tuple[tuple[float, float], tuple[float, float]]:
    """Returns common limits of both axes that hold every interval."""
    out = []
    for name in ("leakage", "accuracy"):
        low, high = min(numbers(rows, name, name + LOW)), max(numbers(rows, name, name + HIGH))
        margin = max(0.06 * (high - low), 0.004)
        out.append((low - margin, high + margin))
    return out[0], out[1]


def _mark_controls(ax: Axes, controls: Mapping[str, float], width: float) -> None:
    """Marks the leakage of reference rows above a panel, those whose names have room."""
    low, high = ax.get_xlim()
    taken = -1.0
    for name, value in sorted(controls.items(), key=lambda c: c[1]):
        if not low < value < high:
            continue
        text = f"thumbnail\n{name.removeprefix('thumbnail-')} px" if "-" in name else name.replace("_", "\n")
        at, half = (value - low) / (high - low) * width, text_width(text, SMALL) / 2
        if at - half < taken + 0.05 or at + half > width + 0.1:
            continue
        taken = at + half
        ax.axvline(value, color="#999999", linewidth=0.8, linestyle=":", zorder=0)
        ax.annotate(
            text, (value, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
            ha="center", va="bottom", fontsize=SMALL, color=MUTED, linespacing=1.05,
        )  # fmt: skip


def _whole(row: Mapping[Any, Any]) -> bool:
    """Says whether nothing is missing behind a row: only then is its worst case one to compare."""
    return said(row, "incomplete") == "-"
