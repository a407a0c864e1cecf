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
    saturation: float = Field(default=0.0, ge=0, le=1, description="greatest relative change of saturation")
    hue: float = Field(
        default=0.0, ge=0, le=0.5, description="greatest shift of the hue, in turns of the colour circle"
    )


def augment(x: torch.Tensor, params: Augmentation, generator: torch.Generator) -> torch.Tensor:
    """Returns augmented images (N, C, H, W) in [0, 1]; each image has its own draw. Grey images have no colour to change."""
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
    if params.saturation and x.shape[1] == 3:
        x = saturated(x, 1 + params.saturation * _draw(n, x.device, generator))
    if params.hue and x.shape[1] == 3:
        x = hue_shifted(x, params.hue * _draw(n, x.device, generator))
    return x.contiguous(memory_format=torch.channels_last)


def saturated(x: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Returns images (N, 3, H, W) with colours stretched from their grey value by a factor (N, 1, 1, 1)."""
    grey = (x * torch.tensor([0.2989, 0.587, 0.114], device=x.device)[:, None, None]).sum(1, keepdim=True)
    return (grey + (x - grey) * factor).clamp(0, 1)


def hue_shifted(x: torch.Tensor, turns: torch.Tensor) -> torch.Tensor:
    """Returns images (N, 3, H, W) with their hue (of HSV) shifted by (N, 1, 1, 1) turns."""
    top, highest = x.max(1, keepdim=True)
    span = top - x.amin(1, keepdim=True)
    red, green, blue = (x / torch.where(span > 0, span, 1.0)).split(1, 1)
    sixths = torch.where(highest == 0, green - blue, torch.where(highest == 1, 2 + blue - red, 4 + red - green))
    # In HSV each channel lies below the highest value by the span times a trapezium of the hue, at its own place.
    place = torch.tensor([5.0, 3.0, 1.0], device=x.device)[:, None, None]
    k = (place + sixths + 6 * turns) % 6
    return top - span * torch.minimum(k, 4 - k).clamp(0, 1)


def _draw(n: int, device: torch.device, generator: torch.Generator) -> torch.Tensor:
    """Returns a number in [-1, 1) for each image, (N, 1, 1, 1)."""
    return torch.rand(n, 1, 1, 1, generator=generator, device=device) * 2 - 1
