"""Gradients through what has none: a defense that rounds is no hiding place from attacks that descend."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from .composed import Composed
from .defense import Defense
from .split import SplitModel

Protect = Callable[[torch.Tensor, torch.Generator], torch.Tensor]

PROBE = 4
"""Images on whose features it is seen whether a gradient passes."""


class StraightThrough:
    """A defense's ``protect`` with the identity's gradient where its own is zero everywhere.

    Source: Bengio et al. 2013 (straight-through estimator), as adaptive attacks use it (BPDA, Athalye et al., ICML 2018).
    Whether the gradient is zero is seen once, on a few features, without using up randomness.

    Args:
        protect: of one defense.
        name: of that defense.
    """

    def __init__(self, protect: Protect, name: str) -> None:
        self._protect, self._name = protect, name
        self.flat: bool | None = None
        """Whether the gradient is zero everywhere; None until it was seen."""

    def __call__(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns what is sent for features z (N, ...).

        Raises:
            ValueError: if no gradient passes and the shape changes, so that the identity's cannot stand in.
        """
        if not (torch.is_grad_enabled() and z.requires_grad and len(z)):
            return self._protect(z, generator)
        if self.flat is None:
            self.flat = self._is_flat(z.detach()[:PROBE], generator)
        if not self.flat:
            return self._protect(z, generator)
        sent = self._protect(z.detach(), generator).detach()
        if sent.shape != z.shape:
            shapes = f"{tuple(z.shape[1:])} to {tuple(sent.shape[1:])}"
            raise ValueError(
                f"no gradient passes through protect of defense '{self._name}', and it changes the shape from {shapes}: "
                "let it return a straight-through gradient of its own, for attacks that descend"
            )
        return sent + (z - z.detach())

    def _is_flat(self, z: torch.Tensor, generator: torch.Generator) -> bool:
        state = generator.get_state()
        try:
            with torch.enable_grad():
                probe = z.clone().requires_grad_(True)
                sent = self._protect(probe, generator)
                if not sent.requires_grad:
                    return True
                # Random weights: the sum of a softmax, say, has no gradient although its parts have.
                draws = torch.Generator(device=z.device).manual_seed(0)
                weights = torch.empty_like(sent).normal_(generator=draws)
                (found,) = torch.autograd.grad((sent * weights).sum(), probe, allow_unused=True)
                return found is None or not bool(found.any())
        finally:
            generator.set_state(state)


def pass_gradients(model: SplitModel) -> SplitModel:
    """Lets gradients through every part of a model's defense, in place, and returns the model."""
    for part in _parts(model.defense):
        if type(part).protect is not Defense.protect:
            part.protect = StraightThrough(part.protect, part.name)
    return model


def has_passed(model: SplitModel) -> bool:
    """Says whether a gradient that is not its own has passed through any part of a model's defense."""
    return any(isinstance(p.protect, StraightThrough) and bool(p.protect.flat) for p in _parts(model.defense))


def _parts(defense: Defense) -> Iterator[Defense]:
    if isinstance(defense, Composed):
        for part in defense.parts:
            if isinstance(part, Defense):
                yield from _parts(part)
    else:
        yield defense
