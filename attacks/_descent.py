"""The descent of a white-box objective, each image on its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ._budgets import Budget
from ._lbfgs import minimise
from ._objective import Objective

CHECKPOINTS = 15
"""How often the iterates under a random defense are compared, on draws that are always the same."""

JUDGE = 32
"""Draws of a random defense by which iterates are compared."""

SHARE = 0.05
"""Share of the newest iterate in the running mean of iterates under a random defense: the draws of single steps cancel."""

AT_ONCE = 3 * 10**7
"""Greatest number of values that are optimised in one batch."""

HELD = 40
"""Values that a descent holds for each number of an image: the history of L-BFGS, gradients, copies."""


@dataclass(frozen=True)
class Descent:
    """What a descent has reached, for each image by its own loss.

    Attributes:
        w: best coefficients, (N, C, H, W).
        loss: their losses, (N,); infinite where none was finite.
    """

    w: torch.Tensor
    loss: torch.Tensor

    def better(self, other: Descent) -> Descent:
        """Returns, image by image, the one with the lower loss."""
        mine = ~(other.loss < self.loss)
        return Descent(
            torch.where(mine[:, None, None, None], self.w, other.w), torch.where(mine, self.loss, other.loss)
        )

    @staticmethod
    def joined(parts: Sequence[Descent]) -> Descent:
        """Returns the descents of some images and of others as one."""
        return Descent(torch.cat([p.w for p in parts]), torch.cat([p.loss for p in parts]))


def descend(
    objective: Objective,
    z: torch.Tensor,
    w: torch.Tensor,
    weight: torch.Tensor,
    budget: Budget,
    generators: Callable[[str], torch.Generator],
    log: Callable[[int, float], None],
) -> Descent:
    """Minimises each image's loss and keeps each image's best iterate; no image depends on another.

    Under a random defense every step has fresh draws, whose noise a running mean of the iterates leaves out (Polyak and
    Juditsky 1992); these means are compared now and then on draws that are always the same.

    Args:
        objective: the loss.
        z: received features, (N, ...).
        w: the start, (N, C, H, W).
        weight: of the prior, (N,).
        budget: how far to go.
        generators: from a role to a generator; a role gives the same draws each time.
        log: called with each step (from 1) and the sum of the losses.
    """
    visible = objective.visible(z)
    if not budget.lbfgs:
        return _by_adam(objective, z, w, weight, visible, budget, generators, log)
    wire = generators("wire")
    return Descent(*minimise(lambda at: objective(at, z, weight, visible, wire), w, budget.steps, budget.lr, log))


def _by_adam(
    objective: Objective,
    z: torch.Tensor,
    start: torch.Tensor,
    weight: torch.Tensor,
    visible: torch.Tensor | None,
    budget: Budget,
    generators: Callable[[str], torch.Generator],
    log: Callable[[int, float], None],
) -> Descent:
    fresh = generators("wire")
    best, best_loss = start.clone(), torch.full((len(start),), float("inf"), device=start.device)

    def keep(candidate: torch.Tensor, loss: torch.Tensor) -> None:
        better = loss < best_loss
        best[better], best_loss[better] = candidate.detach()[better], loss.detach()[better]

    def fixed(candidate: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return objective(candidate, z, weight, visible, generators("judge"), JUDGE)

    w, smooth = start.clone().requires_grad_(True), start.clone()
    optimizer = torch.optim.Adam([w])
    every = max(1, budget.steps // CHECKPOINTS)
    for step in range(budget.steps):
        optimizer.param_groups[0]["lr"] = budget.lr * (1 + math.cos(math.pi * step / budget.steps)) / 2
        loss = objective(w, z, weight, visible, fresh)
        if not objective.noisy:
            keep(w, loss)
        else:
            smooth.lerp_(w.detach(), max(SHARE, 1 / (step + 1)))
            if step % every == 0:
                keep(smooth, fixed(smooth))
        log(step + 1, float(loss.detach().sum()))
        optimizer.zero_grad(set_to_none=True)
        loss.sum().backward()
        optimizer.step()
    if objective.noisy:
        keep(smooth, fixed(smooth))
    keep(w, fixed(w))
    return Descent(best, best_loss)


def batches(z: torch.Tensor, values: int) -> tuple[torch.Tensor, ...]:
    """Returns indices of the images that are optimised at once, so that they fit in memory.

    Args:
        z: received features, (N, ...).
        values: what is held for each image beside its features.
    """
    each = z[0].numel() + values if len(z) else 1
    return torch.arange(len(z), device=z.device).split(max(1, AT_ONCE // each))
