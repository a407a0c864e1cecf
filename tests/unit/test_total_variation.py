"""The total variation and its written-out gradient."""

from __future__ import annotations

import pytest
import torch

from splitaudit.attacks._total_variation import total_variation


def by_autograd(x: torch.Tensor) -> torch.Tensor:
    """Returns the same, of forward differences that autograd follows."""
    down, across = x.diff(dim=2)[..., :-1], x.diff(dim=3)[:, :, :-1]
    return (down.square() + across.square() + 1e-6).sqrt().flatten(1).mean(1)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 2, 5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_value_and_gradient_are_those_of_autograd(images: torch.Tensor) -> None:
    x, y = images.clone().requires_grad_(), images.clone().requires_grad_()
    of_each = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found, expected = total_variation(x), by_autograd(y)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-15)
    (found * of_each).sum().backward()
    (expected * of_each).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-14)


def test_the_gradient_is_that_of_finite_differences(images: torch.Tensor) -> None:
    assert torch.autograd.gradcheck(total_variation, images.requires_grad_())


def test_the_layout_in_memory_plays_no_part(images: torch.Tensor) -> None:
    x, y = images.clone().requires_grad_(), images.contiguous(memory_format=torch.channels_last).requires_grad_()
    total_variation(x).sum().backward()
    total_variation(y).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, rtol=0, atol=1e-15)


def test_a_flat_image_has_a_finite_gradient() -> None:
    x = torch.full((1, 1, 4, 4), 0.5, requires_grad=True)
    total_variation(x).sum().backward()
    assert x.grad is not None
    assert bool((x.grad == 0).all())


def test_a_second_derivative_is_refused_instead_of_wrong(images: torch.Tensor) -> None:
    x = images.requires_grad_()
    (slope,) = torch.autograd.grad(total_variation(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="grad"):
        torch.autograd.grad(slope.sum(), x)
