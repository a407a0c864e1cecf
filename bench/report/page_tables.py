"""The tables of the page: columns with unit and meaning, values with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..plan import Plan
from .columns import PLACE, describe
from .terminal import bracket, number, present, said

SUMMARY = (
    ("defense", "defense"),
    ("knowledge", "knowledge"),
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


@dataclass(frozen=True)
class Value:
    """What a table's cell shows.

    Attributes:
        text: the value; '-' where there is none.
        interval: its 95 % interval, or a note under the value.
        kind: ``num`` (kept in one line), ``text`` or ``wide``.
        links: numbers of flags.
        bad: to be seen at once.
    """

    text: str
    interval: str = ""
    kind: str = "text"
    links: tuple[int, ...] = ()
    bad: bool = False


def heads(columns: Sequence[tuple[str, str]], plan: Plan) -> list[tuple[str, str]]:
    """Returns (head, what a tooltip says) of columns."""
    known = describe(plan)
    meanings = known["targets"] | known["summary"] | known["cells"]
    out = []
    for name, head in columns:
        unit, meaning = meanings.get(name, ("", ""))
        out.append((head, f"{meaning} ({unit})" if unit else meaning))
    return out


def summary_groups(summary: pd.DataFrame, flags: Sequence[str]) -> list[tuple[str, list[list[Value]]]]:
    """Returns (place, rows) of the summary; the place is empty where there is only one. Flags become their numbers."""
    places = list(dict.fromkeys(summary[list(PLACE)].itertuples(index=False, name=None)))
    numbers = {flag: i for i, flag in enumerate(flags, start=1)}
    out = []
    for place in places:
        rows = [r for r in summary.to_dict("records") if tuple(r[n] for n in PLACE) == place]
        label = "" if len(places) == 1 else ", ".join(str(p) for p in place)
        out.append((label, [_summary_row(r, numbers) for r in rows]))
    return out


def cell_row(row: Mapping[str, Any]) -> list[Value]:
    """Returns a row of the table of cells."""
    row = dict(row)
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


def control_row(row: Mapping[str, Any], *, many: bool) -> list[Value]:
    """Returns a row of the table of reference rows; ``many``: there are several datasets."""
    row = dict(row)
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
            return Value(value, opening.strip() + rest, "num")
    return Value(text)


def _figure(row: dict[str, Any], name: str, digits: int, note: str = "") -> Value:
    """Returns a figure with its interval under it, and a note after the value."""
    text = number(row, name, digits)
    if text == "-":
        return Value(text)
    return Value(text + (f" {note}" if note else ""), bracket(row, name, digits), "num")


def _summary_row(row: dict[str, Any], numbers: Mapping[str, int]) -> list[Value]:
    def mark(column: str) -> str:
        return "n.d." if said(row, column) != "-" else ""

    unfinished = said(row, "incomplete") != "-"
    flags = tuple(sorted(numbers[f] for f in str(row["flags"] or "").split("; ") if f in numbers))
    none = Value("-")
    return [
        Value(str(row["defense"]), "incomplete" if unfinished else "", bad=unfinished),
        Value(str(row["knowledge"])),
        Value(said(row, "worst_attack")),
        _figure(row, "leakage", 3),
        none if row["defense"] == "none" else _figure(row, "leakage_change", 3, mark("leakage_change_note")),
        _figure(row, "ssim", 3),
        _figure(row, "equivalent_resolution", 1),
        _figure(row, "accuracy", 3),
        none if row["defense"] == "none" else _figure(row, "accuracy_drop", 3, mark("accuracy_drop_note")),
        information(said(row, "mi_text")),
        Value(f"{row['edge_macs'] / 1e6:.2f}" if present(row.get("edge_macs")) else "-", kind="num"),
        Value("" if flags else "-", links=flags),
    ]
