"""Gaussian priors of images: independent cosine coefficients in decorrelated colours, or a full covariance."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from .eigen import eigh

ENOUGH = 20
"""Images for each number of an image from which on a full covariance is fitted."""

MOST = 1200
"""Most numbers of an image with a full covariance: with ENOUGH images for each of them, as many as fit in memory."""


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
        self.register_buffer("rows", cosines(height), persistent=False)
        self.register_buffer("columns", cosines(width), persistent=False)
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
        self.colours.copy_(eigh(covariance)[1])
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


class FullGaussianPrior(GaussianPrior):
    """Describes images as mean + Σ w_k · scale_k · v_k with the eigenvectors v_k of their covariance and w standard normal.

    The covariance has (C·H·W)² numbers, so it takes many images to know it: :meth:`suits` says whether there are enough.
    Coefficients have the shape of an image, in the order of the eigenvalues.

    Args:
        image_shape: (C, H, W).
        floor: added to the variance of a coefficient.
    """

    vectors: torch.Tensor

    def __init__(self, image_shape: tuple[int, int, int], floor: float = 1e-5) -> None:
        super().__init__(image_shape, floor)
        self.register_buffer("vectors", torch.eye(math.prod(image_shape)))

    @staticmethod
    def suits(images: torch.Tensor) -> bool:
        """Says whether a covariance can be fitted: 20 images for each number of one, and at most 1,200 numbers."""
        numbers = images[0].numel()
        return numbers <= MOST and len(images) >= ENOUGH * numbers

    def fit(self, images: torch.Tensor) -> None:
        self.mean.copy_(images.mean(0, keepdim=True))
        flat = (images - self.mean).flatten(1).double()
        values, vectors = eigh(flat.T @ flat / len(flat))
        self.vectors.copy_(vectors.float())
        self.scale.copy_((values.clamp_min(0).float() + self.floor).sqrt().reshape(self.scale.shape))

    def analyse(self, centred: torch.Tensor) -> torch.Tensor:
        return (centred.flatten(1) @ self.vectors).reshape(centred.shape)

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return self.mean + ((w * self.scale).flatten(1) @ self.vectors.T).reshape(w.shape)


def fitted_prior(images: torch.Tensor, full: bool = True) -> GaussianPrior:
    """Returns the prior of images (N, C, H, W) in [0, 1]: with the full covariance where it may and they suffice for it."""
    kind = FullGaussianPrior if full and FullGaussianPrior.suits(images) else GaussianPrior
    prior = kind((images.shape[1], images.shape[2], images.shape[3])).to(images.device)
    prior.fit(images)
    return prior


def stored_prior(state: Mapping[str, torch.Tensor], image_shape: tuple[int, int, int]) -> GaussianPrior:
    """Returns the prior whose state is among some tensors."""
    prior = (FullGaussianPrior if "vectors" in state else GaussianPrior)(image_shape)
    prior.load_state_dict({name: state[name] for name in prior.state_dict()})
    return prior


def cosines(n: int) -> torch.Tensor:
    """Returns the orthonormal type-II cosine transform, (n, n)."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None, :]
    basis = torch.cos(math.pi * (i + 0.5) * k / n) * math.sqrt(2 / n)
    basis[0] /= math.sqrt(2)
    return basis.float()
