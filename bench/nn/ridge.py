"""Ridge regression from features to images, in the cheaper of its two closed forms."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Candidates for the penalty, relative to the mean squared norm of the centred features."""

JUDGED = 192
"""Pixels at most by which penalties are compared where there are many."""

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
        most: greatest number of values in features and images together.

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
        most: int = MOST_NUMBERS,
    ) -> None:
        n = most_images(z[0].numel(), x[0].numel(), len(z), most)
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


class StreamedRidge:
    """A linear map from features to images, with intercept, from any number of pairs: only their moments are kept.

    The normal equations of batches, in single precision, are summed up in double precision; memory is features × (features
    + pixels).

    Args:
        batches: features (N, ...) and images (N, C, H, W); the first batch also sets the origin of both.
        z_val: features for choosing the penalty.
        x_val: their images.
        penalties: candidates, relative to the mean variance of a feature.

    Attributes:
        penalty: the chosen penalty.
        error: its mean squared error on the held-out pairs.
        pairs: how many were seen.
    """

    def __init__(
        self,
        batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
        z_val: torch.Tensor,
        x_val: torch.Tensor,
        penalties: tuple[float, ...] = PENALTIES,
    ) -> None:
        self.pairs = 0
        origin: tuple[torch.Tensor, torch.Tensor] | None = None
        gram = cross = z_sum = x_sum = torch.zeros(())
        for z, x in batches:
            z, x = z.flatten(1), x.flatten(1)
            if origin is None:
                # Sums of squares about a far origin would cancel; any point near the mean will do.
                origin = z.mean(0), x.mean(0)
                self.shape = x_val.shape[1:]
                like = {"dtype": torch.float64, "device": z.device}
                gram, cross = torch.zeros(z.shape[1], z.shape[1], **like), torch.zeros(z.shape[1], x.shape[1], **like)
                z_sum, x_sum = torch.zeros(z.shape[1], **like), torch.zeros(x.shape[1], **like)
            a, b = z - origin[0], x - origin[1]
            gram += a.T @ a
            cross += a.T @ b
            z_sum += a.sum(0)
            x_sum += b.sum(0)
            self.pairs += len(z)
        if origin is None:
            raise ValueError("no pairs were given")
        gram.addr_(z_sum, z_sum, alpha=-1 / self.pairs)
        cross.addr_(z_sum, x_sum, alpha=-1 / self.pairs)
        self.z_mean = origin[0] + (z_sum / self.pairs).to(origin[0].dtype)
        self.x_mean = origin[1] + (x_sum / self.pairs).to(origin[1].dtype)
        size = float(gram.diagonal().mean().clamp_min(1e-30))
        # Solving for every pixel takes longer than everything else; evenly spread ones tell the penalties apart as well.
        some = torch.linspace(0, cross.shape[1] - 1, min(JUDGED, cross.shape[1]), device=cross.device).long()
        held_out, wanted = z_val.flatten(1) - self.z_mean, (x_val.flatten(1) - self.x_mean)[:, some]
        errors = {}
        for penalty in penalties:
            found = torch.cholesky_solve(cross[:, some], _factor(gram, penalty * size)).to(held_out.dtype)
            errors[penalty] = float((held_out @ found - wanted).square().mean())
        self.penalty = min(errors, key=errors.__getitem__)
        self._map = torch.cholesky_solve(cross, _factor(gram, self.penalty * size)).to(held_out.dtype)
        self.error = float((self(z_val) - x_val).square().mean())

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) for features (N, ...); not clipped."""
        return ((z.flatten(1) - self.z_mean) @ self._map + self.x_mean).reshape(len(z), *self.shape)


def _factor(gram: torch.Tensor, penalty: float) -> torch.Tensor:
    """Returns the Cholesky factor of a Gram matrix with a penalty on its diagonal.

    A penalty that is lost in the rounding of the matrix is raised tenfold until there is a factor.
    """
    while True:
        penalised = gram.clone()
        penalised.diagonal().add_(penalty)
        factor, failed = torch.linalg.cholesky_ex(penalised)
        if not int(failed) and bool(torch.isfinite(factor).all()):
            return factor
        if not math.isfinite(penalty) or not bool(torch.isfinite(gram).all()):
            raise FloatingPointError("features or images hold values that are not finite")
        penalty = max(10 * penalty, 1e-30)


def most_images(features: int, pixels: int, available: int, most: int = MOST_NUMBERS) -> int:
    """Returns how many images a fit takes in: all, or as many as fit in memory, at least two.

    Args:
        features: values of one image's features.
        pixels: values of one image.
        available: images at hand.
        most: greatest number of values together.
    """
    return max(2, min(available, most // max(1, features + pixels)))
