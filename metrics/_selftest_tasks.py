"""The tasks of the known-answer tests of mutual information."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from splitaudit.metrics import _known as known
from splitaudit.metrics._selftest_gates import Gate, deterministic, flagged, not_above, nothing, within

Act = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Task:
    """A target with a known answer.

    Attributes:
        name: what it is.
        make: returns features (N, D) or maps, the noise σ in their units, and the truth in nats.
        gate: returns why the measurement is not acceptable, or nothing.
        act: a random defense on the wire, or None.
        pairs: how many times as many images as the other tasks need.
    """

    name: str
    make: Callable[[int], tuple[torch.Tensor, float, float]]
    gate: Gate
    act: Act | None = None
    pairs: int = 1


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(d: int, nats: float) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of equal Gaussian features."""
    sigma = 1 / math.sqrt(math.expm1(2 * nats / d))
    return lambda n: (torch.randn(n, d, generator=seeded(d)), sigma, nats)


def elements(
    quantile: Callable[[Any], Any], d: int, sigma: float
) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of d independent features with a given distribution."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        u = torch.rand(n, d, generator=seeded(d + 1), dtype=torch.float64).clamp(1e-12, 1 - 1e-12)
        features = torch.from_numpy(np.asarray(quantile(u.numpy()))).float()
        return features, sigma, known.independent_elements(quantile, d, sigma)

    return make


def heavy_tails(d: int, sigma: float) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of a multivariate Student t with 5 degrees of freedom."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        g = seeded(17)
        chi = torch.randn(n, 5, generator=g).square().sum(1, keepdim=True)
        return torch.randn(n, d, generator=g) * (5 / chi).sqrt(), sigma, known.student(5, d, sigma)

    return make


def images(nats: float, side: int = 32) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of convolutional features of Gaussian images."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        basis, variances = known.image_channel(side)
        features = torch.randn(n, len(basis), generator=seeded(23)) @ basis
        return (
            features.reshape(n, 8, side // 2, side // 2),
            known.solve(lambda s: known.gaussian(variances, s), nats),
            nats,
        )

    return make


def patches(noise: float) -> Callable[[int], tuple[torch.Tensor, float, float]]:
    """Returns a task of 256 patches of photographs, drawn uniformly; noise relative to the root mean square."""

    def make(n: int) -> tuple[torch.Tensor, float, float]:
        features = known.patch_features()
        sigma = noise * float((features - features.mean(0)).square().mean().sqrt())
        pick = torch.randint(len(features), (n,), generator=seeded(29))
        return features[pick], sigma, known.discrete(features, sigma)

    return make


def _sent_nothing(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randn(z.shape, generator=generator)


def _flipped(z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    sign = torch.randint(2, (len(z), 1), generator=generator) * 2 - 1
    return z * sign


def _sign_symmetric(n: int) -> tuple[torch.Tensor, float, float]:
    return torch.randn(n, 5, generator=seeded(31)), 0.78, known.random_sign(5, 0.78)


def tasks(quick: bool) -> list[Task]:
    """Returns the tasks, the quick ones or all."""
    ten, image = within(0.1, 0.1), within(0.1, 0.1)
    first = [
        Task("independent wire, 20 features", lambda n: (*gaussian(20, 3.0)(n)[:2], 0.0), nothing, _sent_nothing),
        Task("10 Gaussian features, 1 nat", gaussian(10, 1.0), ten),
        Task("10 Gaussian features, 3 nats", gaussian(10, 3.0), ten),
        Task("10 Gaussian features, 15 nats", gaussian(10, 15.0), flagged()),
        Task("10 half-cube features", elements(known.half_cube, 10, 1.4), ten),
        Task("without noise", lambda n: (torch.randn(n, 10, generator=seeded(1)), 0.0, math.inf), deterministic),
    ]
    if quick:
        small = 16
        return [
            *first,
            Task("Gaussian images, 512 features, 3 nats", images(3.0, small), image),
            Task("Gaussian images, 512 features, 100 nats", images(100.0, small), flagged(0.1)),
        ]
    return [
        *first,
        Task("10 Gaussian features, 0.5 nats", gaussian(10, 0.5), ten),
        Task("10 Gaussian features, 5 nats", gaussian(10, 5.0), ten),
        Task("10 Gaussian features, 8 nats", gaussian(10, 8.0), flagged()),
        Task("10 uniform features", elements(lambda u: u, 10, 0.32), ten),
        Task("50 Gaussian features, 3 nats", gaussian(50, 3.0), within(0.2, 0.05)),
        Task("Student t, 5 degrees of freedom", heavy_tails(10, 1.65), not_above),
        Task("random sign", _sign_symmetric, not_above, _flipped),
        Task("Gaussian images, 2,048 features, 1 nat", images(1.0), image),
        Task("Gaussian images, 2,048 features, 5 nats", images(5.0), image),
        Task("Gaussian images, 2,048 features, 100 nats", images(100.0), flagged(0.05)),
        Task("Gaussian images, 2,048 features, 1000 nats", images(1000.0), flagged(0.05), pairs=2),
        Task("256 photograph patches, noise 14 x rms", patches(14.0), within(0.07, 0.07)),
        Task("256 photograph patches, noise 8 x rms", patches(8.0), within(0.07, 0.07)),
        Task("256 photograph patches, noise 4 x rms", patches(4.0), within(0.07, 0.07)),
    ]
