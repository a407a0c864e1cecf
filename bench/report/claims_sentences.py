"""A row of the claims in sentences: what was measured and with which interval, what the claim needs, what that decides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .claims_verdict import HOLDS, INFINITE, OPEN, PERFECT
from .columns import HIGH, LOW
from .texts import present, said

Row = Mapping[Any, Any]

BOUNDS = "bounds"
"""The note on a figure of which only two bounds are known."""


def claimed(row: Row, place: str = "") -> str:
    """Returns what was claimed, with what was published of it."""
    return f"{str(row['says']).rstrip('.')}{place} (published: {row['published']})"


def measured(row: Row, words: Mapping[str, str]) -> str:
    """Returns what was measured: the figure and the attack behind it, both sides, and their comparison with its interval.

    Args:
        row: of the table of claims.
        words: column to what it is called; its name where that is not known.
    """
    column = str(row["figure"])
    what = words.get(column, column)
    if BOUNDS in said(row, "note").split("; "):
        what = f"{what.removeprefix('lower bound on the ')}, of which two bounds are known"
    what += _under(row) + (", computed as in the paper's code" if row["estimator"] == "published" else "")
    if column in words:
        what = what[:1].upper() + what[1:]
    mine = _side(row, "defense_value", str(row["defense"]), "accuracy")
    if said(row, "baseline") == "-":
        return f"{what}: {mine}; there is nothing to compare it with."
    other = _side(row, "baseline_value", said(row, "baseline"), "baseline_accuracy")
    return f"{what}: {mine}, {other}. {_compared(row)}; the claim needs {needed(row)}."


def needed(row: Row) -> str:
    """Returns what the comparison must be for the claim to hold."""
    sign, limit = str(row["threshold"]).split(" ", 1)
    # A claim of a direction alone asks for the least difference that is not 0.
    if 0 < abs(float(limit)) < 1e-6:
        return "more than 0" if sign == ">=" else "less than 0"
    return f"at least {limit}" if sign == ">=" else f"at most {limit}"


def verdict(row: Row) -> tuple[str, str]:
    """Returns the verdict of one figure, and why it is none or does not count."""
    why = "" if row["decides"] else "only shown: it has no vote"
    if row["estimator"] == "published" and not why:
        why = "for comparison"
    if row["verdict"] != OPEN:
        return str(row["verdict"]), why
    return OPEN, "; ".join(t for t in (_undecided(row), why) if t)


def _undecided(row: Row) -> str:
    note, ends = said(row, "note"), [row.get("value" + LOW), row.get("value" + HIGH)]
    if "useless: no evidence" in note:
        return "the defense does not do its task, so it is no evidence"
    if said(row, "baseline") == "-":
        return "no comparison"
    if not any(present(e) for e in ends):
        return "without an interval nothing is decided"
    sign, limit = str(row["threshold"]).split(" ", 1)
    low, high = (float(e) if present(e) else end for e, end in zip(ends, (-math.inf, math.inf), strict=True))
    if low <= float(limit) <= high:
        return f"the interval holds values on both sides of {'0' if abs(float(limit)) < 1e-6 else limit}"
    side = HOLDS if (low >= float(limit)) == (sign == ">=") else "fails"
    return f"it {side} for this baseline, and something is missing: see the notes"


def _under(row: Row) -> str:
    attacks = said(row, "attack")
    if attacks == "-":
        return ""
    on_defense, found, on_baseline = attacks.partition("; ")
    return (
        f" under {on_defense} on {row['defense']} and {on_baseline} on {row['baseline']}"
        if found
        else f" under {attacks}"
    )


def _side(row: Row, value: str, name: str, accuracy: str) -> str:
    number = _number(row[value]) if present(row.get(value)) else _limits(row.get(value + LOW), row.get(value + HIGH))
    right = f" (accuracy {row[accuracy]:.3f})" if present(row.get(accuracy)) and row["figure"] != "accuracy" else ""
    return f"{number or 'no figure'} with {name}{right}"


def _limits(low: Any, high: Any) -> str:
    if not present(low):
        return ""
    return f"between {low:.2f} and {high:.2f}" if present(high) and math.isfinite(high) else f"at least {low:.2f}"


def _number(value: float) -> str:
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _compared(row: Row) -> str:
    ours, theirs = str(row["defense"]), said(row, "baseline")
    name = {
        "ratio": f"The ratio ({ours} / {theirs})",
        "inverse ratio": f"The ratio ({theirs} / {ours})",
    }.get(str(row["compare"]), f"The difference ({ours} less {theirs})")
    signed = "+" if row["compare"] == "difference" else ""
    value, low, high = (row.get(n) for n in ("value", "value" + LOW, "value" + HIGH))
    if not present(low) and not present(high):
        if any(why in str(row["note"]) for why in (INFINITE, PERFECT)):
            return f"{name} is infinite"
        return f"{name} is {value:{signed}.3g} (no interval)" if present(value) else f"{name} is not known"
    text = f"{value:{signed}.3g} " if present(value) else ""
    if row["interval"] == "exact":
        return f"{name} is {text.strip()}, exactly"
    ends = [f"{v:{signed}.3g}" if present(v) else "no limit" for v in (low, high)]
    return f"{name} is {text}[{ends[0]}, {ends[1]}]" if text else f"{name} lies in [{ends[0]}, {ends[1]}]"
