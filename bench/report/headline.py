"""The headline figures of reconstructions from their errors per image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import stats
from ..stats import Interval
from .columns import Figure
from .frames import joined
from .reading import Array, Records, Reference
from .texts import NOT_DISTINGUISHABLE, ONE_SEED, WORST_UNKNOWN

SHARE = "share"
"""The unit of what counts images."""


def figure_interval(read: Figure, values: Array, groups: Sequence[int] | None) -> Interval:
    """Returns the mean of a per-image figure, (N,) or (S, N), with its interval, within what is possible."""
    if read.unit == SHARE:
        return stats.share_interval(values, groups)
    return stats.mean_interval(values, groups, bounds=read.bounds)


def leakage(mse: Array, reference: Reference) -> Interval | None:
    """Returns the leakage score of errors (N,) or (S, N); None where it cannot be had (:func:`why_not`)."""
    if why_not(reference, mse):
        return None
    return stats.ratio_interval(mse, _prior(reference), reference.groups)


def usable_information(score: Interval | None, elements: int) -> Interval | None:
    """Returns the usable (v-)information in nats per image of an attack with a leakage score; None for a perfect copy.

    d/2 · ln(MSE of the prior / MSE of the attack): what a Gaussian observer with one fitted variance gains by the attack
    (Xu et al. 2020). It has no ceiling at ln N, bounds no Shannon information, and is exactly what this attack can use.

    Args:
        score: the leakage score, 1 less the ratio of the errors.
        elements: d, numbers per image.
    """
    if score is None or score.value >= 1:
        return None
    value, low, high = (-elements / 2 * math.log1p(-v) if v < 1 else math.inf for v in score)
    return Interval(value, low, high)


def resolution(mse: Array, reference: Reference) -> Interval | None:
    """Returns the equivalent resolution in pixels of errors (N,) or (S, N)."""
    if why_not(reference, mse):
        return None
    return stats.equivalent_resolution(
        mse, dict(reference.thumbnails), _prior(reference), reference.side, reference.groups
    )


def leakage_difference(a: Array, b: Array, reference: Reference) -> Interval | None:
    """Returns the leakage score of errors a less that of errors b, paired: both over the same images and seeds, (S, N)."""
    if why_not(reference, a) or why_not(reference, b):
        return None
    return stats.scaled_interval(b, a, _prior(reference), reference.groups)


def why_not(reference: Reference, mse: Array | None = None) -> str:
    """Returns why there is no leakage score, or an empty text where there is one."""
    if reference.prior is None:
        return f"no leakage score: the reference record is {reference.state.status}"
    if not reference.prior.mean() > 0:
        return "no leakage score: every private image equals the prior"
    if mse is not None and mse.shape[-1] != len(reference.prior):
        return f"no leakage score: {mse.shape[-1]} errors for {len(reference.prior)} private images"
    return ""


def note_on(difference: Interval | None, seeds: int, *, known: bool = True) -> str:
    """Returns what is to be said of a difference between defenses: that its interval holds 0, or leaves something out.

    Args:
        difference: with its interval; None where there is none.
        seeds: trainings behind it. Of one training nobody can tell what chance did, so its difference is never simply
            distinguishable.
        known: whether both sides are what they are said to be. Where an attack is missing on one, its worst case may be
            another one, and no verdict is on the two.
    """
    if difference is None:
        return ""
    alike = WORST_UNKNOWN if not known else NOT_DISTINGUISHABLE if holds_zero(difference) else ""
    return joined((alike, ONE_SEED if seeds < 2 else ""))


def holds_zero(difference: Interval | None) -> bool:
    """Says whether a difference is not distinguishable from 0; one that is not known is no such verdict."""
    return difference is not None and difference.low <= 0 <= difference.high


def by_seed(rows: Sequence[tuple[int, Array]]) -> Array:
    """Returns values (S, N) from (target seed, values) of cells.

    Several attacks on one target are no independent repetitions of it: with several target seeds, attack seeds are
    averaged within each. With one target seed the attack seeds are the rows.
    """
    seeds = list(dict.fromkeys(seed for seed, _ in rows))
    if len(seeds) == 1:
        return np.stack([v for _, v in rows])
    return np.stack([np.mean([v for s, v in rows if s == seed], axis=0) for seed in seeds])


def values_over_seeds(
    records: Records, cells: Sequence[Mapping[str, Any]], metric: str, seeds: set[int]
) -> Array | None:
    """Returns the values (S, N) of one metric over the cells of one attack; None where any seed lacks any value."""
    rows = []
    for cell in cells:
        whole = records.scores(cell["key"], metric).whole if records.done("cell", cell["key"]) else None
        if whole is None:
            return None
        rows.append((cell["seed"], whole))
    return by_seed(rows) if {s for s, _ in rows} == seeds else None


def _prior(reference: Reference) -> Array:
    return np.asarray(reference.prior, dtype=np.float64)
