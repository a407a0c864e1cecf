"""Checks of the draws that an attack makes of a random defense: an attack on one draw is an attack on another defense."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import torch

from .. import split, straight, view
from ..attack import Attack
from ..defense import Defense
from ..params import Params
from .attacking import Sizes, attacked
from .hidden import under_attack
from .outcome import Check, NotApplicable, require
from .targets import control_target

SIZES = Sizes(private=2, aux_train=48, aux_val=8)
"""Enough auxiliary images for a handful of steps of an attack that trains on them in batches."""

FRESH = 0.25
"""Share of the draws with gradient that must differ. An attack may try several settings on the same draws, to compare them
fairly; one that descends on the same draws step after step has a few of hundreds."""


@dataclass(frozen=True)
class Draw:
    """A draw that an attack has made of a random defense.

    Attributes:
        images: how many images' features it was made for.
        gradient: whether a gradient goes through it.
        state: the generator's state, which says which draw it is.
    """

    images: int
    gradient: bool
    state: bytes


class RecordedNoise(Defense):
    """Adds noise and writes down the draws that an attack makes itself; a toy. Copies write into the same list.

    Answers to queries and to rehearsals are the device's draws, not the attack's, and are left out.

    Attributes:
        made: the draws, in order.
    """

    acts_on_wire = True
    source = "toy"

    def __init__(self, sigma: float = 0.1) -> None:
        super().__init__(Params())
        self.sigma = sigma
        self.made: _Shared = _Shared()

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if under_attack() and _asked_by_the_attack():
            gradient = torch.is_grad_enabled() and z.requires_grad
            self.made.append(Draw(len(z), gradient, generator.get_state().numpy().tobytes()))
        return z + self.sigma * torch.empty_like(z).normal_(generator=generator)


class _Shared(list[Draw]):
    """A list whose copies are the list itself: a View copies its target."""

    def __deepcopy__(self, memo: dict[int, Any]) -> _Shared:
        return self


def _asked_by_the_attack() -> bool:
    """Says whether a call of ``protect`` is an attack's own: by the View or a stand-in, but as no part of a query."""
    frame = sys._getframe(2)
    while frame is not None:
        module, name = str(frame.f_globals.get("__name__")), frame.f_code.co_name
        if (module == view.__name__ and name != "protect") or (module == straight.__name__ and name == "_look"):
            return False
        if module not in (view.__name__, straight.__name__, split.__name__):
            return True
        frame = frame.f_back
    return True


def check_draws_are_fresh(cls: type[Attack]) -> None:
    """Averaging over a random defense is what makes an attack adaptive: on one draw it learns that draw by heart."""
    noise = RecordedNoise()
    attacked(cls, control_target("orthogonal", noise), sizes=SIZES)
    descent = [d.state for d in noise.made if d.gradient]
    others = [d.state for d in noise.made if not d.gradient]
    if max(len(descent), len(others)) < 2:
        raise NotApplicable("the attack draws the defense's randomness at most once by itself")
    found = len(set(descent))
    require(
        len(descent) < 2 or found > max(1, FRESH * len(descent)),
        f"{len(descent)} passes with gradient through a random defense saw {found} different draws",
        f"fresh draws at every step, at least {FRESH:g} of all passes",
        "the generator is made anew at each step: view.generator(role) gives the same draws each time",
    )
    require(
        len(others) < 2 or len(set(others)) > 1,
        f"{len(others)} passes without gradient through a random defense all saw the same draw",
        "draws that differ",
        "the generator is made anew for each batch: view.generator(role) gives the same draws each time",
    )


DRAW_CHECKS: tuple[Check, ...] = (check_draws_are_fresh,)
