"""The claims that defenses declare themselves, as claims of a suite."""

from __future__ import annotations

import re
from collections.abc import Collection

from ..labels import plugin_labels
from ..metric import Measure
from ..plugins import DEFENSES, METRICS
from .claims import Claim, ClaimFigure
from .suite import Suite

LEAST = 1e-9
"""A figure that is exactly that of ``none`` has not moved."""


def declared_claims(suite: Suite) -> list[Claim]:
    """Returns a claim per setting of a defense and figure that it says moves, against ``none``.

    Figures that the suite does not measure, compositions, and suites without ``none`` have none. The direction is all that
    is tested, with the strongest attack where the figure is one of attacks.
    """
    if not any(spec.name == "none" for spec in suite.defenses):
        return []
    columns = measured_columns(suite)
    found: list[Claim] = []
    changes = {"up": "higher", "down": "lower"}
    for spec, label in zip(suite.defenses, plugin_labels(DEFENSES, suite.defenses), strict=True):
        for column, moves in {} if "+" in spec.name else DEFENSES.get(spec.name).claims.items():
            if column in columns:
                figure = _figure(column, columns)
                what = columns[column].removeprefix("upper bound on the ") if figure.high else columns[column]
                found.append(
                    Claim(
                        name=re.sub(r"[^a-z0-9]+", "-", f"{label} {column}".lower()).strip("-"),
                        says=f"With {label} the {what} is {changes[moves]} than without a defense.",
                        published="the direction",
                        defense=label,
                        against=["none"],
                        compare="difference",
                        at_least=LEAST if moves == "up" else None,
                        at_most=-LEAST if moves == "down" else None,
                        usable_drop=None,
                        figures=[figure],
                    )
                )
    return found


def _figure(column: str, measured: Collection[str]) -> ClaimFigure:
    """Returns what decides on a column: an upper bound alone says little, so the lower one is looked at too."""
    lower = column.replace("_upper_", "_lower_")
    if lower != column and lower in measured:
        return ClaimFigure(column=lower, high=column)
    return ClaimFigure(column=column)


def measured_columns(suite: Suite) -> dict[str, str]:
    """Returns each column that a suite's metrics and measures fill, and what it is called.

    Those of plugins that are not known are left out.
    """
    out: dict[str, str] = {}
    for spec in suite.metrics:
        if spec.name in METRICS:
            cls = METRICS.get(spec.name)
            if issubclass(cls, Measure):
                out |= {name: column.words for name, column in cls.columns.items()}
            else:
                out[spec.name] = cls.label or spec.name
    return out
