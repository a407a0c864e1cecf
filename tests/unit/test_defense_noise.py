"""Additive noise: its scale, its shape, and what its scale is measured on."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.testing.data import part
from splitaudit.testing.targets import home_of

LOW, HIGH = 0.5, 8.0
"""Standard deviations of the even and the odd channels of the test's features."""


def defense(**params: Any) -> Noise:
    made = Noise(NoiseParams(**params))
    made.prepare(home_of(Noise).split(part("client_train", 8), seed=0))
    return made


def features(factor: float = 1.0, n: int = 64, seed: int = 0) -> torch.Tensor:
    z = torch.randn(n, 8, 16, 16, generator=torch.Generator().manual_seed(seed))
    z[:, ::2] *= LOW
    z[:, 1::2] *= HIGH
    return factor * z + 3


def sent(made: Noise, z: torch.Tensor) -> torch.Tensor:
    """Returns the noise on the wire."""
    return made.protect(z, torch.Generator().manual_seed(1)) - z


def deviations(noise: torch.Tensor) -> tuple[float, float]:
    return float(noise[:, ::2].std()), float(noise[:, 1::2].std())


@pytest.mark.parametrize("distribution", ["gaussian", "laplace"])
def test_relative_noise_follows_each_channels_calibrated_deviation(distribution: str) -> None:
    """sigma is the standard deviation for both shapes: a Laplace difference of exponentials alone has twice the variance."""
    made = defense(sigma=0.5, distribution=distribution).eval()
    z = features()
    made.calibrate(lambda: [z[:40], z[40:]])
    low, high = deviations(sent(made, z))
    assert low == pytest.approx(0.5 * LOW, rel=0.02)
    assert high == pytest.approx(0.5 * HIGH, rel=0.02)


@pytest.mark.parametrize(("distribution", "kurtosis"), [("gaussian", 3.0), ("laplace", 6.0)])
def test_the_noise_has_the_shape_that_was_asked_for(distribution: str, kurtosis: float) -> None:
    noise = sent(defense(distribution=distribution, relative=False), features()).double()
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.pow(4).mean() / noise.square().mean() ** 2) == pytest.approx(kurtosis, rel=0.1)


def test_absolute_noise_is_the_same_on_every_channel() -> None:
    assert deviations(sent(defense(sigma=0.5, relative=False), features())) == pytest.approx((0.5, 0.5), rel=0.02)


def test_calibration_replaces_what_training_has_seen() -> None:
    made = defense(sigma=1.0)
    made.train()
    sent(made, features(factor=100))
    made.eval()
    made.calibrate(lambda: [features()])
    assert deviations(sent(made, features())) == pytest.approx((LOW, HIGH), rel=0.02)


def test_the_scale_follows_the_features_in_training_and_is_frozen_afterwards() -> None:
    """An edge that inflates its features gets as much more noise; what is sent later changes no scale."""
    made = defense(sigma=1.0)
    made.train()
    noise = sent(made, features(n=8))
    for _ in range(60):
        noise = sent(made, features(10.0, n=8))
    assert deviations(noise) == pytest.approx((10 * LOW, 10 * HIGH), rel=0.05)
    made.eval()
    assert deviations(sent(made, features(0.1))) == pytest.approx((10 * LOW, 10 * HIGH), rel=0.05)


def test_the_first_batch_of_training_sets_the_scale_and_later_ones_move_it_by_a_tenth() -> None:
    made = defense(sigma=1.0)
    made.train()
    assert deviations(sent(made, features())) == pytest.approx((LOW, HIGH), rel=0.02)
    assert deviations(sent(made, features(11.0))) == pytest.approx((2 * LOW, 2 * HIGH), rel=0.02)


def test_the_scale_has_no_gradient() -> None:
    """Noise that grows with z would otherwise teach the edge to change z's scale: the wire's gradient is the identity."""
    made = defense(sigma=1.0)
    made.train()
    z = features().requires_grad_()
    made.protect(z, torch.Generator().manual_seed(0)).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, torch.ones_like(z))
