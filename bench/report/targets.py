"""The table of targets: what each trained model measures, costs and took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from .. import stats
from ..plan import Plan
from ..rising import still_rising
from .columns import HIGH, LABELS, LOW, TIMING, measure_columns, measure_names
from .frames import Row, joined, make_frame, spread
from .headline import SHARE
from .promised import promised, promised_columns
from .reading import Array, Records, Reference

RISING = "validation accuracy still rising at the last epoch"


def build_targets(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per target of the plan; measured columns in the suite's order, timings last."""
    rows = [_row(plan, records, row) for row in plan.targets]
    measured: list[str] = []
    timings: list[str] = [f"{TIMING}train_s"]
    for name in measure_names(plan):
        for column in measure_columns(name):
            (timings if column.startswith(TIMING) else measured).append(column)
    for row in rows:
        timings += [c for c in row if c.startswith(TIMING) and c not in timings]
    with_interval = {"accuracy"} | {c.removesuffix(LOW) for row in rows for c in row if c.endswith(LOW)}
    figures = [
        part
        for c in measured
        for part in ((c, c + LOW, c + HIGH) if c in with_interval and c + LOW not in measured else (c,))
    ]
    training = ("val_rising", "kept_epoch", "epochs", "final_loss", "val_accuracy")
    columns = [*LABELS, "key", "status", "reason", *figures, *promised_columns(rows), "flags", *training, *timings]
    return make_frame(rows, dict.fromkeys(columns))


def accuracy_per_image(plan: Plan, records: Records, key: str) -> Array | None:
    """Returns the accuracy of a target on each image of ``measure``, (N,), or None."""
    for name in measure_names(plan):
        found, _ = records.measured(key, name)
        if found is not None and "accuracy" in found["per_image"]:
            return np.asarray(found["per_image"]["accuracy"], dtype=np.float64)
    return None


def target_values(plan: Plan, records: Records, key: str) -> dict[str, Any]:
    """Returns column to value of everything measured on a target, timings under their prefix."""
    out: dict[str, Any] = {}
    for name in measure_names(plan):
        found, _ = records.measured(key, name)
        if found is not None:
            out |= found["values"]
            out |= {TIMING + c: v for c, v in found["timing_values"].items()}
    return out


def target_flags(plan: Plan, records: Records, key: str, only: str | None = None) -> list[str]:
    """Returns the validity flags of a target, or of the measure that fills one column."""
    flags: list[str] = []
    for name in measure_names(plan):
        found, _ = records.measured(key, name)
        if found is not None and (only is None or only in measure_columns(name)):
            flags += found["flags"]
    record = records.done("target", key)
    if only is None and record is not None:
        if val_rising(plan, key, record["training"]):
            flags.append(RISING)
        flags += record["warnings"]
    return flags


def val_rising(plan: Plan, key: str, history: Mapping[str, Any]) -> bool | None:
    """Returns whether validation accuracy still rose, judged anew so that all rows of a table follow one rule."""
    curve = history.get("val_accuracy")
    sizes = plan.nodes["target", key].identity.get("client") if ("target", key) in plan.nodes else None
    if not curve or sizes is None or history.get("val_rising") is None:
        return history.get("val_rising")
    return still_rising(curve, int(sizes["client_val"]))


def measure_reasons(plan: Plan, records: Records, key: str, owed_only: bool = False) -> list[str]:
    """Returns why values of a done target are missing; with ``owed_only`` only what failed or was not measured yet."""
    states = [records.measured(key, name)[1] for name in measure_names(plan)]
    return [s.reason for s in states if s.reason and (s.owed or not owed_only)]


def _row(plan: Plan, records: Records, labels: Mapping[str, Any]) -> Row:
    state = records.row_state("target", labels)
    row: Row = {name: labels[name] for name in LABELS}
    row |= {"key": labels["key"] or "", "status": state.status, "reason": state.reason, "flags": ""}
    record = records.done("target", labels["key"])
    if record is None:
        return row
    key = labels["key"]
    row |= target_values(plan, records, key)
    intervals, unknown = _intervals(plan, records, key, records.reference(labels["dataset"]))
    row |= intervals
    row |= promised(plan, records, [key])
    row["reason"] = joined([*measure_reasons(plan, records, key), *unknown])
    row["flags"] = joined(target_flags(plan, records, key))
    row |= _training(record["training"]) | {"val_rising": val_rising(plan, key, record["training"])}
    return row | {TIMING + c: v for c, v in record["timing"].items()}


def _intervals(plan: Plan, records: Records, key: str, reference: Reference) -> tuple[Row, list[str]]:
    """Returns the intervals over images, and why there are none."""
    row: Row = {}
    reasons: list[str] = []
    for name in measure_names(plan):
        found, _ = records.measured(key, name)
        for column, values in (found["per_image"] if found else {}).items():
            # Without the groups an interval would be too narrow, so there is none.
            if reference.state.status != "done":
                reasons.append(f"{column}: no interval: the reference record is {reference.state.status}")
            else:
                shares = measure_columns(name)[column].unit == SHARE
                interval = stats.share_interval if shares else stats.mean_interval
                row |= spread(column, interval(values, reference.measure_groups))
    return row, reasons


def _training(history: Mapping[str, Any]) -> Row:
    loss, accuracy, kept = history.get("loss") or [], history.get("val_accuracy") or [], history.get("kept_epoch")
    return {
        "kept_epoch": kept,
        "epochs": len(loss) or None,
        "final_loss": loss[-1] if loss else None,
        "val_accuracy": accuracy[kept - 1] if isinstance(kept, int) and 1 <= kept <= len(accuracy) else None,
    }
