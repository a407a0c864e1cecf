"""Living within a budget of queries: how it is divided, what has been asked, what can still be paid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import KnowledgeError
from .knowledge import AdversaryKnowledge

LEAST = 8
"""Pairs of an image and its features below which no attack is trained."""

LATER = 64
"""Images, at most, for which pairs leave the budget something, so that settings can be rehearsed."""


@dataclass(frozen=True)
class Asked:
    """What an attacker has asked of the edge.

    Attributes:
        queries: images that were sent.
        answered: question to the number of images that it was answered for. Asked again it is no new query.
    """

    queries: int = 0
    answered: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def together(parts: Iterable[Asked]) -> Asked:
        """Returns what was asked in several stages that know of each other."""
        queries, answered = 0, {}
        for part in parts:
            queries += part.queries
            for question, count in part.answered.items():
                answered[question] = max(count, answered.get(question, 0))
        return Asked(queries, answered)


@dataclass(frozen=True)
class Division:
    """How many images of each part a budget pays for, one answer each.

    An eighth goes to ``aux_val`` (two images at least), an eighth but no more than :data:`LATER` images is left for
    rehearsals, the rest goes to ``aux_train``.

    Attributes:
        train: images of ``aux_train`` and mirrored ones.
        val: images of ``aux_val``.
        later: images that are left.
    """

    train: int
    val: int
    later: int

    @classmethod
    def of(cls, budget: int, draws: int, val: int) -> Division:
        """Returns the division of a budget.

        Args:
            budget: images that may be sent.
            draws: how often each is sent for one answer.
            val: images of ``aux_val``.
        """
        pairs = budget // draws
        held_out, later = min(val, max(2, pairs // 8)), min(LATER, pairs // 8)
        return cls(pairs - held_out - later, held_out, later)


class Ledger:
    """What an attacker has asked, within a budget of queries that all stages of its attack share.

    Args:
        budget: images that may be sent; None: as many as one likes.
        before: what earlier stages have asked.
    """

    def __init__(self, budget: int | None, before: Asked | None = None) -> None:
        self.budget, self.queries = budget, 0
        self._before = (before or Asked()).queries
        self._answered = dict((before or Asked()).answered)

    @property
    def left(self) -> int | None:
        """Images that may still be sent; None: as many as one likes."""
        return None if self.budget is None else self.budget - self._before - self.queries

    @property
    def asked(self) -> Asked:
        """What was asked in this stage, and which answers are at hand."""
        return Asked(self.queries, dict(self._answered))

    def count(self, images: int) -> None:
        """Counts images that are sent.

        Raises:
            KnowledgeError: they are more than the budget has left.
        """
        if self.left is not None and images > self.left:
            raise KnowledgeError(
                f"the attack asked for {images} queries, of its budget of {self.budget} are {self.left} left. View.pairs and "
                "View.affordable keep within it."
            )
        self.queries += images

    def pay(self, question: str, images: int) -> None:
        """Counts a question for some images, but for those that it was answered for before."""
        known = self._answered.get(question, 0)
        self.count(max(0, images - known))
        self._answered[question] = max(images, known)

    def pays(self, question: str) -> int:
        """Returns for how many images a question can be asked; there must be a budget."""
        return (self.left or 0) + self._answered.get(question, 0)


def draws_each(knowledge: AdversaryKnowledge, stochastic: bool) -> int:
    """Returns how often an own image is sent for one pair: as often as each private image was received."""
    return knowledge.draws if stochastic else 1


def shortage(knowledge: AdversaryKnowledge, stochastic: bool) -> str | None:
    """Returns why a budget pays for too few pairs (one clause), or None where it does not or there is none.

    Args:
        knowledge: that an attack is given.
        stochastic: whether the defense draws randomness.
    """
    if knowledge.edge != "query" or knowledge.queries is None:
        return None
    draws = draws_each(knowledge, stochastic)
    pairs = knowledge.queries // draws
    if pairs >= LEAST:
        return None
    each = f" of {draws} queries each" if draws > 1 else ""
    return f"needs at least {LEAST} own images with features, a budget of {knowledge.queries} queries pays for {pairs}{each}"


def fits_before(identity: Mapping[str, Any]) -> list[str]:
    """Returns the keys of the fits whose queries come before those of a fit or cell with a given identity."""
    own = [identity["fit"]] if identity.get("fit") else []
    return [*own, *identity.get("builds_on", {}).values(), *identity.get("after", ())]
