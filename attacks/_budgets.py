"""How far an attack descends and by what, and among which of these it chooses."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

FIRST = 0.2
"""Greatest change of a coefficient in the first step of L-BFGS, in standard deviations; a tenth of it changes nothing."""


Optimiser = Literal["auto", "adam", "lbfgs"]
"""What an attack may be told to descend by; ``auto``: what does best on its own images."""


@dataclass(frozen=True)
class Budget:
    """How far a descent goes, and by what.

    Attributes:
        steps: losses with gradient for each image.
        lr: Adam's first step size, which falls to zero along a cosine; of L-BFGS the greatest change of a coefficient in its
            first step.
        lbfgs: by L-BFGS instead of Adam; the loss must not be random.
    """

    steps: int
    lr: float
    lbfgs: bool = False

    @property
    def half(self) -> Budget:
        """Half as many steps: what it reaches says whether the whole was enough."""
        return replace(self, steps=max(1, self.steps // 2))

    @property
    def name(self) -> str:
        """The optimiser in a word or two."""
        return "lbfgs" if self.lbfgs else f"adam {self.lr:g}"

    def packed(self) -> torch.Tensor:
        """Returns the figures as a tensor, to be stored with a fit."""
        return torch.tensor([self.steps, self.lr, self.lbfgs], dtype=torch.float64)

    @classmethod
    def unpacked(cls, figures: torch.Tensor) -> Budget:
        """Returns what was packed."""
        steps, lr, lbfgs = figures.tolist()
        return cls(round(steps), lr, bool(lbfgs))


def budgets(steps: int, optimiser: Optimiser, lr: float | None, rates: Sequence[float], noisy: bool) -> list[Budget]:
    """Returns the ways to descend among which an attack chooses on its own images.

    Which one is best depends on the edge: large steps of Adam get over the kinks of a good edge and lose their way behind a
    narrow one, where L-BFGS goes further (docs/measurements.md).

    Args:
        steps: of each.
        optimiser: what was asked for.
        lr: Adam's step size, if it was asked for.
        rates: its step sizes else, the smallest first: the only one where the loss is random.
        noisy: the loss is random, which misleads a line search.
    """
    adam = [Budget(steps, r) for r in (rates[: 1 if noisy else None] if lr is None else (lr,))]
    if noisy or optimiser == "adam":
        return adam
    lbfgs = Budget(steps, FIRST, lbfgs=True)
    return [lbfgs] if optimiser == "lbfgs" else [*adam, lbfgs]


Ways = tuple[Budget, ...]
"""Ways to descend, all of which each image is given: the lowest of its losses says which was the right one for it."""


def named(ways: Ways) -> str:
    """Returns the optimisers in words."""
    return " + ".join(budget.name for budget in ways)


def choices(ways: Sequence[Budget]) -> list[Ways]:
    """Returns each two of the ways; the only one where there is but one.

    A descent that is the best for most images leads single ones into a wrong valley, seldom the same ones as another
    descent (docs/measurements.md). It is too rare for own images to say which way is safe alone.
    """
    return list(itertools.combinations(ways, min(2, len(ways))))
