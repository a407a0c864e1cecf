"""Synthetic images with structure: enough for an attack to have something to learn, small enough for seconds."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F

from ..data.base import PARTS, Part, PartName
from ..seeds import generator

CLASSES = 4
SHAPE = (3, 16, 16)
"""Shape (C, H, W) of toy images where nothing else is said."""


def toy_images(
    n: int, image_shape: tuple[int, int, int] = SHAPE, *, seed: int = 0, other: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images, float in [0, 1], (n, C, H, W), and labels (n,) of four classes.

    A smooth random background in correlated colours carries one shape at a random place in a random contrast; the shape
    is the class: disc, bar, ring or corner.

    Args:
        n: how many.
        image_shape: (C, H, W).
        seed: of the images.
        other: another distribution: darker, with a rougher background and no shapes.
    """
    channels, height, width = image_shape
    g = generator("toy images", seed, other=other)
    labels = torch.arange(n) % CLASSES
    nodes = 6 if other else 3
    field = F.interpolate(torch.rand(n, 2, nodes, nodes, generator=g), (height, width), mode="bicubic")
    mix = torch.tensor([[1.0, 0.25], [1.0, 0.0], [1.0, -0.25]]).repeat(-(-channels // 3), 1)[:channels]
    image = torch.einsum("ck,nkhw->nchw", mix, field) / 1.1
    if other:
        return (0.6 * image).clamp(0, 1), labels
    contrast = (0.35 + 0.3 * torch.rand(n, 1, 1, 1, generator=g)) * (
        2 * torch.randint(2, (n, 1, 1, 1), generator=g) - 1
    )
    tint = 1 - 0.4 * torch.rand(n, channels, 1, 1, generator=g)
    return (0.15 + 0.7 * image + contrast * tint * _shapes(labels, height, width, g)).clamp(0, 1), labels


def toy_part(n: int, image_shape: tuple[int, int, int] = SHAPE, *, seed: int = 0, other: bool = False) -> Part:
    """Returns toy images as a part of a dataset (uint8)."""
    images, labels = toy_images(n, image_shape, seed=seed, other=other)
    return Part(images.mul(255).round().to(torch.uint8), labels)


@lru_cache(maxsize=64)
def part(name: PartName, n: int, image_shape: tuple[int, int, int] = SHAPE, other: bool = False) -> Part:
    """Returns the first n images of a part of the toy dataset; parts share no image."""
    return toy_part(n, image_shape, seed=PARTS.index(name), other=other)


def _shapes(labels: torch.Tensor, height: int, width: int, g: torch.Generator) -> torch.Tensor:
    """Returns each class's shape as a soft mask (N, 1, H, W) at a random place."""
    n = len(labels)
    y = torch.linspace(-1, 1, height)[None, :, None] - 0.8 * (torch.rand(n, 1, 1, generator=g) - 0.5)
    x = torch.linspace(-1, 1, width)[None, None, :] - 0.8 * (torch.rand(n, 1, 1, generator=g) - 0.5)
    r = (x.square() + y.square()).sqrt()
    depth = torch.stack(
        [
            0.45 - r,
            0.2 - x.abs() + 0 * y,
            0.15 - (r - 0.5).abs(),
            torch.minimum(x + 0 * y, y + 0 * x),
        ]
    )
    return torch.sigmoid(12 * depth[labels, torch.arange(n)])[:, None]
