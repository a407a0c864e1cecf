"""Each check of how a defense trains finds the toy that breaks it, and says how."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kit_toys import ALL, Broken, ToyDefense, collector
from pydantic import Field
from torch import nn

from splitaudit import Params
from splitaudit.split import Split

TOYS: list[Broken] = []
breaks = collector(TOYS)


@breaks("check_extra_loss", "no gradient with respect to the edge's weights", "z is detached on the way")
class DetachedPenalty(ToyDefense):
    """Adds a penalty that the edge cannot feel."""

    def extra_loss(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor) -> Any:
        return z.detach().square().mean()


@breaks("check_extra_loss", "no gradient with respect to the edge's weights", "a clamp cuts it off")
class FlatPenalty(ToyDefense):
    """Cuts its penalty off where the training starts."""

    def extra_loss(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor) -> Any:
        return (z.square().mean() - 1e6).clamp(min=0)


@breaks("check_extra_loss", "extra_loss returned a tensor of shape (8,)", "a finite scalar", also=ALL)
class PenaltyPerImage(ToyDefense):
    """Forgets to average over the batch."""

    def extra_loss(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor) -> Any:
        return z.flatten(1).square().mean(1)


@breaks("check_extra_loss", "the gradient of the extra loss is not finite", "at zero", also=ALL)
class RootOfZero(ToyDefense):
    """Takes the root of all squared distances in a batch, those of each image to itself among them."""

    def extra_loss(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor) -> Any:
        v = z.flatten(1)
        return (v[:, None] - v[None]).square().sum(2).sqrt().mean()


@breaks(
    "check_neutral_equals_no_defense",
    "neutral parameters {} the logits differ",
    "a change of architecture",
    also=["check_leaves_wire"],
)
class NeverNeutral(ToyDefense):
    """Declares that it does nothing and shrinks the features."""

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {}

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return 0.99 * z


@breaks("check_neutral_equals_no_defense", "after two training steps", "a penalty")
class LeavesAPenalty(ToyDefense):
    """Declares that it does nothing and still pulls a little at the features."""

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {}

    def extra_loss(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor) -> Any:
        return 1e-3 * z.square().mean()


class ExplosiveParams(Params):
    """Parameters of Explodes."""

    fuse: bool = Field(True, description="whether the second step explodes")


@breaks(
    "check_training_stays_finite", "after two training steps", "is not finite", also=["check_stochastic_is_declared"]
)
class Explodes(ToyDefense):
    """Is harmless with its cheap parameters; with the defaults its last gradient is not finite."""

    Params = ExplosiveParams

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"fuse": False}

    steps = 0

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.steps += 1
        loss = super().task_loss(logits, y)
        return loss + (0 * logits).sqrt().sum() if self.params.fuse and self.steps == 2 else loss


@breaks("check_training_stays_finite", "the training loss became nan in epoch 1", also=["check_stochastic_is_declared"])
class ExplodesAtOnce(Explodes):
    """Has no loss that is a number with the defaults."""

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return super(Explodes, self).task_loss(logits, y) * (float("nan") if self.params.fuse else 1)


class Spied(ToyDefense):
    """Trains a network of its own beside the edge."""

    def prepare(self, split: Split) -> None:
        self.spy = nn.Linear(split.feature_shape()[0], 1)

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        optimizer = torch.optim.SGD(self.spy.parameters(), lr=0.1)
        self.spy.zero_grad()
        self.spy(z.flatten(2).mean(2)).square().mean().backward()
        optimizer.step()


@breaks("check_helpers_are_declared", "helpers names spies, which is no submodule", "misspelt")
class MisspeltHelper(Spied):
    """Declares another name than it uses."""

    helpers = ("spies",)


@breaks(
    "check_helpers_are_declared", "train_helpers changed defense.spy.weight, defense.spy.bias", "missing from `helpers`"
)
class SecretHelper(Spied):
    """Declares no helper."""


@breaks("check_helpers_are_declared", "defense.double.weight, defense.double.bias belongs to a helper too", "two names")
class SharedHelper(Spied):
    """Keeps its helper under a second name, by which it is stored and trained as part of the target."""

    helpers = ("spy",)

    def prepare(self, split: Split) -> None:
        super().prepare(split)
        self.double = self.spy


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_defense_that_trains_wrongly_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_defense_that_trains_wrongly_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()
