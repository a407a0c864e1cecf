"""A Gaussian prior of images: independent cosine coefficients in decorrelated colours."""

from __future__ import annotations

import math

import torch
from torch import nn


class GaussianPrior(nn.Module):
    """Describes images as mean + colour · cosine transform · (scale ⊙ w) with w standard normal.

    Natural images are nearly stationary, so the two-dimensional cosine transform nearly diagonalises their covariance; one
    variance per frequency and decorrelated colour is then enough at any image size, where a full covariance would need
    (C·H·W)² numbers. Optimising w instead of pixels is also the natural preconditioner: all frequencies move alike.

    Args:
        image_shape: (C, H, W). Until :meth:`fit`, the mean is mid-grey and the variance falls as 1/f².
        floor: smallest variance of a coefficient.
    """

    mean: torch.Tensor
    colours: torch.Tensor
    scale: torch.Tensor
    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, image_shape: tuple[int, int, int], floor: float = 1e-5) -> None:
        super().__init__()
        channels, height, width = image_shape
        self.floor = floor
        self.register_buffer("rows", _cosines(height), persistent=False)
        self.register_buffer("columns", _cosines(width), persistent=False)
        self.register_buffer("mean", torch.full((1, *image_shape), 0.5))
        self.register_buffer("colours", torch.eye(channels))
        # Frequencies in cycles per image; the total variance is about that of natural images (0.06 per pixel).
        fy, fx = torch.arange(height)[:, None], torch.arange(width)[None, :]
        power = 1.0 / (1.0 + fy.square() + fx.square()).float()
        power = 0.06 * height * width * power / power.sum()
        self.register_buffer("scale", power.add(floor).sqrt().expand(1, *image_shape).clone())

    def fit(self, images: torch.Tensor) -> None:
        """Fits mean, colours and variances to images (N, C, H, W) in [0, 1]."""
        self.mean.copy_(images.mean(0, keepdim=True))
        centred = images - self.mean
        covariance = torch.einsum("nchw,ndhw->cd", centred, centred)
        self.colours.copy_(torch.linalg.eigh(covariance)[1])
        variance = self.analyse(centred).square().mean(0, keepdim=True)
        self.scale.copy_((variance + self.floor).sqrt())

    def analyse(self, centred: torch.Tensor) -> torch.Tensor:
        """Returns the coefficients (N, C, H, W) of centred images."""
        return torch.einsum("ck,nchw->nkhw", self.colours, self.rows @ centred @ self.columns.T)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """Returns the standardised coefficients w of images."""
        return self.analyse(images - self.mean) / self.scale

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        """Returns the images of standardised coefficients w (N, C, H, W); not clipped."""
        return self.mean + torch.einsum("ck,nkhw->nchw", self.colours, self.rows.T @ (w * self.scale) @ self.columns)


def _cosines(n: int) -> torch.Tensor:
    """Returns the orthonormal type-II cosine transform, (n, n)."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None, :]
    basis = torch.cos(math.pi * (i + 0.5) * k / n) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis.float()
