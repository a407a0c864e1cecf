"""What attacks that read a class or another attribute gained over a constant guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from .. import stats
from ..data.base import LABEL
from ..labels import ignores_defense
from ..plan import Plan
from ..stats import Interval
from . import lacks
from .columns import HIGH, LOW, PLACE, metric_names
from .frames import Row, joined, make_frame, spread
from .headline import values_over_seeds
from .reading import Array, Records, Reference

ACCURACY = "label_accuracy"
"""The metric that the figures here are made from, as the leakage score is from ``mse``."""


def read_attribute(plan: Plan, key: str) -> str:
    """Returns what the attack of a cell reads: ``label`` or the name of an attribute."""
    return str(plan.nodes["cell", key].identity["attribute"])


def advantage(right: Array, reference: Reference, attribute: str) -> Interval | None:
    """Returns how much of what a constant guess gets wrong was read: 0 for the best constant guess, 1 for no error.

    (a - c) / (1 - c) with a the accuracy and c the share of the most frequent value among the private images, both
    resampled together. None where all images have one value, or no record says which.

    Args:
        right: 1 where the value was read rightly, else 0, (N,) or (S, N).
        reference: of the dataset.
        attribute: ``label`` or the name of an attribute.
    """
    constant = constant_right(reference, attribute)
    if constant is None or constant.all() or right.shape[-1] != len(constant):
        return None
    found = stats.scaled_interval(right, constant, 1 - constant, reference.groups, bounds=(-np.inf, 1.0))
    # Where each is read rightly no resample differs: the accuracy's own end says what so few images leave open.
    least, share = stats.share_interval(right, reference.groups).low, float(constant.mean())
    return found._replace(low=min(found.low, (least - share) / (1 - share))) if right.all() else found


def constant_right(reference: Reference, attribute: str) -> Array | None:
    """Returns 1 for each private image that has the most frequent value of an attribute, else 0, (N,)."""
    values = reference.labels if attribute == LABEL else reference.attributes.get(attribute, ())
    if not values:
        return None
    most = Counter(values).most_common(1)[0][0]
    return np.array([float(v == most) for v in values])


def cell_reading(plan: Plan, records: Records, dataset: str, key: str) -> Row:
    """Returns the advantage of a cell whose attack reads labels, and why there is none; empty for other cells."""
    if plan.nodes["cell", key].infers == "image":
        return spread("label_advantage", None)
    if ACCURACY not in plan.metrics:
        return spread("label_advantage", None) | {"reason": f"no advantage: it needs the metric {ACCURACY}"}
    right, reference = records.scores(key, ACCURACY).whole, records.reference(dataset)
    attribute = read_attribute(plan, key)
    found = None if right is None else advantage(right, reference, attribute)
    return spread("label_advantage", found) | {"reason": "" if found else _why_not(reference, attribute)}


def build_attributes(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per defense, knowledge level and attribute that is read: the attack with the greatest advantage.

    Attributes are never compared with each other: one defense may hide the class and not another attribute. The attack is
    selected with the truth in hand; one that lacks a seed has no part, and ``incomplete`` names it, and one that is not made
    here though it reads most on another defense.
    """
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for cell in plan.cells:
        if cell["key"] and plan.nodes["cell", cell["key"]].infers == "label" and not ignores_defense(cell["attack"]):
            place = tuple(cell[n] for n in (*PLACE, "defense", "knowledge"))
            groups.setdefault((*place, read_attribute(plan, cell["key"])), []).append(cell)
    rows = [_best(records, cells, at[-1]) for at, cells in groups.items()] if ACCURACY in plan.metrics else []
    tried = {at: _tried(records, cells) for at, cells in groups.items()} if rows else {}
    for row, (at, here) in zip(rows, tried.items(), strict=True):
        others = [t for other, t in tried.items() if _beside(other) == _beside(at) and other != at]
        found = (
            lacks.decided_elsewhere(here, others, records.reference(row["dataset"]).groups) if "attack" in row else []
        )
        cells = [c for c in plan.cells if tuple(c[n] for n in (*PLACE, "defense", "knowledge")) == at[:-1]]
        row["incomplete"] = joined([row["incomplete"], *lacks.in_words(found, cells)])
    figures = [p for n in (ACCURACY, "label_advantage") for p in (n, n + LOW, n + HIGH)]
    return make_frame(rows, [*PLACE, "defense", "knowledge", "attribute", "attack", *figures, "constant", "incomplete"])


def _beside(at: tuple[str, ...]) -> tuple[str, ...]:
    """Returns what rows of several defenses share: place, knowledge level and attribute."""
    *place, _, knowledge, attribute = at
    return (*place, knowledge, attribute)


def _tried(records: Records, cells: Sequence[Mapping[str, Any]]) -> lacks.Tried:
    """Returns the readers that are made, and which images each reads wrongly."""
    seeds, errors = {c["seed"] for c in cells}, {}
    for attack in dict.fromkeys(str(c["attack"]) for c in cells):
        right = values_over_seeds(records, [c for c in cells if c["attack"] == attack], ACCURACY, seeds)
        if right is not None:
            errors[attack] = 1 - right
    return lacks.Tried(lacks.made_in(cells), errors, cells[0]["defense"] == "none")


def _best(records: Records, cells: Sequence[Mapping[str, Any]], attribute: str) -> Row:
    first = cells[0]
    reference = records.reference(first["dataset"])
    row: Row = {**{n: first[n] for n in (*PLACE, "defense", "knowledge")}, "attribute": attribute}
    seeds, lacking, best = {c["seed"] for c in cells}, [], -np.inf
    for attack in dict.fromkeys(c["attack"] for c in cells):
        right = values_over_seeds(records, [c for c in cells if c["attack"] == attack], ACCURACY, seeds)
        found = None if right is None else advantage(right, reference, attribute)
        if right is None or found is None:
            lacking.append(
                f"{attack}: {'not there for every seed' if right is None else _why_not(reference, attribute)}"
            )
        elif found.value > best:
            best = found.value
            row |= {"attack": attack, **spread("label_advantage", found)}
            row |= spread(ACCURACY, stats.share_interval(right, reference.groups))
    constant = constant_right(reference, attribute)
    return row | {"constant": None if constant is None else float(constant.mean()), "incomplete": joined(lacking)}


def _why_not(reference: Reference, attribute: str) -> str:
    constant = constant_right(reference, attribute)
    if constant is None:
        return f"no advantage: the reference record ({reference.state.status}) says nothing of '{attribute}'"
    return f"no advantage: every private image has one value of '{attribute}'" if constant.all() else ""


def reading_columns(plan: Plan) -> list[str]:
    """Returns the columns of the table of cells that only suites with attacks on labels have."""
    return list(spread("label_advantage", None)) if metric_names(plan, "label") else []
