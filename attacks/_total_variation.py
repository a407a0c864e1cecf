"""The total variation of images, with its gradient written out."""

from __future__ import annotations

import math
from typing import Any

import torch

SMOOTHING = 1e-6
"""Added to the squared length of each gradient of an image, whose root then has a derivative at zero."""


def total_variation(x: torch.Tensor) -> torch.Tensor:
    """Returns the mean isotropic total variation per image (N,) of images (N, C, H, W), smoothed at 1e-3.

    It has a first derivative alone: left to autograd, the slices' gradients took a tenth of a white-box attack's time.
    """
    found: torch.Tensor = _TotalVariation.apply(x)  # pyright: ignore[reportAssignmentType]
    return found


class _TotalVariation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        here = x[:, :, :-1, :-1]
        down, across = x[:, :, 1:, :-1] - here, x[:, :, :-1, 1:] - here
        length = (down.square() + across.square()).add_(SMOOTHING).sqrt_()
        ctx.save_for_backward(down.div_(length), across.div_(length))
        return length.flatten(1).mean(1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        down, across = ctx.saved_tensors
        n, channels, height, width = down.shape
        each = (gradients[0] / math.prod((channels, height, width)))[:, None, None, None]
        down, across = down * each, across * each
        out = down.new_zeros(n, channels, height + 1, width + 1)
        out[:, :, 1:, :-1] = down
        out[:, :, :-1, 1:] += across
        out[:, :, :-1, :-1] -= down.add_(across)
        return out
