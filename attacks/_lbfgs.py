"""L-BFGS on many images at once, each with its own history and its own line search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

MEMORY = 10
"""Past steps from which the curvature is taken."""

DECREASE = 1e-4
"""Share of the decrease promised by the gradient that a step must reach (Armijo)."""

SHORTEN = (0.1, 0.5)
"""Least and greatest factor on a step that did not; between them the minimum of the parabola through what is known."""

TRIES = 8
"""Steps that are tried along one direction before an image's history is forgotten."""

LossOf = Callable[[torch.Tensor], torch.Tensor]
"""From the coefficients of all images (N, C, H, W) to their losses (N,)."""


@dataclass
class _History:
    """Steps and changes of the gradient, in a ring.

    Attributes:
        steps: (MEMORY, N, D).
        changes: (MEMORY, N, D).
        inverse: 1 over their inner product, (MEMORY, N); 0 for a pair that promises no curvature or is not there.
        scale: curvature's inverse along the newest pair, (N,); 0 where there is none.
        oldest: where the ring begins.
    """

    steps: torch.Tensor
    changes: torch.Tensor
    inverse: torch.Tensor
    scale: torch.Tensor
    oldest: int = 0

    @classmethod
    def empty(cls, x: torch.Tensor) -> _History:
        many = x.new_zeros(MEMORY, *x.shape)
        return cls(many, many.clone(), x.new_zeros(MEMORY, len(x)), x.new_zeros(len(x)))

    def add(self, images: torch.Tensor, step: torch.Tensor, change: torch.Tensor) -> None:
        """Adds a pair (N, D) for the images (bool, (N,)) whose pair promises curvature."""
        product, square = _dot(step, change), _dot(change, change)
        at = images & (product > 1e-10 * square) & (square > 0)
        if not bool(at.any()):
            return
        # Nearly all images add one, so the ring turns for all and those that add none are turned back.
        others = (~at).nonzero()[:, 0]
        for kept, new in ((self.steps, step), (self.changes, change), (self.inverse, 1 / product)):
            as_before = kept[:, others]
            kept[self.oldest] = new
            kept[:, others] = as_before.roll(1, 0)
        self.oldest = (self.oldest + 1) % MEMORY
        self.scale[at] = (product / square)[at]

    def forget(self, images: torch.Tensor) -> None:
        self.inverse[:, images] = 0
        self.scale[images] = 0

    def direction(self, gradient: torch.Tensor, first: float) -> torch.Tensor:
        """Returns where to go, (N, D): the two loops of Nocedal and Wright, algorithm 7.4.

        Where nothing is known of the curvature it is down the gradient, by ``first`` in the coefficient that changes most.
        """
        q, alphas = gradient.clone(), []
        order = [(self.oldest + i) % MEMORY for i in range(MEMORY)]
        for i in reversed(order):
            alphas.append(self.inverse[i] * _dot(self.steps[i], q))
            q -= alphas[-1][:, None] * self.changes[i]
        cautious = first / gradient.abs().amax(1).clamp_min(1e-30)
        q *= torch.where(self.scale > 0, self.scale, cautious)[:, None]
        for i, alpha in zip(order, reversed(alphas), strict=True):
            q += (alpha - self.inverse[i] * _dot(self.changes[i], q))[:, None] * self.steps[i]
        return -q


def minimise(
    loss_of: LossOf, start: torch.Tensor, evaluations: int, first: float, log: Callable[[int, float], None]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Minimises each image's loss, which must not be random; no image depends on another.

    At every evaluation each image tries a point of its own: along a new direction if the last one was good enough, else
    nearer along the old one.

    Source: Nocedal and Wright, Numerical Optimization, chapter 7, with Armijo's rule alone: a pair that breaks the
    curvature condition is left out of the history.

    Args:
        loss_of: the losses.
        start: (N, C, H, W).
        evaluations: of the losses with their gradients.
        first: greatest change of any coefficient in the first step.
        log: called with each evaluation (from 1) and the sum of the lowest losses by then.

    Returns:
        The best coefficients and their losses, infinite where the start's was not finite.
    """

    def evaluated(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        w = x.detach().requires_grad_(True)
        losses = loss_of(w.reshape(start.shape))
        (gradient,) = torch.autograd.grad(losses.sum(), w)
        return losses.detach(), gradient

    x = start.flatten(1).clone()
    loss, gradient = evaluated(x)
    log(1, float(loss.sum()))
    history = _History.empty(x)
    way, factor = history.direction(gradient, first), torch.ones_like(loss)
    tries = torch.zeros_like(loss)
    for number in range(2, evaluations + 1):
        tried = x + factor[:, None] * way
        now, slope = evaluated(tried)
        promised = factor * _dot(gradient, way)
        good = (now <= loss + DECREASE * promised) & torch.isfinite(slope).all(1)  # false for what is not finite
        bottom = (-promised / (2 * (now - loss - promised))).nan_to_num(0.0).clamp(*SHORTEN)
        history.add(good, tried - x, slope - gradient)
        x, gradient = (torch.where(good[:, None], new, old) for new, old in ((tried, x), (slope, gradient)))
        loss = torch.where(good, now, loss)
        tries = torch.where(good, 0, tries + 1)
        lost = tries >= TRIES
        history.forget(lost)
        ahead = history.direction(gradient, first)
        uphill = _dot(ahead, gradient) >= 0
        if bool((uphill & (good | lost)).any()):
            history.forget(uphill & (good | lost))
            ahead = history.direction(gradient, first)
        way = torch.where((good | lost)[:, None], ahead, way)
        factor, tries = torch.where(good | lost, 1.0, bottom * factor), torch.where(lost, 0, tries)
        log(number, float(loss.sum()))
    return x.reshape(start.shape), loss.nan_to_num(torch.inf, torch.inf)


def _dot(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Returns the inner products (N,) of rows (N, D)."""
    return (a * b).sum(1)
