"""The table of what tuning gained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from .columns import PLACE
from .page_value import Value
from .texts import number, present, said

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
    given = present(row["other"]) and not bool(row["other"])
    seed = f"seed {row['seed']}" + (f", attack seed {row['attack_seed']}" if row["attack_seed"] else "")
    return [
        Value(str(row["defense"]), ", ".join([*(str(row[n]) for n in PLACE if many), seed])),
        Value(levels),
        Value(str(row["attack"])),
        Value(str(row["tried"]), kind="num"),
        Value(number(row, "given_mse", 5), kind="num"),
        Value(number(row, "chosen_mse", 5), kind="num"),
        Value(said(row, "chosen"), "as given" if given else ""),
        Value(said(row, "note"), kind="wide" if row["note"] else "text"),
    ]
