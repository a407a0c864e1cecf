"""What kind of features a cut has, for defenses that need feature maps."""

from __future__ import annotations

from functools import lru_cache

import torch

from splitaudit.errors import Unsupported
from splitaudit.plugins import BACKBONES


@lru_cache(maxsize=256)
def feature_axes(backbone: str, cut: str) -> int | None:
    """Returns how many axes one image's features have, computed without data.

    None for a backbone or cut not known, and for one that takes no images of 3×224×224: the real shape will tell.
    """
    if backbone not in BACKBONES:
        return None
    cls = BACKBONES.get(backbone)
    try:
        with torch.device("meta"), torch.no_grad():
            z = torch.empty(2, 3, 224, 224)
            for name, block in cls(cls.Params(**cls.cheap())).blocks((3, 224, 224), 2).items():
                z = block(z)
                if name == cut:
                    return z.ndim - 1
    except Unsupported:
        return None
    return None


def needs_maps(defense: str, backbone: str, cut: str, axes: int) -> str:
    """Returns the reason why a defense cannot be used where features are no maps."""
    return (
        f"{defense} needs feature maps (C, H, W), got features with {axes} axes after '{cut}' of backbone '{backbone}'. "
        "Choose an earlier cut."
    )


def channels_of(shape: tuple[int, ...]) -> int:
    """Returns how many channels features have: the first axis of maps (C, H, W), the last one of vectors and tokens."""
    return shape[0] if len(shape) == 3 else shape[-1]
