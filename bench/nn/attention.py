"""Attention modules of the SiftFunnel edge: squeeze-and-excitation, triplet attention, CBAM.

Source: arXiv 2501.00824's official code; the modules themselves are Hu et al. 2018 (SE), Misra et al. 2021 (triplet) and
Woo et al. 2018 (CBAM). None changes the shape of its input (N, C, H, W).
"""

from __future__ import annotations

import torch
from torch import nn


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the channels' means; two linear layers without bias.

    Args:
        channels: C.
        hidden: width between the two layers.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.Linear(channels, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, channels, bias=False), nn.Sigmoid()
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.gate(z.mean((2, 3)))[:, :, None, None]


class _PlaneGate(nn.Module):
    """Scales each position of the last two axes by a gate computed from the maximum and mean over axis 1."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.norm = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        summary = torch.stack([z.amax(1), z.mean(1)], dim=1)
        return z * torch.sigmoid(self.norm(self.conv(summary)))


class TripletAttention(nn.Module):
    """Averages three gates over the planes (C, W), (H, C) and (H, W); 300 parameters at any size."""

    def __init__(self) -> None:
        super().__init__()
        self.channel_width = _PlaneGate(norm=True)
        self.height_channel = _PlaneGate(norm=True)
        self.height_width = _PlaneGate(norm=True)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        cw = self.channel_width(z.permute(0, 2, 1, 3)).permute(0, 2, 1, 3)
        hc = self.height_channel(z.permute(0, 3, 2, 1)).permute(0, 3, 2, 1)
        return (cw + hc + self.height_width(z)) / 3


class CBAM(nn.Module):
    """Scales channels by a gate from their means and maxima, then positions by a plane gate; no batch norm.

    Args:
        channels: C.
        hidden: width between the two shared 1×1 layers of the channel gate.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.channel = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )
        self.plane = _PlaneGate(norm=False)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        mean, peak = z.mean((2, 3), keepdim=True), z.amax((2, 3), keepdim=True)
        return self.plane(z * torch.sigmoid(self.channel(mean) + self.channel(peak)))
