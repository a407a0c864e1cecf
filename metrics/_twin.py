"""A Gaussian twin: features with the same covariance, whose mutual information is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from splitaudit.metrics._bounds import Reading
from splitaudit.metrics._channel import Wire
from splitaudit.metrics._mine import estimate
from splitaudit.metrics._tables import Tables
from splitaudit.nn.eigen import eigh
from splitaudit.seeds import generator

READABLE = 0.6
"""Share of ln M up to which a twin is sure to be readable."""

SMALL = 512
"""Features up to here are drawn from their covariance; larger ones by mixing all images, which is cheaper."""


@dataclass(frozen=True)
class Twin:
    """What the estimator made of features whose information is known.

    Attributes:
        true: ½ ln det(I + Σ/(kσ)²) in nats.
        reading: of the same estimator on the same number of images.
        noise: k, by which the noise was raised: 1 unless the twin carries more than so many images can show.
    """

    true: float
    reading: Reading
    noise: float


def twin_of(tables: Tables, sigma: float, weights: torch.Tensor, seed: int, *, steps: int) -> Twin:
    """Runs the estimator on Gaussian features with the covariance of a wire's centres, over the same noise.

    An estimator that reads too little for want of images, dimensions or training does so here as well, and here it
    shows. The features are random mixtures of all centres, so their covariance is exactly that of the centres. A Gaussian
    carries the most of all features with its covariance; where that is more than the test images can show, the noise is
    raised until it is not.

    Args:
        tables: of the wire.
        sigma: deviation of the reference noise.
        weights: bootstrap weights of the test images.
        seed: of the twin and its critic.
        steps: training steps of its critic at most.
    """
    with torch.no_grad():
        unit = tables.wire.centres / tables.wire.deviation(sigma)
        n, d = unit.shape
        covariance = (unit @ unit.T if n < d else unit.T @ unit).double() / n
        true, noise = float(torch.linalg.slogdet(covariance + torch.eye(min(n, d)).to(covariance)).logabsdet) / 2, 1.0
        most = READABLE * math.log(len(tables.test))
        if true > most:
            values = torch.linalg.eigvalsh(covariance).clamp(min=0)
            noise = _noise_for(values, most)
            true, unit = float((values / noise**2).log1p().sum()) / 2, unit / noise
            covariance = covariance / noise**2
        draws = generator("measure twin", seed, unit.device)
        if d <= SMALL and d < n:
            values, vectors = eigh(covariance)
            root = (vectors * values.clamp(min=0).sqrt()).T.float()
        else:
            root = unit / n**0.5
        mixed = torch.randn((n, len(root)), generator=draws, device=unit.device) @ root
        mixed -= mixed[tables.train].mean(0)
        wire = Wire("deterministic", mixed, torch.zeros((), device=unit.device))
        division = (tables.train, tables.validation, tables.test)
    found = estimate(Tables(wire, division, seed + 1), 1.0, weights, seed + 1, steps=steps)
    return Twin(true, found.readings[0], noise)


def _noise_for(variances: torch.Tensor, nats: float) -> float:
    low, high = 1.0, 1e6
    for _ in range(60):
        middle = math.sqrt(low * high)
        more = float((variances / middle**2).log1p().sum()) / 2 > nats
        low, high = (middle, high) if more else (low, middle)
    return math.sqrt(low * high)
