"""Few bits: levels, ranges, and a gradient that leads where the levels go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from splitaudit.composed import Composed
from splitaudit.defenses.downsample import Downsample, DownsampleParams
from splitaudit.defenses.quantize import Quantize, QuantizeParams
from splitaudit.nn.range import ChannelRange
from splitaudit.split import Split, SplitInfo
from splitaudit.straight import pass_gradients
from splitaudit.testing import control_target
from splitaudit.testing.data import part
from splitaudit.training import calibrate

DRAWS = torch.Generator()
"""Never drawn from."""


def features(n: int = 40, shape: tuple[int, ...] = (3, 6, 6), seed: int = 0) -> torch.Tensor:
    """Features with channels of different place and scale."""
    z = torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))
    channels = torch.arange(1.0, (shape[-1] if len(shape) == 2 else shape[0]) + 1)
    channels = channels if len(shape) < 3 else channels[:, None, None]
    return channels * z + channels.square()


def defense(z: torch.Tensor, **params: Any) -> Quantize:
    made = Quantize(QuantizeParams(**params))
    made.range = ChannelRange(tuple(z.shape[1:]), made.params.tail)
    made.eval()
    made.calibrate(lambda: list(z.split(7)))
    return made


@pytest.mark.parametrize("bits", [1, 2, 3, 8])
def test_each_channel_sends_equally_spaced_levels_of_its_own_range(bits: int) -> None:
    z = features(400)
    made = defense(z, bits=bits, tail=0.0)
    for channel, before in zip(made.protect(z, DRAWS).transpose(0, 1), z.transpose(0, 1), strict=True):
        levels = np.linspace(float(before.min()), float(before.max()), 2**bits)
        assert len(channel.unique()) <= 2**bits
        out, value = channel.numpy().reshape(-1, 1), before.numpy().reshape(-1, 1)
        assert np.abs(out - levels).min(1).max() < 1e-4
        assert np.allclose(np.abs(out - value)[:, 0], np.abs(value - levels).min(1), atol=1e-4)
    if bits < 8:  # of 256 levels some of the outer ones go unused
        assert len(made.protect(z, DRAWS)[:, 0].unique()) == 2**bits


def test_each_bit_halves_the_error_at_most_half_a_step() -> None:
    z = features(400)
    worst = [float((defense(z, bits=b, tail=0.0).protect(z, DRAWS) - z)[:, 0].abs().max()) for b in (3, 4, 5)]
    span = float(z[:, 0].max() - z[:, 0].min())
    assert worst == pytest.approx([span / (2**b - 1) / 2 for b in (3, 4, 5)], rel=0.05)


@pytest.mark.parametrize("tail", [0.0, 0.001, 0.01])
@pytest.mark.parametrize("shape", [(5,), (6, 4), (3, 6, 6)])
def test_the_calibrated_range_is_that_of_all_images_together(shape: tuple[int, ...], tail: float) -> None:
    """Against a sort of all values: of maps by channel, of tokens by their last axis, of vectors by element."""
    z = features(500, shape)
    made = defense(z, tail=tail)
    channel = -1 if len(shape) == 2 else 1
    rows = np.sort(np.moveaxis(z.numpy(), channel, 0).reshape(z.shape[channel], -1), axis=1)
    beyond = int(tail * rows.shape[1])
    assert np.array_equal(made.range.low.flatten().numpy(), rows[:, beyond])
    assert np.array_equal(made.range.high.flatten().numpy(), rows[:, -1 - beyond])


def test_what_lies_outside_the_range_is_clamped_to_its_ends() -> None:
    z = features()
    made = defense(z, bits=3, tail=0.0)
    far = made.protect(1e6 * torch.randn(9, 3, 6, 6, generator=torch.Generator().manual_seed(2)), DRAWS)
    for c in range(3):
        ends = torch.tensor([float(z[:, c].min()), float(z[:, c].max())])
        assert torch.allclose(far[:, c].unique(), ends, atol=1e-4)


def test_the_range_follows_the_batches_in_training_and_is_frozen_afterwards() -> None:
    made = defense(features(), tail=0.0)
    made.range = ChannelRange((3, 6, 6))
    made.train()
    z = features()
    made.protect(z, DRAWS)
    first = float(z[:, 0].max())
    assert float(made.range.high[0, 0]) == pytest.approx(first)  # the first batch sets it
    made.protect(11 * z, DRAWS)
    assert float(made.range.high[0, 0]) == pytest.approx(2 * first)  # later ones move it by a tenth
    made.eval()
    made.protect(100 * z, DRAWS)
    assert float(made.range.high[0, 0]) == pytest.approx(2 * first)
    made.calibrate(lambda: [z])
    assert float(made.range.high[0, 0]) == pytest.approx(first)


@pytest.mark.parametrize("train", [True, False])
def test_a_channel_that_never_moves_sends_one_value_and_has_no_gradient(train: bool) -> None:
    z = features()
    z[:, 1] = 0
    made = defense(z).train(train)
    at = z.clone().requires_grad_()
    out = made.protect(at, DRAWS)
    out.sum().backward()
    assert bool((out[:, 1] == 0).all())
    assert at.grad is not None
    assert not bool(at.grad[:, 1].any())
    assert bool(at.grad[:, 0].any())


@pytest.mark.parametrize("factor", [0.0, 1e30])
def test_features_of_zero_or_great_size_stay_finite(factor: float) -> None:
    for fitted in (features(), torch.zeros(4, 3, 6, 6)):
        at = (factor * features(1)).requires_grad_()
        assert bool(torch.isfinite(defense(fitted).protect(at, DRAWS)).all())


def test_with_a_gradient_the_levels_stay_exact() -> None:
    z = features()
    made = defense(z, bits=3)
    assert torch.equal(made.protect(z.clone().requires_grad_(), DRAWS).detach(), made.protect(z, DRAWS))


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_in_training_the_gradient_is_the_slope_of_the_staircase(bits: int) -> None:
    """What is sent changes by as much as the gradient says, on average over places inside the range and outside it."""
    low, high = torch.tensor([0.0, 1.0]).split(1)
    made = defense(torch.stack([low, high]), bits=bits, tail=0.0)
    for start, end in ((0.0, 1.0), (1.0, 3.0), (-2.0, 0.0)):
        z = torch.linspace(start, end, 2002)[1:-1, None]
        changed = float(made.protect(z[-1:], DRAWS) - made.protect(z[:1], DRAWS)) / (end - start)
        at = z.clone().requires_grad_()
        made.range.momentum = 0.0  # the range stays where it is
        made.train().protect(at, DRAWS).sum().backward()
        made.eval()
        assert at.grad is not None
        assert float(at.grad.mean()) == pytest.approx(changed, abs=0.01)


def test_a_guess_outside_the_range_finds_back_by_descent() -> None:
    """With the clamp's gradient, zero, an attacker's guess that lies outside would stay there for ever."""
    z = features()
    made = defense(z, bits=4)
    received = made.protect(z, DRAWS)
    guess = (z + 20).requires_grad_()
    for _ in range(400):
        error = (made.protect(guess, DRAWS) - received).square().sum() / 2
        (back,) = torch.autograd.grad(error, guess)
        guess = (guess - 0.5 * back).detach().requires_grad_()
    assert torch.allclose(made.protect(guess, DRAWS), received, atol=1e-4)


@pytest.mark.parametrize("bits", [1, 2, 4])
@pytest.mark.parametrize("flat", [True, False])
def test_attacks_descend_along_the_defenses_own_gradient(bits: int, flat: bool) -> None:
    """Also from a guess without contrast, such as the mean image, where a trial of the gradient can say nothing."""
    model = control_target("orthogonal", Quantize(QuantizeParams(bits=bits)))
    calibrate(model, part("client_train", 32), torch.device("cpu"))
    z = torch.randn(20, *model.feature_shape, generator=torch.Generator().manual_seed(1))
    at = (0 * z + 0.3 if flat else z).requires_grad_()
    pass_gradients(model).protect(at, DRAWS).sum().backward()
    assert at.grad is not None
    assert torch.equal(at.grad, torch.ones_like(at))


def test_it_works_behind_a_defense_that_changes_the_maps() -> None:
    both = Composed([Downsample(DownsampleParams(factor=2)), Quantize(QuantizeParams(bits=1, tail=0.0))])
    split = Split(
        SplitInfo("any", "any", (3, 6, 6), 4),
        torch.nn.Sequential(torch.nn.Identity()),
        torch.nn.Sequential(torch.nn.Flatten()),
    )
    both.prepare(both.wrap(split))
    both.eval()
    z = features()
    both.calibrate(lambda: [z])
    pooled = torch.nn.functional.avg_pool2d(z, 2)
    for c in range(3):
        ends = torch.tensor([float(pooled[:, c].min()), float(pooled[:, c].max())])
        assert torch.allclose(both.protect(z, DRAWS)[:, c].unique(), ends, atol=1e-4)
