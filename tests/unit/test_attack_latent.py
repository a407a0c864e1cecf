"""The search in a latent space: where it starts matters, and it meets a random defense with fresh draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.attacks import latent
from splitaudit.attacks.latent import Latent
from splitaudit.testing.attack_draws import RecordedNoise
from splitaudit.testing.attacking import TINY, Attacked, Sizes, attacked
from splitaudit.testing.targets import control_target


def searched(steps: int) -> Attacked:
    params = {**Latent.cheap(), "search_steps": steps, "release_steps": 1}
    return attacked(Latent, "orthogonal", params=params, sizes=Sizes(private=16, aux_train=256, aux_val=32))


def loss_of(run: Attacked) -> float:
    """Returns the loss that the search ends with, over the private images."""
    return run.views[-1].curves["search"][-1][1]


@pytest.mark.slow
def test_from_the_encoded_guess_few_steps_reach_what_many_from_zeros_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "GRID", (0.003,))  # losses with the same weight of the prior
    few = searched(5)
    found = Latent._found

    def from_zeros(self: Latent, view: Any, objective: Any, network: Any, *rest: Any) -> torch.Tensor:
        with monkeypatch.context() as patched:
            patched.setattr(network, "encode", lambda x: (torch.zeros(len(x), self.params.latent), None))
            return found(self, view, objective, network, *rest)

    monkeypatch.setattr(Latent, "_found", from_zeros)
    as_few, many = searched(5), searched(20)
    assert loss_of(few) < loss_of(many) < loss_of(as_few)
    assert loss_of(few) < 0.95 * loss_of(as_few)
    assert few.leakage() > many.leakage() + 0.1


def test_every_step_sees_fresh_draws_of_a_random_defense(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latent, "GRID", (0.03,))  # candidates are compared on the same draws
    noise, steps = RecordedNoise(), 8
    params = {**Latent.cheap(), "epochs": 1, "draws": 1, "search_steps": steps, "release_steps": steps}
    attacked(Latent, control_target("orthogonal", noise), params=params, sizes=TINY)
    draws = {d.state for d in noise.made if d.gradient}
    assert len(draws) >= 2 * steps + 2 * steps + steps, "rehearsal, private images, and rehearsal with half the steps"
