"""Spearman's rank correlation over things of which some belong together, plain and within strata.

Intervals are percentiles of resamples of whole clusters. With few things, or a quantity with many ties, such an interval
leaves out 0 far too often (half of the time where one of twelve values differs from all others), so a test by permutation
stands beside it, which holds its level with any number and any ties.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..stats import LEVEL, bootstrap_weights

Array = NDArray[np.float64]

ALPHA = 1 - LEVEL

PERMUTATIONS = 10_000
"""Enough for a standard error of 0.002 in a p-value of 0.05."""


class Correlation(NamedTuple):
    """A rank correlation, its 95 % interval, and the share of permutations with one at least as far from 0."""

    rho: float
    low: float
    high: float
    p: float

    @property
    def sign(self) -> int:
        """-1 or 1 where interval and permutations both exclude 0, else 0."""
        return 0 if self.p > ALPHA else -1 if self.high < 0 else 1 if self.low > 0 else 0


def correlation(
    a: ArrayLike, b: ArrayLike, clusters: Sequence[Hashable], strata: Sequence[Hashable] | None = None
) -> Correlation | None:
    """Returns Spearman's rank correlation of two samples; None where one of them is the same throughout.

    With strata, things are ranked within their stratum, ranks are centred and divided by the stratum's size (so that it
    counts by its number of things), and pooled. One stratum gives the plain correlation.

    Args:
        a: values, (N,).
        b: values of the same things, (N,).
        clusters: what things share that are not independent, N labels; resampled and permuted together.
        strata: N labels, the same throughout a cluster; None: one.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    parts = _parts(clusters, strata)
    rho = float(_pooled(x, y, [(at, np.ones((1, len(at)))) for at, _ in parts])[0])
    if not np.isfinite(rho):
        return None
    weights = [(at, bootstrap_weights(group, seed=i)) for i, (at, group) in enumerate(parts)]
    drawn = _pooled(x, y, weights)
    drawn = np.sort(drawn[np.isfinite(drawn)])  # a resample of equal values has no correlation
    out = int((1 - LEVEL) / 2 * (len(drawn) - 1))
    return Correlation(rho, float(drawn[out]), float(drawn[-1 - out]), _permuted(x, y, parts))


def spearman(a: ArrayLike, b: ArrayLike, weights: ArrayLike | None = None) -> Array:
    """Returns Spearman's rank correlation in every resample, (R,); NaN where one of the samples is constant.

    Args:
        a: values, (N,).
        b: values of the same things, (N,).
        weights: how often each thing counts in each resample, (R, N); None: once each, R = 1.
    """
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    w = np.ones((1, len(x))) if weights is None else np.atleast_2d(np.asarray(weights, dtype=np.float64))
    return _pooled(x, y, [(np.arange(len(x)), w)])


def _parts(clusters: Sequence[Hashable], strata: Sequence[Hashable] | None) -> list[tuple[NDArray[np.intp], Array]]:
    """Returns, stratum by stratum, where its things are and the number of the cluster of each."""
    names = list(dict.fromkeys(clusters))
    group = np.array([names.index(c) for c in clusters])
    kinds = [0] * len(group) if strata is None else list(strata)
    found = [np.array([i for i, k in enumerate(kinds) if k == kind]) for kind in dict.fromkeys(kinds)]
    return [(at, group[at]) for at in found]


def _pooled(x: Array, y: Array, weights: Sequence[tuple[NDArray[np.intp], Array]]) -> Array:
    """Returns the correlation of centred ranks within strata, (R,); weights of each stratum (R, n)."""
    both = first = second = np.zeros(len(weights[0][1]))
    for at, w in weights:
        size = w.sum(1, keepdims=True)
        u, v = (_ranks(z[at], w) / size - (size + 1) / 2 / size for z in (x, y))
        both, first, second = both + (w * u * v).sum(1), first + (w * u * u).sum(1), second + (w * v * v).sum(1)
    scale = np.sqrt(first * second)
    # Rounding leaves about 1e-16 where all values are equal; ranks that differ at all leave more than 1 / N.
    # Rounded, so that an interval that ends at 0 does not end just beside it; + 0 for no minus zero.
    return np.where(scale > 1e-9, np.round(both / np.where(scale > 1e-9, scale, 1.0), 12) + 0.0, np.nan)


def _ranks(values: Array, weights: Array) -> Array:
    """Returns the rank of each value in each resample, (R, N), ties at their middle."""
    below = (values[None, :] < values[:, None]).astype(np.float64)
    equal = (values[None, :] == values[:, None]).astype(np.float64)
    return weights @ below.T + (weights @ equal.T + 1) / 2


def _permuted(x: Array, y: Array, parts: Sequence[tuple[NDArray[np.intp], Array]]) -> float:
    """Returns the two-sided p-value when the clusters' means are exchanged within their stratum, from a fixed seed."""
    draws = np.random.default_rng(0)
    observed, shuffled, first, second = 0.0, np.zeros(PERMUTATIONS), 0.0, 0.0
    for at, group in parts:
        each = np.unique(group)
        u, v = (_centred(np.array([z[at][group == c].mean() for c in each])) for z in (x, y))
        observed, first, second = observed + u @ v, first + u @ u, second + v @ v
        shuffled += draws.permuted(np.tile(u, (PERMUTATIONS, 1)), axis=1) @ v
    if first * second <= 1e-9:
        return 1.0
    return float((1 + np.sum(np.abs(shuffled) >= abs(observed) - 1e-9)) / (PERMUTATIONS + 1))


def _centred(values: Array) -> Array:
    ranks = _ranks(values, np.ones((1, len(values))))[0]
    return (ranks - (len(values) + 1) / 2) / len(values)
