"""The table of what is hidden from an attack that leaves the defense out of account."""

from __future__ import annotations

import pandas as pd

from .columns import PLACE
from .page_value import Value
from .texts import bracket, number, said, undistinguished

ADAPTIVE = (
    ("defense", "defense"),
    ("knowledge", "knowledge"),
    ("attack", "attack"),
    ("leakage", "leakage"),
    ("leakage_ignoring", "without account of the defense"),
    ("leakage_hidden", "hidden"),
    ("note", "note"),
)
"""Column of the table to its head."""


def adaptive_rows(table: pd.DataFrame) -> list[list[Value]]:
    """Returns the rows of the table; ``n.d.`` where what is hidden is not distinguishable from nothing."""
    many = len(table[list(PLACE)].drop_duplicates()) > 1
    out = []
    for row in table.to_dict("records"):
        figures = [Value(number(row, n, 3), bracket(row, n, 3), kind="num") for n, _ in ADAPTIVE[3:5]]
        mark = undistinguished(row | {"leakage_hidden_note": row["note"]}, "leakage_hidden")
        hidden = Value(
            number(row, "leakage_hidden", 3), bracket(row, "leakage_hidden", 3), (mark,) if mark else (), "num"
        )
        lacks = said(row, "incomplete")
        note = said(row, "note") if lacks == "-" else f"incomplete: {lacks}"
        out.append(
            [
                Value(str(row["defense"]), ", ".join(str(row[n]) for n in PLACE if many), bad=lacks != "-"),
                Value(str(row["knowledge"])),
                Value(str(row["attack"])),
                *figures,
                hidden,
                Value(note, kind="wide" if note != "-" else "text"),
            ]
        )
    return out
