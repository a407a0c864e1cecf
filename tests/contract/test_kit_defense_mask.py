"""The check of ``visible`` finds masks that hide evidence and masks that show what is none."""

from __future__ import annotations

import pytest
import torch
from kit_toys import Broken, ToyDefense, collector

from splitaudit.testing import check_defense

TOYS: list[Broken] = []
breaks = collector(TOYS)


class Mask(ToyDefense):
    """Sets a quarter of the elements to zero."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z * (torch.empty_like(z).uniform_(generator=generator) >= 0.25)


@breaks("check_visible", "visible returned a tensor of torch.float32", "a tensor of bool", "a float mask")
class ShowsAFloatMask(Mask):
    """Gives weights instead of a mask."""

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return (received != 0).float()


@breaks("check_visible", "visible returned a tensor of torch.bool of shape (6, 8)", "per channel")
class ShowsChannels(Mask):
    """Gives one value per channel."""

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received.flatten(2).any(2)


@breaks("check_visible", "leaves out 7", "wrong way round")
class ShowsTheHoles(Mask):
    """Takes the mask the wrong way round."""

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received == 0


@breaks("check_visible", "leaves out 25%", "although they change with the features")
class HidesAChannel(ToyDefense):
    """Sends everything and hides two channels of eight from attacks."""

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        seen = torch.ones_like(received, dtype=torch.bool)
        seen[:, :2] = False
        return seen


@breaks("check_visible", "some draws replace 2", "% of the elements by 0, ", "visible is not overridden")
class ShowsEverything(Mask):
    """Lets attacks take the holes for features."""


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_wrong_mask_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_wrong_mask_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()


class Coin(ToyDefense):
    """Sends signs and answers a quarter of them by a coin: nobody can tell which."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        coin = torch.empty_like(z).uniform_(generator=generator)
        return torch.where(coin < 0.25, (coin < 0.125).to(z.dtype), (z > 0).to(z.dtype))


class Prune(ToyDefense):
    """Always sends zeros in two channels: the attacker's own pass through the public defense gives them too."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.cat([torch.zeros_like(z[:, :2]), z[:, 2:]], dim=1)


class ClippedNoise(Coin):
    """Adds noise and cuts off."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return (z + torch.empty_like(z).normal_(generator=generator)).clamp(0, 1)


@pytest.mark.parametrize("cls", [Coin, Prune, ClippedNoise])
def test_what_nobody_can_see_needs_no_mask(cls: type[ToyDefense]) -> None:
    assert [o for o in check_defense(cls, size="fast") if o.check == "check_visible" and not o.passed] == []
