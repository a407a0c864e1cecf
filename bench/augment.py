"""Augmentation of whole batches on the device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field

from .params import Params


class Augmentation(Params):
    """Which changes are made to training images."""

    flip: bool = Field(default=True, description="mirror left to right with probability 1/2")
    shift: int = Field(default=2, ge=0, description="greatest shift in pixels along each axis (edges are reflected)")
    jitter: float = Field(default=0.0, ge=0, le=1, description="greatest relative change of brightness and contrast")


def augment(x: torch.Tensor, params: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Returns augmented images (N, C, H, W) in [0, 1]; each image has its own draw."""
    n, _, height, width = x.shape
    if params.flip:
        flipped = torch.rand(n, generator=generator, device=x.device) < 0.5
        x = torch.where(flipped[:, None, None, None], x.flip(-1), x)
    if params.shift:
        s = params.shift
        padded = F.pad(x, (s, s, s, s), mode="reflect")
        at = torch.randint(0, 2 * s + 1, (2, n), generator=generator, device=x.device)
        rows = at[0][:, None] + torch.arange(height, device=x.device)
        columns = at[1][:, None] + torch.arange(width, device=x.device)
        picked = padded.permute(0, 2, 3, 1)[
            torch.arange(n, device=x.device)[:, None, None], rows[:, :, None], columns[:, None, :]
        ]
        x = picked.permute(0, 3, 1, 2)
    if params.jitter:
        draw = torch.rand(2, n, 1, 1, 1, generator=generator, device=x.device) * 2 - 1
        gain = 1 + params.jitter * draw
        mean = x.mean((1, 2, 3), keepdim=True)
        x = ((x - mean) * gain[0] + mean) * gain[1]
        x = x.clamp(0, 1)
    return x.contiguous(memory_format=torch.channels_last)
