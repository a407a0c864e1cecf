"""A small diffusion model of images of any size, for attackers who train their own generative prior."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

DATA = 0.5
"""Standard deviation of images scaled to [-1, 1], as the preconditioning takes it to be."""

LOG_MEAN, LOG_STD = -1.2, 1.2
"""Of the logarithm of the noise levels in training."""


class _Block(nn.Module):
    """Two convolutions with group norm, the second shifted by the noise level, added to what was given."""

    def __init__(self, before: int, after: int, level: int) -> None:
        super().__init__()
        self.first = nn.Sequential(_norm(before), nn.SiLU(), nn.Conv2d(before, after, 3, padding=1))
        self.shift = nn.Linear(level, after)
        self.second = nn.Sequential(_norm(after), nn.SiLU(), nn.Conv2d(after, after, 3, padding=1))
        self.straight = nn.Identity() if before == after else nn.Conv2d(before, after, 1)

    def forward(self, h: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        out = self.first(h) + self.shift(level)[:, :, None, None]
        return self.straight(h) + self.second(out)


class Denoiser(nn.Module):
    """Returns the mean image given a noisy one: a U-Net over three sizes with the preconditioning of EDM.

    Images are in [0, 1] outside; noise levels are standard deviations for images scaled to [-1, 1].

    Source: Karras et al., NeurIPS 2022 (EDM), equations 7 and 8 and the training distribution of noise levels. Departures: a
    network of a few hundred thousand weights without attention.

    Args:
        channels: of the images.
        width: channels at the image's own size; doubled below.
    """

    def __init__(self, channels: int, width: int = 32) -> None:
        super().__init__()
        level = 4 * width
        self.frequencies = width
        self.level = nn.Sequential(nn.Linear(2 * width, level), nn.SiLU(), nn.Linear(level, level), nn.SiLU())
        self.lead = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList([_Block(width, width, level), _Block(width, 2 * width, level)])
        self.middle = nn.ModuleList([_Block(2 * width, 2 * width, level), _Block(2 * width, 2 * width, level)])
        self.up = nn.ModuleList([_Block(4 * width, 2 * width, level), _Block(3 * width, width, level)])
        self.out = nn.Sequential(_norm(width), nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))
        nn.init.zeros_(self.out[2].weight)
        nn.init.zeros_(self.out[2].bias)

    def forward(self, noisy: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """Returns the expected images, scaled to [-1, 1], of noisy ones (N, C, H, W) at noise levels (N,)."""
        s = sigma[:, None, None, None]
        total = (s.square() + DATA**2).sqrt()
        found = self._network(noisy / total, sigma.log() / 4)
        return DATA**2 / total.square() * noisy + s * DATA / total * found

    def loss(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns the weighted denoising error of images (N, C, H, W) in [0, 1] at random noise levels."""
        draw = torch.empty(len(x), device=x.device).normal_(generator=generator)
        sigma = (LOG_MEAN + LOG_STD * draw).exp()
        clean = 2 * x - 1
        noise = torch.empty_like(clean).normal_(generator=generator)
        error = (self(clean + sigma[:, None, None, None] * noise, sigma) - clean).square().flatten(1).mean(1)
        return (error * (sigma.square() + DATA**2) / (sigma * DATA).square()).mean()

    def _network(self, h: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        angles = level[:, None] * torch.exp(torch.linspace(0, math.log(100), self.frequencies, device=level.device))
        at = self.level(torch.cat([angles.sin(), angles.cos()], 1))
        h = self.lead(h)
        kept = []
        for block in self.down:
            h = block(h, at)
            kept.append(h)
            h = F.avg_pool2d(h, 2, ceil_mode=True)
        for block in self.middle:
            h = block(h, at)
        for block in self.up:
            wide = kept.pop()
            h = F.interpolate(h, size=wide.shape[2:], mode="nearest")
            h = block(torch.cat([h, wide], 1), at)
        return self.out(h)


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(8, channels), channels)
