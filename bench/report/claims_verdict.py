"""What comparisons say of a claim: the comparison of two figures, its verdict, the baseline that decides, the overall."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from .. import stats
from ..config.claims import Claim
from ..stats import Interval
from .claims_sides import EXACT, SINGLE, Side
from .reading import Array
from .texts import ONE_SEED

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decided"
ONLY_PUBLISHED = "holds only under the published estimator"
INFINITE = "infinite: the divisor is 0"
PERFECT = "infinite: one side copies an image perfectly"
SINGLE_READING = "none: a single reading"


@dataclass(frozen=True)
class Candidate:
    """A baseline that a claim was compared with."""

    label: str
    side: Side
    interval: Interval
    over: str
    verdict: str


def decide(claim: Claim, low: float, high: float) -> str:
    """Returns what an interval of the comparison says of a claim."""
    if math.isnan(low) or math.isnan(high):
        return OPEN
    if claim.at_least is not None:
        return HOLDS if low >= claim.at_least else FAILS if high < claim.at_least else OPEN
    limit = float(claim.at_most or 0.0)
    return HOLDS if high <= limit else FAILS if low > limit else OPEN


def together(verdicts: Sequence[str]) -> str:
    """Returns the verdict on a claim against several baselines: it needs all to hold, and any one refutes it."""
    if FAILS in verdicts:
        return FAILS
    return HOLDS if verdicts and set(verdicts) == {HOLDS} else OPEN


def shown(claim: Claim, candidates: Sequence[Candidate]) -> Candidate:
    """Returns the candidate that a row shows, whatever their order.

    That is the one that refutes most clearly; if none does, the one whose interval reaches farthest against the claim,
    undecided ones first.
    """
    for verdict, refutes in ((FAILS, True), (OPEN, False), (HOLDS, False)):
        some = [c for c in candidates if c.verdict == verdict]
        if some:
            return min(some, key=lambda c: (*_favour(claim, c.interval, refutes), c.label))
    raise ValueError("got no candidates, expected at least one")


def weigh(verdicts: Sequence[tuple[str, str]]) -> str:
    """Returns the verdict on a claim from (estimator, verdict) of the figures that have a vote."""
    trusted = {v for e, v in verdicts if e == "trustworthy"}
    published = {v for e, v in verdicts if e == "published"}
    if not trusted:
        only = next(iter(published)) if len(published) == 1 else OPEN
        return ONLY_PUBLISHED if only == HOLDS else only
    if trusted == {HOLDS}:
        return HOLDS
    if FAILS in trusted:
        return ONLY_PUBLISHED if HOLDS in published else FAILS
    return OPEN


def compared(claim: Claim, mine: Side, other: Side, groups: Any = None) -> tuple[Interval | None, str]:
    """Returns the comparison of two sides and what its interval is over.

    Args:
        claim: says how they are compared.
        mine: the defense's side.
        other: the baseline's side.
        groups: of the images, where both sides have errors per image.

    Returns:
        None where an end of either side is not known or infinite errors have no ratio; ends that are NaN for figures
        without an interval.
    """
    a, b = (other, mine) if claim.compare == "inverse ratio" else (mine, other)
    if a.errors is not None and b.errors is not None and a.errors.shape == b.errors.shape:
        interval = _paired(a.errors, b.errors, groups, difference=claim.compare == "difference")
        return interval, _over(a.errors, a.seeds) if interval else ""
    if len(a.trainings) > 1 and a.trainings.keys() == b.trainings.keys():
        paired = _by_training(a.trainings, b.trainings, difference=claim.compare == "difference")
        if paired is not None:
            return paired, "seeds, paired, and ends of both figures"
    ends_a, ends_b = _ends(a, groups), _ends(b, groups)
    if any(math.isnan(e) for e in (*ends_a, *ends_b)):
        return None, ""
    if claim.compare == "difference":
        value = math.nan if a.value is None or b.value is None else a.value - b.value
        low, high = ends_a[0] - ends_b[1], ends_a[1] - ends_b[0]
    else:
        value = math.nan if a.value is None or b.value is None else _divided(a.value, b.value)
        low, high = _quotient(ends_a, ends_b)
    if SINGLE in (a.kind, b.kind):
        return Interval(value, math.nan, math.nan), SINGLE_READING
    if a.kind == b.kind == EXACT:
        return Interval(value, low, high), "exact"
    over = "ends of both figures"
    return Interval(value, low, high), f"{over}; {ONE_SEED}" if max(a.seeds, b.seeds) == 1 else over


def _paired(a: Array, b: Array, groups: Any, *, difference: bool) -> Interval | None:
    if difference:
        return stats.paired_difference(a, b, groups)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    if not b.any():
        value = _divided(float(a.mean()), 0.0)
        return Interval(value, *((value, value) if math.isinf(value) else (-math.inf, math.inf)))
    if b.mean() <= 0:
        return None
    least = 0.0 if a.min() >= 0 and b.min() >= 0 else -math.inf
    return stats.scaled_interval(a, np.zeros_like(a), b, groups, bounds=(least, math.inf))


def _by_training(
    a: Mapping[int, tuple[float, float, float]], b: Mapping[int, tuple[float, float, float]], *, difference: bool
) -> Interval | None:
    """Returns the comparison of figures of the same trainings' seeds, each seed with its own: None where a ratio has no log.

    Defenses share initialisation and batch order, so what a seed does to both cancels. Student's part of the seeds and the mean
    half-width within them are added as squares; a ratio is compared, and averaged, on the logarithmic scale.
    """
    rows = [(*a[seed], *b[seed]) for seed in a]
    if not difference:
        if any(v <= 0 for row in rows for v in row):
            return None
        rows = [tuple(map(math.log, row)) for row in rows]
    each = np.array([row[0] - row[3] for row in rows])
    down = np.mean([math.hypot(row[0] - row[1], row[5] - row[3]) for row in rows])
    up = np.mean([math.hypot(row[2] - row[0], row[3] - row[4]) for row in rows])
    seeds = float(stdtrit(len(each) - 1, (1 + stats.LEVEL) / 2) * each.std(ddof=1) / math.sqrt(len(each)))
    mean = float(each.mean())
    ends = mean, mean - math.hypot(down, seeds), mean + math.hypot(up, seeds)
    return Interval(*ends) if difference else Interval(*map(math.exp, ends))


def _ends(side: Side, groups: Any) -> tuple[float, float]:
    """Returns the ends of a side; errors that cannot be paired (other seeds) have an interval of their own."""
    if side.errors is None:
        return side.low, side.high
    least = 0.0 if side.errors.min() >= 0 else -math.inf
    interval = stats.mean_interval(side.errors, groups, bounds=(least, math.inf))
    return interval.low, interval.high


def _divided(a: float, b: float) -> float:
    """Returns a / b: infinite where only b is 0, no number for 0 / 0."""
    if b:
        return a / b
    return math.inf if a > 0 else math.nan


def _quotient(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    """Returns the ends of a / b; everything where b may be negative, or where a and b may both be 0."""
    if b[0] > 0:
        low = a[0] / (b[1] if a[0] >= 0 else b[0])
        return low, a[1] / (b[0] if a[1] >= 0 else b[1])
    if b[0] < 0 or a[0] < 0 or (a[0] == 0 and b[1] == 0) or a[1] == 0:
        return -math.inf, math.inf
    return (a[0] / b[1] if b[1] > 0 else math.inf), math.inf


def _favour(claim: Claim, interval: Interval, refutes: bool) -> tuple[float, float]:
    """Returns by how much a comparison favours a claim: its end that decides, then the other one.

    What refutes is judged by the end nearest to the threshold, everything else by the end that is worst for the claim.
    A figure without an interval is judged by its value.
    """
    sign = 1 if claim.at_least is not None else -1
    ends = [interval.value if math.isnan(e) else e for e in (interval.low, interval.high)]
    worst, best = sorted(-math.inf if math.isnan(e) else sign * e for e in ends)
    return (best, worst) if refutes else (worst, best)


def _over(errors: Array, trainings: int) -> str:
    """Returns what a paired interval of errors (S, N) is over; with one training its own noise is not in it."""
    if trainings > 1:
        return "images and seeds, paired"
    # Attacks on one target are no independent repetitions of it (:func:`.headline.by_seed`).
    return f"images{' and seeds of the attack' if len(errors) > 1 else ''}, paired; {ONE_SEED}"
