"""Which defenses still do their task: what has given that up leaks little for nothing, and is not called the best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .flags import CHANCE, raised_in
from .texts import fixed, present

DROPS = (0.01, 0.03, 0.05)
"""Allowed drops of accuracy against none, in shares of images."""

LIMIT = max(DROPS)
"""A defense that loses more is compared with others, and never named the best."""


def at_chance(row: Mapping[Any, Any]) -> bool:
    """Says whether any training behind a row of the summary ended with an accuracy whose interval reaches chance."""
    return any(flag.startswith(CHANCE) for flag in raised_in(row))


def useless(row: Mapping[Any, Any]) -> str:
    """Returns why a row of the summary is not to be named the best, or an empty text.

    Either its accuracy is at chance (:func:`at_chance`), or it loses more than 5 points against ``none``. As in the table
    at equal accuracy the drop counts as measured: its interval decides nothing, so that the same defenses are useful in
    both. Where no drop is known, only chance can be judged.
    """
    if at_chance(row):
        return CHANCE
    drop = row.get("accuracy_drop")
    if row.get("defense") == "none" or not present(drop) or float(drop or 0.0) <= LIMIT:
        return ""
    return f"{fixed(100 * float(drop or 0.0), 1)} points of accuracy lost"
