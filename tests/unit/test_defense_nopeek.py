"""NoPeek: which way its penalty pulls, and that independent features cost nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitaudit.defenses.nopeek import NoPeek, NoPeekParams


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def penalty(x: torch.Tensor, z: torch.Tensor, alpha: float = 1.0) -> torch.Tensor | None:
    n = len(x)
    return NoPeek(NoPeekParams(alpha=alpha)).extra_loss(x, z, torch.zeros(n, dtype=torch.int64), torch.zeros(n, 2))


def value(x: torch.Tensor, z: torch.Tensor, alpha: float = 1.0) -> float:
    found = penalty(x, z, alpha)
    assert found is not None
    return float(found)


def reference(x: torch.Tensor, z: torch.Tensor) -> float:
    """Bias-corrected squared distance correlation, element by element (Székely and Rizzo 2013, definition 2)."""

    def centred(u: np.ndarray) -> np.ndarray:
        flat, n = u.reshape(len(u), -1), len(u)
        d = np.sqrt(((flat[:, None] - flat[None]) ** 2).sum(2))
        out = np.zeros((n, n))
        for i in range(n):
            for j in range(n):
                if i != j:
                    rows = d[i].sum() / (n - 2) + d[:, j].sum() / (n - 2)
                    out[i, j] = d[i, j] - rows + d.sum() / ((n - 1) * (n - 2))
        return out

    a, b = centred(x.numpy()), centred(z.numpy())
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_the_penalty_is_alpha_times_the_bias_corrected_statistic() -> None:
    x = noise(12, 3, 4, 4)
    z = x.flatten(1)[:, :10] + noise(12, 10, seed=1)
    assert value(x, z, alpha=2.5) == pytest.approx(2.5 * reference(x, z))


def test_features_that_show_the_image_cost_more_than_independent_ones() -> None:
    x = noise(32, 3, 8, 8)
    assert value(x, 2 * x + 1) == pytest.approx(1.0)
    assert abs(value(x, noise(32, 6, 4, 4, seed=1))) < 0.2


def test_independent_features_cost_nothing_on_average() -> None:
    """The biased statistic stands near 1 for independent samples of this size and dimension."""
    found = [value(noise(16, 3, 8, 8, seed=i), noise(16, 6, 4, 4, seed=1000 + i)) for i in range(40)]
    assert abs(np.mean(found)) < 3 * np.std(found) / 40**0.5 + 1e-3


def test_a_step_against_the_penalty_makes_features_depend_less_on_the_image() -> None:
    x = noise(24, 3, 4, 4)
    z = (x.flatten(1)[:, :16] + 0.3 * noise(24, 16, seed=1)).requires_grad_()
    found = penalty(x, z)
    assert found is not None
    (gradient,) = torch.autograd.grad(found, z)
    with torch.no_grad():
        moved = z - 0.5 * gradient / gradient.std()
    assert reference(x, moved) < reference(x, z.detach()) - 0.01


def test_a_batch_too_small_for_the_statistic_or_a_weight_of_zero_adds_nothing() -> None:
    assert penalty(noise(3, 5), noise(3, 5)) is None
    assert penalty(noise(8, 5), noise(8, 5), alpha=0.0) is None
