"""Ridge regression from features to images, in the cheaper of its two closed forms."""

from __future__ import annotations

import torch

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Candidates for the penalty, relative to the mean squared norm of the centred features."""

MOST_NUMBERS = 3 * 10**7
"""Greatest number of values in features and images together, 120 MB: with copies and factors a fit needs about 1 GB."""


class Ridge:
    """A linear map from features to images, with intercept; the penalty is chosen on held-out pairs.

    With fewer images than features it stays in its dual form (pairs and a factor of their Gram matrix): multiplied out,
    the map would be features × pixels, 50 MB at 32 px and 100 GB at 224 px.

    Args:
        z: features for fitting, (N, ...).
        x: their images, (N, C, H, W).
        z_val: features for choosing the penalty; None: the first one is taken as it is.
        x_val: their images.
        penalties: candidates.

    Attributes:
        penalty: the chosen penalty.
        error: its mean squared error on the held-out pairs (NaN without any).
    """

    def __init__(
        self,
        z: torch.Tensor,
        x: torch.Tensor,
        z_val: torch.Tensor | None = None,
        x_val: torch.Tensor | None = None,
        penalties: tuple[float, ...] = PENALTIES,
    ) -> None:
        n = most_images(z[0].numel(), x[0].numel(), len(z))
        flat, target = z[:n].flatten(1), x[:n].flatten(1)
        self.z_mean, self.x_mean = flat.mean(0), target.mean(0)
        self.shape = x.shape[1:]
        a, b = flat - self.z_mean, target - self.x_mean
        self._dual = n < a.shape[1]
        gram = a @ a.T if self._dual else a.T @ a
        size = float(gram.diagonal().mean().clamp_min(1e-12))
        # Dual: guess = ((gram + penalty)⁻¹ a held_outᵀ)ᵀ b; primal: guess = held_out (gram + penalty)⁻¹ aᵀ b.
        self._left, self._right = (a, b) if self._dual else (None, a.T @ b)
        self.penalty, self.error, self._factor = penalties[0], float("nan"), _factor(gram, penalties[0] * size)
        if z_val is None or x_val is None:
            return
        self.error = float((self(z_val) - x_val).square().mean())
        for penalty in penalties[1:]:
            before = self._factor
            self._factor = _factor(gram, penalty * size)
            error = float((self(z_val) - x_val).square().mean())
            if error < self.error:
                self.penalty, self.error = penalty, error
            else:
                self._factor = before

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) for features (N, ...); not clipped."""
        flat = z.flatten(1) - self.z_mean
        inner = flat if self._left is None else flat @ self._left.T
        solved = torch.cholesky_solve(inner.T, self._factor).T
        return (solved @ self._right + self.x_mean).reshape(len(z), *self.shape)


def _factor(gram: torch.Tensor, penalty: float) -> torch.Tensor:
    """Returns the Cholesky factor of a Gram matrix with a penalty on its diagonal."""
    penalised = gram.clone()
    penalised.diagonal().add_(penalty)
    return torch.linalg.cholesky(penalised)


def most_images(features: int, pixels: int, available: int) -> int:
    """Returns how many images a fit takes in: all, or as many as fit in memory, at least two.

    Args:
        features: values of one image's features.
        pixels: values of one image.
        available: images at hand.
    """
    return max(2, min(available, MOST_NUMBERS // max(1, features + pixels)))
