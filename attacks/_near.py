"""White-box inversion near an image that is taken for the truth up to a known error."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.view import View

from ._budgets import Budget
from ._descent import HELD, batches, descend
from ._objective import Objective
from ._whitening import Whitening


@dataclass(frozen=True)
class Near:
    """An optimisation of the feature error about given images.

    For each image: normalised feature error + v·(d_x/d_z)·mean((c/τ)²) + the squared excess outside [0, 1]; c are the
    cosine coefficients of the image less the given one.

    Attributes:
        colours: decorrelated colours, (C, C), of :class:`splitaudit.nn.image_prior.GaussianPrior`.
        tau: standard deviation of the given images' error at each coefficient, (1, C, H, W).
        unit: in which the feature error is counted.
        variance: v, the assumed variance of the normalised feature error.
        budget: how far to go; its first step size is in units of τ.
        draws: draws averaged at each step where the feature error is random.
    """

    colours: torch.Tensor
    tau: torch.Tensor
    unit: Whitening
    variance: float
    budget: Budget
    draws: int

    def step(self, view: View, guess: torch.Tensor, role: str) -> torch.Tensor:
        """Returns the cosine coefficients of the optimum less given images (N, C, H, W), of the same shape."""
        z, found = view.average, []
        weight = self.variance * guess[0].numel() / max(1, z[0].numel())
        totals: dict[int, float] = {}
        for at in batches(z, HELD * guess[:1].numel()):
            objective = Objective(view, self.basis(guess[at], self.tau), self.unit, 0.0, self.draws)

            def log(step: int, total: float) -> None:
                totals[step] = totals.get(step, 0.0) + total / len(z)

            def generators(what: str, name: str = f"{role} {int(at[0])}") -> torch.Generator:
                return view.generator(f"{name} {what}")

            weights = torch.full((len(at),), weight, device=view.device)
            start = torch.zeros_like(guess[at])
            found.append(descend(objective, z[at], start, weights, self.budget, generators, log).w)
        every = max(1, self.budget.steps // 40)
        for number, total in totals.items():
            if number == 1 or number % every == 0:
                view.log(role, number, total)
        return torch.cat(found) * self.tau

    def basis(self, mean: torch.Tensor, scale: torch.Tensor) -> GaussianPrior:
        """Returns the images mean + colour · cosine transform · (scale ⊙ w), each about its own mean (N, C, H, W)."""
        channels, height, width = mean.shape[1:]
        basis = GaussianPrior((channels, height, width)).to(mean.device)
        basis.colours, basis.mean, basis.scale = self.colours, mean.detach(), scale
        return basis
