"""Siamese training: the contrastive loss against a reference, and which way it pulls."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from splitaudit.defenses.siamese import Siamese, SiameseParams, contrastive_loss


def batch(n: int = 16, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    y = torch.arange(n) % classes
    z = torch.randn(n, 3, 4, 4, generator=g, dtype=torch.float64)
    z[:, 0] += y[:, None, None]
    return z, y


def reference(z: torch.Tensor, y: torch.Tensor, margin: float) -> float:
    """Pair by pair; the distances in units of their root mean square."""
    flat, n = z.numpy().reshape(len(z), -1), len(z)
    distance = np.array([[np.linalg.norm(flat[i] - flat[j]) for j in range(n)] for i in range(n)])
    distance /= np.sqrt((distance**2).sum() / (n * (n - 1)))
    pull = [distance[i, j] ** 2 for i in range(n) for j in range(n) if i != j and y[i] == y[j]]
    push = [max(0.0, margin - distance[i, j]) ** 2 for i in range(n) for j in range(n) if y[i] != y[j]]
    return float((np.mean(pull) if pull else 0.0) + (np.mean(push) if push else 0.0)) / 2


def moved(z: torch.Tensor, y: torch.Tensor, margin: float = 1.0, steps: int = 200) -> torch.Tensor:
    """Returns features after a descent on the loss alone."""
    z = z.clone().requires_grad_()
    optimizer = torch.optim.Adam([z], lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        contrastive_loss(z, y, margin).backward()
        optimizer.step()
    return z.detach()


def within(z: torch.Tensor, y: torch.Tensor) -> float:
    """The share of the variance that lies within classes."""
    flat = z.flatten(1)
    inside = sum(float((flat[y == c] - flat[y == c].mean(0)).square().sum()) for c in y.unique())
    return inside / float((flat - flat.mean(0)).square().sum())


@pytest.mark.parametrize("margin", [0.5, 1.0, 2.0])
def test_the_loss_agrees_with_the_sum_over_pairs(margin: float) -> None:
    z, y = batch()
    assert float(contrastive_loss(z, y, margin)) == pytest.approx(reference(z, y, margin), rel=1e-10)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_single_precision_is_enough_even_far_from_the_origin(shift: float) -> None:
    z, y = batch()
    rounded = (z + shift).float()
    # What the shift rounds off the numbers that are given is no fault of the loss.
    assert float(contrastive_loss(rounded, y, 1.5)) == pytest.approx(reference(rounded.double(), y, 1.5), rel=1e-5)


def test_the_penalty_is_the_weighted_loss() -> None:
    z, y = batch()
    found = Siamese(SiameseParams(weight=2.5, margin=1.5)).extra_loss(z, z, y, torch.empty(0))
    assert found is not None
    assert float(found) == pytest.approx(2.5 * reference(z, y, 1.5), rel=1e-10)
    assert Siamese(SiameseParams(weight=0)).extra_loss(z, z, y, torch.empty(0)) is None


@pytest.mark.parametrize(("factor", "shift"), [(1e-3, 0.0), (1e4, 0.0), (1.0, 5.0), (1e10, 0.0), (1e-12, 0.0)])
def test_scaling_or_shifting_features_changes_nothing(factor: float, shift: float) -> None:
    z, y = batch()
    assert float(contrastive_loss(factor * z + shift, y)) == pytest.approx(float(contrastive_loss(z, y)), rel=1e-6)


def test_the_gradient_has_no_part_that_only_scales_or_shifts() -> None:
    z, y = batch()
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(contrastive_loss(z, y), z)
    size = float(gradient.norm())
    assert size > 0
    assert abs(float((gradient * z.detach()).sum())) < 1e-9 * size * float(z.detach().norm())
    assert float(gradient.sum(0).norm()) < 1e-9 * size


def test_classes_that_are_points_at_equal_distances_cost_nothing() -> None:
    y = torch.arange(16) % 4
    z = torch.eye(4, dtype=torch.float64)[y]
    # Some processors leave a rounding error of 1e-18 of a distance that is none.
    assert float(contrastive_loss(z, y, 1.0)) == pytest.approx(0.0, abs=1e-12)
    # Four classes of four: √(15 / 12) is the distance, so that a greater margin costs.
    assert float(contrastive_loss(z, y, (15 / 12) ** 0.5 - 1e-6)) == pytest.approx(0.0, abs=1e-12)
    assert float(contrastive_loss(z, y, 1.5)) == pytest.approx((1.5 - (15 / 12) ** 0.5) ** 2 / 2)


def test_descending_removes_what_tells_images_of_one_class_apart() -> None:
    z, y = batch()
    before, after = within(z, y), within(moved(z, y), y)
    assert before > 0.5
    assert after < 0.05


def test_only_pairs_of_different_classes_are_pushed_apart_and_only_up_to_the_margin() -> None:
    """Two close points and two far away: the gradient of the close pair turns with its labels."""
    z = torch.tensor([[0.0, 0.0], [0.3, 0.0], [0.0, 5.0], [5.0, 5.0]], dtype=torch.float64, requires_grad=True)
    apart = torch.tensor([-1.0, 0.0], dtype=torch.float64)  # the direction in which the first leaves the second
    for labels, sign in (([0, 0, 1, 2], 1), ([0, 1, 2, 2], -1)):
        (gradient,) = torch.autograd.grad(contrastive_loss(z, torch.tensor(labels)), z)
        assert sign * float(gradient[0] @ apart) > 0, labels
    (gradient,) = torch.autograd.grad(contrastive_loss(z, torch.arange(4), margin=0.01), z)
    assert not bool(gradient.any())


def test_the_number_of_pairs_of_a_kind_does_not_change_its_weight() -> None:
    """In a batch of 16 with 8 classes 7 pairs in 120 are of one class; without a balance they would hardly count."""
    z, y = batch(16, 8)
    doubled = float(contrastive_loss(torch.cat([z, z]), torch.cat([y, y]), 1e-6))
    alone = float(contrastive_loss(z, y, 1e-6))
    # The copies bring pairs of distance 0 and change the unit; the mean over pairs of one class stays of that order.
    assert 0.5 < doubled / alone < 1.0


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3]])
def test_a_batch_with_one_kind_of_pairs_has_a_loss(labels: list[int]) -> None:
    z, _ = batch(4)
    y = torch.tensor(labels)
    assert float(contrastive_loss(z, y, 1.5)) == pytest.approx(reference(z, y, 1.5), rel=1e-10)


@pytest.mark.parametrize("value", ["zeros", "large", "twins"])
def test_four_images_give_a_finite_loss_and_gradient(value: str) -> None:
    z, y = batch(4)
    z = {"zeros": torch.zeros_like(z), "large": 1e30 * z, "twins": z[[0, 0, 1, 1]]}[value].float().requires_grad_()
    loss = contrastive_loss(z, y)
    (gradient,) = torch.autograd.grad(loss, z)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())
