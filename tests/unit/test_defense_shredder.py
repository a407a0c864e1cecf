"""Learned noise: what it starts as, what makes it grow, and what is sent at inference."""

from __future__ import annotations

import math

import pytest
import torch

from splitaudit.defenses.shredder import Shredder, ShredderParams
from splitaudit.testing import toy_part
from splitaudit.testing.targets import CPU, NAMES, defended, home_of, two_steps
from splitaudit.training import TrainingParams, learned, train

HOME = home_of(Shredder)


def target(**params: object) -> tuple[Shredder, object]:
    model = defended(Shredder(ShredderParams(**params)), HOME)
    assert isinstance(model.defense, Shredder)
    return model.defense, model


def drawn(made: Shredder, n: int = 400, seed: int = 0) -> torch.Tensor:
    z = torch.zeros(n, *made.noise.shape[1:])
    return made.protect(z, torch.Generator().manual_seed(seed)).detach() / made.scale.std


def test_noise_starts_as_laplace_of_the_wanted_deviation() -> None:
    noise = target(start=0.5, tensors=16)[0].noise.detach().double()
    assert float(noise.std()) == pytest.approx(0.5, rel=0.03)
    assert float((noise / noise.std()).pow(4).mean()) == pytest.approx(6, rel=0.15)


def test_the_penalty_makes_noise_larger_and_without_it_noise_shrinks() -> None:
    sizes = {}
    for weight in (0.0, 3.0):
        made, model = target(weight=weight, tensors=2)
        two_steps(model, HOME)
        before = float(made.noise.detach().abs().mean())
        frozen = ("edge", "cloud")
        train(
            model, toy_part(64), toy_part(8, seed=1), TrainingParams(epochs=4, batch=16, lr=0.02), 0, NAMES, CPU, frozen
        )
        sizes[weight] = float(made.noise.detach().abs().mean()) / before
    assert sizes[3.0] > 1.05
    assert sizes[0.0] < 1.0


def test_the_noise_is_all_that_is_learned_on_the_frozen_network_and_it_is_stored() -> None:
    made, model = target()
    assert [id(p) for p in learned(model, ("edge", "cloud"))] == [id(made.noise)]
    assert "defense.noise" in model.state_dict()


def test_fresh_noise_has_the_location_the_scale_and_the_order_of_a_learned_tensor() -> None:
    made, _ = target(tensors=1)
    made.eval()
    sent = drawn(made).flatten(1)
    rows = made.noise.detach().flatten(1)[0]
    location = rows.median()
    assert float((sent - location).abs().mean()) == pytest.approx(float((rows - location).abs().mean()), rel=0.02)
    assert all(torch.equal(one.argsort(), rows.argsort()) for one in sent[:20])
    assert not torch.equal(sent[0], sent[1])


def test_without_sampling_the_learned_tensors_themselves_are_sent_each_as_often() -> None:
    made, _ = target(tensors=4, sample=False)
    made.eval()
    sent = drawn(made)
    counts = [int((sent - one).flatten(1).abs().amax(1).lt(1e-6).sum()) for one in made.noise.detach()]
    assert sum(counts) == len(sent)
    assert min(counts) > len(sent) / 4 - 4 * math.sqrt(len(sent) * 3 / 16)


@pytest.mark.parametrize(("tensors", "sample", "random"), [(1, False, False), (1, True, True), (2, False, True)])
def test_one_tensor_that_is_sent_as_it_is_draws_nothing(tensors: int, sample: bool, random: bool) -> None:
    made, _ = target(tensors=tensors, sample=sample)
    assert made.stochastic is random
    assert torch.equal(drawn(made.eval(), seed=0), drawn(made, seed=1)) is not random
