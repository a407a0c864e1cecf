"""Intervals: coverage, pairing, groups, seeds, and the equivalent resolution."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitaudit.stats import (
    _widening,
    bootstrap_weights,
    equivalent_resolution,
    mean_interval,
    paired_difference,
    ratio_interval,
    scaled_interval,
    share_difference,
    share_interval,
    standard_error,
)


def values(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).gamma(2.0, 1.0, n)


def test_resamples_have_the_size_of_the_set_and_repeat_themselves() -> None:
    w = bootstrap_weights(50, resamples=20, seed=3)
    assert w.shape == (20, 50)
    assert (w.sum(1) == 50).all()
    assert np.array_equal(w, bootstrap_weights(50, resamples=20, seed=3))
    assert not np.array_equal(w, bootstrap_weights(50, resamples=20, seed=4))


def test_images_of_one_group_are_drawn_together() -> None:
    groups = np.array([7, 7, 2, 2, 2, 9])
    w = bootstrap_weights(groups, resamples=50)
    for g in (2, 7, 9):
        assert (w[:, groups == g] == w[:, groups == g][:, :1]).all()
    assert (w[:, [0, 2, 5]].sum(1) == 3).all()


def test_intervals_cover_the_true_mean_about_95_times_in_100() -> None:
    hits = sum(i.low <= 2.0 <= i.high for i in (mean_interval(values(200, s)) for s in range(200)))
    assert 180 <= hits <= 198


def test_the_interval_has_the_width_that_theory_says() -> None:
    v = values(400)
    i = mean_interval(v)
    assert i.value == v.mean()
    assert i.high - i.low == pytest.approx(2 * 1.96 * v.std() / 20, rel=0.1)


def test_groups_widen_the_interval_when_their_images_are_alike() -> None:
    v = np.repeat(values(20), 10)
    groups = np.repeat(np.arange(20), 10)
    alone, grouped = mean_interval(v), mean_interval(v, groups)
    assert (grouped.high - grouped.low) / (alone.high - alone.low) == pytest.approx(10**0.5, rel=0.2)
    assert standard_error(v, groups) / standard_error(v) == pytest.approx(10**0.5, rel=0.05)


def test_groups_of_one_image_change_nothing() -> None:
    v = values(60)
    assert mean_interval(v, np.arange(60)) == mean_interval(v)
    assert standard_error(v) == pytest.approx(v.std(ddof=1) / 60**0.5)


def test_groups_that_repeat_their_image_leave_every_figure_its_interval() -> None:
    """Each group repeats one image 10 times: 20 observations, not 200. A figure that ignores groups is too sure."""
    groups = np.repeat(np.arange(20), 10)
    mse, prior = values(20), values(20, 1) + 2
    thumbnails = {s: prior * f for s, f in [(1, 0.8), (2, 0.5), (4, 0.2)]}

    def repeated(v: np.ndarray) -> np.ndarray:
        return np.repeat(v, 10, axis=-1)

    many = {s: repeated(t) for s, t in thumbnails.items()}
    assert mean_interval(repeated(mse), groups) == pytest.approx(mean_interval(mse))
    assert ratio_interval(repeated(mse), repeated(prior), groups) == pytest.approx(ratio_interval(mse, prior))
    assert paired_difference(repeated(mse), repeated(prior), groups) == pytest.approx(paired_difference(mse, prior))
    assert scaled_interval(repeated(mse), repeated(prior), repeated(prior), groups) == pytest.approx(
        scaled_interval(mse, prior, prior)
    )
    assert equivalent_resolution(repeated(mse), many, repeated(prior), 8, groups) == pytest.approx(
        equivalent_resolution(mse, thumbnails, prior, 8)
    )


# -- few images -------------------------------------------------------------------------------------------------------


def test_of_one_image_or_one_group_of_them_nothing_is_known() -> None:
    """Its interval was the figure alone, and every difference between two of them was distinguishable."""
    assert mean_interval([3.0]) == (3, -np.inf, np.inf)
    assert mean_interval(values(16), np.zeros(16)).high == np.inf
    assert mean_interval([[3.0], [3.1], [2.9]]) == pytest.approx((3, -np.inf, np.inf))
    assert mean_interval([0.5], bounds=(0.0, 1.0)) == (0.5, 0, 1)
    assert ratio_interval([0.5], [1.0]) == (0.5, -np.inf, 1)
    assert paired_difference([1.0], [2.0]) == (-1, -np.inf, np.inf)


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_intervals_of_few_normal_differences_cover_about_as_often_as_they_say(n: int) -> None:
    """Percentiles alone cover in 0.50, 0.74, 0.83 and 0.89 of cases."""
    rng = np.random.default_rng(n)
    found = [paired_difference(rng.normal(size=n), np.zeros(n)) for _ in range(1000)]
    assert 0.9 <= np.mean([i.low <= 0 <= i.high for i in found]) <= 0.98


@pytest.mark.parametrize(("groups", "least"), [(8, 0.83), (16, 0.87), (64, 0.91)])
def test_intervals_of_few_groups_with_skewed_errors_cover_nearly_as_often_as_they_say(
    groups: int, least: float
) -> None:
    """Errors as attacks leave them: a few groups with many times the others' error, images of a group alike."""
    rng, trials, hits = np.random.default_rng(groups), 600, 0
    labels = np.repeat(np.arange(groups), 2)
    for _ in range(trials):
        mse = np.repeat(rng.lognormal(-0.5, 1.0, groups), 2) * rng.lognormal(-0.02, 0.2, 2 * groups)
        prior = np.repeat(rng.gamma(4.0, 2.5, groups), 2)
        found = ratio_interval(mse, prior, labels)
        hits += found.low <= 0.9 <= found.high
    print(f"{groups} groups: {hits / trials:.3f}")
    assert hits / trials >= least


def test_the_widening_is_that_of_the_documents() -> None:
    text = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    at = {n: f"{100 * (_widening(n) - 1):.0f} % at {n}" for n in (64, 8)}
    assert f"({at[64]}, {at[8]};" in text


def test_images_that_all_agree_leave_open_what_so_few_can() -> None:
    """Two right of two had the interval [1, 1], and differed for certain from two wrong ones."""
    ones, zeros = np.ones(8), np.zeros(8)
    least = 0.025 ** (1 / 8)
    assert share_interval(ones) == pytest.approx((1, least, 1))
    assert share_interval(zeros) == pytest.approx((0, 0, 1 - least))
    assert share_interval(ones, np.repeat([0, 1], 4)).low == pytest.approx(0.025**0.5)
    assert share_interval([1.0, 0.0, 1.0, 1.0]) == mean_interval([1.0, 0.0, 1.0, 1.0], bounds=(0, 1))
    assert share_difference(ones[:2], zeros[:2]).low < 0 < share_difference(ones, zeros).low
    assert share_difference(zeros, ones).high == pytest.approx(1 - 2 * least)
    assert share_difference(ones, ones) == (0, 0, 0)


@pytest.mark.parametrize(("n", "share"), [(8, 0.95), (16, 0.95), (64, 0.99)])
def test_intervals_of_shares_near_one_cover_the_truth(n: int, share: float) -> None:
    """Resamples of images that are all right covered 0.33, 0.61 and 0.49 of cases."""
    rng = np.random.default_rng(n)
    found = [share_interval((rng.random(n) < share).astype(float)) for _ in range(400)]
    assert np.mean([i.low <= share <= i.high for i in found]) > 0.9


# -- seeds ------------------------------------------------------------------------------------------------------------


def test_equal_seeds_leave_the_interval_of_the_images() -> None:
    v = values(400)
    assert mean_interval(np.stack([v, v, v])) == pytest.approx(mean_interval(v))
    assert mean_interval(v[None]) == mean_interval(v)


@pytest.mark.parametrize(("seeds", "student"), [(2, 12.706), (3, 4.303), (5, 2.776)])
def test_seeds_alone_have_students_interval(seeds: int, student: float) -> None:
    """Images that are all alike: ± t · s / √S. Resampling two seeds would give ± 1 instead of ± 12.7."""
    means = np.arange(seeds, dtype=float)
    i = mean_interval(np.repeat(means[:, None], 50, axis=1))
    half = student * means.std(ddof=1) / seeds**0.5
    assert i == pytest.approx((means.mean(), means.mean() - half, means.mean() + half), abs=0.01)


def test_seeds_and_images_add_as_squares_and_what_both_contain_counts_once() -> None:
    """Shared images and shifted seeds add up; noise of single images and seeds is Student's alone."""
    v = values(400)
    images = mean_interval(v)
    shifted = mean_interval(np.stack([v - 0.05, v, v + 0.05]))
    more = 4.303 * 0.05 / 3**0.5
    assert shifted.high - v.mean() == pytest.approx(np.hypot(images.high - v.mean(), more), rel=1e-3)
    noise = np.random.default_rng(0).normal(0, 1, (3, 400))
    student = 4.303 * noise.mean(1).std(ddof=1) / 3**0.5
    half = mean_interval(noise).high - noise.mean()
    assert half == pytest.approx(max(student, 1.96 / 1200**0.5), rel=0.1)


def test_every_figure_widens_with_its_seeds_and_stays_within_its_bounds() -> None:
    """Before Student's part, two seeds 0.4 and 0.6 of the prior's error gave a leakage score of 0.4 to 0.6."""
    prior = values(50, 1)
    mse = np.stack([0.4 * prior, 0.6 * prior])
    score = ratio_interval(mse, prior)
    assert score.value == pytest.approx(0.5)
    assert score.low == pytest.approx(0.5 - 12.706 * 0.1, rel=1e-3)
    assert score.high == 1.0
    assert scaled_interval(mse, prior, prior).high == pytest.approx(-0.5 + 1.2706, rel=1e-3)
    assert mean_interval(mse / prior, bounds=(0, 1)) == pytest.approx((0.5, 0, 1))
    side = equivalent_resolution(np.stack([0.2 * prior, 0.8 * prior]), {1: 0.9 * prior, 4: 0.1 * prior}, prior, 8)
    assert (side.low, side.high) == (0, 8)


@pytest.mark.full
@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    ("training", "shared", "own"), [(1, 0.1, 0.5), (0.1, 1, 0.5), (0.1, 0.1, 1), (0.02, 1, 0), (0, 0, 1)]
)
def test_intervals_over_seeds_cover_the_true_mean(seeds: int, training: float, shared: float, own: float) -> None:
    """Trainings, images, and images within trainings vary. Resampled seeds covered 0.655, 0.795 and 0.878 at worst.

    Where trainings do not vary and images are shared, the interval is nearly that of the images.
    """
    rng, trials, n = np.random.default_rng(seeds), 1500, 100
    hits, width = 0, []
    for _ in range(trials):
        v = rng.normal(0, training, (seeds, 1)) + rng.normal(0, shared, n) + rng.normal(0, own, (seeds, n))
        i = mean_interval(v)
        hits += i.low <= 0 <= i.high
        width.append(i.high - i.low)
    assert hits / trials >= 0.93
    if (training, own) == (0.02, 0):
        assert np.median(width) < (1.6 if seeds == 2 else 1.2) * 2 * 1.96 * shared / n**0.5


def test_an_infinite_value_makes_the_mean_infinite_and_leaves_a_finite_lower_end() -> None:
    v = values(100)
    v[3] = np.inf
    i = mean_interval(v)
    assert i.value == np.inf
    assert i.high == np.inf
    assert 1 < i.low < 3


def test_what_is_no_number_is_refused_and_not_left_out() -> None:
    with pytest.raises(ValueError, match="1 values that are no number"):
        mean_interval([1.0, np.nan, 2.0])
    with pytest.raises(ValueError, match="at least one"):
        mean_interval([])
    with pytest.raises(ValueError, match="one label per image"):
        mean_interval([1.0, 2.0], groups=[1])


def test_the_leakage_score_is_0_for_the_prior_and_1_for_a_copy_without_any_doubt() -> None:
    prior = values(128)
    assert ratio_interval(prior, prior) == (0, 0, 0)
    assert ratio_interval(np.zeros(128), prior) == (1, 1, 1)


def test_the_leakage_score_resamples_attack_and_prior_together() -> None:
    """An attack that halves every image's error has the score 0.5 in every resample."""
    prior = values(128)
    assert ratio_interval(0.5 * prior, prior) == pytest.approx((0.5, 0.5, 0.5))
    shuffled = ratio_interval(0.5 * np.roll(prior, 1), prior)
    assert shuffled.high - shuffled.low > 0.05


def test_the_leakage_score_needs_a_prior_that_errs() -> None:
    with pytest.raises(ValueError, match="prior without error"):
        ratio_interval(np.ones(4), np.zeros(4))


def test_pairing_tells_apart_what_two_intervals_do_not() -> None:
    a = values(128)
    b = a - 0.05
    d = paired_difference(a, b)
    assert d == pytest.approx((0.05, 0.05, 0.05))
    assert mean_interval(a).low < mean_interval(b).high
    with pytest.raises(ValueError, match="the same images"):
        paired_difference(a, b[:-1])
    with pytest.raises(ValueError, match="no number"):
        paired_difference(np.array([np.nan, 1]), np.array([1.0, 1]))


# -- equivalent resolution --------------------------------------------------------------------------------------------

SIDE = 8
PRIOR = values(50, 1)
THUMBNAILS = {s: PRIOR * f for s, f in [(1, 0.5), (2, 0.3), (4, 0.2), (7, 0.02)]}


@pytest.mark.parametrize(
    ("share", "side"),
    [(1.0, 0), (1.7, 0), (0.75, 0.5), (0.5, 1), (0.4, 1.5), (0.3, 2), (0.25, 3), (0.02, 7), (0.01, 7.5), (0.0, 8)],
)
def test_equivalent_resolution_reads_the_side_between_measured_thumbnails(share: float, side: float) -> None:
    """Every resample keeps the ratios, so the interval has no width."""
    found = equivalent_resolution(share * PRIOR, THUMBNAILS, PRIOR, SIDE)
    assert found == pytest.approx((side, side, side), abs=1e-9)


def test_equivalent_resolution_of_every_thumbnail_is_its_own_side() -> None:
    for side, mse in THUMBNAILS.items():
        assert equivalent_resolution(mse, THUMBNAILS, PRIOR, SIDE).value == pytest.approx(side)


def test_equivalent_resolution_has_an_interval_that_holds_its_value() -> None:
    found = equivalent_resolution(0.3 * np.roll(PRIOR, 1), THUMBNAILS, PRIOR, SIDE)
    assert found.low < found.value < found.high


@given(st.lists(st.floats(0, 2), min_size=2, max_size=6), st.floats(0, 2), st.floats(0, 2))
@settings(max_examples=60, deadline=None)
def test_less_error_never_means_a_smaller_side_whatever_the_thumbnails(
    means: list[float], one: float, other: float
) -> None:
    thumbnails = {i + 1: np.full(3, m) for i, m in enumerate(means)}
    less, more = sorted((one, other))
    side = len(means) + 2
    a = equivalent_resolution(np.full(3, less), thumbnails, np.full(3, 1.0), side).value
    b = equivalent_resolution(np.full(3, more), thumbnails, np.full(3, 1.0), side).value
    assert 0 <= b <= a <= side


def test_equivalent_resolution_of_several_seeds_counts_their_spread() -> None:
    seeds = np.stack([0.2 * PRIOR, 0.3 * PRIOR, 0.5 * PRIOR])
    found = equivalent_resolution(seeds, THUMBNAILS, PRIOR, SIDE)
    assert found.low < 2 < found.high
    assert found.value == pytest.approx(2 - 1 / 6)
