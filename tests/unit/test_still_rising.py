"""Whether an accuracy curve still rises is judged against the scatter of its epochs, not of the images."""

from __future__ import annotations

import numpy as np
import pytest

from splitaudit.rising import still_rising


def noisy(mean: np.ndarray, scatter: float, seed: int) -> list[float]:
    return (mean + np.random.default_rng(seed).normal(size=len(mean)) * scatter).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_a_steady_rise_of_two_points_a_quarter_still_rises(seed: int) -> None:
    """The same images in every epoch: 1,000 of them say more than a binomial error of 3 points would allow."""
    assert still_rising(noisy(np.linspace(0.6, 0.68, 40), 0.003, seed), 1000)


def test_a_plateau_seldom_rises() -> None:
    hits = sum(still_rising(noisy(np.full(40, 0.7), 0.01, seed), 1000) for seed in range(100))
    assert hits <= 10


def test_a_rise_within_the_scatter_is_none() -> None:
    assert not still_rising(
        [0.6, 0.7, 0.62, 0.72, 0.58, 0.71, 0.6, 0.72, 0.6, 0.71, 0.62, 0.7, 0.6, 0.72, 0.61, 0.73], 500
    )


def test_a_certain_rise_of_less_than_half_a_point_or_an_image_is_none() -> None:
    steps = np.repeat([0.6, 0.7, 0.7, 0.704], 5)
    assert not still_rising(steps.tolist(), 10_000)
    assert still_rising((steps + np.repeat([0, 0, 0, 0.004], 5)).tolist(), 10_000)
    assert not still_rising((steps + np.repeat([0, 0, 0, 0.004], 5)).tolist(), 100)


def test_few_epochs_are_no_evidence_of_convergence() -> None:
    assert still_rising([0.5, 0.5, 0.5], 1000)
    assert still_rising([0.5, 0.6, 0.6, 0.62], 1000)
    assert not still_rising([0.5, 0.6, 0.6, 0.6], 1000)
