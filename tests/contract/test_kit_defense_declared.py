"""The checks of what a defense declares of its wire find parts that do more than they say."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit_toys import Broken, ToyDefense, collector

from splitaudit.testing.defense_declared import check_additive

TOYS: list[Broken] = []
breaks = collector(TOYS)


class Additive(ToyDefense):
    """Adds noise and says so."""

    additive = True

    @property
    def stochastic(self) -> bool:
        return True

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + torch.empty_like(z).normal_(generator=generator)


@breaks("check_additive", "a mask is visible", "nothing else")
class Masks(Additive):
    """Hides elements beside its noise."""

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        return received != 0


@breaks("check_additive", "not what is sent on average, by the defense's own word", "it clips")
class Clips(Additive):
    """Clips before it adds noise."""

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z.clamp_max(0.1)


@breaks("check_additive", "two draws are the same in 100%", "patterns() gives")
class KeepsItsNoise(Additive):
    """Adds the same noise each time."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + torch.empty_like(z).normal_(generator=torch.Generator().manual_seed(0))


@breaks("check_leaves_wire", "leaves_wire is false", "forgets the neutral parameters")
class DoesNotSay(ToyDefense):
    """Sends the features as they are with neutral parameters, and says that it does not."""

    @property
    def leaves_wire(self) -> bool:
        return False

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {}

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z


@breaks("check_leaves_wire", "other features are sent", "switch everything off")
class SaysNothingIsDone(Additive):
    """Says that it leaves the wire as it is."""

    @property
    def leaves_wire(self) -> bool:
        return True


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_what_is_wrongly_declared_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


def test_what_is_right_passes() -> None:
    check_additive(Additive)
