"""A small variational autoencoder of images of any size, for attackers who train their own generative prior."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn


class ImageVae(nn.Module):
    """Encodes images to a Gaussian over a latent vector and decodes latent vectors to images in [0, 1].

    Three strided convolutions and a linear layer to mean and log-variance; back by a linear layer onto a map of an eighth of
    the side and three transposed convolutions with a residual block each.

    Args:
        image_shape: (C, H, W), sides of at least 8.
        latent: numbers of the latent vector.
        width: channels at half the side; doubled twice.
    """

    def __init__(self, image_shape: tuple[int, int, int], latent: int = 128, width: int = 32) -> None:
        super().__init__()
        channels, height, across = image_shape
        self.image_shape, self.latent = image_shape, latent
        self.start = math.ceil(height / 8), math.ceil(across / 8)
        inner = 4 * width * self.start[0] * self.start[1]
        down: list[nn.Module] = []
        for before, after in ((channels, width), (width, 2 * width), (2 * width, 4 * width)):
            down += [nn.Conv2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after), nn.SiLU()]
        self.down = nn.Sequential(*down)
        self.to_latent = nn.Linear(inner, 2 * latent)
        self.from_latent = nn.Sequential(nn.Linear(latent, inner), nn.Unflatten(1, (4 * width, *self.start)))
        up: list[nn.Module] = []
        for before, after in ((4 * width, 2 * width), (2 * width, width), (width, width)):
            up += [nn.SiLU(), nn.ConvTranspose2d(before, after, 4, stride=2, padding=1), nn.BatchNorm2d(after)]
        self.up = nn.Sequential(*up, nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns mean and log-variance (N, latent) of images (N, C, H, W) in [0, 1]."""
        padded = F.interpolate(x, size=(8 * self.start[0], 8 * self.start[1]), mode="bilinear", align_corners=False)
        mean, log_variance = self.to_latent(self.down(2 * padded - 1).flatten(1)).chunk(2, 1)
        return mean, log_variance.clamp(-10, 5)

    def decode(self, u: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) in [0, 1] of latent vectors (N, latent)."""
        x = torch.sigmoid(self.up(self.from_latent(u)))
        size = self.image_shape[1:]
        return x if tuple(x.shape[2:]) == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)

    def loss(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns the negative evidence bound per pixel, with the decoder's variance at its optimum for the batch."""
        mean, log_variance = self.encode(x)
        noise = torch.empty_like(mean).normal_(generator=generator)
        guess = self.decode(mean + noise * (0.5 * log_variance).exp())
        error = (guess - x).square().mean().clamp_min(1e-6)
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        return 0.5 * error.log() + divergence / x[0].numel()
