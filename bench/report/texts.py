"""How values of the tables are said: with a fixed count of decimals, their interval, and '-' where there are none."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from .columns import HIGH, LOW

NOT_DISTINGUISHABLE = "not distinguishable"
"""In a note on a difference: its interval holds 0."""

ONE_SEED = "one seed: training noise not included"
"""In a note on a difference: its interval is over images only, so it may belong to one training, not to the defense."""

WORST_UNKNOWN = "a worst case is not known"
"""In a note on a difference of worst cases: one side is incomplete, so nothing says whether they can be told apart."""


def present(value: Any) -> bool:
    """Says whether a table's value is there."""
    return value is not None and not (isinstance(value, float) and value != value) and value is not pd.NA


def said(row: Mapping[Any, Any], name: str) -> str:
    """Returns a text of a table; '-' where there is none."""
    value = row.get(name)
    return str(value) if present(value) and value else "-"


def number(row: Mapping[Any, Any], name: str, digits: int, *, interval: bool = False) -> str:
    """Returns a figure as text, with its interval if asked for; '-' where there is none."""
    value = row.get(name)
    if not present(value):
        return "-"
    bounds = bracket(row, name, digits) if interval else ""
    return f"{fixed(value, digits)} {bounds}" if bounds else fixed(value, digits)


def bracket(row: Mapping[Any, Any], name: str, digits: int) -> str:
    """Returns the interval of a figure as text; empty where there is none."""
    low, high = row.get(name + LOW), row.get(name + HIGH)
    return f"[{fixed(low, digits)}, {fixed(high, digits)}]" if present(low) and present(high) else ""


def fixed(value: Any, digits: int) -> str:
    """Returns a number with a fixed count of decimals, and no minus before a zero; infinity as ∞."""
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{digits}f}"
    return text if float(text) else text.lstrip("-")


def undistinguished(row: Mapping[Any, Any], name: str) -> str:
    """Returns ``n.d.`` where a difference from the undefended target is not distinguishable from 0, else nothing."""
    return "n.d." if NOT_DISTINGUISHABLE in said(row, f"{name}_note") and present(row.get(name)) else ""


def one_seed(rows: Iterable[Mapping[Any, Any]]) -> bool:
    """Says whether any difference from the undefended target rests on a single training."""
    return any(ONE_SEED in said(r, f"{n}_note") for r in rows for n in ("leakage_change", "accuracy_drop"))


def ends_of(row: Mapping[str, Any], name: str) -> list[float]:
    """Returns the ends of a figure's interval; the figure itself where it has none."""
    low, high = row.get(name + LOW), row.get(name + HIGH)
    return [float(v) if v is not None and present(v) else float(row[name]) for v in (low, high)]
