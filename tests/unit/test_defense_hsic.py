"""HSIC against independent references, and what the BiDO defense does with it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch

from splitaudit.defenses.hsic import Hsic, HsicParams
from splitaudit.nn.hsic import gaussian_gram, hsic, label_gram, normalised_hsic

Array = npt.NDArray[np.float64]


def reference_gaussian(u: Array, sigma: float) -> Array:
    """The Gaussian Gram matrix sample by sample, as BiDO defines its width; not centred."""
    n, flat = len(u), u.reshape(len(u), -1)
    k = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            k[i, j] = np.exp(-((flat[i] - flat[j]) ** 2).sum() / (2 * sigma**2 * flat.shape[1]))
    return k


def reference_normalised(k: Array, l: Array, ridge: float = 1e-5) -> float:
    """The criterion in BiDO's form: centred from one side only, with explicit inverses."""
    n = len(k)
    h = np.eye(n) - np.ones((n, n)) / n
    r_k, r_l = (m @ h @ np.linalg.inv(m @ h + ridge * n * np.eye(n)) for m in (k, l))
    return float((r_k * r_l.T).sum())


def batch(n: int = 24, shift: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.rand(n, 3, 8, 8, generator=g, dtype=torch.float64)
    z = torch.relu(torch.randn(n, 6, 4, 4, generator=g, dtype=torch.float64) + x.mean((1, 2, 3))[:, None, None, None])
    return x, z + shift, torch.arange(n) % 4


def centred(k: Array) -> Array:
    h = np.eye(len(k)) - 1 / len(k)
    return h @ k @ h


def test_the_gram_matrix_agrees_with_the_sum_over_pairs() -> None:
    x, _, _ = batch()
    assert np.allclose(gaussian_gram(x, 5.0).numpy(), centred(reference_gaussian(x.numpy(), 5.0)), atol=1e-12)


def test_the_median_heuristic_halves_the_kernel_at_e() -> None:
    x, _, _ = batch(9)
    flat = x.flatten(1).numpy()
    squared = ((flat[:, None] - flat[None]) ** 2).sum(2)
    expected = np.exp(-squared / np.median(squared[~np.eye(9, dtype=bool)]))
    assert np.allclose(gaussian_gram(x, None).numpy(), centred(expected), atol=1e-12)


def test_the_normalised_criterion_agrees_with_explicit_inverses() -> None:
    x, z, y = batch()
    k, l = (reference_gaussian(v.numpy(), 5.0) for v in (x, z))
    one_hot = np.eye(4)[y.numpy()]
    found = float(normalised_hsic(gaussian_gram(x), gaussian_gram(z)))
    assert found == pytest.approx(reference_normalised(k, l), rel=1e-6)
    found = float(normalised_hsic(gaussian_gram(z), label_gram(y)))
    assert found == pytest.approx(reference_normalised(l, one_hot @ one_hot.T), rel=1e-6)


def test_the_plain_criterion_agrees_with_its_expectations() -> None:
    """The biased estimate is E[k l] + E[k] E[l] − 2 E[E[k | i] E[l | i]], up to (N / (N − 1))²."""
    x, z, _ = batch()
    k, l = (reference_gaussian(v.numpy(), 5.0) for v in (x, z))
    n = len(k)
    expected = ((k * l).mean() + k.mean() * l.mean() - 2 * (k.mean(0) * l.mean(0)).mean()) * (n / (n - 1)) ** 2
    assert float(hsic(gaussian_gram(x), gaussian_gram(z))) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_single_precision_is_enough_even_far_from_the_origin(shift: float) -> None:
    x, z, y = batch(shift=shift)
    # What the shift rounds off the numbers that are given is no fault of the criterion.
    x, z = x.float(), z.float()
    exact = Hsic(HsicParams()).extra_loss(x.double(), z.double(), y, torch.empty(0))
    single = Hsic(HsicParams()).extra_loss(x, z, y, torch.empty(0))
    assert exact is not None
    assert single is not None
    assert single.dtype == torch.float32
    assert float(single) == pytest.approx(float(exact), rel=1e-5)


@pytest.mark.parametrize(("lambda_x", "lambda_y"), [(0.05, 0.5), (1.0, 0.0), (0.0, 1.0)])
def test_the_loss_term_agrees_with_the_reference_to_1e_5(lambda_x: float, lambda_y: float) -> None:
    x, z, y = batch()
    k, l = (reference_gaussian(v.numpy(), 5.0) for v in (x, z))
    one_hot = np.eye(4)[y.numpy()]
    expected = lambda_x * reference_normalised(k, l) - lambda_y * reference_normalised(l, one_hot @ one_hot.T)
    loss = Hsic(HsicParams(lambda_x=lambda_x, lambda_y=lambda_y)).extra_loss(x, z, y, torch.empty(0))
    assert loss is not None
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_the_criterion_tells_dependence_from_independence() -> None:
    """A function of x scores over a permutation of it; the normalised form has a floor that the batch's size sets."""
    g = torch.Generator().manual_seed(1)
    x = torch.rand(64, 2, generator=g, dtype=torch.float64)
    z = torch.sin(6 * x)
    shuffled = z[torch.randperm(64, generator=g)]
    for measure, factor in ((normalised_hsic, 1.5), (hsic, 5)):
        own, other = (float(measure(gaussian_gram(x, None), gaussian_gram(v, None))) for v in (z, shuffled))
        assert own > factor * other, measure.__name__


def test_the_median_width_does_not_see_the_scale_and_the_fixed_one_does() -> None:
    _, z, _ = batch()
    assert torch.allclose(gaussian_gram(z, None), gaussian_gram(1e-3 * z, None), atol=1e-9)
    assert float(gaussian_gram(1e-3 * z).abs().max()) < 1e-4 * float(gaussian_gram(z).abs().max())


def test_constant_features_are_independent_of_everything_and_have_a_finite_gradient() -> None:
    x, z, y = batch()
    constant = torch.zeros_like(z).requires_grad_(True)
    for sigma in (5.0, None):
        loss = Hsic(HsicParams(sigma=sigma)).extra_loss(x, constant, y, torch.empty(0))
        assert loss is not None
        assert float(loss.detach()) == pytest.approx(0, abs=1e-9)
        (gradient,) = torch.autograd.grad(loss, constant)
        assert bool(torch.isfinite(gradient).all())


def test_features_that_are_not_finite_give_a_loss_that_is_not_finite() -> None:
    """No exception from the factorisation: the training loop says in which epoch the loss was lost."""
    x, z, y = batch()
    z[0, 0, 0, 0] = float("nan")
    loss = Hsic(HsicParams()).extra_loss(x, z, y, torch.empty(0))
    assert loss is not None
    assert not bool(torch.isfinite(loss))


def test_descending_lowers_the_dependence_on_images_and_raises_that_on_labels() -> None:
    x, z, y = batch()
    for weights, sign in (({"lambda_x": 1.0, "lambda_y": 0.0}, 1), ({"lambda_x": 0.0, "lambda_y": 1.0}, -1)):
        moved = z.clone().requires_grad_(True)
        defense, values = Hsic(HsicParams(**weights)), []
        optimizer = torch.optim.Adam([moved], lr=0.02)
        for _ in range(20):
            loss = defense.extra_loss(x, moved, y, torch.empty(0))
            assert loss is not None
            values.append(sign * float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert sign * (values[-1] - values[0]) < -0.01 * abs(values[0]), weights


@pytest.mark.full
def test_memory_is_linear_in_the_feature_size() -> None:
    """512 images with 65,536 features: no tensor larger than the features themselves is ever made."""
    g = torch.Generator().manual_seed(0)
    x = torch.rand(512, 3, 32, 32, generator=g)
    z = torch.randn(512, 65_536, generator=g).requires_grad_(True)
    largest = 0

    def watch(t: torch.Tensor) -> torch.Tensor:
        nonlocal largest
        largest = max(largest, t.numel())
        return t

    with torch.autograd.graph.saved_tensors_hooks(watch, lambda t: t):
        loss = Hsic(HsicParams()).extra_loss(x, z, torch.arange(512) % 8, torch.empty(0))
        assert loss is not None
        loss.backward()
    assert largest <= z.numel()
