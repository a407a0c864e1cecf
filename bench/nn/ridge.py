"""Ridge regression from features to images, in the cheaper of its two closed forms."""

from __future__ import annotations

import torch

PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
"""Candidates for the penalty, relative to the mean squared norm of the standardised features."""

MOST_NUMBERS = 2 * 10**8
"""Greatest size of the feature matrix; fewer images are used where one image's features are very large."""


class Ridge:
    """A linear map from features to images, with intercept; the penalty is chosen on held-out pairs.

    Args:
        z: features for fitting, (N, ...).
        x: their images, (N, C, H, W).
        z_val: features for choosing the penalty.
        x_val: their images.
    """

    def __init__(self, z: torch.Tensor, x: torch.Tensor, z_val: torch.Tensor, x_val: torch.Tensor) -> None:
        n = max(2, min(len(z), MOST_NUMBERS // max(1, z[0].numel())))
        flat, target = z[:n].flatten(1), x[:n].flatten(1)
        self.z_mean, self.x_mean = flat.mean(0), target.mean(0)
        self.shape = x.shape[1:]
        a, b = flat - self.z_mean, target - self.x_mean
        dual = n < a.shape[1]
        gram = a @ a.T if dual else a.T @ a
        size = float(gram.diagonal().mean().clamp_min(1e-12))
        eye = torch.eye(len(gram), device=gram.device)
        held_out, truth = z_val.flatten(1) - self.z_mean, x_val.flatten(1) - self.x_mean
        best = float("inf")
        self.error = best
        for penalty in PENALTIES:
            factor = torch.linalg.cholesky(gram + penalty * size * eye)
            if dual:
                solved = torch.cholesky_solve(b, factor)
                guess = (held_out @ a.T) @ solved
            else:
                solved = torch.cholesky_solve(a.T @ b, factor)
                guess = held_out @ solved
            error = float((guess - truth).square().mean())
            if error < best:
                best, self.error, self.penalty = error, error, penalty
                self._solved, self._basis = solved, (a if dual else None)

    def state(self) -> dict[str, torch.Tensor]:
        """Returns the map as tensors for :meth:`load`; the dual form is multiplied out."""
        solved = self._solved if self._basis is None else self._basis.T @ self._solved
        return {
            "solved": solved,
            "z_mean": self.z_mean,
            "x_mean": self.x_mean,
            "shape": torch.tensor(self.shape),
        }

    @classmethod
    def load(cls, state: dict[str, torch.Tensor]) -> Ridge:
        """Returns the map that :meth:`state` described."""
        made = cls.__new__(cls)
        made._solved, made._basis = state["solved"], None
        made.z_mean, made.x_mean = state["z_mean"], state["x_mean"]
        made.shape = torch.Size(state["shape"].tolist())
        made.error, made.penalty = float("nan"), float("nan")
        return made

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) for features; not clipped."""
        flat = z.flatten(1) - self.z_mean
        inner = flat if self._basis is None else flat @ self._basis.T
        return (inner @ self._solved + self.x_mean).reshape(len(z), *self.shape)
