"""Each measured quantity against the error of the strongest attack, a panel per quantity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from .canvas import axes_at, fitted, new, nothing
from .columns import HIGH, LOW
from .criterion import Point
from .legend import Legend
from .plot_convergence import log_ticks
from .style import GRID, MUTED, NORMAL, PAGE_WIDTH, SMALL, marker_size, styles
from .texts import present

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.2
"""Height of a data area in inches."""

ARROW = 18
"""Length of an arrow in points."""

NOTE = "a point: a trained target   arrow: only a lower limit is known (censored), not ranked"


def criterion(
    points: Sequence[Point], rows: pd.DataFrame, units: Mapping[str, str], defenses: Sequence[str] = ()
) -> Figure:
    """Draws the quantities that have values; targets of one defense look alike.

    Args:
        points: the targets of one dataset.
        rows: the criterion's rows of that dataset.
        units: quantity to its unit.
        defenses: all of the suite, in its order, so that each one looks as in the other figures.
    """
    shown = [r for r in rows.to_dict("records") if int(r["targets"]) + int(r["censored"]) > 0]
    if not shown or not points:
        return nothing("no measured quantity can be compared with the error of an attack")
    there = dict.fromkeys(p.cluster[-1] for p in points)
    names = [d for d in dict.fromkeys([*defenses, *there]) if d in there]
    look = styles(list(dict.fromkeys([*defenses, *there])))
    across = 3 if len(shown) > 2 else len(shown)
    panel = (PAGE_WIDTH - 0.15) / across - 0.75
    titles = [fitted(_title(r), panel, SMALL) for r in shown]
    head = 0.1 + 0.15 * (max(t.count("\n") for t in titles) + 1)
    line_height = head + HEIGHT + 0.5
    legend = Legend(names, PAGE_WIDTH, NOTE)
    lines = math.ceil(len(shown) / across)
    fig = new(PAGE_WIDTH, lines * line_height + 0.1 + legend.height)
    for i, (row, title) in enumerate(zip(shown, titles, strict=True)):
        left, top = 0.75 + (i % across) * (panel + 0.75), (i // across) * line_height + head
        ax = axes_at(fig, left, top, panel, HEIGHT)
        _panel(ax, points, str(row["quantity"]), look)
        ax.set_title(title, fontsize=SMALL, loc="left", pad=4)
        unit = units.get(str(row["quantity"]), "")
        ax.set_xlabel(f"{row['quantity']} ({unit})" if unit else str(row["quantity"]), fontsize=SMALL)
        if i % across == 0:
            ax.set_ylabel("MSE of the strongest attack", fontsize=NORMAL)
    legend.draw(fig, look, lines * line_height + 0.05)
    return fig


def _title(row: Mapping[str, Any]) -> str:
    if not present(row["spearman"]):
        return str(row["verdict"])
    ends = f"[{row['spearman' + LOW]:.2f}, {row['spearman' + HIGH]:.2f}]"
    censored = f", {row['censored']} censored" if row["censored"] else ""
    return f"Spearman {row['spearman']:.2f} {ends}: {row['verdict']} ({row['targets']} targets{censored})"


def _panel(ax: Axes, points: Sequence[Point], name: str, look: Mapping[str, tuple[str, str]]) -> None:
    values = [v for p in points if (v := p.values.get(name)) is not None]
    limits = [p.limits[name] for p in points if name in p.limits]
    for point in points:
        colour, marker = look[point.cluster[-1]]
        value = point.values.get(name)
        if value is not None:
            ax.plot(
                value, point.error, color=colour, marker=marker, markersize=marker_size(marker, 5), linestyle="none"
            )
        elif name in point.limits:
            # The head lies at the text's end: a fixed length to the right, whatever the axis' scale.
            ax.annotate(
                "", (point.limits[name], point.error), (ARROW, 0), textcoords="offset points",
                arrowprops={"arrowstyle": "<-", "color": colour, "linewidth": 1, "shrinkA": 0, "shrinkB": 0},
            )  # fmt: skip
            ax.plot(point.limits[name], point.error, color=colour, marker="|", markersize=6, linestyle="none")
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(4))  # a third of the page has no room for more numbers of five digits
    every = [*values, *limits]
    if min(every) > 0 and max(every) / min(every) > 20:
        _log(ax, "x", every)
    if limits:
        _make_room(ax)
    errors = [p.error for p in points]
    if min(errors) > 0 and max(errors) / min(errors) > 5:
        _log(ax, "y", errors)
    ax.grid(color=GRID, linewidth=0.5)
    ax.tick_params(labelsize=SMALL, labelcolor=MUTED)


def _make_room(ax: Axes) -> None:
    """Moves the right end of an axis so far that the arrows of what is censored lie within."""
    figure: Any = ax.figure
    share = (ARROW + 4) / 72 / (ax.get_position().width * float(figure.get_size_inches()[0]))
    low, high = ax.get_xlim()
    more = (high / low) ** share if ax.get_xscale() == "log" else 1.0
    ax.set_xlim(low, high * more if more > 1 else high + share * (high - low))


def _log(ax: Axes, axis: str, values: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    low, high = min(values) / 1.3, max(values) * 1.3
    ticks = log_ticks(low, high)
    if axis == "x":
        ticks = ticks[:: max(1, math.ceil(len(ticks) / 4))]
    # An axis of its own name: matplotlib's setters differ by a letter only.
    getattr(ax, f"set_{axis}scale")("log")
    getattr(ax, f"set_{axis}lim")(low, high)
    getattr(ax, f"set_{axis}ticks")(ticks, [f"{t:.3g}" for t in ticks])
    getattr(ax, f"{axis}axis").set_minor_locator(NullLocator())
