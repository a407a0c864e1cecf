"""What attacks that read a class or another attribute gained over a constant guess."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import stats
from ..data.base import LABEL
from ..plan import Plan
from ..stats import Interval
from .columns import metric_names
from .frames import Row, spread
from .headline import by_seed
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
    return stats.scaled_interval(right, constant, 1 - constant, reference.groups)


def constant_right(reference: Reference, attribute: str) -> Array | None:
    """Returns 1 for each private image that has the most frequent value of an attribute, else 0, (N,)."""
    values = reference.labels if attribute == LABEL else reference.attributes.get(attribute, ())
    if not values:
        return None
    most = Counter(values).most_common(1)[0][0]
    return np.array([float(v == most) for v in values])


def cell_reading(plan: Plan, records: Records, dataset: str, key: str) -> Row:
    """Returns the advantage of a cell whose attack reads labels, empty for other cells."""
    if plan.nodes["cell", key].infers == "image" or ACCURACY not in plan.metrics:
        return spread("label_advantage", None)
    right = records.scores(key, ACCURACY).whole
    found = None
    if right is not None:
        found = advantage(right, records.reference(dataset), read_attribute(plan, key))
    return spread("label_advantage", found)


def best_reading(
    plan: Plan, records: Records, cells: Sequence[Mapping[str, Any]], seeds: set[int], reference: Reference
) -> Row:
    """Returns the figures of the attack with the greatest advantage among those that are there for all seeds."""
    row: Row = {}
    if ACCURACY not in plan.metrics:
        return row
    best = -np.inf
    for attack in dict.fromkeys(c["attack"] for c in cells):
        some = [c for c in cells if c["attack"] == attack]
        done = [c["key"] for c in some if records.done("cell", c["key"])]
        values = [records.scores(key, ACCURACY).whole for key in done]
        whole = [(c["seed"], v) for c, v in zip(some, values, strict=False) if v is not None]
        if len(done) < len(some) or len(whole) < len(some) or {s for s, _ in whole} != seeds:
            continue
        right = by_seed(whole)
        found = advantage(right, reference, read_attribute(plan, done[0]))
        if found is None or found.value <= best:
            continue
        best = found.value
        row = {"label_attack": attack, **spread("label_advantage", found)}
        row |= spread(ACCURACY, stats.mean_interval(right, reference.groups, bounds=(0.0, 1.0)))
    return row


def reading_columns(plan: Plan) -> list[str]:
    """Returns the columns of the tables that only suites with attacks on labels have."""
    return list(spread("label_advantage", None)) if metric_names(plan, "label") else []
