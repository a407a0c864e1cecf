"""Intervals over images (or groups of them) and seeds. Pure functions on numpy arrays.

Values are (N,), one per image, or (S, N), a row per seed over the same images. Images are resampled with replacement;
where there are groups (crops of one tile) whole groups are, because their images are not independent. The ends are
percentiles of 1,000 resamples from a fixed seed: equal arguments give equal intervals, and figures of the same images
share their resamples. Percentiles are too narrow for few images, as a normal distribution with the plain variance is:
their distance from the figure is widened by Student's factor, t / z · √(n / (n − 1)) of n images or groups. (Hesterberg
2015, "What teachers should know about the bootstrap", moves the percentiles instead, which never leave the range of the
resamples.) Of one image, or images of one group, nothing is known: its interval is unbounded. Where images that are right or
wrong all agree no resample differs, and the interval is an exact one (:func:`share_interval`). Every interval is 95 %, as
far as so few and skewed values let it be (docs/metrics.md).

Seeds are too few to resample (two of them give a 95 % interval that covers in 65 % of cases): their part is Student's,
t · s / √S with S − 1 degrees of freedom, s the standard deviation of the seeds' figures. Both parts are added as squares,
less what both contain: the differences between seeds that come from the images alone. With one seed the interval is over
the images and says nothing of the randomness of a training.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

Array = NDArray[np.float64]

RESAMPLES = 1000
LEVEL = 0.95
NO_BOUNDS = (-np.inf, np.inf)


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
    """One set of resamples of images, applied to any figure over the same images.

    Args:
        images: N.
        groups: a label per image, or None.
        resamples: R.
        seed: of the draws.
    """

    def __init__(self, images: int, groups: ArrayLike | None = None, resamples: int = RESAMPLES, seed: int = 0) -> None:
        if groups is not None and len(np.asarray(groups)) != images:
            raise ValueError(f"got {len(np.asarray(groups))} groups for {images} images, expected one label per image")
        self.independent = images if groups is None else len(np.unique(np.asarray(groups)))
        self._widening = _widening(self.independent)
        self._images = bootstrap_weights(images if groups is None else groups, resamples, seed)
        # Unequal groups make resamples of unequal size: every mean is divided by its own total.
        self._images /= self._images.sum(1, keepdims=True)

    def means(self, values: Array) -> Array:
        """Returns the mean over images of (S, N) values in every resample, (R, S)."""
        infinite = np.isinf(values)
        if infinite.any():
            # 0 × infinity is no number, so infinite values are summed apart: drawn once, they decide the mean.
            if (values == -np.inf).any():
                if (values == np.inf).any():
                    raise ValueError("got infinity of both signs, expected one of them: together they have no mean")
                return -self.means(-values)
            drawn = self.means(infinite.astype(np.float64))
            return np.where(drawn > 0, np.inf, self.means(np.where(infinite, 0.0, values)))
        return self._images @ values.T

    def interval(
        self,
        value: float,
        resampled: Array,
        seeds: Array | None = None,
        seeds_resampled: Array | None = None,
        bounds: tuple[float, float] = NO_BOUNDS,
    ) -> Interval:
        """Returns the interval of a figure.

        Args:
            value: the figure, of all seeds together.
            resampled: the same in every resample of the images, (R,).
            seeds: the figure of each seed alone, (S,); None or one seed: the interval is over the images only.
            seeds_resampled: the same in every resample, (R, S).
            bounds: least and greatest possible value of the figure.
        """
        ordered = np.sort(resampled)
        out = int(np.floor((1 - LEVEL) / 2 * (len(ordered) - 1)))
        low, high = ordered[out], ordered[-1 - out]
        if np.isinf(self._widening):
            low, high = -np.inf, np.inf
        elif np.isfinite(value):
            low = value - self._widening * max(0.0, value - low)
            high = value + self._widening * max(0.0, high - value)
        if seeds is not None and seeds_resampled is not None and len(seeds) > 1 and np.isfinite(seeds).all():
            more = _seed_part(seeds, seeds_resampled, self._widening)
            low = value - np.hypot(value - low, more)
            high = value + np.hypot(high - value, more)
        return Interval(float(value), float(max(low, bounds[0])), float(min(high, bounds[1])))


def _widening(independent: int) -> float:
    """Returns by how much the percentiles of so many independent images are too near to the figure, as a factor."""
    if independent < 2:
        return np.inf
    normal = stdtrit(np.inf, (1 + LEVEL) / 2)
    student = stdtrit(independent - 1, (1 + LEVEL) / 2)
    return float(student / normal * np.sqrt(independent / (independent - 1)))


def _seed_part(seeds: Array, resampled: Array, widening: float) -> float:
    """Returns by how much the spread of seeds widens half an interval over images, to be added as a square.

    Student's half-width contains the images' effect on single seeds (an image that is hard for one training only), and
    so does the interval over images: it is taken off once, so that the whole is never narrower than either.

    Args:
        seeds: a figure per seed, (S,).
        resampled: the same in every resample of the images, (R, S).
        widening: of the interval over images.
    """
    n = len(seeds)
    if np.isinf(widening):
        return 0.0  # the whole is unbounded
    student = stdtrit(n - 1, (1 + LEVEL) / 2) * seeds.std(ddof=1) / np.sqrt(n)
    own = resampled - resampled.mean(1, keepdims=True)
    twice = widening * stdtrit(np.inf, (1 + LEVEL) / 2) * np.sqrt(own.var(0).sum() / (n - 1) / n)
    return float(np.sqrt(max(0.0, student**2 - twice**2)))


def resampler(images: int, groups: ArrayLike | None = None, seed: int = 0) -> Resampler:
    """Returns the resamples that every figure over the same images shares; drawing them is what takes time."""
    return _drawn(images, None if groups is None else tuple(np.asarray(groups).tolist()), seed)


@lru_cache(maxsize=4)
def _drawn(images: int, groups: tuple[int | str, ...] | None, seed: int) -> Resampler:
    return Resampler(images, groups, seed=seed)


def mean_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    seed: int = 0,
    bounds: tuple[float, float] = NO_BOUNDS,
) -> Interval:
    """Returns the mean with its interval. An infinite value (PSNR of a perfect copy) makes the mean infinite.

    Infinite is then every resample that draws it; the others may leave a finite end.

    Args:
        values: (N,) or (S, N).
        groups: a label per image, or None.
        seed: of the draws.
        bounds: least and greatest possible mean; the interval ends there.
    """
    v = _rows(values)
    r = resampler(v.shape[1], groups, seed)
    drawn = r.means(v)
    return r.interval(v.mean(), drawn.mean(1), v.mean(1), drawn, bounds)


def share_interval(values: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Returns the mean of what is right (1) or wrong (0), or a share of draws that are right, with its interval.

    Where all agree no resample differs: the interval then is Clopper and Pearson's of as many independent images (or groups),
    of which none was otherwise.

    Args:
        values: (N,) or (S, N), in [0, 1].
        groups: a label per image, or None.
        seed: of the draws.
    """
    v = _rows(values)
    found = mean_interval(v, groups, seed, bounds=(0.0, 1.0))
    least = _least_share(resampler(v.shape[1], groups, seed).independent)
    if (v == 1).all():
        return found._replace(low=min(found.low, least))
    return found._replace(high=max(found.high, 1 - least)) if (v == 0).all() else found


def share_difference(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Returns mean(a) − mean(b) of two shares of the same images (and seeds), paired, with its interval.

    Where one is right on each image and the other on none, the interval is that of as many independent images, none of
    which was otherwise (:func:`share_interval`).

    Raises:
        ValueError: shapes that differ, values that are no number.
    """
    x, y = np.broadcast_arrays(*_matched(a, b))
    found = paired_difference(x, y, groups, seed)
    least = 2 * _least_share(resampler(x.shape[1], groups, seed).independent) - 1
    if (x - y == 1).all():
        return found._replace(low=min(found.low, least))
    return found._replace(high=max(found.high, -least)) if (x - y == -1).all() else found


def _least_share(independent: int) -> float:
    """Returns the lower end of a share of which each of so many independent images is."""
    return float(((1 - LEVEL) / 2) ** (1 / independent))


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
    return scaled_interval(p, m, p, groups, seed, bounds=(-np.inf, 1.0))


def scaled_interval(
    a: ArrayLike,
    b: ArrayLike,
    scale: ArrayLike,
    groups: ArrayLike | None = None,
    seed: int = 0,
    bounds: tuple[float, float] = NO_BOUNDS,
) -> Interval:
    """Returns (mean(a) − mean(b)) / mean(scale) with its interval, all three resampled together.

    Args:
        a: (N,) or (S, N).
        b: (N,) or (S, N).
        scale: (N,) or (S, N), positive on average.
        groups: a label per image, or None.
        seed: of the draws.
        bounds: least and greatest possible value.
    """
    (x, y), s = _matched(a, b), _matched(a, scale)[1]
    r = resampler(x.shape[1], groups, seed)
    value = (x.mean() - y.mean()) / s.mean()
    means = r.means(x), r.means(y), r.means(s)
    with np.errstate(divide="ignore", invalid="ignore"):
        alone = (x.mean(1) - y.mean(1)) / s.mean(1)
    # A resample whose images all equal the prior has no score of its own; it says nothing about the others.
    usable = (means[2] > 0).all(1)
    top, bottom, unit = (m[usable] for m in means)
    together = (top.mean(1) - bottom.mean(1)) / unit.mean(1)
    return r.interval(value, together, alone, (top - bottom) / unit, bounds)


def paired_difference(a: ArrayLike, b: ArrayLike, groups: ArrayLike | None = None, seed: int = 0) -> Interval:
    """Returns mean(a) − mean(b) with its interval, for two figures of the same images (and seeds).

    Two equal infinite values (both copy the image perfectly) differ by 0, one infinite value makes the difference infinite.
    Where differences are infinite in both directions nothing is known: no number, between minus and plus infinity.

    Raises:
        ValueError: shapes that differ, values that are no number.
    """
    x, y = np.broadcast_arrays(*_matched(a, b))
    difference = np.subtract(x, y, out=np.zeros(x.shape), where=x != y)
    if (difference == np.inf).any() and (difference == -np.inf).any():
        return Interval(np.nan, -np.inf, np.inf)
    return mean_interval(difference, groups, seed)


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
    r = resampler(m.shape[1], groups, seed)
    at = np.array(sides, dtype=np.float64)
    value = _side_of(np.array([m.mean()]), np.array([[k.mean() for k in knots]]), at)[0]
    drawn, between = r.means(m), [r.means(k) for k in knots]
    together = _side_of(drawn.mean(1), np.stack([k.mean(1) for k in between], axis=1), at)

    def of_seed(i: int, errors: Array, at_knots: list[Array]) -> Array:
        return _side_of(errors[:, i], np.stack([k[:, min(i, k.shape[1] - 1)] for k in at_knots], axis=1), at)

    seeds = range(len(m))
    alone = [of_seed(i, m.mean(1)[None], [k.mean(1)[None] for k in knots])[0] for i in seeds]
    apart = np.stack([of_seed(i, drawn, between) for i in seeds], axis=1)
    return r.interval(value, together, np.array(alone), apart, bounds=(0.0, float(side)))


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
