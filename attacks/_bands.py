"""Bands of frequencies of cosine coefficients, and how far a step is to be believed in each."""

from __future__ import annotations

import torch

BANDS = 12
"""Bands from the mean to the finest detail."""

SURE = 2.0
"""Standard errors by which steps must agree with the truth to count as helpful."""


def bands(shape: tuple[int, int, int]) -> torch.Tensor:
    """Returns the band of each coefficient, (C, H, W): rings of equal width in frequency, the first the lowest."""
    _, height, width = shape
    fy = torch.arange(height, dtype=torch.float32)[:, None] / max(1, height - 1)
    fx = torch.arange(width, dtype=torch.float32)[None] / max(1, width - 1)
    radius = (fy.square() + fx.square()).sqrt() / 2**0.5
    return (radius * BANDS).long().clamp_max(BANDS - 1).expand(shape)


def shrinkage(step: torch.Tensor, truth: torch.Tensor, *, sure: bool = False) -> torch.Tensor:
    """Returns the factor in [0, 1] for each coefficient (1, C, H, W) with the least squared error of factor · step.

    Args:
        step: coefficients of the steps that were taken, (N, C, H, W).
        truth: those of the steps that would have been right.
        sure: 0 in bands where the images leave open whether the steps help at all: where features say nothing, few images
            agree with the steps by chance.
    """
    where = bands((step.shape[1], step.shape[2], step.shape[3])).to(step.device)
    factor = torch.zeros_like(step[:1])
    for band in range(BANDS):
        inside = where == band
        a, b = step[:, inside], truth[:, inside]
        power, agreement = float(a.square().sum()), (a * b).sum(1)
        chance = SURE * float(agreement.std()) * len(step) ** 0.5 if sure and len(step) > 1 else 0.0
        helps = power > 0 and float(agreement.sum()) > chance
        factor[:, inside] = min(1.0, float(agreement.sum()) / power) if helps else 0.0
    return factor


def spread(factor: torch.Tensor) -> list[float]:
    """Returns the factor of each band, from the lowest frequency on; those without coefficients are left out."""
    where = bands((factor.shape[1], factor.shape[2], factor.shape[3])).to(factor.device)
    return [float(factor[0][where == band][0]) for band in range(BANDS) if bool((where == band).any())]
