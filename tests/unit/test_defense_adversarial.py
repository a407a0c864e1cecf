"""Adversarial training: what its penalty rewards, and that its helper learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import correlate2d
from skimage.metrics import structural_similarity

from splitaudit.defenses.adversarial import Adversarial, AdversarialParams
from splitaudit.nn.scale import batch_standardised
from splitaudit.nn.similarity import WEIGHTS, multi_scale_ssim, ssim
from splitaudit.pixels import to_float
from splitaudit.testing.data import part, toy_images
from splitaudit.testing.targets import home_of, toy_target


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
    error = (defense.decoder(batch_standardised(z)) - x).square().mean()
    variance = (x - x.mean(0)).square().mean()
    explained = float((1 - error / variance).detach())
    assert 0.2 < explained < 1
    assert float(penalty(defense, x, z).detach()) == pytest.approx(explained, rel=1e-5)
    untrained, _, _ = trained(steps=0)
    assert float(penalty(untrained, x, z).detach()) < 0.5 * explained


def test_a_step_against_the_penalty_hides_the_images_from_the_decoder(case: Case) -> None:
    defense, x, z = case
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(defense, x, z), z)
    with torch.no_grad():
        moved = z - 0.05 * z.std() * gradient / gradient.std()
        before, after = ((defense.decoder(batch_standardised(v)) - x).square().mean() for v in (z, moved))
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


# -- the losses of DeepObfuscator and ResSFL ----------------------------------------------------------------------------

OTHERS = ("deepobfuscator", "ressfl")


def pictures(side: int, noise: float = 0.1, n: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns images and noisy copies of them, in double precision."""
    x = toy_images(n, (3, side, side))[0].double()
    disturbance = torch.randn(x.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (x + noise * disturbance).clamp(0, 1), x


@pytest.mark.parametrize("side", [11, 16, 32])
def test_ssim_agrees_with_scikit_image(side: int) -> None:
    guess, truth = pictures(side)
    expected = [
        structural_similarity(
            a.numpy(),
            b.numpy(),
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1,
            channel_axis=0,
        )
        for a, b in zip(guess, truth, strict=True)
    ]
    assert ssim(guess, truth).tolist() == pytest.approx(expected, rel=1e-8)
    assert ssim(guess.float(), truth.float()).tolist() == pytest.approx(expected, rel=1e-5)


def reference_multi_scale(guess: torch.Tensor, truth: torch.Tensor, scales: int) -> list[float]:
    """Factor by factor, window by window (Wang et al. 2003, equation 7)."""
    at = np.arange(11) - 5
    window = np.exp(-(at**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    weights, found = np.array(WEIGHTS[:scales]) / sum(WEIGHTS[:scales]), []
    for a, b in zip(guess.numpy(), truth.numpy(), strict=True):
        value = 1.0
        for scale in range(scales):
            factors = []
            for p, q in zip(a, b, strict=True):
                m, k, pp, qq, pq = (correlate2d(v, window, mode="valid") for v in (p, q, p * p, q * q, p * q))
                factor = (2 * (pq - m * k) + 9e-4) / (pp - m * m + qq - k * k + 9e-4)
                factors.append(factor * (2 * m * k + 1e-4) / (m * m + k * k + 1e-4) if scale == scales - 1 else factor)
            value *= max(np.mean(factors), 1e-6) ** weights[scale]
            half = a.shape[-1] // 2
            a, b = (v[:, : 2 * half, : 2 * half].reshape(3, half, 2, half, 2).mean((2, 4)) for v in (a, b))
        found.append(float(value))
    return found


@pytest.mark.parametrize(("side", "scales"), [(16, 1), (21, 1), (32, 2), (45, 3), (176, 5)])
def test_multi_scale_ssim_agrees_with_the_product_over_the_scales_that_fit(side: int, scales: int) -> None:
    guess, truth = pictures(side)
    expected = reference_multi_scale(guess, truth, scales)
    assert multi_scale_ssim(guess, truth).tolist() == pytest.approx(expected, rel=1e-8)
    assert multi_scale_ssim(guess.float(), truth.float()).tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("measure", [ssim, multi_scale_ssim])
@pytest.mark.parametrize("side", [4, 32])
def test_a_copy_has_similarity_1_and_a_negative_has_a_finite_gradient(measure: Any, side: int) -> None:
    """The power of a negative factor is not real; the official code falls back to the squared error there."""
    _, x = pictures(side)
    assert measure(x, x).tolist() == pytest.approx([1.0] * 3)
    for guess in (1 - x, torch.zeros_like(x)):
        guess = guess.clone().requires_grad_()
        found = measure(guess, x)
        (gradient,) = torch.autograd.grad(found.sum(), guess)
        assert bool((found < 0.5).all())
        assert bool(torch.isfinite(gradient).all())


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest) -> Case:
    return trained(loss=request.param, threshold=0.2)


def similarity(defense: Adversarial, x: torch.Tensor, z: torch.Tensor) -> float:
    with torch.no_grad():
        guess = defense.decoder(batch_standardised(z))
    return float((ssim if defense.params.loss == "ressfl" else multi_scale_ssim)(guess, x).mean())


def test_each_loss_trains_its_decoder_on_its_own_measure(other: Case) -> None:
    defense, x, z = other
    untrained, _, _ = trained(steps=0, loss=defense.params.loss)
    assert similarity(defense, x, z) > similarity(untrained, x, z) + 0.2


def test_the_penalty_of_deepobfuscator_is_minus_the_decoders_loss_and_has_no_end(case: Case) -> None:
    defense, x, z = trained(loss="deepobfuscator", weight=3.0)
    assert float(penalty(defense, x, z).detach()) == pytest.approx(-3 * (1 - similarity(defense, x, z)), rel=1e-5)
    # With the features of other images the decoder is no better than a constant guess; hiding more is still paid for,
    # where the default loss has ended.
    wrong = z.roll(1, 0).requires_grad_()
    assert torch.autograd.grad(penalty(defense, x, wrong), wrong)[0].any()
    bounded, _, _ = case
    assert not torch.autograd.grad(penalty(bounded, x, wrong), wrong)[0].any()


def test_the_penalty_of_ressfl_is_what_the_similarity_exceeds_the_threshold_by() -> None:
    defense, x, z = trained(loss="ressfl", weight=3.0, threshold=0.2)
    reached = similarity(defense, x, z)
    assert reached > 0.25
    assert float(penalty(defense, x, z).detach()) == pytest.approx(3 * (reached - 0.2), rel=1e-5)
    content = Adversarial(AdversarialParams(loss="ressfl", threshold=reached + 0.01))
    content.decoder = defense.decoder
    z = z.clone().requires_grad_()
    found = penalty(content, x, z)
    assert float(found.detach()) == 0.0
    assert not torch.autograd.grad(found, z)[0].any()


def test_a_step_against_each_penalty_makes_the_decoders_guess_less_similar(other: Case) -> None:
    defense, x, z = other
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(defense, x, z), z)
    with torch.no_grad():
        moved = z - 0.05 * z.std() * gradient / gradient.std()
    assert similarity(defense, x, moved) < similarity(defense, x, z.detach()) - 1e-3


@pytest.mark.parametrize("loss", ["explained", *OTHERS])
def test_each_penalty_changes_the_gradient_of_the_edge_and_leaves_the_decoder_as_it_is(loss: str) -> None:
    defense = Adversarial(AdversarialParams(loss=loss, width=4, lr=1e-2, weight=10.0, threshold=0.0))  # pyright: ignore[reportArgumentType]
    model = toy_target(defense, steps=False).train()
    data = part("client_train", 16)
    x, gradients = to_float(data.images), []
    for _ in range(20):
        defense.train_helpers(x, model.clean(x).detach(), data.labels)
    defense.decoder.zero_grad(set_to_none=True)
    for extra in (False, True):
        z = model.clean(x)
        logits = model.cloud(z)
        total = defense.task_loss(logits, data.labels)
        if extra:
            total = total + penalty(defense, x, z)
        model.edge.zero_grad(set_to_none=True)
        total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.edge.parameters() if p.grad is not None]))
    assert float((gradients[1] - gradients[0]).norm()) > 0.1 * float(gradients[0].norm())
    assert all(p.grad is None for p in defense.decoder.parameters())


@pytest.mark.parametrize("loss", ["explained", *OTHERS])
@pytest.mark.parametrize("factor", [0.0, 1e6])
def test_four_images_give_a_finite_loss_and_gradient(loss: str, factor: float) -> None:
    defense, x, z = trained(steps=0, loss=loss, threshold=-1.0)
    x, z = x[:4], factor * z[:4]
    for _ in range(3):
        defense.train_helpers(x, z, torch.zeros(4, dtype=torch.int64))
    z.requires_grad_()
    found = penalty(defense, x, z)
    (gradient,) = torch.autograd.grad(found, z)
    assert bool(torch.isfinite(found))
    assert bool(torch.isfinite(gradient).all())
