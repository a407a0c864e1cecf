"""An inverse network: features of any shape to an image."""

from __future__ import annotations

import math

import torch
from torch import nn

from .scale import Standardised

PLACES = 1024
"""Most places of a map over which there is attention."""

MAP = 12_000_000
"""Most weights of a linear map from vectors to images, 48 MB."""


def places_of(feature_shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Returns height and width of features that lie on a grid: maps (C, h, w), and tokens (T, D) of a square, whose first
    may stand apart (a class token); None of others."""
    if len(feature_shape) == 3:
        return feature_shape[1], feature_shape[2]
    if len(feature_shape) == 2:
        for apart in (0, 1):
            side = math.isqrt(feature_shape[0] - apart)
            if side > 1 and side * side == feature_shape[0] - apart:
                return side, side
    return None


class _Laid(nn.Module):
    """Lays tokens (N, T, D) on their square: a map (N, D, side, side); 2·D channels where one stands apart, at each place."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        tokens = z[:, -self.side * self.side :].mT.unflatten(-1, (self.side, self.side))
        if z.shape[1] == self.side * self.side:
            return tokens
        return torch.cat([tokens, z[:, 0, :, None, None].expand_as(tokens)], 1)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1), nn.SiLU(), nn.Conv2d(channels, channels, 3, padding=1)
        )

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.body(nn.functional.silu(h))


class _Attention(nn.Module):
    """Self-attention over the places of a map, four heads, added to what it was given.

    Args:
        channels: of the map.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = 4 if channels % 4 == 0 else 1
        self.norm = nn.GroupNorm(1, channels)
        self.queries = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        n, c, height, width = h.shape
        q, k, v = self.queries(self.norm(h)).reshape(n, 3, self.heads, c // self.heads, height * width).unbind(1)
        mixed = nn.functional.scaled_dot_product_attention(q.mT, k.mT, v.mT).mT
        return h + self.out(mixed.reshape(n, c, height, width))


class InverseNetwork(Standardised):
    """Maps features to an image in [0, 1]; built from the shapes alone.

    Maps (C, h, w), and tokens (T, D) that lie on a square, pass residual blocks at their own resolution and are doubled in
    size until they cover the image; vectors and other tokens first pass a linear layer onto a small map. The features are
    standardised per channel by statistics that the caller sets, so that their scale plays no part.

    Args:
        feature_shape: shape of one image's features.
        image_shape: (C, H, W).
        width: channels at the features' resolution; halved at each doubling down to 16.
        depth: residual blocks at the features' resolution.
        attention: self-attention after the residual blocks there (left out where there are more than ``PLACES`` places).
        skip: adds a linear map of the features to the output, which is then clipped instead of squashed: what is linear
            need not be learned through the whole network. Vectors have it up to ``MAP`` weights.
    """

    def __init__(
        self,
        feature_shape: tuple[int, ...],
        image_shape: tuple[int, int, int],
        width: int = 64,
        depth: int = 2,
        attention: bool = False,
        skip: bool = False,
    ) -> None:
        super().__init__(feature_shape)
        channels, height, out_width = image_shape
        self.image_shape = image_shape
        places = places_of(feature_shape)
        if places:
            start = places
            maps = len(feature_shape) == 3
            apart = 1 if maps or feature_shape[0] == math.prod(places) else 2
            convolution = nn.Conv2d(feature_shape[0] if maps else apart * feature_shape[1], width, 3, padding=1)
            self.lead: nn.Module = convolution if maps else nn.Sequential(_Laid(places[0]), convolution)
        else:
            start = (math.ceil(height / 8), math.ceil(out_width / 8))
            self.lead = nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(feature_shape), width * start[0] * start[1]),
                nn.Unflatten(1, (width, *start)),
            )
        layers: list[nn.Module] = [_Residual(width) for _ in range(depth)]
        if attention and start[0] * start[1] <= PLACES:
            layers.append(_Attention(width))
        now = width
        while start[0] < height or start[1] < out_width:
            after = max(16, now // 2)
            layers += [nn.SiLU(), nn.ConvTranspose2d(now, after, 4, stride=2, padding=1), _Residual(after)]
            now, start = after, (2 * start[0], 2 * start[1])
        if start != (height, out_width):
            layers.append(nn.Upsample((height, out_width), mode="bilinear", align_corners=False))
        layers += [nn.SiLU(), nn.Conv2d(now, channels, 3, padding=1)]
        self.body = nn.Sequential(*layers)
        self.skip = _linear_map(feature_shape, image_shape) if skip else None

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) for features (N, *feature_shape): in [0, 1], with a skip in training unclipped."""
        unit = self.standardised(z)
        out = self.body(self.lead(unit))
        if self.skip is None:
            return torch.sigmoid(out)
        out = out + self.skip(unit) + 0.5
        return out if self.training else out.clamp(0, 1)


def _linear_map(feature_shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> nn.Module | None:
    """Returns a linear map from features to images, zero at first; None where it would have too many weights."""
    channels, height, width = image_shape
    if len(feature_shape) == 3:
        # Each place of the map writes a patch that reaches into its neighbours'.
        stride = max(1, round(height / feature_shape[1]))
        made: nn.Module = nn.ConvTranspose2d(feature_shape[0], channels, 3 * stride, stride=stride, padding=stride)
        out: nn.Module = nn.Sequential(made, nn.Upsample((height, width), mode="bilinear", align_corners=False))
        if (feature_shape[1] * stride, feature_shape[2] * stride) == (height, width):
            out = made
    else:
        if math.prod(feature_shape) * math.prod(image_shape) > MAP:
            return None
        made = nn.Linear(math.prod(feature_shape), math.prod(image_shape))
        out = nn.Sequential(nn.Flatten(), made, nn.Unflatten(1, image_shape))
    for parameter in made.parameters():
        nn.init.zeros_(parameter)
    return out
