"""White-box attacks and what a defense sends on average: masks, patterns, noise."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.attacks._expected import noisy
from splitaudit.attacks._patterns import without_patterns
from splitaudit.attacks.refine import Refine
from splitaudit.attacks.rmle import Rmle
from splitaudit.composed import Composed
from splitaudit.defense import Defense
from splitaudit.defenses.dropout import Dropout, DropoutParams
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.defenses.shredder import Shredder, ShredderParams
from splitaudit.defenses.topk import TopK, TopKParams
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.plugins import DEFENSES
from splitaudit.testing import toy_target
from splitaudit.testing.attack_draws import RecordedNoise
from splitaudit.testing.attacking import attacked

DRAWS = torch.Generator()
STEPS: dict[str, Any] = {"steps": 100}


def made(name: str, **params: Any) -> Defense:
    cls = DEFENSES.get(name)
    defense = cls(cls.Params(**params))
    defense.name = name
    return defense


def leakage(attack: type[Rmle | Refine], defense: Defense, **params: Any) -> float:
    return attacked(attack, toy_target(defense), params={**STEPS, **params}).leakage()


@pytest.mark.full
def test_noise_that_is_one_of_few_known_tensors_hides_nothing() -> None:
    """Fresh values in a learned order are next to the learned tensor; taken for noise of zero mean they hid much: 0.977."""
    assert leakage(Rmle, made("shredder")) > leakage(Rmle, made("none")) - 0.01


@pytest.mark.full
def test_several_draws_of_such_noise_are_a_mixture_that_is_taken_off() -> None:
    knowledge = AdversaryKnowledge(edge="weights", aux="same", draws=4)
    found = attacked(Rmle, toy_target(made("shredder")), params=STEPS, knowledge=knowledge)
    assert found.leakage() > leakage(Rmle, made("none")) - 0.01


@pytest.mark.full
def test_what_a_mask_of_the_largest_elements_hides_is_known_to_be_small() -> None:
    """Compared with what the attack's own mask leaves of its own features it had 0.736, and from a decoder's guess 0.374."""
    assert leakage(Rmle, made("topk", keep=0.1)) > 0.86


@pytest.mark.full
def test_a_dropout_mask_that_is_seen_leaves_no_randomness() -> None:
    """With draws of its own that hid other elements: 0.943."""
    assert leakage(Refine, made("dropout"), decoder={"width": 16, "epochs": 4}) > 0.98


def test_a_pattern_is_recognised_and_taken_off() -> None:
    patterns = torch.randn(3, 4, 8, 8, generator=DRAWS.manual_seed(0))
    noise = 0.01 * torch.randn(5, 4, 8, 8, generator=DRAWS)
    which = torch.tensor([2, 0, 1, 1, 2])
    left = without_patterns(noise + patterns[which], patterns, 1)
    assert torch.allclose(left, noise, atol=1e-6)


def test_a_mixture_of_patterns_is_taken_off_an_average() -> None:
    patterns = torch.randn(3, 4, 8, 8, generator=DRAWS.manual_seed(0))
    noise = torch.randn(50, 4, 8, 8, generator=DRAWS)
    shares = torch.tensor([0.5, 0.25, 0.25])
    left = without_patterns(noise + torch.einsum("t,tchw->chw", shares, patterns), patterns, 4)
    # Three of 256 directions go with the patterns.
    assert float((left - noise).square().mean()) == pytest.approx(3 / 256, rel=0.2)


def test_more_patterns_than_numbers_can_tell_apart_leave_their_mean() -> None:
    patterns = torch.randn(3, 8, generator=DRAWS.manual_seed(0))
    z = torch.randn(2, 8, generator=DRAWS)
    assert torch.allclose(without_patterns(z, patterns, 4), z - patterns.mean(0))


@pytest.mark.full
@pytest.mark.parametrize(
    ("defense", "random"),
    [
        (Defense(Params()), False),
        (Noise(NoiseParams()), False),
        (Dropout(DropoutParams()), False),
        (TopK(TopKParams()), False),
        (Shredder(ShredderParams()), False),
        (RecordedNoise(), True),
        (Composed([Noise(NoiseParams()), Dropout(DropoutParams())]), True),
        (Composed([Dropout(DropoutParams()), Noise(NoiseParams())]), False),
        (Composed([Noise(NoiseParams()), TopK(TopKParams())]), True),
        (Composed([Shredder(ShredderParams(sample=False, tensors=2)), Dropout(DropoutParams())]), True),
        (Composed([TopK(TopKParams()), Noise(NoiseParams())]), False),
    ],
    ids=lambda value: value.name if isinstance(value, Composed) else type(value).__name__,
)
def test_a_loss_is_random_only_where_nobody_says_what_is_sent_on_average(defense: Defense, random: bool) -> None:
    target = toy_target(defense, steps=False)
    found = attacked(Rmle, target, params={"steps": 2, "optimiser": "adam"})
    assert noisy(found.views[-1]) is random


def test_a_mask_that_chooses_by_noise_too_is_met_with_draws() -> None:
    """What it shows is larger than the mean of all draws: it was chosen for that."""
    z = torch.rand(2, 4, 4, 4)
    both = Composed([Noise(NoiseParams(relative=False)), TopK(TopKParams())])
    assert both.expectation(z, DRAWS) is None
    assert Composed([TopK(TopKParams()), Noise(NoiseParams(relative=False))]).expectation(z, DRAWS) is not None


def test_of_the_largest_elements_the_least_that_is_sent_bounds_the_others() -> None:
    topk = TopK(TopKParams(keep=0.5))
    z = torch.tensor([[3.0, -2.0, 1.0, -0.5], [1.0, 0.0, 0.0, 0.0]])
    ceiling = topk.ceiling(topk.protect(z, DRAWS))
    assert ceiling is not None
    assert ceiling.flatten().tolist() == [2.0, 0.0], "fewer than may be sent: the others are zero"
