"""Positive and negative label smoothing: the loss, its bound, and its course."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import log_softmax

from splitaudit.defenses.label_smoothing import LabelSmoothing, LabelSmoothingParams

LOGITS = 3 * torch.randn(32, 7, generator=torch.Generator().manual_seed(0))
LABELS = torch.randint(7, (32,), generator=torch.Generator().manual_seed(1))


def loss(logits: torch.Tensor = LOGITS, y: torch.Tensor = LABELS, **params: Any) -> torch.Tensor:
    return LabelSmoothing(LabelSmoothingParams(**params)).task_loss(logits, y)


def reference(alpha: float, logits: torch.Tensor = LOGITS, y: torch.Tensor = LABELS) -> float:
    """Returns the cross-entropy with soft labels, in numpy."""
    soft = (1 - alpha) * np.eye(logits.shape[1])[y.numpy()] + alpha / logits.shape[1]
    return float(-(soft * log_softmax(logits.double().numpy(), axis=1)).sum(1).mean())


def descended(steps: int, wrong_at_first: bool = True, **params: Any) -> torch.Tensor:
    """Returns free logits after gradient descent on the loss."""
    at = (LOGITS if wrong_at_first else 3 * F.one_hot(LABELS, 7).float()).clone().requires_grad_()
    for _ in range(steps):
        (back,) = torch.autograd.grad(loss(at, **params), at)
        at = (at - 20 * back).detach().requires_grad_()
    return at.detach()


@pytest.mark.parametrize("alpha", [-0.9, -0.3, -0.05, 0.0, 0.05, 0.3, 0.9])
def test_the_loss_is_the_cross_entropy_with_soft_labels(alpha: float) -> None:
    assert float(loss(alpha=alpha, warmup=False)) == pytest.approx(reference(alpha), abs=1e-5)


def test_positive_smoothing_is_torchs_and_none_is_the_cross_entropy() -> None:
    for warmup in (True, False):
        assert torch.equal(loss(alpha=0.2, warmup=warmup), F.cross_entropy(LOGITS, LABELS, label_smoothing=0.2))
        assert torch.equal(loss(alpha=0.0, warmup=warmup), F.cross_entropy(LOGITS, LABELS))


def test_warm_up_weighs_a_negative_factor_by_the_mean_probability_of_the_true_class() -> None:
    share = float(LOGITS.softmax(1)[torch.arange(32), LABELS].mean())
    assert float(loss(alpha=-0.4)) == pytest.approx(reference(-0.4 * share), abs=1e-5)


@pytest.mark.parametrize(("scale", "weight"), [(0.0, 1 / 7), (12.0, 1.0)])
def test_the_factor_grows_from_little_to_all_of_it_as_the_network_learns(scale: float, weight: float) -> None:
    logits = scale * F.one_hot(LABELS, 7).float()
    assert float(loss(logits, alpha=-0.4)) == pytest.approx(reference(-0.4 * weight, logits), abs=1e-3)


def test_the_warm_up_has_no_gradient() -> None:
    share = float(LOGITS.softmax(1)[torch.arange(32), LABELS].mean())
    at = LOGITS.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(at, alpha=-0.4), at)
    (given,) = torch.autograd.grad(loss(at, alpha=-0.4 * share, warmup=False), at)
    assert torch.allclose(found, given, atol=1e-6)


@pytest.mark.parametrize("warmup", [True, False])
def test_a_negative_factor_drives_the_wrong_classes_to_the_floor_and_no_further(warmup: bool) -> None:
    """Without the floor the logits would grow with every step for ever."""
    lengths = [float(descended(steps, alpha=-0.5, floor=12.0, warmup=warmup).abs().max()) for steps in (600, 1200)]
    assert lengths[1] == pytest.approx(lengths[0], rel=1e-3)
    each = -descended(600, alpha=-0.5, floor=12.0, warmup=warmup).log_softmax(1)
    wrong = ~F.one_hot(LABELS, 7).bool()
    assert float(each[wrong].min()) > 11.9
    assert float(each[~wrong].max()) < 1e-3
    without = [float(descended(steps, alpha=-0.5, floor=1e9, warmup=warmup).abs().max()) for steps in (600, 1200)]
    assert without[1] > 1.5 * without[0]


@pytest.mark.parametrize("alpha", [-0.05, -0.5, -0.99])
def test_the_loss_has_a_bound_that_no_logits_undercut(alpha: float) -> None:
    for scale in (1.0, 1e2, 1e4, 1e30):
        for logits in (scale * LOGITS, scale * F.one_hot(LABELS, 7).float()):
            value = loss(logits, alpha=alpha, floor=15.0, warmup=False)
            assert bool(torch.isfinite(value))
            assert float(value) >= alpha * 15.0


def test_the_floor_limits_the_sum_alone() -> None:
    each = -log_softmax(LOGITS.double().numpy(), axis=1)
    true = each[np.arange(32), LABELS.numpy()]
    assert each.max() > 4 > each.min()
    expected = (1.5 * true - 0.5 * np.minimum(each, 4).mean(1)).mean()
    assert float(loss(alpha=-0.5, floor=4.0, warmup=False)) == pytest.approx(expected, abs=1e-5)


def test_a_misclassified_image_is_always_pulled_back() -> None:
    """The first term has no floor: an image that is far off must not be given up."""
    logits = torch.full((1, 7), 0.0)
    logits[0, 3] = 500.0
    at = logits.requires_grad_()
    (back,) = torch.autograd.grad(loss(at, torch.tensor([0]), alpha=-0.5), at)
    assert float(back[0, 0]) < 0 < float(back[0, 3])


def test_negative_smoothing_makes_the_wrong_classes_alike_and_less_likely_than_the_task_needs() -> None:
    wrong = ~F.one_hot(LABELS, 7).bool()
    plain = descended(200, alpha=0.0).log_softmax(1)[wrong].view(32, 6)
    negative = descended(200, alpha=-0.2).log_softmax(1)[wrong].view(32, 6)
    positive = descended(200, alpha=0.2).log_softmax(1)[wrong].view(32, 6)
    assert float(negative.max()) < float(plain.mean()) < float(positive.mean())
    assert float(negative.std(1).mean()) < float(plain.std(1).mean())


def test_a_batch_of_one_and_two_classes_work() -> None:
    assert float(loss(LOGITS[:1, :2], torch.tensor([1]), alpha=-0.3, warmup=False)) == pytest.approx(
        reference(-0.3, LOGITS[:1, :2], torch.tensor([1])), abs=1e-5
    )
