"""The check of ``expectation`` finds means that are none, wrong bounds and patterns that nobody can take off."""

from __future__ import annotations

import pytest
import torch
from kit_toys import Broken, ToyDefense, collector

from splitaudit.testing import check_defense

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


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_wrong_expectation_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.parametrize("cls", [Noisy, Halved])
def test_what_is_right_passes(cls: type[ToyDefense]) -> None:
    outcomes = [o for o in check_defense(cls, size="fast") if o.check == "check_expectation"]
    assert [(o.applies, o.passed) for o in outcomes] == [(True, True)]
