"""The inversion decoders of the SiftFunnel code, by shape of the wire.

Source: arXiv 2501.00824, official code (``inversion_model_packages``), as structure and parameter counts. T4 doubles the
side (transposed convolution 4×4, stride 2), T3 keeps it (3×3, stride 1); all have a bias.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

Structure = Literal["auto", "chain", "autoencoder", "funnel"]

NARROW = 16
"""Wires with fewer channels are taken for a funnel's."""


class PublishedDecoder(nn.Module):
    """Maps features to an image in [0, 1] by the decoder that the official code uses for such a wire.

    ``chain``: T4 steps with batch norm and tanh that halve the channels (undefended CNN). ``autoencoder``: three T3 at
    twice the channels, then T4 steps. ``funnel``: five T3 at the wire's own channels, then T4 steps at 64 channels.
    Vectors: T4 steps from 4×4 at 512 channels.

    Departures: any side (the last map is resized bilinearly where doubling does not meet the image), any number of
    steps, widths in proportion where the chain would run below 16 channels.

    Args:
        feature_shape: shape of one image's features.
        image_shape: (C, H, W).
        structure: one of the above; ``auto``: ``funnel`` below 16 channels, else ``chain``.
    """

    def __init__(
        self, feature_shape: tuple[int, ...], image_shape: tuple[int, int, int], structure: Structure = "auto"
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if len(feature_shape) != 3:
            numbers = math.prod(feature_shape)
            steps = max(1, math.ceil(math.log2(max(height, width) / 4)))
            lead: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, (numbers, 1, 1))]
            lead += [nn.ConvTranspose2d(numbers, 512, 4), nn.BatchNorm2d(512), nn.Tanh()]
            layers, side = [*lead, *_chain(512, channels, steps)], (4 * 2**steps, 4 * 2**steps)
        else:
            wire, h, w = feature_shape
            steps = max(0, math.ceil(math.log2(max(height / h, width / w))))
            side = (h * 2**steps, w * 2**steps)
            if structure == "auto":
                structure = "funnel" if wire < NARROW else "chain"
            layers = {"chain": _chain, "autoencoder": _autoencoder, "funnel": _funnel}[structure](wire, channels, steps)
        if side != (height, width):
            layers.append(nn.Upsample((height, width), mode="bilinear", align_corners=False))
        self.body = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) in [0, 1] for features (N, *feature_shape)."""
        return self.body(z)


def _chain(wire: int, image: int, steps: int) -> list[nn.Module]:
    if steps == 0:
        return [_t3(wire, image)]
    layers: list[nn.Module] = []
    for _ in range(steps - 1):
        after = max(16, wire // 2)
        layers += [_t4(wire, after), nn.BatchNorm2d(after), nn.Tanh()]
        wire = after
    return [*layers, _t4(wire, image)]


def _autoencoder(wire: int, image: int, steps: int) -> list[nn.Module]:
    wide = 2 * wire
    lead = [_t3(wire, wide), nn.BatchNorm2d(wide), nn.Tanh(), _t3(wide, wide), _t3(wide, wide)]
    return [*lead, *_chain(wide, image, steps)]


def _funnel(wire: int, image: int, steps: int) -> list[nn.Module]:
    lead = [_t3(wire, wire), nn.BatchNorm2d(wire), nn.Tanh(), _t3(wire, wire), _t3(wire, wire), nn.Tanh()]
    lead += [_t3(wire, wire), _t3(wire, 16)]
    if steps == 0:
        return [*lead, _t3(16, image)]
    # No norm and no activation between the last steps, as published.
    inner = [_t4(16 if i == 0 else 64, 64) for i in range(steps - 1)]
    return [*lead, *inner, _t4(64 if inner else 16, image)]


def _t3(before: int, after: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 3, padding=1)


def _t4(before: int, after: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
