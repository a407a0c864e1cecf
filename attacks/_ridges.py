"""Ridge regression on an attacker's own pairs, whatever is regressed on the features."""

from __future__ import annotations

import torch

from splitaudit.nn.ridge import Ridge, StreamedRidge, most_images
from splitaudit.pairs import Pairs
from splitaudit.view import View

PENALTIES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates, relative to the mean squared norm of the centred features: from exact inversion to features drowned in noise."""

MOST = 10**8
"""Greatest number of values that are kept: of normal equations (in double precision), or of features and images."""

CONSTANT = 1e-6
"""Spread relative to the features' size that rounding alone can make at single precision."""

VALIDATION = 512
"""Pairs of ``aux_val`` on which the penalty is chosen, at most."""


class PairRidge:
    """A linear map from the features of pairs to their images, or to other values of them.

    Features keep their own scale but for one number, so the solution is the same for a multiplied or rotated wire. With
    fewer features than pairs the normal equations are summed up over all pairs, else the dual form is solved on as many
    pairs as fit in memory.

    Args:
        view: of the attack.
        pairs: for fitting.
        val: for choosing the penalty.
        values: what is regressed in place of the images, (N, K) for the pairs; None: the images.
        val_values: the same for ``val``.

    Attributes:
        penalty: the chosen penalty.
        error: its mean squared error on ``val``.
    """

    def __init__(
        self,
        view: View,
        pairs: Pairs,
        val: Pairs,
        values: torch.Tensor | None = None,
        val_values: torch.Tensor | None = None,
    ) -> None:
        held_out = torch.arange(min(len(val), VALIDATION), device=view.device)
        x_val, z_val = val.batch(held_out)
        wanted = x_val if val_values is None else val_values[held_out]
        # One scale for all features: 32-bit squares of a wire at 1e-20 would be zero.
        # Features that are the same for all images have a spread of rounding alone, which is no scale.
        spread, size = (z_val - z_val.mean(0)).square().mean().sqrt(), z_val.square().mean().sqrt()
        self._size = size = torch.where(spread > CONSTANT * size, spread, size).clamp_min(1e-30)

        def batch(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x, z = pairs.batch(index)
            return z / size, x if values is None else values[index]

        order = torch.Generator().manual_seed(view.seed_for("linear pairs"))
        shown = torch.randperm(len(pairs), generator=order).to(view.device)
        features, numbers = z_val[0].numel(), wanted[0].numel()
        if streamed(features, numbers, len(pairs)):
            made: Ridge | StreamedRidge = StreamedRidge(map(batch, shown.split(512)), z_val / size, wanted, PENALTIES)
        else:
            some = shown[: most_images(features, numbers, len(pairs), MOST)]
            own, targets = (torch.cat(t) for t in zip(*map(batch, some.split(512)), strict=True))
            made = Ridge(own, targets, z_val / size, wanted, PENALTIES, MOST)
        self._ridge, self.penalty, self.error = made, made.penalty, made.error

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Returns images or values for features (N, ...); not clipped."""
        return torch.cat([self._ridge(b / self._size) for b in z.split(256)])


def streamed(features: int, values: int, pairs: int) -> bool:
    """Says whether the normal equations of the features fit in memory and are the smaller system."""
    return features < pairs and features * (features + values) <= MOST
