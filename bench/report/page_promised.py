"""The table of what defenses promise."""

from __future__ import annotations

import pandas as pd

from ..guarantee import most_right
from .columns import PLACE
from .page_value import Value
from .promised import ACCOUNTANT, DELTA, EPSILON, LEAVES_OUT, PROTECTS, Promise, epsilon_text, promises
from .texts import present

PROMISED = (
    ("defense", "defense"),
    (EPSILON, "ε"),
    (DELTA, "δ"),
    ("", "two cases told apart in at most"),
    (PROTECTS, "protects"),
    (LEAVES_OUT, "does not protect"),
    (ACCOUNTANT, "accounting"),
)
"""Column of what is promised to its head."""


def promised_rows(summary: pd.DataFrame) -> list[list[Value]]:
    """Returns the table of what is promised; levels of knowledge at which it is the same are one row that names them."""
    many = len(summary[list(PLACE)].drop_duplicates()) > 1
    return [_promised_row(promise, many=many) for promise in promises(summary)]


def _promised_row(promise: Promise, *, many: bool) -> list[Value]:
    row = promise.row
    where = [*(str(row[n]) for n in PLACE if many), *promise.levels]
    holds = present(row[EPSILON])
    return [
        Value(str(row["defense"]), lines=(", ".join(where),)),
        Value(epsilon_text(row[EPSILON]) if holds else "-", kind="num"),
        Value(f"{row[DELTA]:.3g}" if holds else "-", kind="num"),
        Value(f"{100 * most_right(row[EPSILON], row[DELTA]):.4g} %" if holds else "-", kind="num"),
        Value(str(row[PROTECTS])),
        Value(str(row[LEAVES_OUT]), kind="wide"),
        Value(str(row[ACCOUNTANT]), kind="wide"),
    ]
