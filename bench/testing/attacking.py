"""Running an attack on a toy target, as a run would: fit without features, then reconstruct."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from ..asking import Asked
from ..attack import Attack, LabelAttack
from ..data.base import Part
from ..defense import Defense
from ..ignoring import without_wire_defense
from ..knowledge import AdversaryKnowledge
from ..params import Params
from ..pixels import to_float
from ..plan_rows import lenders, of_images_alone
from ..seeds import derive, seeded_globally
from ..split import SplitModel
from ..view import View
from ..work import receive
from .data import SHAPE, part
from .hidden import hidden
from .targets import CPU, control_target, make
from .watched import WatchedView

STRONGEST = AdversaryKnowledge(edge="weights", cloud=True, aux="same", labels=True, draws=4)
"""Everything that a level can grant."""


Fits = dict[str, dict[str, torch.Tensor]]
"""Role to what an attack that another one builds on has fitted."""


@dataclass(frozen=True)
class Sizes:
    """Images of each part of the attacked toy."""

    private: int = 8
    aux_train: int = 48
    aux_val: int = 16


USUAL = "orthogonal"
"""The control edge of most checks."""

TINY = Sizes(private=2, aux_train=16, aux_val=8)


@dataclass
class Attacked:
    """An attack that has run.

    Attributes:
        guess: what it returned: images, or the scores of an attack that reads labels.
        truth: the private images in [0, 1].
        labels: their classes, (N,).
        prior: the mean auxiliary image, (C, H, W), mid-grey if the attack is given none.
        views: of the fits that it builds on, of its ``fit`` (where there is one) and of ``reconstruct``.
        own: the latter two.
    """

    guess: Any
    truth: torch.Tensor
    labels: torch.Tensor
    prior: torch.Tensor
    views: list[WatchedView]
    own: list[WatchedView]

    def errors(self) -> torch.Tensor:
        """Returns the mean squared error of each guess, (N,)."""
        return (self.guess.detach() - self.truth).square().flatten(1).mean(1)

    def prior_errors(self) -> torch.Tensor:
        """Returns the mean squared error of the constant guess, (N,)."""
        return (self.prior - self.truth).square().flatten(1).mean(1)

    def right(self) -> torch.Tensor:
        """Returns 1 where the class was read rightly, else 0, (N,); of attacks that read labels."""
        return (self.guess.detach().argmax(1) == self.labels).double()

    def constant_right(self) -> torch.Tensor:
        """Returns the same for the best constant guess in hindsight, (N,)."""
        return (self.labels == self.labels.mode().values).double()

    def leakage(self) -> float:
        """Returns the leakage score: 0 for the constant guess, 1 for a perfect copy."""
        return 1 - float(self.errors().mean() / self.prior_errors().mean())


def attacked(
    cls: type[Attack],
    target: SplitModel | str = USUAL,
    *,
    knowledge: AdversaryKnowledge | None = None,
    params: dict[str, Any] | None = None,
    image_shape: tuple[int, int, int] = SHAPE,
    sizes: Sizes = Sizes(),
    private: Part | None = None,
    seed: int = 0,
    adaptive: bool = True,
) -> Attacked:
    """Runs an attack on a toy target.

    Args:
        cls: the attack.
        target: a target, or the name of a control edge.
        knowledge: what is granted; None: all that the attack can use, and nothing more.
        params: its parameters; None: the cheap ones.
        image_shape: (C, H, W), where the target is named.
        sizes: images of each part.
        private: the private images; None: those of the toy data.
        seed: of the attack.
        adaptive: whether the attack takes the defense on the wire into account.
    """
    model = control_target(target, None, image_shape) if isinstance(target, str) else target
    shape = model.info.image_shape
    attack = make(cls, params)
    knowledge = attack.granted(STRONGEST) if knowledge is None else knowledge
    private = part("private", sizes.private, shape) if private is None else private
    aux = None
    if knowledge.aux != "none":
        other = knowledge.aux == "other"
        aux = part("aux_train", sizes.aux_train, shape, other), part("aux_val", sizes.aux_val, shape, other)
    received = receive(model, private, knowledge.draws, 0, CPU)
    seen = model if adaptive else without_wire_defense(model)
    views: list[WatchedView] = []

    def view(features: torch.Tensor, fits: Fits | None = None, scope: str = "target", lender: Any = None) -> View:
        views.append(
            WatchedView(
                knowledge=_given(knowledge if lender is None else lender.granted(knowledge), scope),
                received=features,
                image_shape=shape,
                model=seen if scope == "target" else None,
                fits=fits,
                blank=lambda seed: untrained(seen, seed),
                aux=aux,
                seed=derive("attack", seed),
                device=CPU,
                before=Asked.together(v.asked for v in views),
            )
        )
        return views[-1]

    truth = to_float(private.images)
    with hidden(truth):
        fits = _lent(attack, view, received[:0])
        lent = len(views)
        own = {role: fits[role] for role in lenders(attack, attack.fit_scope)}
        fitted = attack.of_fit().fit(view(received[:0], own, attack.fit_scope)) if attack.has_fit() else {}
        last = view(received, fits)
        guess = attack.infer(last, fitted) if isinstance(attack, LabelAttack) else attack.reconstruct(last, fitted)
    return Attacked(guess, truth, private.labels, views[-1].prior.cpu(), views, views[lent:])


def untrained(model: SplitModel, seed: int) -> SplitModel:
    """Returns a toy target with fresh weights; what has no way to be initialised again stays as it is (control edges)."""
    fresh = copy.deepcopy(model).requires_grad_(True)
    with seeded_globally(seed):
        for module in fresh.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    return fresh


@lru_cache(maxsize=4)
def usual(cls: type[Attack]) -> Attacked:
    """Returns the attack's run on the orthogonal edge; several checks look at the same one."""
    return attacked(cls)


def same(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Says whether two guesses are equal; NaN equals NaN, for finiteness has a check of its own."""
    return first.shape == second.shape and bool(((first == second) | (first.isnan() & second.isnan())).all())


def random_defense() -> Defense:
    """Returns noise and a mask on the wire together, to attack."""
    return NoisyMask(Params())


class NoisyMask(Defense):
    """Hides a quarter of the elements and adds noise to the others; a toy."""

    acts_on_wire = True
    source = "toy"

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        keep = torch.empty_like(z).uniform_(generator=generator) >= 0.25
        return keep * (z + 0.1 * torch.empty_like(z).normal_(generator=generator))

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received != 0


class ScaledWire(Defense):
    """Multiplies what is sent by a constant, which hides nothing; a toy.

    Args:
        factor: the constant.
    """

    acts_on_wire = True
    source = "toy"

    def __init__(self, factor: float) -> None:
        super().__init__(Params())
        self.factor = factor

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.factor * z


class HalfTheChannels(Defense):
    """Sends the first half of the channels, with a little noise; a toy."""

    acts_on_wire = True
    source = "toy"

    @property
    def stochastic(self) -> bool:
        return True

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return feature_shape[0] // 2, *feature_shape[1:]

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        half = z[:, : z.shape[1] // 2]
        return half + 0.01 * torch.empty_like(half).normal_(generator=generator)


def _given(knowledge: AdversaryKnowledge, scope: str) -> AdversaryKnowledge:
    return knowledge if scope == "target" else of_images_alone(knowledge)


def _lent(attack: Attack, view: Any, nothing: torch.Tensor) -> Fits:
    """Returns role to what each attack that this one builds on has fitted."""
    out = {}
    for role, (_, lender) in lenders(attack).items():
        fits = {r: f for r, f in _lent(lender, view, nothing).items() if r in lenders(lender, lender.fit_scope)}
        out[role] = lender.fit(view(nothing, fits, lender.fit_scope, lender))
    return out
