"""The pairs of image and features that an attacker has from queries of its own."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .pixels import to_float


class Pairs:
    """The attacker's image–feature pairs from its own queries: images it owns, features with fresh draws.

    Clean features are computed once and only the random part of the defense is redrawn; the attacker never sees the
    clean ones, so this equals fresh queries in distribution and is counted as such. With a budget of queries the draws are
    made once, or as often as the budget pays, and used again.

    Args:
        images: uint8, (N, C, H, W).
        draw: from indices to what is sent for the images there.
    """

    def __init__(self, images: torch.Tensor, draw: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self._images = images
        self._draw = draw

    def __len__(self) -> int:
        return len(self._images)

    def batch(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns images in [0, 1] (N, C, H, W) and freshly defended features (N, ...) at the given indices.

        Where several draws of each private image are received, these are averages of as many, as
        :attr:`~splitaudit.View.average` is; of fewer where a budget of queries pays for no more.
        """
        return to_float(self._images[index]), self._draw(index)

    def images(self, index: torch.Tensor) -> torch.Tensor:
        """Returns images in [0, 1] alone, at no cost in queries."""
        return to_float(self._images[index])
