"""L-BFGS on many images at once: as good as a library's on each, and no image knows of another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from splitaudit.attacks._lbfgs import minimise

CURVATURE = torch.logspace(0, 4, 12).reshape(3, 2, 2)
AIMS = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))

LossOf = Callable[[torch.Tensor], torch.Tensor]


def bowl(w: torch.Tensor, first: int = 0) -> torch.Tensor:
    """A parabola at a place of its own for each image, ten thousand times steeper along some coefficients."""
    return (CURVATURE * (w - AIMS[first : first + len(w)]).square()).flatten(1).sum(1)


def valley(w: torch.Tensor, first: int = 0) -> torch.Tensor:
    """Rosenbrock's function in twelve numbers, with another scale for each image."""
    x = w.flatten(1)
    steep = 100 * (x[:, 1:] - x[:, :-1].square()).square() + (1 - x[:, :-1]).square()
    return steep.sum(1) * 10.0 ** (torch.arange(first, first + len(w)).to(w.dtype) - 2)


def found(loss_of: LossOf, start: torch.Tensor, evaluations: int) -> tuple[torch.Tensor, torch.Tensor]:
    return minimise(loss_of, start, evaluations, 0.2, lambda step, total: None)


@pytest.mark.parametrize(("loss_of", "evaluations"), [(bowl, 80), (valley, 300)], ids=["bowl", "valley"])
def test_it_ends_where_a_library_ends_with_as_many_evaluations(loss_of: Any, evaluations: int) -> None:
    start = torch.zeros(5, 3, 2, 2, dtype=torch.float64)
    w, loss = found(loss_of, start, evaluations)
    torch.testing.assert_close(loss_of(w), loss)
    before = loss_of(start)
    for i in range(5):

        def value(x: np.ndarray, image: int = i) -> tuple[float, np.ndarray]:
            at = torch.from_numpy(x).reshape(1, 3, 2, 2).requires_grad_(True)
            (loss,) = loss_of(at, image)
            (gradient,) = torch.autograd.grad(loss, at)
            return float(loss.detach()), gradient.flatten().numpy()

        options = {"maxfun": evaluations, "maxiter": evaluations, "maxcor": 10}
        best = minimize(value, np.zeros(12), jac=True, method="L-BFGS-B", options=options)
        assert float(loss[i]) <= max(10 * best.fun, 1e-6 * float(before[i]))


@pytest.mark.parametrize("loss_of", [bowl, valley])
def test_no_image_depends_on_another(loss_of: Any) -> None:
    start = torch.zeros(5, 3, 2, 2, dtype=torch.float64)
    together, _ = found(loss_of, start, 25)
    for i in range(5):
        alone, _ = found(lambda w, i=i: loss_of(w, i), start[:1], 25)
        torch.testing.assert_close(together[i], alone[0])


def test_no_loss_ever_rises_and_the_budget_is_kept() -> None:
    asked, said = [], []

    def counted(w: torch.Tensor) -> torch.Tensor:
        asked.append(len(w))
        return valley(w)

    minimise(counted, torch.zeros(5, 3, 2, 2), 40, 0.2, lambda step, total: said.append((step, total)))
    assert asked == [5] * 40
    assert [step for step, _ in said] == list(range(1, 41))
    totals = [total for _, total in said]
    assert totals == sorted(totals, reverse=True)


def test_a_start_at_the_minimum_and_a_flat_loss_end_where_they_began() -> None:
    for loss_of in (bowl, lambda w: 0 * w.flatten(1).sum(1)):
        w, loss = found(loss_of, AIMS.clone(), 10)
        assert torch.equal(w, AIMS)
        assert not loss.any()


def test_what_is_not_finite_is_stepped_back_from() -> None:
    """A logarithm whose domain the first steps leave, and a square root without a slope at zero."""
    seen = []

    def barrier(w: torch.Tensor) -> torch.Tensor:
        x = w.flatten(1)
        loss = (x - 0.01 * torch.log(x + 1) + 5 * (x + 0.9).square()).sum(1)
        seen.append(bool(torch.isfinite(loss).all()))
        return loss

    w, loss = minimise(barrier, torch.zeros(2, 3, 2, 2), 60, 3.0, lambda step, total: None)
    assert not all(seen)
    assert bool(torch.isfinite(loss).all())
    torch.testing.assert_close(w, torch.full_like(w, float(w.flatten()[0])), atol=1e-3, rtol=0)
    assert -1 < float(w.min()) < -0.9

    def rooted(w: torch.Tensor) -> torch.Tensor:
        x = w.flatten(1)
        return (x - 1).square().sum(1) + 0.1 * x.square().sum(1).sqrt()

    start = torch.stack([torch.zeros(3, 2, 2), torch.ones(3, 2, 2)])
    w, loss = found(rooted, start, 30)
    assert torch.equal(w[0], start[0])
    assert float(loss[1]) < float(rooted(start)[1])
    assert torch.isinf(found(lambda w: torch.log(w.flatten(1).sum(1)), -start - 1, 5)[1]).all()


def test_a_history_that_misleads_is_forgotten() -> None:
    """Where curvature changes its sign a pair promises none; without leaving it out a direction leads uphill."""

    def wells(w: torch.Tensor, first: int = 0) -> torch.Tensor:
        x = w.flatten(1)
        return (0.25 * x.pow(4) - 0.5 * x.square() + 0.1 * x).sum(1) + torch.cos(3 * x).sum(1)

    start = torch.linspace(-2, 2, 60, dtype=torch.float64).reshape(5, 3, 2, 2)
    w, loss = found(wells, start, 60)
    at = w.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(wells(at).sum(), at)
    assert float(slope.abs().max()) < 1e-3
    assert bool((loss <= wells(start)).all())
