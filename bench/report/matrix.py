"""The matrix defense × attack over seeds: what the heat maps show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .. import stats
from ..plan import Plan
from .cells import beats_prior
from .columns import HIGH, LOW, PLACE, figure, metric_names
from .frames import Row, make_frame, spread
from .headline import figure_interval, holds_zero, leakage, leakage_difference, resolution, values_over_seeds
from .reading import Records, State
from .texts import present

ALIKE = "_alike"
"""Ending of the columns that say whether a figure is not distinguishable from that of none."""


def build_matrix(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per dataset, backbone, cut, defense, attack and knowledge level, with its figures over seeds.

    ``NAME_alike`` says that a figure is not distinguishable from that of ``none`` under the same attack: the interval of the
    difference, paired over images and seeds, holds 0. It is empty for ``none`` and for controls, which do not look at the
    features. ``state`` is empty where every seed is done, else says in a word or two what is missing; figures are there only
    where every seed has them. ``control`` marks attacks that are not meant to beat the prior; ``infers`` says what an attack
    finds (empty where nothing is attacked); ``seeds`` counts the trainings behind a row.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for cell in plan.cells:
        groups.setdefault(tuple(cell[n] for n in (*PLACE, "defense", "attack", "knowledge")), []).append(cell)
    known: dict[tuple[str, ...], Row] = {}
    alike: dict[tuple[str, ...], Row] = {}
    rows = []
    for at, cells in groups.items():
        row = _row(plan, records, cells, known)
        undefended = groups.get((*at[:3], "none", *at[4:]), [])
        if undefended and at[3] != "none" and not row["state"] and not row["control"]:
            pair = tuple(c["key"] for c in (*cells, *undefended))
            if pair not in alike:
                alike[pair] = _alike(plan, records, cells, undefended)
            row |= alike[pair]
        rows.append(row)
    names = ("leakage", "equivalent_resolution", *metric_names(plan))
    figures = [p for n in names for p in (n, n + LOW, n + HIGH, n + ALIKE)]
    return make_frame(
        rows, [*PLACE, "defense", "attack", "knowledge", "infers", "control", "state", "reason", "seeds", *figures]
    )


def _row(plan: Plan, records: Records, cells: Sequence[Mapping[str, Any]], known: dict[tuple[str, ...], Row]) -> Row:
    first = cells[0]
    row: Row = {n: first[n] for n in (*PLACE, "defense", "attack", "knowledge")}
    row["seeds"] = len({c["seed"] for c in cells})
    states = [records.row_state("cell", c) for c in cells]
    row["state"], row["reason"] = missing(states)
    key = next((c["key"] for c in cells if c["key"]), None)
    row["infers"] = plan.nodes["cell", key].infers if key else None
    row["control"] = key is not None and not beats_prior(plan.nodes["cell", key].identity["attack"]["name"])
    if row["state"]:
        return row
    # One record may serve several knowledge levels: its figures are computed once.
    keys = tuple(c["key"] for c in cells)
    if keys not in known:
        known[keys] = _figures(plan, records, cells)
    return row | known[keys]


def _figures(plan: Plan, records: Records, cells: Sequence[Mapping[str, Any]]) -> Row:
    reference = records.reference(cells[0]["dataset"])
    seeds = {c["seed"] for c in cells}
    row: Row = {}
    for name in metric_names(plan):
        values = values_over_seeds(records, cells, name, seeds)
        row |= spread(name, None if values is None else figure_interval(figure(name), values, reference.groups))
        if name == "mse" and values is not None:
            row |= spread("leakage", leakage(values, reference))
            row |= spread("equivalent_resolution", resolution(values, reference))
    return row


def _alike(
    plan: Plan, records: Records, cells: Sequence[Mapping[str, Any]], undefended: Sequence[Mapping[str, Any]]
) -> Row:
    """Returns which figures of an attack on a defense cannot be told from those of the same attack on ``none``."""
    reference = records.reference(cells[0]["dataset"])
    row: Row = {}
    for name in metric_names(plan):
        ours, theirs = (
            values_over_seeds(records, some, name, {c["seed"] for c in some}) for some in (cells, undefended)
        )
        if ours is None or theirs is None or ours.shape != theirs.shape:
            continue
        row[name + ALIKE] = holds_zero(stats.paired_difference(ours, theirs, reference.groups))
        if name == "mse":
            # The resolution is a function of the same errors: what cannot be told apart in one cannot be in the other.
            alike = holds_zero(leakage_difference(ours, theirs, reference))
            row |= {f"leakage{ALIKE}": alike, f"equivalent_resolution{ALIKE}": alike}
    return row


def is_alike(row: Mapping[Any, Any], name: str) -> bool:
    """Says whether a row's figure is known not to be distinguishable from that of ``none``."""
    return present(row.get(name + ALIKE)) and bool(row[name + ALIKE])


def missing(states: Sequence[State]) -> tuple[str, str]:
    """Returns what is missing among the seeds of a cell, in a few words, and why; two empty texts if nothing is."""
    bad = [s for s in states if s.status != "done"]
    if not bad:
        return "", ""
    # What went wrong comes before what was never meant to be.
    worst = min(bad, key=lambda s: ("failed", "not run", "skipped").index(s.status) - 2 * s.owed)
    word = worst.status
    if worst.owed and worst.status == "skipped":
        word = worst.reason.split(":")[0]
    count = Counter(s.status for s in bad)[worst.status]
    return (word if count == len(states) else f"{count} of {len(states)}\n{word}"), worst.reason
