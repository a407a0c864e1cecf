"""The check of ``expectation`` finds means that are none, wrong bounds and patterns that nobody can take off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit_toys import Broken, ToyDefense, collector

from splitaudit.params import Params
from splitaudit.testing import check_defense
from splitaudit.testing.defense_expectation import DRAWS, FEWER, check_expectation

TOYS: list[Broken] = []
breaks = collector(TOYS)


class Said(ToyDefense):
    """Says that it sends the features on average."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z


class Noisy(Said):
    """Adds noise."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + torch.empty_like(z).normal_(generator=generator)


@breaks("check_expectation", "differs on average from expectation", "the noise has a mean")
class Shifted(Noisy):
    """Adds noise with a mean."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return super().protect(z, generator) + 0.5


@breaks("check_expectation", "differs on average from expectation in 100.0%", "a factor is left out")
class Scaled(Said):
    """Sends half of each number."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z / 2 + 1


@breaks("check_expectation", "returned shape", "the shape of what is sent")
class Pooled(Said):
    """Gives the mean of each channel."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z.flatten(2).mean(2)


class Halved(Said):
    """Hides the second half of the channels, which may be of any size."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.cat([z[:, : z.shape[1] // 2], torch.zeros_like(z[:, z.shape[1] // 2 :])], 1)

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received != 0


@breaks("check_expectation", "hidden elements are larger than ceiling says", "something else than the size")
class Bounded(Halved):
    """Says that what it hides is next to nothing."""

    def ceiling(self, received: torch.Tensor) -> torch.Tensor | None:
        return received.new_full((len(received), *[1] * (received.ndim - 1)), 1e-6)


@breaks("check_expectation", "patterns are given, and expectation returns None", "expectation is not overridden")
class Patterns(ToyDefense):
    """Has a pattern, and does not say what it is added to."""

    def patterns(self) -> torch.Tensor | None:
        return torch.zeros(1, 8, 8, 8)


@breaks("check_expectation", "ceiling returned shape (6,)", "(6, 1, 1, 1)", "keepdim=True")
class Flat(Halved):
    """Gives a bound for each image as a vector, which would be broadcast over the width."""

    def ceiling(self, received: torch.Tensor) -> torch.Tensor | None:
        return received.abs().flatten(1).amax(1)


@breaks(
    "check_expectation",
    "the gradient of expectation misses 100%",
    "by which white-box attacks descend",
    "z is detached",
)
class Detached(Noisy):
    """Gives the right numbers, and attacks nothing to descend by."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z.detach()


@breaks("check_expectation", "the gradient of expectation misses", "z is detached")
class DetachedInPart(Noisy):
    """Passes the gradient of two channels of eight."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return torch.cat([z[:, :2], z[:, 2:].detach()], 1)


@breaks("check_expectation", "the gradient of expectation misses", "z is detached")
class Faint(Noisy):
    """Passes a hundredth of the gradient."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return 0.01 * z + 0.99 * z.detach()


@breaks("check_expectation", "the gradient of expectation misses 100%", "let a straight-through gradient pass")
class Rounded(ToyDefense):
    """Rounds, and says so without a gradient."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (4 * z).round() / 4

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return self.protect(z, generator)


@breaks("check_expectation", "expectation changed the global random state of torch", "torch.randn_like")
class Global(Noisy):
    """Draws a little noise from the global generator."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z + 1e-3 * torch.randn_like(z)


@breaks(
    "check_expectation", "two calls of expectation with different generators differ", "return the features without it"
)
class Drawn(Noisy):
    """Leaves a little of the noise in."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z + 1e-3 * torch.empty_like(z).normal_(generator=generator)


@breaks("check_expectation", "two calls of expectation with equal generators differ", "a state changes at inference")
class Counted(Noisy):
    """Moves a little at each call."""

    calls = 0

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        self.calls += 1
        return z + 1e-4 * self.calls


@breaks("check_expectation", "differs from expectation by 0.1", "over a channel", "belongs into expectation")
class SlightlyShifted(Noisy):
    """Is a tenth of the noise off, which no element of 400 draws shows."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z - 0.1


@breaks("check_expectation", "grows with expectation, by 0.11", "a factor is left out")
class SlightlyShrunk(Noisy):
    """Says nine tenths of what it sends on average."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return 0.9 * z


@breaks("check_expectation", "values that are not finite", "divides by a rate")
class Divided(Noisy):
    """Divides by nothing: no comparison with what is no number fails."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z + torch.zeros(()) / 0


class Shares(Params):
    """Parameters of the toys that follow."""

    mean: float = 1.0
    sigma: float = 1.0


class Mean(Said):
    """Adds noise with a mean, and says so."""

    Params = Shares

    @property
    def stochastic(self) -> bool:
        return self.params.sigma > 0

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"mean": 0.0}

    @classmethod
    def neutral(cls) -> dict[str, Any] | None:
        return {"mean": 0.0, "sigma": 0.0}

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z + self.params.mean

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        noise = torch.empty_like(z).normal_(generator=generator)
        return z + self.params.mean + self.params.sigma * noise


@breaks("check_expectation", "with parameters {} ", "the noise has a mean")
class WrongByDefault(Mean):
    """Is right with the parameters of tests alone."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z


@breaks("check_expectation", "with parameters {'mean': 0.0, 'sigma': 0.0} ", "a factor is left out")
class WrongWhereItIsOff(Mean):
    """Says a thousandth too much where it adds nothing: a single draw shows it."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return super().expectation(z, generator) + (0.0 if self.params.sigma else 1e-3)


class OfTheImage(Noisy):
    """Adds one number to all of an image's features: what is left of them depends on each other."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + z.new_empty(len(z), 1, 1, 1).normal_(generator=generator)


class Dithered(Rounded):
    """Rounds after noise as wide as its steps, so that on average it sends the features."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return super().protect(z + (torch.empty_like(z).uniform_(generator=generator) - 0.5) / 4, generator)

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z


class StraightThrough(Rounded):
    """Rounds, and passes the gradient of what it rounds."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z + (self.protect(z, generator) - z).detach()


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_wrong_expectation_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.parametrize("cls", [Noisy, Halved, Mean, OfTheImage, Dithered, StraightThrough])
def test_what_is_right_passes(cls: type[ToyDefense]) -> None:
    outcomes = [o for o in check_defense(cls, size="fast") if o.check == "check_expectation"]
    assert [(o.applies, o.passed) for o in outcomes] == [(True, True)]


def test_where_nothing_is_drawn_one_draw_says_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails for hundreds of equal draws of each set of parameters."""
    calls: list[float] = []
    protect = Mean.protect

    def counted(self: Mean, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if not self.training:
            calls.append(self.params.sigma)
        return protect(self, z, generator)

    monkeypatch.setattr(Mean, "protect", counted)
    check_expectation(Mean)
    assert calls.count(0.0) < 10
    assert calls.count(1.0) == pytest.approx(DRAWS + FEWER, abs=20)
