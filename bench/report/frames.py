"""From rows to data frames: fixed columns, fixed types, 6 significant digits."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..stats import Interval
from .columns import HIGH, LOW

Row = dict[str, Any]


def make_frame(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """Returns a frame with exactly these columns, in this order.

    Text columns have empty texts where nothing is to be said; numbers and truth values are missing where there are none.
    A column is of whole numbers if all its values are.
    """
    data = {name: _series([row.get(name) for row in rows]) for name in columns}
    return pd.DataFrame(data, index=pd.RangeIndex(len(rows)))


def select(frame: pd.DataFrame, mask: Any) -> pd.DataFrame:
    """Returns the rows of a frame that a mask keeps."""
    kept: Any = frame[mask]
    return kept


def numbers(frame: pd.DataFrame, *names: str) -> list[float]:
    """Returns the numbers of some columns, without the missing ones and infinite ones, which no axis has a place for."""
    return [float(v) for name in names for v in frame[name].tolist() if not pd.isna(v) and math.isfinite(v)]


def rounded(value: float | None) -> float | None:
    """Returns a number with 6 significant digits, infinity as it is; None for NaN."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.6g}")


def spread(name: str, interval: Interval | None) -> Row:
    """Returns the three columns of a figure with its interval."""
    if interval is None:
        return {name: None, name + LOW: None, name + HIGH: None}
    return {name: interval.value, name + LOW: interval.low, name + HIGH: interval.high}


def joined(texts: Iterable[str]) -> str:
    """Returns the distinct texts in order, joined by '; '."""
    return "; ".join(dict.fromkeys(t for t in texts if t))


def csv(frame: pd.DataFrame) -> str:
    """Returns a frame as CSV text: comma, newline, 6 significant digits, missing values empty, infinity as inf."""
    return frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Returns the rows of a frame as values that JSON can hold: missing ones null, infinite ones as the texts inf and -inf."""
    text: Any = frame.to_json(orient="records")
    rows: list[dict[str, Any]] = json.loads(text)
    for row, values in zip(rows, frame.to_dict("records"), strict=True):
        row |= {str(k): str(v) for k, v in values.items() if isinstance(v, float) and math.isinf(v)}
    return rows


def _series(values: list[Any]) -> pd.Series:
    present = [v for v in values if v is not None]
    if not present:
        # All missing: a text is never missing, so this is a number without values.
        return pd.Series([np.nan] * len(values), dtype="float64")
    if any(isinstance(v, str) for v in present):
        return pd.Series(["" if v is None else str(v) for v in values], dtype="str")
    if all(isinstance(v, bool) for v in present):
        return pd.Series(values, dtype="boolean")
    if all(isinstance(v, int) for v in present):
        return pd.Series(values, dtype="Int64")
    return pd.Series([np.nan if v is None else rounded(float(v)) for v in values], dtype="float64")
