"""Living within a budget of queries: how it is divided, what has been asked, what can still be paid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import KnowledgeError
from .knowledge import AdversaryKnowledge

VERSION = 1
"""Raised when a budget buys other answers; part of the keys of what has a budget."""

LEAST = 8
"""Own images with features below which no attack is trained."""


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


def divided(images: int, train: int, val: int) -> tuple[int, int]:
    """Returns how many images of ``aux_train`` and of ``aux_val`` a budget pays for.

    An eighth goes to ``aux_val``, two images at least, and more where ``aux_train`` leaves more. What the first share has
    beyond ``train`` is there for further answers to the same images.

    Args:
        images: that the budget pays for.
        train: images of ``aux_train`` that are wanted, mirrored ones too.
        val: images of ``aux_val``.
    """
    held_out = min(val, max(2, images // 8, images - train))
    return images - held_out, held_out


def draws_each(budget: int, images: int, draws: int) -> int:
    """Returns how often an own image is sent to a random defense: as many images as possible come before more draws.

    Args:
        budget: images that may be sent.
        images: own images that there are, mirrored ones too.
        draws: of each private image that are received; more of an own one are of no use.
    """
    return max(1, min(budget // max(1, images), draws))


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

    def pay(self, question: str, images: int, each: int = 1) -> None:
        """Counts a question for some images, each sent ``each`` times, but for those that it was answered for before."""
        known = self.answered(question)
        self.count(each * max(0, images - known))
        self._answered[question] = max(images, known)

    def pays(self, question: str, each: int = 1) -> int:
        """Returns for how many images a question can be asked; there must be a budget."""
        return (self.left or 0) // each + self.answered(question)

    def answered(self, question: str) -> int:
        """Returns for how many images a question was answered."""
        return self._answered.get(question, 0)


def shortage(knowledge: AdversaryKnowledge) -> str | None:
    """Returns why a budget pays for too few images (one clause), or None where it does not or there is none."""
    if knowledge.edge != "query" or knowledge.queries is None or knowledge.queries >= LEAST:
        return None
    return f"needs at least {LEAST} own images with features, the budget pays for {knowledge.queries}"


def fits_before(identity: Mapping[str, Any]) -> list[str]:
    """Returns the keys of the fits whose queries come before those of a fit or cell with a given identity."""
    own = [identity["fit"]] if identity.get("fit") else []
    return [*own, *identity.get("builds_on", {}).values(), *identity.get("after", ())]
