"""The table of defenses at equal accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from .columns import PLACE
from .frames import joined
from .matched import AND
from .page_value import Value
from .sweeps import between_words, setting_words
from .texts import NOT_DISTINGUISHABLE, ONE_SEED, bracket, number, present, said
from .usefulness import DROPS

MATCHED = (
    ("defense", "defense"),
    ("settings", "settings"),
    *(
        ("leakage", f"least leakage, drop of at most {100 * drop:g} point{'s' if drop > 0.01 else ''}")
        for drop in DROPS
    ),
    ("hypervolume_within", f"hypervolume within {100 * DROPS[-1]:g} points"),
)
"""Column of the defenses at equal accuracy to its head."""

LEAST = "the least measured"

ENDS = "sweep ends: stronger settings were not tried"


def matched_groups(matched: pd.DataFrame) -> list[tuple[str, list[list[Value]]]]:
    """Returns (title, rows) per place and knowledge level: each defense with its best setting at each allowed drop."""
    many = len(matched[list(PLACE)].drop_duplicates()) > 1
    groups: dict[str, dict[str, list[Mapping[Any, Any]]]] = {}
    for row in matched.to_dict("records"):
        place = f"{', '.join(str(row[n]) for n in PLACE)}: " if many else ""
        groups.setdefault(f"{place}{row['knowledge']}", {}).setdefault(str(row["defense"]), []).append(row)
    return [(title, [_matched_row(rows) for rows in some.values()]) for title, some in groups.items()]


def matched_notes(matched: pd.DataFrame) -> list[str]:
    """Returns what is to be said of every figure of the table."""
    if not any(ONE_SEED in str(note) for note in matched["note"]):
        return []
    return ["One seed: a difference may belong to these trainings and not to the defense, distinguishable or not."]


def _matched_row(rows: Sequence[Mapping[Any, Any]]) -> list[Value]:
    first = rows[0]
    lacks = f"{first['incomplete']} incomplete" if first["incomplete"] else ""
    name = Value(str(first["defense"]), joined([lacks, "on the front" if first["on_front"] else ""]), bad=bool(lacks))
    found = [_at_drop(row) for row in rows]
    return [
        name,
        Value(str(first["settings"]), kind="num"),
        *found,
        Value(number(first, "hypervolume_within", 3), kind="num"),
    ]


def _some(*lines: str) -> tuple[str, ...]:
    return tuple(line for line in lines if line)


def _at_drop(row: Mapping[Any, Any]) -> Value:
    if not present(row["leakage"]):
        return Value("-", "" if said(row, "note") == "-" else said(row, "note"))
    drop = f"drop {number(row, 'accuracy_drop', 3)} {bracket(row, 'accuracy_drop', 3)}".strip()
    if row["interpolated"]:
        low, high = str(row["setting"]).removeprefix("between ").split(AND, 1)
        setting = f"{between_words(low, high)}, interpolated"
        # The measured one gives way to what lies beside it: without it the others' n.d. might be from nothing.
        lines = _some(setting, drop, _measured(row), _beside(row))
        return Value(f"≈ {number(row, 'leakage', 3)}", lines=lines, kind="num")
    lines = _some(setting_words(str(row["setting"])), drop, _beside(row), ENDS if row["sweep_ends"] else "")
    return Value(number(row, "leakage", 3), bracket(row, "leakage", 3), lines, "num")


def _measured(row: Mapping[Any, Any]) -> str:
    """Returns the measured setting of a row whose figure is interpolated; empty where none loses so little."""
    if not present(row["measured_leakage"]):
        return ""
    setting = setting_words(str(row["measured_setting"])) or str(row["measured_setting"])
    return f"measured, {setting}: {number(row, 'measured_leakage', 3, interval=True)}"


def _beside(row: Mapping[Any, Any]) -> str:
    """Returns how the measured setting of a row stands to the least measured one."""
    if not present(row["measured_leakage"]):
        return ""
    if row["measured_setting"] == said(row, "best_measured"):
        return LEAST
    if present(row["leakage_above_best"]):
        return f"n.d. from {LEAST}" if NOT_DISTINGUISHABLE in said(row, "note") else ""
    return f"not compared: {said(row, 'note')}"
