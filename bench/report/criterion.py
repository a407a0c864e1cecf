"""Which measured quantity predicts how well the strongest attack does: rank correlations over the targets of a suite.

A quantity is every measured column whose direction is *more leakage*, and the usable information of the strongest
attack itself. A value that its status calls no measurement (an estimator at its ceiling, say) is neither ranked nor
averaged: it is counted, and drawn as what it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from ..plan import Plan
from ..stats import LEVEL, bootstrap_weights
from .columns import HIGH, LABELS, LOW, TRUTH, USABLE, measure_columns, measure_names
from .frames import Row, make_frame

LEAST = 5
"""Independent targets below which no correlation is given."""

COLUMNS = ("dataset", "quantity", "targets", "censored", "missing", "spearman", f"spearman{LOW}", f"spearman{HIGH}")
COLUMNS += ("verdict",)

PREDICTS, OPPOSITE, NOTHING = "predicts", "predicts the opposite", "not shown to predict"


@dataclass(frozen=True)
class Point:
    """A target in the criterion.

    Attributes:
        label: the target in words.
        cluster: what repeats of one target share; repeats are resampled together.
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


def points(plan: Plan, targets: pd.DataFrame, cells: pd.DataFrame, dataset: str) -> list[Point]:
    """Returns the done targets of a dataset with the error of the strongest attack on each."""
    statuses = _statuses(plan)
    names = [q for q in quantities(plan) if q in targets or q == USABLE]
    attacked = cells[(cells["dataset"] == dataset) & (cells["knowledge"] != TRUTH) & (cells["status"] == "done")]
    out = []
    for row in targets[(targets["dataset"] == dataset) & (targets["status"] == "done")].to_dict("records"):
        mine = attacked[attacked["target"] == row["key"]].dropna(subset=["mse"])
        if mine.empty:
            continue
        best = mine.loc[mine["mse"].astype(float).idxmin()]
        values, limits = _read(row, names, statuses)
        if USABLE in best and pd.notna(best[USABLE]):
            values[USABLE] = float(best[USABLE])
        label = ", ".join(str(row[n]) for n in LABELS if n != "dataset")
        cluster = tuple(str(row[n]) for n in LABELS if n != "seed")
        out.append(Point(label, cluster, float(best["mse"]), str(best["attack"]), values, limits))
    return out


def build_criterion(plan: Plan, targets: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Returns a row per dataset and quantity: Spearman's rank correlation with the strongest attack's error.

    Every quantity is meant to fall as the error rises. ``verdict`` is *predicts* if the 95 % interval lies below 0,
    *predicts the opposite* if above, else *not shown to predict*. The interval resamples targets; seeds of one target
    stay together.
    """
    rows: list[Row] = []
    if "mse" not in cells:
        return make_frame(rows, COLUMNS)  # without errors there is nothing to predict
    for dataset in plan.datasets:
        some = points(plan, targets, cells, dataset) if dataset in set(targets["dataset"]) else []
        if not some:
            continue
        for name in quantities(plan):
            known = [p for p in some if p.values.get(name) is not None]
            censored = sum(name in p.limits for p in some)
            row: Row = {"dataset": dataset, "quantity": name, "targets": len(known), "censored": censored}
            row["missing"] = len(some) - len(known) - censored
            rows.append(row | _correlation(known, name))
    return make_frame(rows, COLUMNS)


def spearman(a: Sequence[float], b: Sequence[float], weights: np.ndarray | None = None) -> float:
    """Returns Spearman's rank correlation of two samples, NaN where one of them is constant.

    Args:
        a: values.
        b: values of the same things.
        weights: how often each thing counts, whole numbers (a bootstrap resample); None: once each.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if weights is not None:
        times = weights.astype(np.int64)
        x, y = np.repeat(x, times), np.repeat(y, times)
    u, v = rankdata(x), rankdata(y)
    u, v = u - u.mean(), v - v.mean()
    size = np.sqrt((u @ u) * (v @ v))
    return float(u @ v / size) if size > 0 else float("nan")


def _correlation(known: Sequence[Point], name: str) -> Row:
    clusters = sorted({p.cluster for p in known})
    if len(clusters) < LEAST:
        return {"verdict": f"{len(clusters)} independent targets, at least {LEAST} are needed"}
    values = [float(p.values[name] or 0.0) for p in known]
    errors = [p.error for p in known]
    rho = spearman(values, errors)
    if not np.isfinite(rho):
        return {"verdict": "the quantity, or the error, is the same for all targets"}
    resamples = bootstrap_weights([clusters.index(p.cluster) for p in known])
    drawn = np.array([spearman(values, errors, w) for w in resamples])
    drawn = np.sort(drawn[np.isfinite(drawn)])
    out = int((1 - LEVEL) / 2 * (len(drawn) - 1))
    low, high = float(drawn[out]), float(drawn[-1 - out])
    verdict = PREDICTS if high < 0 else OPPOSITE if low > 0 else NOTHING
    return {"spearman": rho, "spearman" + LOW: low, "spearman" + HIGH: high, "verdict": verdict}


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
        if statuses.get(name) and row.get(statuses[name]) != "ok":
            limit = number if number is not None else row.get(name.removesuffix("_nats") + LOW)
            if limit is not None and not pd.isna(limit):
                limits[name] = float(limit)
            number = None
        values[name] = number
    return values, limits
