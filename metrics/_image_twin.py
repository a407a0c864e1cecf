"""The Gaussian twin of the images: independent cosine coefficients with the variances that the images have."""

from __future__ import annotations

import torch

from splitaudit.metric import MeasureContext
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.pixels import to_float

NUMBERS = 2**26
"""Pixels that the variances are taken from at most."""


def image_twin(context: MeasureContext) -> GaussianPrior:
    """Returns a Gaussian description of the images of ``measure``; fitted once per context."""
    return context.once("image twin", lambda: _fit(context))


def _fit(context: MeasureContext) -> GaussianPrior:
    shape = context.model.info.image_shape
    prior = GaussianPrior(shape).to(context.device)
    images = context.data.images[: max(2, NUMBERS // (shape[0] * shape[1] * shape[2]))]
    with torch.no_grad():
        prior.fit(to_float(images.to(context.device)))
    return prior


def variances(prior: GaussianPrior) -> torch.Tensor:
    """Returns the variance of every cosine coefficient, (C, H, W)."""
    return prior.scale[0].square()


def distortion(variance: torch.Tensor, nats: float) -> float:
    """Returns the least mean squared error per pixel at which the twin can be described with so many nats.

    The rate–distortion function of independent Gaussians, by reverse water-filling: every coefficient above the water
    level θ costs ½ ln(variance/θ) and keeps the error θ, every other one keeps its variance.

    Args:
        variance: of the coefficients, any shape.
        nats: at least 0.
    """
    v = variance.double().flatten()
    low, high = float(v.max()) * 1e-300, float(v.max())
    if high <= 0 or nats <= 0:
        return float(v.mean())
    for _ in range(2000):
        level = (low * high) ** 0.5
        if level in (low, high) or high / low < 1 + 1e-12:
            break
        rate = float((v / level).clamp(min=1).log().sum()) / 2
        low, high = (level, high) if rate > nats else (low, level)
    return float(v.clamp(max=high).mean())
