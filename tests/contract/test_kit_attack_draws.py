"""The check of an attack's draws of a random defense finds the toys that break it, and leaves alone those that do not."""

from __future__ import annotations

import pytest
import torch
from kit_toys import Broken, ToyDescent, ToyQueries, collector, named

from splitaudit.attack import Attack
from splitaudit.attacks.decoder import Decoder
from splitaudit.attacks.rmle import Rmle
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.pixels import to_float
from splitaudit.testing.attack_draws import RecordedNoise, check_draws_are_fresh
from splitaudit.testing.attacking import TINY, attacked
from splitaudit.testing.kit import outcome_of
from splitaudit.testing.targets import control_target
from splitaudit.view import View

TOYS: list[Broken] = []
breaks = collector(TOYS)

Fitted = dict[str, torch.Tensor]


@breaks("check_draws_are_fresh", "saw 2 different draws", "fresh draws at every step", "view.generator(role)")
class DescendsOnOneDraw(ToyDescent):
    """Makes the generator anew at each step."""

    def draws(self, view: View, given: torch.Generator) -> torch.Generator:
        return view.generator("descent")


@breaks("check_draws_are_fresh", "passes without gradient", "all saw the same draw", "anew for each batch")
class LearnsOneDrawByHeart(ToyQueries):
    """Has the edge's weights and defends the features of its own images itself, all with the same draw."""

    requires = AdversaryKnowledge(edge="weights", aux="other")
    uses = AdversaryKnowledge(edge="weights", aux="same")

    def answers(self, view: View) -> tuple[torch.Tensor, torch.Tensor]:
        x = to_float(view.aux_train.images)
        with torch.no_grad():
            return x, torch.cat([view.protect(view.edge(b), view.generator("pairs")) for b in x.split(8)])


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_an_attack_on_a_frozen_draw_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_an_attack_on_a_frozen_draw_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()


@pytest.mark.parametrize("cls", [ToyDescent, Rmle])
def test_fresh_draws_pass(cls: type[Attack]) -> None:
    outcome = outcome_of(named(cls, "check_draws_are_fresh"), cls)
    assert outcome.passed, outcome
    assert outcome.applies, outcome


@pytest.mark.parametrize("cls", [ToyQueries, Decoder])
def test_answers_to_queries_are_no_draws_of_the_attack(cls: type[Attack]) -> None:
    """The device draws them, whatever the attack does."""
    noise = RecordedNoise()
    attacked(cls, control_target("orthogonal", noise), sizes=TINY)
    assert noise.made == []
    assert not outcome_of(check_draws_are_fresh, cls).applies
