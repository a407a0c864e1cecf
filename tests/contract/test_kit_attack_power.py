"""Power, honesty and the claims of an attack: too weak, too good and peeking toys are found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from kit_toys import Broken, ToyAttack, by_size, collector
from pydantic import Field

from splitaudit.attack import Expected
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.testing.attack_power import check_worse_than_prior
from splitaudit.testing.data import part
from splitaudit.testing.hidden import peek
from splitaudit.view import View

TOYS: list[Broken] = []
breaks = collector(TOYS)

Fitted = dict[str, torch.Tensor]


@breaks("check_power", "on an undefended orthogonal edge the mean squared error is", "at most 0.5 of the constant")
class SeesNothing(ToyAttack):
    """Guesses the mean auxiliary image and claims to be an attack."""

    uses = AdversaryKnowledge(edge="weights", aux="same")
    expected = Expected()

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return view.prior.expand(len(view), *view.image_shape).clone()


@breaks("check_power", "the best constant guess", "too few steps in cheap()")
class SeesAColour(ToyAttack):
    """Finds each image's mean colour and no more, which is a leakage score of 0.77 on photographs."""

    expected = Expected()

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return guess.mean((2, 3), keepdim=True).expand_as(guess).clone()


@breaks("check_power", "the best constant guess", "a bug in the objective")
class SeesFourPatches(ToyAttack):
    """Finds a thumbnail of two by two pixels."""

    expected = Expected()

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return F.interpolate(F.adaptive_avg_pool2d(guess, 2), guess.shape[2:])


@breaks(
    "check_control_edges", "on the control edge identity the mean squared error is", "control_mse of 1e-06", "weaker"
)
class ClaimsTooMuch(ToyAttack):
    """Rounds to eight greys and claims a perfect copy."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return guess if blank(view) else (guess * 7).round() / 7


@breaks("check_control_edges", "on the control edge linear the mean squared error is", "with default parameters")
class LosesWhatIsNoMap(ToyAttack):
    """Claims the same of every edge, and reads vectors half as well as it could."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return (guess + view.prior) / 2 if len(view.feature_shape) == 1 else guess


class HaltParams(Params):
    """Parameters of HaltsHalfway."""

    steps: int = Field(4, ge=1, description="halvings of the distance to the image")


class HaltsHalfway(ToyAttack):
    """Halves its distance to the image in each of its steps."""

    Params = HaltParams

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return torch.lerp(super().reconstruct(view, fitted), view.prior, 0.5**self.params.steps)


@breaks("check_control_edges", "on the control edge orthogonal the mean squared error", "the parameters {'steps': 2}")
class NamesParametersThatDoNotDo(HaltsHalfway):
    """Keeps its claim by default, and not with the parameters that it names for one of the edges."""

    expected = Expected({"identity": 1e-3, "orthogonal": 1e-3}, {"orthogonal": {"steps": 2}})


@breaks("check_control_edges_cheaply", "on the control edge linear the mean squared error", "the parameters of cheap()")
class IsDearer(HaltsHalfway):
    """Says that its cheap parameters suffice, and they do not."""

    expected = Expected({"linear": 1e-3}, cheap_suffices=True)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 2}


@breaks("check_worse_than_prior", "above that of the mean auxiliary image", "95 % interval", "worse_than_prior")
class MakesSomethingUp(ToyAttack):
    """Adds a texture to what it is shown nothing of."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        texture = 0.2 * torch.empty_like(guess).normal_(generator=view.generator("texture"))
        return (guess + texture).clamp(0, 1) if blank(view) else guess


class AddsWhatNobodySees(ToyAttack):
    """Adds noise of a quarter of an 8-bit step, of a seed by which the mean error rises (one in twelve does)."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return (guess + 1e-3 * torch.empty_like(guess).normal_(generator=torch.Generator().manual_seed(49))).clamp(0, 1)


def test_an_attack_is_not_worse_than_the_prior_by_noise_that_nobody_sees() -> None:
    check_worse_than_prior(AddsWhatNobodySees)


@breaks("check_worse_than_prior", "as expected.worse_than_prior says (born so)", "take the reason out")
class ExcusesItself(ToyAttack):
    """Has a reason to be worse than the mean image, and is not."""

    expected = Expected(worse_than_prior="born so")


def blank(view: View) -> bool:
    """Says whether the received features are the same for all of several images."""
    return len(view) > 1 and bool((view.z == view.z[:1]).all())


@breaks("check_wire_scale", "with the wire multiplied by 0.001", "0.5 of the constant guess's error", "without regard")
class ReadsTheFeaturesAsTheyAre(ToyAttack):
    """Takes the defended features for the edge's own, whatever their scale."""

    expected = Expected()

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return view.prior + (guess - view.prior) * view.z.square().mean().sqrt().clamp(max=1)


@breaks("check_wire_scale", "with the wire multiplied by 1000", "0.5 of the constant guess's error", "without regard")
class DiesOfLargeFeatures(ToyAttack):
    """Gives up where features are too large for it."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess = super().reconstruct(view, fitted)
        return torch.where(view.z.abs().max() > 50, view.prior.expand_as(guess), guess)


@breaks("check_honesty", "below that of the best constant guess", "95 % interval", "around the View")
class KnowsTheImages(ToyAttack):
    """Has the private images from elsewhere: the same ones every time, whoever is attacked."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return to_float(part("private", len(view), view.image_shape).images)


@breaks("check_cannot_peek", "the guess changes with the private images", "through the dataset or a global")
class GlancesAtTheTruth(ToyAttack):
    """Lets the truth show through so little that its error gives nothing away."""

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        return (super().reconstruct(view, fitted) + 1e-4 * peek().mean()).clamp(0, 1)


@pytest.mark.parametrize("toy", by_size(TOYS, "fast"), ids=str)
def test_a_weak_or_dishonest_attack_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", by_size(TOYS, "full"), ids=str)
def test_a_claim_that_is_not_kept_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_weak_or_dishonest_attack_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else("all")
