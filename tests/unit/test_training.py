"""What the training loop says of a defense whose losses it cannot use."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from splitaudit.defense import Defense
from splitaudit.params import Params
from splitaudit.split import SplitModel
from splitaudit.testing import toy_part, toy_target
from splitaudit.training import TrainingParams, train

CPU = torch.device("cpu")


class PerImage(Defense):
    """Returns an extra loss for each image."""

    def extra_loss(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return z.square().flatten(1).mean(1)


class Unreduced(Defense):
    """Forgets the mean of its task loss."""

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, y, reduction="none")


class OneElement(Defense):
    """Returns its extra loss as a vector of one number."""

    def extra_loss(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        return z.square().mean().reshape(1)


def trained(defense: Defense) -> dict[str, Any]:
    model: SplitModel = toy_target(defense)
    return train(model, toy_part(16), toy_part(8, seed=1), TrainingParams(epochs=1, batch=8), 0, {}, CPU)


@pytest.mark.parametrize(
    ("kind", "what"), [(PerImage, r"extra_loss .* has shape \(8,\)"), (Unreduced, r"task_loss .* has shape \(8,\)")]
)
def test_a_loss_that_is_no_number_is_named_with_what_to_do(kind: type[Defense], what: str) -> None:
    with pytest.raises(ValueError, match=what + ", expected a single number: take its mean"):
        trained(kind(Params()))


def test_a_vector_of_one_number_is_a_number() -> None:
    assert len(trained(OneElement(Params()))["loss"]) == 1
