"""Images as numbers in [0, 1]."""

from __future__ import annotations

import torch


def to_float(images: torch.Tensor) -> torch.Tensor:
    """Returns uint8 images as float32 in [0, 1], channels last in memory."""
    return images.to(torch.float32).div_(255).contiguous(memory_format=torch.channels_last)
