"""Each check of what an attack reaches for finds the toy that breaks it, and says how."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
import torch
from kit_toys import ALL, Broken, ToyAttack, ToyQueries, collector, transposed

from splitaudit.attack import Work
from splitaudit.errors import KnowledgeError
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.view import View

TOYS: list[Broken] = []
breaks = collector(TOYS)

Fitted = dict[str, torch.Tensor]


@breaks("check_knowledge_is_declared", "`uses` is less than `requires`", "`uses` grants edge access 'query'")
class UsesLessThanItRequires(ToyQueries):
    """Declares that it needs weights and that it makes use of queries only."""

    requires = AdversaryKnowledge(edge="weights", aux="same")


@breaks(
    "check_knowledge_is_declared", "with what `requires` grants and nothing more", "auxiliary images", "not optional"
)
class TakesAuxiliaryImagesForGranted(ToyAttack):
    """Declares auxiliary images as something that it could do without, and cannot."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        assert len(view.aux_train) > 0
        return super().reconstruct(view, fitted)


@breaks("check_knowledge_is_declared", "the attack reached for edge weights", "missing from `requires`", also=ALL)
class DeclaresNothing(ToyAttack):
    """Declares queries and takes the weights."""

    requires = AdversaryKnowledge(edge="query")
    uses = AdversaryKnowledge(edge="query", aux="same")


@breaks("check_uses_only_the_public_view", "the attack uses view._model (line ", "declare the access in `requires`")
class StepsInside(ToyAttack):
    """Takes the edge from where no knowledge is asked for."""

    requires = AdversaryKnowledge()
    uses = AdversaryKnowledge(aux="same")

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return transposed(view, view._model.edge)


@breaks("check_uses_only_the_public_view", "view._model (test_kit_attack_reach:", "declare the access in `requires`")
class StepsInsideByAnotherName(StepsInside):
    """Hides the name."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return transposed(view, getattr(view, "_mod" + "el").edge)


@breaks("check_uses_only_the_public_view", "view._draw (test_kit_attack_reach:", "its pairs")
class AsksAroundThePairs(ToyQueries):
    """Asks for features without the pairs."""

    def answers(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        pairs = view.pairs("train")
        every = torch.arange(len(pairs))
        return pairs.images(every), pairs._draw(every)


@breaks("check_convergence_is_shown", "logs 1 points of a curve", "view.log(name, step, value)")
class SaysThatItConvergedAndShowsNoCourse(ToyAttack):
    """Logs its last value alone."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        view.note(converged=True)
        view.log("loss", 1, 0.0)
        return super().reconstruct(view, fitted)


@breaks("check_convergence_is_shown", "logs 0 points of a curve", "of fit or reconstruct")
class LeavesTheCourseToItsLender(ToyAttack):
    """Builds on a decoder, whose training has a curve, and shows none of its own."""

    requires = AdversaryKnowledge(edge="weights", aux="same")

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {"decoder": ("decoder", {"epochs": 2, "width": 8, "depth": 0})}

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        view.note(converged=True)
        return super().reconstruct(view, fitted)


# The count is no attribute that could be set: who changes it reaches into the View.
@breaks(
    "check_queries_are_counted",
    "the View counted 0 queries",
    "a counted query",
    also=["check_uses_only_the_public_view"],
)
class PutsTheCounterBack(ToyQueries):
    """Sets its number of queries to zero."""

    def answers(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        given = super().answers(view)
        view._ledger.queries = 0
        return given


@breaks(
    "check_query_budget_is_kept",
    "with a budget of 8 queries the edge answered 16 images",
    "refusal is caught",
    also=["check_uses_only_the_public_view"],
)
class StartsTheBudgetAgain(ToyQueries):
    """Asks for image after image, and once more from the beginning when the View refuses."""

    def answers(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        x = view.aux_train.images.float() / 255
        answers = []
        for one in x.split(1):
            try:
                answers.append(view.query(one))
            except KnowledgeError:
                view._ledger.queries = 0
                answers.append(view.query(one))
        return x, torch.cat(answers)


@breaks("check_target_is_unchanged", "put edge into training mode", "view.edge.train()")
class TrainsTheEdge(ToyAttack):
    """Puts the edge into training mode."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        view.edge.train()
        return guess


@breaks("check_target_is_unchanged", "the attack changed edge.", "an optimiser that was given the edge's parameters")
class ShrinksTheEdge(ToyAttack):
    """Changes the edge's weights."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        for p in view.edge.parameters():
            p.mul_(0.9)
        return guess


@breaks(
    "check_global_generators_are_untouched", "the attack changed the global random state of torch", "seeded_globally"
)
class WastesADraw(ToyAttack):
    """Moves the global generator on."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        torch.rand(1)
        return super().reconstruct(view, fitted)


@breaks(
    "check_stops_at_its_limit",
    "images went through the edge",
    "work announces 18 passes",
    "leaves a loop out",
    also=["check_draws_are_fresh"],
)
class TakesLonger(ToyAttack):
    """Goes a hundred times through the edge and announces one time."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        for _ in range(100):
            guess = super().reconstruct(view, fitted)
        return guess


@breaks("check_stops_at_its_limit", "work announces inf passes", "finite numbers", "a quotient")
class AnnouncesForever(ToyAttack):
    """Divides by a parameter of zero."""

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        return Work(edge_passes=float("inf"))


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_an_attack_that_reaches_too_far_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_an_attack_that_reaches_too_far_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()


class NeverEnds(ToyAttack):
    """Tries again for ever, whatever happens."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        while True:
            with suppress(Exception):
                super().reconstruct(view, fitted)


def test_an_attack_without_end_is_stopped_and_found() -> None:
    Broken(
        NeverEnds, "check_stops_at_its_limit", ("before the attack was stopped", "a loop without a step limit")
    ).is_found()
