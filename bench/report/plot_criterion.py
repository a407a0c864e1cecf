"""Each measured quantity against the error of the strongest attack, a panel per quantity."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from .canvas import axes_at, fitted, fitted_words, new, nothing, text_height, text_width, write
from .columns import HIGH, LOW
from .criterion import Point
from .legend import Legend
from .plot_convergence import log_ticks
from .style import GRID, MUTED, NORMAL, PAGE_WIDTH, SMALL, marker_size, styles
from .texts import bracket, fixed, present

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT = 2.2
"""Height of a data area in inches."""

ARROW = 18
"""Length of an arrow in points."""

NOTE = "a point: a trained target   arrow: only a lower limit is known (censored), not ranked"

FILLS: tuple[Literal["full", "none", "left", "top", "right", "bottom"], ...]
FILLS = ("full", "none", "left", "top", "right", "bottom")
"""How the markers of the places look, in the suite's order."""


def criterion(
    points: Sequence[Point], rows: pd.DataFrame, axes: Mapping[str, str], defenses: Sequence[str] = ()
) -> Figure:
    """Draws the quantities that have values; colour and shape tell defenses apart, and the fill tells cuts apart.

    Args:
        points: the targets of one dataset.
        rows: the criterion's rows of that dataset.
        axes: quantity to what its axis says, with the unit; its name where that is not known.
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
    head = 0.15 + max(text_height(t, SMALL) for t in titles)
    labels = [fitted_words(axes.get(str(r["quantity"]), str(r["quantity"])), panel, SMALL) for r in shown]
    line_height = head + HEIGHT + 0.35 + max(text_height(t, SMALL) for t in labels)
    legend = Legend(names, PAGE_WIDTH, NOTE)
    places = list(dict.fromkeys(p.place for p in points))
    fills = {place: FILLS[i % len(FILLS)] for i, place in enumerate(places)}
    lines = math.ceil(len(shown) / across)
    key = _key_lines(places, PAGE_WIDTH - 0.75) if len(places) > 1 else []
    fig = new(PAGE_WIDTH, lines * line_height + 0.1 + legend.height + 0.2 * len(key))
    for i, (row, title) in enumerate(zip(shown, titles, strict=True)):
        left, top = 0.75 + (i % across) * (panel + 0.75), (i // across) * line_height + head
        ax = axes_at(fig, left, top, panel, HEIGHT)
        _panel(ax, points, str(row["quantity"]), look, fills)
        ax.set_title(title, fontsize=SMALL, loc="left", pad=4)
        ax.set_xlabel(labels[i], fontsize=SMALL)
        if i % across == 0:
            ax.set_ylabel("MSE of the strongest attack", fontsize=NORMAL)
    legend.draw(fig, look, lines * line_height + 0.05)
    for i, line in enumerate(key):
        _draw_key(fig, line, fills, lines * line_height + 0.05 + legend.height + 0.2 * i)
    return fig


def _key_lines(places: Sequence[tuple[str, ...]], width: float) -> list[list[tuple[tuple[str, ...], str, float]]]:
    """Returns the key of the fills as lines of (place, its name, where it begins in inches from the first)."""
    # Only what differs between places names them.
    differs = [i for i in range(len(places[0])) if len({p[i] for p in places}) > 1]
    out: list[list[tuple[tuple[str, ...], str, float]]] = [[]]
    at = 0.0
    for place in places:
        name = ", ".join(place[i] for i in differs)
        if out[-1] and at + 0.25 + text_width(name, SMALL) > width:
            out.append([])
            at = 0.0
        out[-1].append((place, name, at))
        at += 0.55 + text_width(name, SMALL)
    return out


def _draw_key(
    fig: Figure, line: Sequence[tuple[tuple[str, ...], str, float]], fills: Mapping[tuple[str, ...], Any], top: float
) -> None:
    from matplotlib.lines import Line2D

    width, height = fig.get_size_inches()
    for place, name, at in line:
        how = _filled(MUTED, "o", fills[place])
        fig.add_artist(Line2D([(0.75 + at + 0.08) / width], [1 - (top + 0.075) / height], **how))
        write(fig, 0.75 + at + 0.25, top, name, SMALL)


def _filled(
    colour: str, marker: str, fill: Literal["full", "none", "left", "top", "right", "bottom"]
) -> dict[str, Any]:
    """Returns how a point of a place is drawn: its edge always shows, so that a half or hollow one keeps its shape."""
    size = marker_size(marker, 5.5)
    half = {"fillstyle": fill, "markerfacecoloralt": "white", "markeredgewidth": 0.9}
    return {"color": colour, "marker": marker, "markersize": size, "linestyle": "none", **half}


def _title(row: Mapping[str, Any]) -> str:
    if not present(row["spearman"]):
        return str(row["verdict"])
    within = f", within cuts {_with_ends(row, 'spearman_within')}" if _several(row) else ""
    over = f"{row['targets']} targets" + (f", {row['censored']} censored not ranked" if row["censored"] else "")
    return f"Spearman {_with_ends(row, 'spearman')}{within}: {row['verdict']} ({over})"


def _several(row: Mapping[str, Any]) -> bool:
    """Says whether the correlation within cuts is there and is another one: with a single cut both are the same."""
    ends = ("", LOW, HIGH)
    return present(row["spearman_within"]) and any(row["spearman_within" + e] != row["spearman" + e] for e in ends)


def _with_ends(row: Mapping[str, Any], name: str) -> str:
    return f"{fixed(row[name], 2)} {bracket(row, name, 2)}"


def _panel(
    ax: Axes,
    points: Sequence[Point],
    name: str,
    look: Mapping[str, tuple[str, str]],
    fills: Mapping[tuple[str, ...], Any],
) -> None:
    values = [v for p in points if (v := p.values.get(name)) is not None]
    limits = [p.limits[name] for p in points if name in p.limits]
    for point in points:
        colour, marker = look[point.cluster[-1]]
        value = point.values.get(name)
        if value is not None:
            ax.plot(value, point.error, **_filled(colour, marker, fills[point.place]))
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
