"""The figures: pure functions from tables to matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .columns import HIGH, LOW, TIMING, TRUTH, figure
from .style import styles, wrapped
from .terminal import present

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Plot

DPI = 110


def _new(width: float, height: float) -> Plot:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def heatmap(cells: pd.DataFrame, name: str) -> Plot:
    """Draws defense × attack for one figure, a panel per knowledge level; what is missing says why in the cell."""
    rows = cells[cells["knowledge"] != TRUTH]
    levels, defenses, attacks = (list(dict.fromkeys(rows[c])) for c in ("knowledge", "defense", "attack"))
    what = figure(name)
    fig = _new(1.6 + len(levels) * max(2.6, 1.25 * len(attacks)), 1.5 + 0.5 * len(defenses))
    values = rows[name].dropna().astype(float)
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    axes = fig.subplots(1, len(levels), squeeze=False, sharey=True)[0]
    for ax, level in zip(axes, levels, strict=True):
        grid = np.full((len(defenses), len(attacks)), np.nan)
        texts: dict[tuple[int, int], str] = {}
        for i, defense in enumerate(defenses):
            for j, attack in enumerate(attacks):
                some = rows[(rows["knowledge"] == level) & (rows["defense"] == defense) & (rows["attack"] == attack)]
                bad = [s for s in some["status"] if s != "done"]
                if len(some) and not bad and some[name].notna().all():
                    grid[i, j] = float(some[name].astype(float).mean())
                    texts[i, j] = f"{0.0 if abs(grid[i, j]) < 5e-4 * max(abs(low), abs(high)) else grid[i, j]:.3g}"
                else:
                    texts[i, j] = bad[0] if bad else ("no value" if len(some) else "-")
        image = ax.imshow(grid, cmap="cividis", vmin=low, vmax=max(high, low + 1e-9), aspect="auto")
        for (i, j), text in texts.items():
            dark = not np.isnan(grid[i, j]) and (grid[i, j] - low) < 0.55 * (high - low)
            ax.text(j, i, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        ax.set_xticks(range(len(attacks)), [wrapped(a, 14) for a in attacks], fontsize=8)
        ax.set_yticks(range(len(defenses)), [wrapped(d) for d in defenses], fontsize=8)
        ax.set_title(level, fontsize=9)
    fig.suptitle(what.axis, fontsize=10)
    fig.colorbar(image, ax=list(axes), shrink=0.9)
    return fig


def trade_off(summary: pd.DataFrame) -> Plot:
    """Draws accuracy against worst-case leakage with intervals and the Pareto front, a panel per knowledge level."""
    levels = list(dict.fromkeys(summary["knowledge"]))
    look = styles(list(dict.fromkeys(summary["defense"])))
    fig = _new(4.2 * len(levels) + 2.2, 4.2)
    axes = fig.subplots(1, len(levels), squeeze=False, sharey=True, sharex=True)[0]
    for ax, level in zip(axes, levels, strict=True):
        rows = summary[(summary["knowledge"] == level) & summary["leakage"].notna() & summary["accuracy"].notna()]
        points = []
        for row in rows.to_dict("records"):
            colour, marker = look[row["defense"]]
            x, y = float(row["leakage"]), float(row["accuracy"])
            ax.errorbar(
                x, y, xerr=_bars(row, "leakage"), yerr=_bars(row, "accuracy"), color=colour, marker=marker,
                markersize=7, linewidth=0.9, capsize=2, linestyle="none", label=row["defense"],
            )  # fmt: skip
            points.append((x, y))
        front = pareto(points)
        if len(front) > 1:
            ax.plot(
                *zip(*front, strict=True), color="#777777", linewidth=1, linestyle="--", zorder=0, label="Pareto front"
            )
        ax.set_title(level, fontsize=9)
        ax.set_xlabel("worst-case leakage score (right: leaks more)", fontsize=8)
        ax.grid(color="#dddddd", linewidth=0.5)
        ax.tick_params(labelsize=8)
    axes[0].set_ylabel("accuracy (up: more useful)", fontsize=8)
    handles: dict[str, Any] = {}
    for ax in axes:
        handles |= dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    if handles:
        fig.legend(handles.values(), [wrapped(h, 30) for h in handles], loc="outside right upper", fontsize=8)
    return fig


def pareto(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns the points that no other beats in both (less leakage, more accuracy), by leakage."""
    best: list[tuple[float, float]] = []
    for x, y in sorted(set(points), key=lambda p: (p[0], -p[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    return best


def edge_cost(summary: pd.DataFrame) -> Plot:
    """Draws what each defense costs on the edge: multiply-adds, bytes on the wire, latency."""
    columns = [("edge_macs", "edge MACs (10⁶)", 1e-6), ("wire_bytes", "bytes on the wire (10³)", 1e-3)]
    columns.append((f"{TIMING}edge_latency_median_ms", "edge latency, median (ms)", 1.0))
    shown = [c for c in columns if c[0] in summary and summary[c[0]].notna().any()]
    rows = summary.drop_duplicates("defense")
    look = styles(list(dict.fromkeys(summary["defense"])))
    fig = _new(9.5, 1.1 + 0.32 * len(rows))
    if not shown:
        fig.text(0.5, 0.5, "no cost was measured", ha="center")
        return fig
    axes = fig.subplots(1, len(shown), squeeze=False, sharey=True)[0]
    for ax, (column, label, scale) in zip(axes, shown, strict=True):
        values = [float(v) * scale if present(v) else 0.0 for v in rows[column]]
        ax.barh(range(len(rows)), values, color=[look[d][0] for d in rows["defense"]], height=0.65)
        for i, (value, raw) in enumerate(zip(values, rows[column], strict=True)):
            ax.text(value, i, f" {value:.3g}" if present(raw) else " not measured", va="center", fontsize=7.5)
        ax.set_xlim(0, 1.25 * max([*values, 1e-9]))
        ax.set_yticks(range(len(rows)), [wrapped(d) for d in rows["defense"]], fontsize=8)
        ax.set_xlabel(label, fontsize=8)
        ax.tick_params(axis="x", labelsize=8)
    axes[0].invert_yaxis()
    return fig


def convergence(curves: Mapping[str, Mapping[str, list[list[float]]]]) -> Plot:
    """Draws the convergence curves of attacks: a panel per attack, a line per defense (``curves[attack][defense]``)."""
    names = [a for a in curves if curves[a]]
    fig = _new(4.6 * max(1, len(names)), 3.2)
    if not names:
        fig.text(0.5, 0.5, "no attack reported a curve", ha="center")
        return fig
    look = styles(list(dict.fromkeys(d for a in names for d in curves[a])))
    axes = fig.subplots(1, len(names), squeeze=False)[0]
    for ax, name in zip(axes, names, strict=True):
        for defense, points in curves[name].items():
            steps, values = zip(*points, strict=True)
            ax.plot(
                steps, values, color=look[defense][0], marker=look[defense][1], markersize=3, label=defense, linewidth=1
            )
        ax.set_yscale("log")
        ax.set_title(name, fontsize=9)
        ax.set_xlabel("step or epoch", fontsize=8)
        ax.tick_params(labelsize=8)
        ax.grid(color="#dddddd", linewidth=0.5, which="both")
    axes[0].set_ylabel("the attack's own loss", fontsize=8)
    axes[-1].legend(fontsize=7.5)
    return fig


def reconstructions(rows: list[tuple[str, np.ndarray | str]]) -> Plot:
    """Draws a grid: a label and the same images in every row, (n, H, W, C) uint8, or a text where there are none."""
    count = max((len(r) for _, r in rows if not isinstance(r, str)), default=1)
    fig = _new(2.2 + 0.85 * count, 0.3 + 0.88 * len(rows))
    axes = fig.subplots(len(rows), count, squeeze=False)
    for line, (label, images) in zip(axes, rows, strict=True):
        for j, ax in enumerate(line):
            ax.set_xticks([])
            ax.set_yticks([])
            for spine in ax.spines.values():
                spine.set_visible(False)
            if not isinstance(images, str) and j < len(images):
                picture = images[j]
                ax.imshow(picture[..., 0] if picture.shape[-1] == 1 else picture, cmap="gray", vmin=0, vmax=255,
                          interpolation="nearest")  # fmt: skip
        if isinstance(images, str):
            line[0].text(0, 0.5, images, fontsize=7, va="center", transform=line[0].transAxes)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=8)
    return fig


def _bars(row: Mapping[str, Any], name: str) -> list[list[float]] | None:
    low, high = row.get(name + LOW), row.get(name + HIGH)
    if not present(low) or not present(high):
        return None
    value = float(row[name])
    return [[max(0.0, value - float(low))], [max(0.0, float(high) - value)]]
