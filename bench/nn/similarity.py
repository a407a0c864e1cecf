"""Structural similarity with a gradient, for defenses that train against it (the metric ``ssim`` has its own)."""

from __future__ import annotations

import torch
import torch.nn.functional as F

WINDOW, SIGMA = 11, 1.5
"""Side of the Gaussian window and its standard deviation, in pixels."""

C1, C2 = 0.01**2, 0.03**2
"""Constants of the index for images in [0, 1]."""

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Exponents of the five scales, from the finest to the coarsest."""


def ssim(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Returns the structural similarity of each image, (N,), between -1 and 1.

    Gaussian window of 11×11 px (σ 1.5 px, no sample covariance), averaged over channels and over the windows that lie
    inside the image. Images under 11 px a side get the largest odd window that fits.

    Args:
        guess: (N, C, H, W) in [0, 1].
        truth: the same shape.

    Source: Wang et al. 2004, equation 13.
    """
    luminance, contrast = _terms(guess, truth)
    return (luminance * contrast).flatten(1).mean(1)


def multi_scale_ssim(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Returns the multi-scale structural similarity of each image, (N,), between 0 and 1.

    Π_s (contrast and structure at scale s)^w_s, at the coarsest scale times luminance; each factor is averaged over the
    image first, and each scale has half the side of the one before (2×2 means).

    Args:
        guess: (N, C, H, W) in [0, 1].
        truth: the same shape.

    Source: Wang et al. 2003, equation 7. Departures: only scales into which the window fits are used, with their
    weights divided by the sum (two at 32 px, all five from 176 px); a negative factor counts as 1e-6, because its power
    is not real.
    """
    side = min(guess.shape[-2:])
    scales = 1
    while scales < len(WEIGHTS) and side // 2**scales >= WINDOW:
        scales += 1
    weights = [w / sum(WEIGHTS[:scales]) for w in WEIGHTS[:scales]]
    result = torch.ones(len(guess), dtype=guess.dtype, device=guess.device)
    for scale, weight in enumerate(weights):
        luminance, contrast = _terms(guess, truth)
        factor = luminance * contrast if scale == scales - 1 else contrast
        result = result * factor.flatten(1).mean(1).clamp_min(1e-6) ** weight
        if scale < scales - 1:
            guess, truth = F.avg_pool2d(guess, 2), F.avg_pool2d(truth, 2)
    return result


def _terms(guess: torch.Tensor, truth: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the luminance map and the map of contrast times structure, for all windows inside the image."""
    channels, height, width = guess.shape[1:]
    size = min(WINDOW, height, width)
    size -= 1 - size % 2
    at = torch.arange(size, dtype=guess.dtype, device=guess.device) - (size - 1) / 2
    kernel = torch.exp(-at.square() / (2 * SIGMA**2))
    kernel = kernel / kernel.sum()
    moments = torch.cat([guess, truth, guess * guess, truth * truth, guess * truth], dim=1)
    rows = kernel.reshape(1, 1, -1, 1).expand(5 * channels, 1, -1, 1)
    columns = kernel.reshape(1, 1, 1, -1).expand(5 * channels, 1, 1, -1)
    blurred = F.conv2d(F.conv2d(moments, rows, groups=5 * channels), columns, groups=5 * channels)
    a, b, aa, bb, ab = blurred.chunk(5, dim=1)
    luminance = (2 * a * b + C1) / (a * a + b * b + C1)
    contrast = (2 * (ab - a * b) + C2) / ((aa - a * a) + (bb - b * b) + C2)
    return luminance, contrast
