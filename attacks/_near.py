"""White-box inversion near an image that is taken for the truth up to a known error."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.view import View

from ._inversion import Objective, batches, descend
from ._whitening import Whitening

TOLERANCE = 0.05
"""Greatest relative gain of the mean loss after the budget that counts as converged."""


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
        steps: the budget.
        lr: first step size, in units of τ.
        draws: draws of a random defense averaged at each step.
    """

    colours: torch.Tensor
    tau: torch.Tensor
    unit: Whitening
    variance: float
    steps: int
    lr: float
    draws: int

    def step(self, view: View, guess: torch.Tensor, role: str) -> Step:
        """Returns where the optimum lies from given images (N, C, H, W)."""
        z, found = view.average, []
        weight = self.variance * guess[0].numel() / max(1, z[0].numel())
        totals: dict[int, float] = {}
        for at in batches(z, guess):
            objective = Objective(view, self.basis(guess[at], self.tau), self.unit, 0.0, self.draws, True)

            def log(step: int, total: float) -> None:
                totals[step] = totals.get(step, 0.0) + total / len(z)

            def generators(what: str, name: str = f"{role} {int(at[0])}") -> torch.Generator:
                return view.generator(f"{name} {what}")

            weights = torch.full((len(at),), weight, device=view.device)
            start = torch.zeros_like(guess[at])
            found.append(descend(objective, z[at], start, weights, self.lr, self.steps, generators, log))
        every = max(1, self.steps // 40)
        for number, total in totals.items():
            if number == 1 or number % every == 0:
                view.log(role, number, total)
        loss, before = (float(torch.cat([getattr(f, n) for f in found]).mean()) for n in ("loss", "loss_before"))
        end, within = (torch.cat([getattr(f, n) for f in found]) * self.tau for n in ("w", "w_before"))
        return Step(end, within, 1 - loss / max(before, 1e-30))

    def basis(self, mean: torch.Tensor, scale: torch.Tensor) -> GaussianPrior:
        """Returns the images mean + colour · cosine transform · (scale ⊙ w), each about its own mean (N, C, H, W)."""
        channels, height, width = mean.shape[1:]
        basis = GaussianPrior((channels, height, width)).to(mean.device)
        basis.colours, basis.mean, basis.scale = self.colours, mean.detach(), scale
        return basis


@dataclass(frozen=True)
class Step:
    """Where an optimum lies.

    Attributes:
        coefficients: cosine coefficients of the optimum less the given image, (N, C, H, W).
        within: the same at the end of the budget, before the run after it.
        gain: relative fall of the mean loss in the run after the budget.
    """

    coefficients: torch.Tensor
    within: torch.Tensor
    gain: float

    @property
    def converged(self) -> bool:
        """Whether the budget was enough."""
        return self.gain <= TOLERANCE
