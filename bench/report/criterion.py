"""Which measured quantity predicts how well the strongest attack does: rank correlations over the targets of a suite.

A quantity is every measured column whose direction is *more leakage*, and the usable information of the strongest other
attack (that of the strongest attack itself is a function of the error that is to be predicted). A value that its status
calls no measurement (an estimator at its ceiling, say) is neither ranked nor averaged: it is counted, and drawn as what
it is. Where many are, those that are left are no fair sample, for it is the leakiest targets that are censored: there is
no verdict then.

Cuts differ in leakage whatever is measured, so a quantity that only tells cuts apart correlates with the error over all
targets. The correlation within places (backbone and cut) leaves that out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..labels import ignores_defense
from ..plan import Plan
from ..twins import twin_targets
from .cells import beats_prior
from .columns import HIGH, LABELS, LOW, PLACE, TRUTH, USABLE, measure_columns, measure_names
from .frames import Row, make_frame
from .ranks import Correlation, correlation
from .spared import of_one_draw

LEAST = 6
"""Independent targets below which no correlation is given: with 5 unrelated ones every eighth interval leaves out 0."""

LEAST_WITHIN = 3
"""Independent targets below which a place is left out of the correlation within places."""

MOST_CENSORED = 0.25
"""Share of censored targets above which there is no verdict."""

COLUMNS = ("dataset", "quantity", "targets", "censored", "missing", "incomplete")
COLUMNS += tuple(f"spearman{end}" for end in ("", LOW, HIGH, "_p"))
COLUMNS += ("targets_within", *(f"spearman_within{end}" for end in ("", LOW, HIGH, "_p")), "verdict")

NOTHING = "not shown to predict"
PREDICTS = {-1: "predicts", 1: "predicts the opposite"}
"""The sign of a correlation with the error to what it says."""


@dataclass(frozen=True)
class Point:
    """A target in the criterion.

    Attributes:
        label: the target in words.
        cluster: what repeats of one target share, and targets with one edge (the cloud as it was and trained anew), on which an
            attack leaves the same error; they are resampled together.
        error: mean squared error of the strongest attack.
        attack: that attack.
        values: quantity to its value; None where there is none or it is censored.
        limits: quantity to what is certified instead of a value, where it is censored (a lower limit).
    """

    label: str
    cluster: tuple[str, ...]
    error: float
    attack: str
    values: Mapping[str, float | None]
    limits: Mapping[str, float]

    @property
    def place(self) -> tuple[str, ...]:
        """Dataset, backbone and cut: all of the cluster but its wire."""
        return self.cluster[:-1]


def quantities(plan: Plan) -> list[str]:
    """Returns the columns that claim to say how much leaks, in the suite's order."""
    found = [
        name
        for measure in measure_names(plan)
        for name, column in measure_columns(measure).items()
        if column.higher_means == "more leakage" and not name.endswith((LOW, HIGH))
    ]
    return [*found, USABLE]


def main_quantities(plan: Plan) -> list[str]:
    """Returns the quantities that figures show: without what accompanies a main one."""
    details = {n for m in measure_names(plan) for n, column in measure_columns(m).items() if column.detail}
    return [q for q in quantities(plan) if q not in details]


def points(
    plan: Plan, targets: pd.DataFrame, cells: pd.DataFrame, dataset: str, spared: Collection[str] = ()
) -> list[Point]:
    """Returns the done targets of a dataset with the error of the strongest attack on each, but for incomplete ones.

    Args:
        plan: of the suite.
        targets: the table of targets.
        cells: the table of cells.
        dataset: its label.
        spared: keys of targets on which an attack that decides elsewhere was not made.
    """
    statuses, lacking = _statuses(plan), incomplete(plan, targets, cells, dataset, spared)
    others = _others(plan, targets)
    names = [q for q in quantities(plan) if q in targets or q == USABLE]
    attacked = _attackers(cells, dataset)
    attacked = attacked[attacked["status"] == "done"]
    out = []
    for row in targets[(targets["dataset"] == dataset) & (targets["status"] == "done")].to_dict("records"):
        mine = attacked[attacked["target"] == row["key"]].dropna(subset=["mse"])
        if mine.empty or row["key"] in lacking:
            continue
        best = mine.loc[mine["mse"].astype(float).idxmin()]
        values, limits = _read(row, names, statuses)
        values[USABLE] = _usable_of_another(plan, mine, best)
        label = ", ".join(str(row[n]) for n in LABELS if n != "dataset")
        own = str(row["defense"])
        wire = " / ".join(sorted({own, others.get(row["key"], own)}))
        cluster = (*(str(row[n]) for n in PLACE), wire)
        out.append(Point(label, cluster, float(best["mse"]), str(best["attack"]), values, limits))
    return out


def _others(plan: Plan, targets: pd.DataFrame) -> dict[str, str]:
    """Returns the key of each target that has a twin to the label of the twin's defense."""
    labels = {str(key): str(label) for key, label in zip(targets["key"], targets["defense"], strict=True)}
    return {key: labels[other] for key, other in twin_targets(plan.nodes).items() if other in labels}


def _attackers(cells: pd.DataFrame, dataset: str) -> pd.DataFrame:
    """Returns the rows of a dataset's attacks, but for those that leave the defense out of account, or receive several draws.

    What is measured is measured of one draw of the wire; the mean of several says more, of a random defense alone.
    """
    cells = cells[(cells["dataset"] == dataset) & (cells["knowledge"] != TRUTH)]
    # Of no rows a list says of no columns instead: the dataset of the levels '-other' has no cells of its own.
    rows = zip(cells["attack"], cells["knowledge"], strict=True)
    return cells[np.array([not ignores_defense(str(a)) and of_one_draw(str(k)) for a, k in rows], dtype=bool)]


def incomplete(
    plan: Plan, targets: pd.DataFrame, cells: pd.DataFrame, dataset: str, spared: Collection[str] = ()
) -> set[str]:
    """Returns the keys of done targets at which a result is missing that ought to be there, or that were spared one.

    The strongest attack on them is not known: one that failed, or that is strongest elsewhere, may have been it.
    """
    owed = _attackers(cells, dataset)
    owed = owed[owed["status"] != "done"]
    # What cannot be has no key.
    keys = {t for t, key in zip(owed["target"], owed["key"], strict=True) if key and _of_images(plan, key)}
    done = targets[(targets["dataset"] == dataset) & (targets["status"] == "done")]
    return (keys | set(spared)) & set(done["key"])


def build_criterion(
    plan: Plan, targets: pd.DataFrame, cells: pd.DataFrame, spared: Collection[str] = ()
) -> pd.DataFrame:
    """Returns a row per dataset and quantity: Spearman's rank correlation with the strongest attack's error.

    Every quantity is meant to fall as the error rises. ``verdict`` is *predicts* if both correlations, over all targets
    and within places, lie below 0: their 95 % intervals, and at most 5 % of permutations as far from 0. It is *predicts
    the opposite* if both lie above; *… across cuts only* or *… within cuts only* if one of them does; *not decided* if
    more than a quarter of the targets are censored; else *not shown to predict*. With a single place both are the same.
    Intervals resample targets (within their place for the second); seeds of one target, and twins that differ in the cloud
    alone, stay together: they are one independent target, in permutations too. A target at which
    an attack failed or was not run yet, or was not made though it decides on another target, has no part and is counted in
    ``incomplete``. Levels of several received draws have no part: what is measured is of one.
    """
    rows: list[Row] = []
    if "mse" not in cells:
        return make_frame(rows, COLUMNS)  # without errors there is nothing to predict
    for dataset in plan.datasets:
        some = points(plan, targets, cells, dataset, spared) if dataset in set(targets["dataset"]) else []
        lacking = incomplete(plan, targets, cells, dataset, spared)
        if not some and not lacking:
            continue
        for name in quantities(plan):
            known = [p for p in some if p.values.get(name) is not None]
            censored = sum(name in p.limits for p in some)
            row: Row = {"dataset": dataset, "quantity": name, "targets": len(known), "censored": censored}
            row |= {"missing": len(some) - len(known) - censored, "incomplete": len(lacking)}
            rows.append(row | _judged(known, name, censored))
    return make_frame(rows, COLUMNS)


def _judged(known: Sequence[Point], name: str, censored: int) -> Row:
    share = censored / max(len(known) + censored, 1)
    undecided = f"not decided: {censored} of {len(known) + censored} censored" if share > MOST_CENSORED else ""
    count = len({p.cluster for p in known})
    if count < LEAST:
        return {"verdict": undecided or f"{count} independent targets, at least {LEAST} are needed"}
    plain = correlation(*_pairs(known, name), [p.cluster for p in known])
    if plain is None:
        return {"verdict": undecided or "the quantity, or the error, is the same for all targets"}
    clusters = {p.place: len({q.cluster for q in known if q.place == p.place}) for p in known}
    comparable = [p for p in known if len(clusters) == 1 or clusters[p.place] >= LEAST_WITHIN]
    within = None
    if len({p.cluster for p in comparable}) >= LEAST:
        within = correlation(*_pairs(comparable, name), [p.cluster for p in comparable], [p.place for p in comparable])
    row: Row = _columns("spearman", plain) | {"targets_within": len(comparable)} | _columns("spearman_within", within)
    return row | {"verdict": undecided or _verdict(plain.sign, within.sign if within else 0)}


def _verdict(plain: int, within: int) -> str:
    if plain and plain == within:
        return PREDICTS[plain]
    if plain:
        return f"{PREDICTS[plain]} across cuts only"
    return f"{PREDICTS[within]} within cuts only" if within else NOTHING


def _columns(name: str, found: Correlation | None) -> Row:
    return dict(zip((name, name + LOW, name + HIGH, name + "_p"), found, strict=True)) if found else {}


def _pairs(known: Sequence[Point], name: str) -> tuple[list[float], list[float]]:
    return [float(p.values[name] or 0.0) for p in known], [p.error for p in known]


def _usable_of_another(plan: Plan, mine: pd.DataFrame, best: Mapping[Any, Any]) -> float | None:
    """Returns the usable information of the strongest attack of another name; that of a control is none."""
    if USABLE not in mine:
        return None
    names = {key: _attack(plan, key, label) for key, label in zip(mine["key"], mine["attack"], strict=True)}
    others = [k for k, name in names.items() if name != names[best["key"]] and beats_prior(name)]
    left = mine[mine["key"].isin(others)].dropna(subset=[USABLE])
    return None if left.empty else float(left.loc[left["mse"].astype(float).idxmin(), USABLE])


def _of_images(plan: Plan, key: str) -> bool:
    """Whether a cell's attack gives images, and so an error."""
    node = plan.nodes.get(("cell", key))
    return node is None or node.infers == "image"


def _attack(plan: Plan, key: str, label: str) -> str:
    """Returns the name of a cell's attack, without its parameters."""
    node = plan.nodes.get(("cell", key))
    return str(node.identity["attack"]["name"]) if node else label.split("(")[0]


def _statuses(plan: Plan) -> dict[str, str]:
    """Returns quantity to the column that says whether its value is a measurement."""
    return {
        name: column.status
        for measure in measure_names(plan)
        for name, column in measure_columns(measure).items()
        if column.status
    }


def _read(
    row: Mapping[str, Any], names: Sequence[str], statuses: Mapping[str, str]
) -> tuple[dict[str, float | None], dict[str, float]]:
    values: dict[str, float | None] = {}
    limits: dict[str, float] = {}
    for name in names:
        value = row.get(name)
        number = None if value is None or pd.isna(value) else float(value)
        if statuses.get(name) and row.get(statuses[name]) not in ("ok", "constant"):  # constant features carry 0
            limit = number if number is not None else row.get(name.removesuffix("_nats") + LOW)
            if limit is not None and not pd.isna(limit):
                limits[name] = float(limit)
            number = None
        values[name] = number
    return values, limits
