"""What a known-answer test of mutual information accepts; some of it is that there is *no* value.

A gate gets the columns and the truth in nats, and returns why the measurement is not acceptable, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Found = Mapping[str, Any]
TIGHT, CLEAR = (0.5, 2.0), 0.5
"""Shares of the truth within which the bounds have to lie where the estimator can be read, from so many nats on."""

Gate = Callable[[Found, float], str]


def within(below: float, above: float, slack: float = 0.08) -> Gate:
    """Accepts a value with status ok within shares of the truth (or ``slack`` nats), between bounds that hold and are near.

    Limits of 0 and infinity hold of anything.
    """

    def gate(found: Found, truth: float) -> str:
        value = found["mi_mine_nats"]
        if value is None:
            return f"no value ({found['mi_mine_status']})"
        if not min(truth * (1 - below), truth - slack) <= value <= max(truth * (1 + above), truth + slack):
            return f"read {value:.2f} nats of {truth:.2f}"
        low, high = found["mi_lower_nats"], found["mi_upper_nats"]
        if truth >= CLEAR and (low is None or low < TIGHT[0] * truth or high is None or high > TIGHT[1] * truth):
            return f"bounds of {low} to {high} nats say little of {truth:.2f}"
        return bounded(found, truth)

    return gate


def bounded(found: Found, truth: float) -> str:
    """Accepts bounds between which the truth lies, by two standard errors at most outside."""
    low, high, error = found["mi_lower_nats"], found["mi_upper_nats"], found["mi_upper_se"]
    if low is None or low > truth + max(0.05, 0.03 * truth):
        return f"certified {low} nats of {truth:.2f}"
    if high is None or truth > high + 2 * error:
        return f"upper bound of {high} nats, truth {truth:.2f}"
    return ""


def flagged(closeness: float | None = None) -> Gate:
    """Accepts that there is no value, a certified limit below the ceiling, and an upper bound as close as said."""

    def gate(found: Found, truth: float) -> str:
        if found["mi_mine_nats"] is not None or found["mi_mine_status"] == "ok":
            return f"gave {found['mi_mine_nats']} nats of {truth:.1f}, beyond what can be read"
        if found["mi_mine_lo"] is None or found["mi_mine_lo"] > found["mi_ceiling_nats"]:
            return f"certified {found['mi_mine_lo']} nats, above its ceiling of {found['mi_ceiling_nats']:.2f}"
        if closeness is not None and abs(found["mi_upper_nats"] / truth - 1) > closeness:
            return f"upper bound of {found['mi_upper_nats']:.1f} nats, truth {truth:.1f}"
        return bounded(found, truth)

    return gate


def not_above(found: Found, truth: float) -> str:
    """Accepts a value above 0 and not above the truth by two standard errors, or none at all."""
    value = found["mi_mine_nats"]
    if value is None:
        return bounded(found, truth)
    if not -0.05 <= value <= truth + 2 * error_of(found):
        return f"read {value:.2f} nats of {truth:.2f}"
    return bounded(found, truth)


def nothing(found: Found, truth: float) -> str:
    """Accepts at most 0.05 nats."""
    if found["mi_mine_nats"] is None or abs(found["mi_mine_nats"]) > 0.05:
        return f"read {found['mi_mine_nats']} nats ({found['mi_mine_status']}) where there are none"
    return bounded(found, 0.0)


def deterministic(found: Found, truth: float) -> str:
    """Accepts the status and no number."""
    if found["mi_mine_status"] != "deterministic" or found["mi_mine_nats"] is not None:
        return f"gave {found['mi_mine_nats']} nats ({found['mi_mine_status']}) of a wire without noise"
    return ""


def error_of(found: Found) -> float:
    """Returns the standard error of a value from its interval; NaN where there is none."""
    if found["mi_mine_nats"] is None:
        return math.nan
    return float(found["mi_mine_hi"] - found["mi_mine_lo"]) / 3.92
