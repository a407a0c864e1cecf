"""The tables of the page: columns with unit and meaning, values with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..plan import Plan
from .columns import PLACE, describe, figure
from .findings import grants
from .flags import Raised, kind_of, raised_in
from .page_value import Value
from .texts import bracket, fixed, number, present, said, undistinguished

SUMMARY = (
    ("defense", "defense"),
    ("worst_attack", "worst attack"),
    ("leakage", "leakage score"),
    ("leakage_change", "change against none"),
    ("ssim", "SSIM"),
    ("equivalent_resolution", "equivalent resolution (px)"),
    ("accuracy", "accuracy"),
    ("accuracy_drop", "accuracy drop"),
    ("mi_text", "mutual information (nats)"),
    ("edge_macs", "edge MACs (10⁶)"),
    ("flags", "flags"),
)
"""Column of the summary to its head."""

CELLS = (
    ("defense", "defense"),
    ("seed", "seed"),
    ("attack", "attack"),
    ("knowledge", "knowledge"),
    ("status", "status"),
    ("leakage", "leakage score"),
    ("ssim", "SSIM"),
    ("equivalent_resolution", "equivalent resolution (px)"),
    ("mse", "MSE"),
    ("flags", "flags, reasons"),
)
"""Column of the cells to its head."""


READ = (
    ("defense", "defense"),
    ("attribute", "attribute"),
    ("attack", "best reader"),
    ("label_accuracy", "accuracy of reading"),
    ("constant", "best constant guess"),
    ("label_advantage", "advantage over it"),
)
"""Column of what was read to its head."""

WORST = (
    ("defense", "defense"),
    ("knowledge", "knowledge"),
    ("metric", "metric"),
    ("attack", "strongest attack"),
    ("value", "its mean"),
    ("envelope", "per-image envelope"),
    ("best_at", "best at"),
)
"""Column of the worst cases to its head."""


def heads(columns: Sequence[tuple[str, str]], plan: Plan, table: str = "cells") -> list[tuple[str, str]]:
    """Returns (head, what a tooltip says) of columns; what several tables have by one name means what it does in ``table``."""
    known = describe(plan)
    meanings = (
        known["matched"]
        | known["tuned"]
        | known["attributes"]
        | known["worst_case"]
        | known["targets"]
        | known["summary"]
        | known["cells"]
        | known[table]
    )
    out = []
    for name, head in columns:
        unit, meaning = meanings.get(name, ("", ""))
        out.append((head, f"{meaning} ({unit})" if unit else meaning))
    return out


def summary_groups(summary: pd.DataFrame, flags: Sequence[Raised]) -> list[tuple[str, list[list[Value]]]]:
    """Returns (title, rows) per place and knowledge level: only within one are figures comparable."""
    numbers = {flag.kind: i for i, flag in enumerate(flags, start=1)}
    many = len(summary[list(PLACE)].drop_duplicates()) > 1
    groups: dict[str, list[list[Value]]] = {}
    for row in summary.to_dict("records"):
        place = f"{', '.join(str(row[n]) for n in PLACE)}: " if many else ""
        title = f"{place}{row['knowledge']}, {grants(row['knowledge'])}"
        groups.setdefault(title, []).append(_summary_row(row, numbers))
    return list(groups.items())


def cell_row(row: Mapping[Any, Any]) -> list[Value]:
    """Returns a row of the table of cells."""
    note = "; ".join(str(t) for t in (row["flags"], row["reason"] if row["status"] != "done" else "") if t)
    return [
        Value(str(row["defense"]), ", ".join(str(row[n]) for n in PLACE)),
        Value(str(row["seed"]) if present(row["seed"]) else "-"),
        Value(str(row["attack"])),
        Value(str(row["knowledge"])),
        Value(str(row["status"]), bad=row["status"] in ("failed", "not run")),
        _figure(row, "leakage", 3),
        _figure(row, "ssim", 3),
        _figure(row, "equivalent_resolution", 1),
        _figure(row, "mse", 5),
        Value(note or "-", kind="wide" if note else "text"),
    ]


def read_cell_row(row: Mapping[Any, Any]) -> list[Value]:
    """Returns a row of the table of cells in a suite with attacks that read labels."""
    *figures, note = cell_row(row)
    return [*figures, _figure(row, "label_accuracy", 3), _figure(row, "label_advantage", 3), note]


def read_row(row: Mapping[Any, Any]) -> list[Value]:
    """Returns a row of the table of what was read."""
    return [
        _place(row, knowledge=True),
        Value(str(row["attribute"])),
        Value(said(row, "attack")),
        _figure(row, "label_accuracy", 3),
        Value(number(row, "constant", 3), kind="num"),
        _figure(row, "label_advantage", 3),
    ]


def worst_row(row: Mapping[Any, Any]) -> list[Value]:
    """Returns a row of the table of worst cases."""
    digits = 5 if str(row["metric"]) == "mse" else 3
    return [
        _place(row),
        Value(str(row["knowledge"])),
        Value(figure(str(row["metric"])).label),
        Value(said(row, "attack")),
        _figure(row, "value", digits),
        _figure(row, "envelope", digits),
        Value(said(row, "best_at"), kind="wide"),
    ]


def _place(row: Mapping[Any, Any], *, knowledge: bool = False) -> Value:
    """Returns a defense with its place under it, and what the row lacks and ought not to."""
    names = (*PLACE, "knowledge") if knowledge else PLACE
    lacks = said(row, "incomplete")
    under = [", ".join(str(row[n]) for n in names), *([f"incomplete: {lacks}"] if lacks != "-" else [])]
    return Value(str(row["defense"]), "; ".join(under), bad=lacks != "-")


def control_row(row: Mapping[Any, Any], *, many: bool) -> list[Value]:
    """Returns a row of the table of reference rows; ``many``: there are several datasets."""
    name = str(row["attack"]).replace("_", " ")
    return [
        Value(f"{name} ({row['dataset']})" if many else name),
        _figure(row, "leakage", 3),
        _figure(row, "ssim", 3),
        _figure(row, "equivalent_resolution", 1),
        Value("-" if row["status"] == "done" else f"{row['status']}: {row['reason']}"),
    ]


def information(text: str) -> Value:
    """Returns the mutual information with its interval, or with why there is no value, under it."""
    text = text.replace(">=", "≥")
    for opening in (" [", " ("):
        value, found, rest = text.partition(opening)
        if found and ";" not in text:
            return Value(value, opening.strip() + rest, kind="num")
    return Value(text)


def _figure(row: Mapping[Any, Any], name: str, digits: int, *, mark: bool = False) -> Value:
    """Returns a figure with its interval under it; with ``mark`` it says if it is not distinguishable from 0."""
    text = number(row, name, digits)
    if text == "-":
        return Value(text)
    note = f" {undistinguished(row, name)}" if mark else ""
    return Value((text + note).rstrip(), bracket(row, name, digits), kind="num")


def _summary_row(row: Mapping[Any, Any], numbers: Mapping[str, int]) -> list[Value]:
    unfinished = said(row, "incomplete") != "-"
    flags = tuple(sorted({numbers[kind_of(f)] for f in raised_in(row)}))
    none = Value("-")
    return [
        Value(str(row["defense"]), "incomplete" if unfinished else "", bad=unfinished),
        Value(said(row, "worst_attack")),
        _figure(row, "leakage", 3),
        none if row["defense"] == "none" else _figure(row, "leakage_change", 3, mark=True),
        _figure(row, "ssim", 3),
        _figure(row, "equivalent_resolution", 1),
        _figure(row, "accuracy", 3),
        none if row["defense"] == "none" else _figure(row, "accuracy_drop", 3, mark=True),
        information(said(row, "mi_text")),
        Value(fixed(row["edge_macs"] / 1e6, 2) if present(row.get("edge_macs")) else "-", kind="num"),
        Value("" if flags else "-", links=flags),
    ]
