"""The tables of the page: columns with unit and meaning, values with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..plan import Plan
from .claims_text import Line
from .columns import PLACE, describe
from .findings import grants
from .flags import Raised, kind_of, raised_in
from .frames import joined
from .matched import AND
from .sweeps import between_words, setting_words
from .texts import NOT_DISTINGUISHABLE, bracket, fixed, number, present, said, undistinguished
from .usefulness import DROPS

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


MATCHED = (
    ("defense", "defense"),
    ("settings", "settings"),
    *(
        ("leakage", f"least leakage, drop of at most {100 * drop:g} point{'s' if drop > 0.01 else ''}")
        for drop in DROPS
    ),
    ("hypervolume", "hypervolume"),
)
"""Column of the defenses at equal accuracy to its head."""

TUNED = (
    ("defense", "defense"),
    ("knowledge", "knowledge"),
    ("attack", "attack"),
    ("tried", "settings tried"),
    ("given_mse", "error of the given setting"),
    ("chosen_mse", "error of the chosen one"),
    ("chosen", "chosen setting"),
    ("note", "note"),
)
"""Column of what tuning gained to its head."""


@dataclass(frozen=True)
class Value:
    """What a table's cell shows.

    Attributes:
        text: the value; '-' where there is none.
        interval: its 95 % interval, or a note under the value.
        lines: what else stands under it, a line each, which may be broken.
        kind: ``num`` (kept in one line), ``text`` or ``wide``.
        links: numbers of flags.
        bad: to be seen at once.
    """

    text: str
    interval: str = ""
    lines: tuple[str, ...] = ()
    kind: str = "text"
    links: tuple[int, ...] = ()
    bad: bool = False


def heads(columns: Sequence[tuple[str, str]], plan: Plan) -> list[tuple[str, str]]:
    """Returns (head, what a tooltip says) of columns."""
    known = describe(plan)
    meanings = (
        known["matched"]
        | known["tuned"]
        | known["attributes"]
        | known["worst_case"]
        | known["targets"]
        | known["summary"]
        | known["cells"]
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


def matched_groups(matched: pd.DataFrame) -> list[tuple[str, list[list[Value]]]]:
    """Returns (title, rows) per place and knowledge level: each defense with its best setting at each allowed drop."""
    many = len(matched[list(PLACE)].drop_duplicates()) > 1
    groups: dict[str, dict[str, list[Mapping[Any, Any]]]] = {}
    for row in matched.to_dict("records"):
        place = f"{', '.join(str(row[n]) for n in PLACE)}: " if many else ""
        groups.setdefault(f"{place}{row['knowledge']}", {}).setdefault(str(row["defense"]), []).append(row)
    return [(title, [_matched_row(rows) for rows in some.values()]) for title, some in groups.items()]


def _matched_row(rows: Sequence[Mapping[Any, Any]]) -> list[Value]:
    first = rows[0]
    lacks = f"{first['incomplete']} incomplete" if first["incomplete"] else ""
    name = Value(str(first["defense"]), joined([lacks, "on the front" if first["on_front"] else ""]), bad=bool(lacks))
    found = [_at_drop(row) for row in rows]
    return [name, Value(str(first["settings"]), kind="num"), *found, Value(number(first, "hypervolume", 3), kind="num")]


def _at_drop(row: Mapping[Any, Any]) -> Value:
    if not present(row["leakage"]):
        note = said(row, "note")
        return Value("-", "loses more" if note == "-" else note)
    drop = f"drop {number(row, 'accuracy_drop', 3)}"
    if row["interpolated"]:
        low, high = str(row["setting"]).removeprefix("between ").split(AND, 1)
        setting = f"{between_words(low, high)}, interpolated"
        return Value(f"≈ {number(row, 'leakage', 3)}", lines=(setting, drop), kind="num")
    alike = "" if present(row["leakage_above_best"]) else "the least"
    if present(row["leakage_above_best"]) and NOT_DISTINGUISHABLE in str(row["note"]):
        alike = "n.d. from the least"
    lines = tuple(t for t in (setting_words(str(row["setting"])), drop, alike) if t)
    return Value(number(row, "leakage", 3), bracket(row, "leakage", 3), lines, "num")


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
        Value(str(row["metric"])),
        Value(said(row, "attack")),
        _figure(row, "value", digits),
        _figure(row, "envelope", digits),
        Value(said(row, "best_at"), kind="wide"),
    ]


def claim_row(line: Line) -> list[Value]:
    """Returns a row of the table of claims, notes under what they are about."""
    return [
        Value(line.claim, lines=line.common),
        Value(line.measured, lines=line.notes, kind="wide"),
        Value(line.verdict, lines=(line.why,) if line.why else ()),
        Value(line.overall, kind="verdict"),
    ]


def tuned_rows(tuned: pd.DataFrame) -> list[list[Value]]:
    """Returns the table of what tuning gained; a cell that serves several levels is one row that names them."""
    many = len(tuned[list(PLACE)].drop_duplicates()) > 1
    levels: dict[str, list[str]] = {}
    first: dict[str, Mapping[Any, Any]] = {}
    for row in tuned.to_dict("records"):
        levels.setdefault(str(row["key"]), []).append(str(row["knowledge"]))
        first.setdefault(str(row["key"]), row)
    return [_tuned_row(row, ", ".join(levels[key]), many=many) for key, row in first.items()]


def _tuned_row(row: Mapping[Any, Any], levels: str, *, many: bool) -> list[Value]:
    known, other = present(row["given_mse"]), present(row["other"]) and bool(row["other"])
    seed = f"seed {row['seed']}" + (f", attack seed {row['attack_seed']}" if row["attack_seed"] else "")
    return [
        Value(str(row["defense"]), ", ".join([*(str(row[n]) for n in PLACE if many), seed])),
        Value(levels),
        Value(str(row["attack"])),
        Value(str(row["tried"]), kind="num"),
        Value(number(row, "given_mse", 5), kind="num"),
        Value(number(row, "chosen_mse", 5), kind="num"),
        Value(said(row, "chosen"), "as given" if known and not other else ""),
        Value(said(row, "note"), kind="wide" if row["note"] else "text"),
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
