"""Intervals by the bootstrap, over images (or groups of them) and seeds. Pure functions on numpy arrays.

Values are (N,), one per image, or (S, N), a row per seed over the same images. Images are resampled with replacement;
where there are groups (crops of one tile) whole groups are, because their images are not independent. With several
seeds the seeds are resampled too, crossed with the images. Every interval is 95 %, by percentiles of 1,000 resamples
from a fixed seed: equal arguments give equal intervals, and figures of the same images share their resamples.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95


class Interval(NamedTuple):
    """A figure with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def bootstrap_weights(groups_or_n: int | ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Array:
    """Returns how often each image is drawn in each resample, (R, N).

    Args:
        groups_or_n: the number of images; or a group label per image, (N,), and then groups are drawn.
        resamples: R.
        seed: of the draws.
    """
    if np.ndim(groups_or_n) == 0:
        n = int(np.asarray(groups_or_n))
        inverse = np.arange(n)
    else:
        names, inverse = np.unique(np.asarray(groups_or_n), return_inverse=True)
        n = len(names)
    if n < 1:
        raise ValueError("got no images, expected at least one value to resample")
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    return counts[:, inverse].astype(np.float64)


class Resampler:
    """One set of resamples of images and seeds, applied to any figure over the same images.

    Args:
        images: N.
        groups: a label per image, or None.
        seeds: S.
        resamples: R.
        seed: of the draws.
    """

    def __init__(
        self, images: int, groups: ArrayLike | None = None, seeds: int = 1, resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        if groups is not None and len(np.asarray(groups)) != images:
            raise ValueError(f"got {len(np.asarray(groups))} groups for {images} images, expected one label per image")
        self._images = bootstrap_weights(images if groups is None else groups, resamples, seed)
        # Unequal groups make resamples of unequal size: every mean is divided by its own total.
        self._images /= self._images.sum(1, keepdims=True)
        self._seeds = np.ones((resamples, 1)) if seeds == 1 else bootstrap_weights(seeds, resamples, seed + 1) / seeds

    def means(self, values: Array) -> Array:
        """Returns the mean of (S, N) or (1, N) values in every resample, (R,).

        One row among several seeds is a figure that does not depend on the seed.
        """
        infinite = np.isinf(values)
        if infinite.any():
            # 0 × infinity is no number, so infinite values are summed apart: drawn once, they decide the mean.
            if (values == -np.inf).any():
                raise ValueError("got minus infinity, expected finite values or plus infinity (a perfect copy's PSNR)")
            drawn = self.means(infinite.astype(np.float64))
            return np.where(drawn > 0, np.inf, self.means(np.where(infinite, 0.0, values)))
        if len(values) == 1:
            return self._images @ values[0]
        return np.einsum("rs,rs->r", self._seeds, self._images @ values.T)

    def interval(self, value: float, resampled: Array) -> Interval:
        """Returns the interval of a figure from its resampled values (R,), by order statistics."""
        ordered = np.sort(resampled)
        out = (1 - LEVEL) / 2 * (len(ordered) - 1)
        return Interval(float(value), float(ordered[int(np.floor(out))]), float(ordered[-1 - int(np.floor(out))]))


def resampler(images: int, groups: ArrayLike | None = None, seeds: int = 1, seed: int = 0) -> Resampler:
    """Returns the resamples that every figure over the same images shares; drawing them is what takes time."""
    return _drawn(images, None if groups is None else tuple(np.asarray(groups).tolist()), seeds, seed)


@lru_cache(maxsize=4)
def _drawn(images: int, groups: tuple[int | str, ...] | None, seeds: int, seed: int) -> Resampler:
    return Resampler(images, groups, seeds, seed=seed)


def mean_interval(values: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Returns the mean with its interval. An infinite value (PSNR of a perfect copy) makes the mean infinite."""
    v = _rows(values)
    r = resampler(v.shape[1], groups, len(v), seed)
    return r.interval(v.mean(), r.means(v))


def standard_error(values: ArrayLike, groups: ArrayLike | None = None) -> float:
    """Returns the standard error of the mean of (N,) values; images of one group count as one observation."""
    v = _rows(values)[0]
    labels = np.arange(len(v)) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    sums = np.bincount(labels, v - v.mean())
    n = len(sums)
    return float(np.sqrt((sums**2).sum() * n / max(n - 1, 1)) / len(v))


def ratio_interval(mse: ArrayLike, prior: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Returns the leakage score 1 − mean(mse) / mean(prior), both resampled together.

    Args:
        mse: of the attack, (N,) or (S, N).
        prior: of the constant guess on the same images, (N,) or (S, N).
        groups: a label per image, or None.
        seed: of the draws.
    """
    m, p = _matched(mse, prior)
    if not (p.mean() > 0 and np.isfinite(p).all() and np.isfinite(m).all()):
        raise ValueError("got a prior without error or errors that are not finite, expected finite ones and prior > 0")
    r = resampler(m.shape[1], groups, max(len(m), len(p)), seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = 1 - r.means(m) / r.means(p)
    # A resample whose images all equal the prior has no score of its own; it says nothing about the others.
    return r.interval(1 - m.mean() / p.mean(), scores[np.isfinite(scores)])


def paired_difference(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Returns mean(a) − mean(b) with its interval, for two figures of the same images (and seeds).

    Raises:
        ValueError: shapes that differ, values that are not finite.
    """
    x, y = _matched(a, b)
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("got values that are not finite, expected finite ones: infinities have no difference")
    return mean_interval(x - y, groups, seed)


def equivalent_resolution(
    mse: ArrayLike,
    thumbnails: Mapping[int, ArrayLike],
    prior: ArrayLike,
    side: int,
    groups: ArrayLike | None = None,
    seed: int = 0,
) -> Interval:
    """Returns the side in pixels of the thumbnail that has the same mean MSE as the reconstructions.

    0 stands for the prior (and anything worse), 1 for each image's own mean colour, ``side`` for a perfect copy.
    Between measured thumbnails the side is interpolated linearly in the mean MSE. Where a larger thumbnail happens to
    have the larger mean, it is taken to be as good as the smaller one (running minimum), so that less error never means
    a smaller side. Reconstructions, thumbnails and prior are resampled together.

    Args:
        mse: of the attack, (N,) or (S, N).
        thumbnails: side to MSE per image, (N,), from :func:`splitaudit.references.thumbnail_errors`.
        prior: MSE of the constant guess, (N,) or (S, N).
        side: the images' shorter side in pixels.
        groups: a label per image, or None.
        seed: of the draws.
    """
    m, p = _matched(mse, prior)
    sides = [0, *sorted(s for s in thumbnails if 0 < s < side), side]
    knots = [p, *(_matched(m, thumbnails[s])[1] for s in sides[1:-1]), np.zeros_like(m[:1])]
    r = resampler(m.shape[1], groups, max(len(m), len(p)), seed)
    at = np.array(sides, dtype=np.float64)
    value = _side_of(np.array([m.mean()]), np.array([[k.mean() for k in knots]]), at)[0]
    return r.interval(value, _side_of(r.means(m), np.stack([r.means(k) for k in knots], axis=1), at))


def wilson_interval(successes: float, n: int) -> tuple[float, float]:
    """Returns the 95 % interval of a share by Wilson's formula; ``successes`` may be a mean over draws."""
    z = 1.959963984540054
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float(centre - half), float(centre + half)


def _side_of(mse: Array, knots: Array, sides: Array) -> Array:
    """Interpolates the side at each MSE (R,) between knots (R, K) at sides (K,)."""
    knots = np.minimum.accumulate(knots, axis=1)
    # The first knot that is no worse: its predecessor is strictly worse, so nothing is divided by zero.
    at = (knots <= mse[:, None]).argmax(axis=1)
    before = np.maximum(at - 1, 0)
    rows = np.arange(len(mse))
    above, below = knots[rows, before], knots[rows, at]
    step = np.where(at > 0, (above - mse) / np.where(at > 0, above - below, 1.0), 0.0)
    return sides[before] + step * (sides[at] - sides[before])


def _rows(values: ArrayLike) -> Array:
    v = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if v.ndim != 2 or v.size == 0:
        raise ValueError(f"got values of shape {v.shape}, expected (N,) or (S, N) with at least one")
    if np.isnan(v).any():
        raise ValueError(f"got {int(np.isnan(v).sum())} values that are no number, expected none: nothing is left out")
    return v


def _matched(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    x, y = _rows(a), _rows(b)
    if x.shape[1] != y.shape[1] or (len(x) != len(y) and 1 not in (len(x), len(y))):
        raise ValueError(f"got shapes {x.shape} and {y.shape}, expected the same images and the same seeds")
    return x, y
