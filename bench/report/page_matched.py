"""The table of defenses at equal accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..labels import defense_of
from .columns import PLACE
from .frames import joined
from .matched import AND
from .page_value import Value
from .sweeps import between_words, setting_words
from .texts import NOT_DISTINGUISHABLE, bracket, number, present, said
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
    best = said(row, "best_measured")
    if row["interpolated"]:
        low, high = str(row["setting"]).removeprefix("between ").split(AND, 1)
        setting = f"{between_words(low, high)}, interpolated"
        # The least measured one gives way to what lies beside it: without its name the others' n.d. would be from nothing.
        least = f"{LEAST}: {setting_words(best) or best}" if defense_of(best) == row["defense"] else ""
        return Value(f"≈ {number(row, 'leakage', 3)}", lines=_some(setting, drop, least), kind="num")
    if row["setting"] == best:
        beside = LEAST
    elif present(row["leakage_above_best"]):
        beside = f"n.d. from {LEAST}" if NOT_DISTINGUISHABLE in said(row, "note") else ""
    else:
        beside = f"not compared: {said(row, 'note')}"
    lines = _some(setting_words(str(row["setting"])), drop, beside)
    return Value(number(row, "leakage", 3), bracket(row, "leakage", 3), lines, "num")
