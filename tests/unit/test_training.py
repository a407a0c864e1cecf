"""What the training loop says of a defense whose losses it cannot use, and what it lets a defense do with the optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from splitaudit.composed import Composed
from splitaudit.defense import Course, Defense
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


class Watching(Defense):
    """Steps with an optimiser of its own that leaves the weights alone, counts the steps, and says what it was told."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__(Params())
        self.fails, self.inside, self.given = fails, False, list[Any]()

    @contextmanager
    def during(self, course: Course) -> Iterator[torch.optim.Optimizer]:
        self.given.append(course.optimizer)
        course.notes["counted"] = [course.images, course.batch, course.epochs, course.steps]
        self.inside = True
        try:
            yield Still(course.optimizer)
        finally:
            self.inside = False

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        assert self.inside
        return z.sum() * torch.inf if self.fails else None


class Still(torch.optim.SGD):
    """Takes no step, but has the one that it stands for take none either (schedules ask for one)."""

    def __init__(self, other: torch.optim.Optimizer) -> None:
        self.other, self.steps = other, 0
        super().__init__([p for g in other.param_groups for p in g["params"]], lr=0.1)

    def step(self, closure: Any = None) -> None:
        self.steps += 1
        self.other.zero_grad()
        self.other.step()


def weights_of(model: SplitModel) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.edge.parameters()]


def again(model: SplitModel) -> dict[str, Any]:
    params = TrainingParams(epochs=2, batch=8, schedule="constant")
    return train(model, toy_part(20), toy_part(8, seed=1), params, 0, {}, CPU)


def test_a_defense_may_surround_the_training_and_step_with_an_optimiser_of_its_own() -> None:
    watching = Watching()
    model = toy_target(watching, steps=False)
    before = weights_of(model)
    history = again(model)
    assert not watching.inside
    assert all(torch.equal(a, b) for a, b in zip(before, weights_of(model), strict=True))
    assert history["notes"] == {"counted": [20, 8, 2, 6]}
    plain = toy_target(steps=False)
    before = weights_of(plain)
    assert "notes" not in again(plain)
    assert not all(torch.equal(a, b) for a, b in zip(before, weights_of(plain), strict=True))


def test_what_a_defense_sets_up_for_the_training_ends_with_it_also_where_it_fails() -> None:
    watching = Watching(fails=True)
    with pytest.raises(FloatingPointError):
        again(toy_target(watching, steps=False))
    assert watching.given
    assert not watching.inside


def test_in_a_composition_a_later_defense_gets_the_optimiser_of_the_earlier() -> None:
    first, second = Watching(), Watching()
    again(toy_target(Composed([first, Defense(Params()), second]), steps=False))
    assert isinstance(second.given[0], Still)
    assert second.given[0].other is first.given[0]
    assert not first.inside
    assert not second.inside
