"""The worst case by every metric: the strongest attack, and the best reconstruction of each image by any attack."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..labels import ignores_defense
from ..plan import Plan
from . import lacks
from .columns import HIGH, LOW, PLACE, figure, metric_names
from .frames import Row, joined, make_frame, spread
from .headline import figure_interval, values_over_seeds
from .reading import Array, Records

SELECTION = "attack and envelope: selected with the truth in hand"


def build_worst_case(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per defense, knowledge level and metric of images that has a direction.

    The attack is the one with the best mean over images and seeds; the envelope takes for each image (and seed) the best
    value of any attack, and ``best_at`` says how often each attack has it. Both are selected with the truth in hand: an
    attacker who cannot see it need not reach them. Attacks that lack a seed have no part, and ``incomplete`` names them, and
    those that are not possible here and the strongest on another defense; nor have those a part that leave the defense out
    of account.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for cell in plan.cells:
        if ignores_defense(cell["attack"]):
            continue
        groups.setdefault(tuple(cell[n] for n in (*PLACE, "defense", "knowledge")), []).append(cell)
    metrics = metric_names(plan, "image")
    rows = [row for cells in groups.values() for m in metrics if (row := _row(plan, records, cells, m))]
    beside: dict[tuple[str, ...], dict[str, lacks.Tried]] = {}
    for row in rows:
        beside.setdefault(tuple(row[n] for n in _COMPARED), {})[row["defense"]] = row.pop("tried")
    for row in rows:
        tried = beside[tuple(row[n] for n in _COMPARED)]
        if "attack" in row:
            others = [t for defense, t in tried.items() if defense != row["defense"]]
            found = lacks.decided_elsewhere(tried[row["defense"]], others, records.reference(row["dataset"]).groups)
            cells = groups[tuple(row[n] for n in (*PLACE, "defense", "knowledge"))]
            row["incomplete"] = joined([row["incomplete"], *lacks.in_words(found, cells)])
    figures = [p for n in ("value", "envelope") for p in (n, n + LOW, n + HIGH)]
    return make_frame(
        rows,
        [*PLACE, "defense", "knowledge", "metric", "attack", "selection", *figures, "best_at", "attacks", "incomplete"],
    )


_COMPARED = (*PLACE, "knowledge", "metric")
"""What rows of several defenses share."""


def _row(plan: Plan, records: Records, cells: Sequence[Mapping[str, Any]], metric: str) -> Row | None:
    read, first = figure(metric), cells[0]
    if read.higher_means not in ("more leakage", "less leakage"):
        return None
    cells = [c for c in cells if not c["key"] or plan.nodes["cell", c["key"]].infers == "image"]
    seeds = {c["seed"] for c in cells}
    found: dict[str, Array] = {}
    for attack in dict.fromkeys(c["attack"] for c in cells):
        values = values_over_seeds(records, [c for c in cells if c["attack"] == attack], metric, seeds)
        if values is not None:
            found[attack] = values
    row: Row = {**{n: first[n] for n in (*PLACE, "defense", "knowledge")}, "metric": metric}
    row["incomplete"] = joined(lacks.missing(plan, records, cells, metric, found))
    sign = 1 if read.higher_means == "more leakage" else -1
    row["tried"] = lacks.Tried(
        lacks.made_in(cells), {a: -sign * v for a, v in found.items()}, first["defense"] == "none"
    )
    if not found:
        return row if row["incomplete"] else None
    every = sign * np.stack(list(found.values()))
    names = list(found)
    worst = names[max(range(len(names)), key=lambda i: _strength(every[i]))]
    groups = records.reference(first["dataset"]).groups
    row |= {"attack": worst, "selection": SELECTION, "attacks": len(names), "best_at": _shares(names, every)}
    row |= spread("value", figure_interval(read, found[worst], groups))
    return row | spread("envelope", figure_interval(read, sign * every.max(0), groups))


def _strength(values: Array) -> tuple[float, float, float]:
    """Returns by what attacks are ranked: their mean, and of several with an infinite one how many copies are perfect."""
    finite = np.isfinite(values)
    return float(values.mean()), float((~finite).sum()), float(values[finite].mean()) if finite.any() else math.inf


def _shares(names: Sequence[str], values: Array) -> str:
    """Returns how often each attack is the best, in per cent, the most frequent first; equal ones share an image.

    Args:
        names: of the attacks.
        values: (A, S, N), more is better.
    """
    best = values == values.max(0)
    share = dict(zip(names, (best / best.sum(0)).mean((1, 2)).tolist(), strict=True))
    ordered = sorted((n for n in names if share[n] > 0), key=lambda n: -share[n])
    return ", ".join(f"{n} {100 * share[n]:.0f} %" for n in ordered)
