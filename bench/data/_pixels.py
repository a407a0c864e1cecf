"""PIL images made RGB or grey, resized without aliasing and turned into uint8 tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from ..errors import DataError

_GREY = ("1", "L", "LA", "I;16", "I;16L", "I;16B", "I")
_COLOUR = ("RGB", "RGBA", "RGBX", "P", "PA", "CMYK", "YCbCr")


def is_grey(image: Image.Image) -> bool:
    """Says whether an image has one channel. Palette images count as colour, whatever their palette.

    Raises:
        DataError: for a mode that has no agreed meaning in 8 bits (floating point, Lab, HSV).
    """
    if image.mode not in (*_GREY, *_COLOUR):
        raise DataError(f"got an image of mode {image.mode}, expected 8- or 16-bit grey or 8-bit colour. Convert it.")
    return image.mode in _GREY


def converted(image: Image.Image, grey: bool) -> Image.Image:
    """Returns an image in mode L or RGB, 0 to 255.

    Transparency is laid over white, 16-bit grey keeps its upper 8 bits, colour becomes grey by the luma of BT.601.
    """
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB").convert("L") if grey and image.mode != "L" else image.convert("L" if grey else "RGB")


def resized(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns an image of mode RGB or L resized to (height, width).

    Pillow's bilinear filter widens with the reduction, so that shrinking averages over the area (no aliasing); it is
    integer arithmetic, equal on every machine.
    """
    height, width = size
    return image if image.size == (width, height) else image.resize((width, height), Image.Resampling.BILINEAR)


def stacked(images: Sequence[np.ndarray]) -> torch.Tensor:
    """Returns uint8 arrays (H, W) or (H, W, C) of one shape as a tensor (N, C, H, W)."""
    batch = torch.from_numpy(np.stack(images))
    return batch.unsqueeze(1) if batch.ndim == 3 else batch.permute(0, 3, 1, 2).contiguous()
