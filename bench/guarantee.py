"""What a defense proves of privacy, as a value: a differential-privacy budget, whom it protects and what it leaves open."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal, get_args

About = Literal["sent image", "training image"]
"""Whose privacy is meant: the image whose features cross the wire, or one that the network was trained on."""


@dataclass(frozen=True)
class Guarantee:
    """An (ε, δ) differential-privacy statement.

    Attributes:
        about: whose privacy is meant; of statements about the same one the strongest counts.
        epsilon: ε, in nats; infinite where nothing is promised.
        delta: δ, the probability with which ε may be exceeded.
        protects: what is protected, in a few words.
        leaves_out: what is not, in a few words.
        accountant: how ε was worked out.
    """

    about: About
    epsilon: float
    delta: float
    protects: str
    leaves_out: str
    accountant: str

    @property
    def holds(self) -> bool:
        """Says whether anything is promised."""
        return math.isfinite(self.epsilon)

    def void(self, why: str) -> Guarantee:
        """Returns the statement that nothing is promised, with the reason."""
        return replace(self, epsilon=math.inf, protects=f"no {self.about}: {why}")


def most_right(epsilon: float, delta: float) -> float:
    """Returns the greatest share of right guesses between two equally likely cases that (ε, δ) allows, in [0.5, 1].

    It is (e^ε + δ)/(e^ε + 1), whatever the attacker knows (Kairouz et al., ICML 2015, theorem 2.1).

    Args:
        epsilon: ε, at least 0.
        delta: δ, at least 0 and at most 1.
    """
    return 1 - (1 - delta) * math.exp(-epsilon) / (1 + math.exp(-epsilon))


def strongest(guarantees: Iterable[Guarantee]) -> tuple[Guarantee, ...]:
    """Returns the strongest statement about each kind of image, those about the image that is sent first."""
    return _picked(guarantees, least=True)


def weakest(guarantees: Iterable[Guarantee]) -> tuple[Guarantee, ...]:
    """Returns the weakest statement about each kind of image: what holds for all of several trainings."""
    return _picked(guarantees, least=False)


def _picked(guarantees: Iterable[Guarantee], *, least: bool) -> tuple[Guarantee, ...]:
    found = list(guarantees)
    out: list[Guarantee] = []
    for about in get_args(About):
        of_kind = sorted((g for g in found if g.about == about), key=lambda g: (g.epsilon, g.delta))
        out += of_kind[:1] if least else of_kind[-1:]
    return tuple(out)
