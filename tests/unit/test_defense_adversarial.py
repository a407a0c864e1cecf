"""Adversarial training: what its penalty rewards, and that its helper learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.defenses.adversarial import Adversarial, AdversarialParams, standardised
from splitaudit.testing.data import part
from splitaudit.testing.targets import home_of
from splitaudit.view import to_float


def trained(steps: int = 60, **params: Any) -> tuple[Adversarial, torch.Tensor, torch.Tensor]:
    """Returns the defense with a decoder that has had its steps, images, and their features."""
    data = part("client_train", 32)
    x, split = to_float(data.images), home_of(Adversarial).split(data, seed=0)
    defense = Adversarial(AdversarialParams(**{"width": 8, "lr": 1e-2} | params))
    torch.manual_seed(0)
    defense.prepare(split)
    split.edge.eval()
    with torch.no_grad():
        z = split.edge(x) + 0.1  # nothing is exactly 0, so that no gradient stops at a dead element
    for _ in range(steps):
        defense.train_helpers(x, z, data.labels)
    return defense, x, z


def penalty(defense: Adversarial, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    found = defense.extra_loss(x, z, torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), 2))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def case() -> tuple[Adversarial, torch.Tensor, torch.Tensor]:
    return trained()


Case = tuple[Adversarial, torch.Tensor, torch.Tensor]


def test_the_penalty_is_the_share_of_the_images_that_the_decoder_explains(case: Case) -> None:
    """Less error of the decoder is a greater penalty: it rises from 0 while the decoder learns."""
    defense, x, z = case
    error = (defense.decoder(standardised(z)) - x).square().mean()
    variance = (x - x.mean(0)).square().mean()
    explained = float((1 - error / variance).detach())
    assert 0.2 < explained < 1
    assert float(penalty(defense, x, z).detach()) == pytest.approx(explained, rel=1e-4)
    untrained, _, _ = trained(steps=0)
    assert float(penalty(untrained, x, z).detach()) < 0.5 * explained


def test_a_step_against_the_penalty_hides_the_images_from_the_decoder(case: Case) -> None:
    defense, x, z = case
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(defense, x, z), z)
    with torch.no_grad():
        moved = z - 0.05 * z.std() * gradient / gradient.std()
        before, after = ((defense.decoder(standardised(v)) - x).square().mean() for v in (z, moved))
    assert after > before


def test_the_penalty_has_no_gradient_that_only_shifts_or_scales_a_channel(case: Case) -> None:
    """The decoder's standardisation undoes both: 32 % of the gradient went there while it passed by the statistics."""
    defense, x, z = case
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(defense, x, z), z)
    wasted = 0.0
    for c in range(z.shape[1]):
        g, v = gradient[:, c].flatten(), z.detach()[:, c].flatten()
        scale, shift = v - v.mean(), torch.ones_like(v)
        wasted += float((g @ scale) ** 2 / (scale @ scale) + (g @ shift) ** 2 / (shift @ shift))
    assert float(gradient.square().sum()) > 0
    assert wasted < 1e-6 * float(gradient.square().sum())


def test_channels_may_have_any_scale_and_offset(case: Case) -> None:
    defense, x, z = case
    factor = torch.logspace(-2, 2, z.shape[1])[:, None, None]
    assert float(penalty(defense, x, factor * z + 3).detach()) == pytest.approx(
        float(penalty(defense, x, z).detach()), abs=1e-3
    )


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (8, 5), (8, 6, 5)])
def test_standardised_features_have_mean_0_and_deviation_1_and_constant_ones_are_0(shape: tuple[int, ...]) -> None:
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 4 + 2
    z[:, 0] = 7.0
    z.requires_grad_()
    found = standardised(z)
    axes = [0, 2, 3] if len(shape) == 4 else [0]
    assert found.mean(axes).abs().max() < 1e-5
    assert (found[:, 1:].std(axes, unbiased=False) - 1).abs().max() < 1e-4
    assert found[:, 0].abs().max() == 0
    found.square().sum().backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_the_penalty_ends_where_the_decoder_explains_nothing(case: Case) -> None:
    """Beyond the error of a constant guess there is nothing to gain."""
    defense, x, z = case
    shuffled = z.roll(1, 0).requires_grad_()
    found = penalty(defense, x, shuffled)
    assert float(found.detach()) == 0.0
    assert not torch.autograd.grad(found, shuffled)[0].any()


def test_the_gradient_of_the_penalty_leaves_the_decoder_as_it_is(case: Case) -> None:
    defense, x, z = case
    defense.decoder.zero_grad(set_to_none=True)
    penalty(defense, x, z.clone().requires_grad_()).backward()
    assert all(p.grad is None for p in defense.decoder.parameters())
    assert all(p.requires_grad for p in defense.decoder.parameters())
