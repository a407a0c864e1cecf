"""InfoScissors: the CLUB estimate against references, and what the defense does with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

from splitaudit.defenses.infoscissors import HIGHEST, LOWEST, InfoScissors, InfoScissorsParams
from splitaudit.nn.club import gaussian_club, gaussian_log_likelihood
from splitaudit.pixels import to_float
from splitaudit.targets import stored_state
from splitaudit.testing.data import part
from splitaudit.testing.targets import home_of, toy_target


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(n: int = 9) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns x, and the mean and log-variance of q for each z."""
    return draw(n, 2, 3, 3), draw(n, 2, 3, 3, seed=1), 0.5 * draw(n, 2, 3, 3, seed=2)


def reference(x: torch.Tensor, mean: torch.Tensor, log_variance: torch.Tensor) -> float:
    """Both means over log-densities, pair by pair."""
    n, flat = len(x), [v.numpy().reshape(len(x), -1) for v in (x, mean, log_variance)]
    log_q = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            log_q[i, j] = norm.logpdf(flat[0][j], flat[1][i], np.exp(flat[2][i] / 2)).sum()
    return float(np.diag(log_q).mean() - log_q.mean())


def test_club_agrees_with_the_sum_over_pairs() -> None:
    assert float(gaussian_club(*case())) == pytest.approx(reference(*case()), rel=1e-10)


@pytest.mark.parametrize(("shift", "tolerance"), [(0.0, 1e-5), (1.0, 1e-5), (100.0, 1e-4)])
def test_single_precision_is_enough_even_far_from_the_origin(shift: float, tolerance: float) -> None:
    """Images lie in [0, 1]; at 100 single precision itself resolves 8e-6 only."""
    x, mean, log_variance = case()
    rounded = (x + shift).float(), (mean + shift).float(), log_variance.float()
    # What the shift rounds off the numbers that are given is no fault of the estimate.
    expected = reference(*(v.double() for v in rounded))
    assert float(gaussian_club(*rounded)) == pytest.approx(expected, rel=tolerance)
    assert float(gaussian_club(x + shift, mean + shift, log_variance)) == pytest.approx(
        reference(x, mean, log_variance), rel=1e-10
    )


def test_the_likelihood_agrees_with_the_librarys_density() -> None:
    x, mean, log_variance = case()
    each = norm.logpdf(x.numpy(), mean.numpy(), (log_variance / 2).exp().numpy()).reshape(len(x), -1)
    assert float(gaussian_log_likelihood(x, mean, log_variance)) == pytest.approx(each.sum(1).mean(), rel=1e-10)


@pytest.mark.parametrize("slope", [0.1, 1.0, 3.0])
def test_with_the_exact_q_club_is_the_information_plus_the_reverse_divergence(slope: float) -> None:
    """x = slope·z + ε: I is ½ log(1 + slope²) an element, and CLUB's expectation slope², the sum of both divergences."""
    z = draw(40_000, 4)
    x = slope * z + draw(40_000, 4, seed=1)
    found = float(gaussian_club(x, slope * z, torch.zeros(())) / 4)
    square = slope**2 / (1 + slope**2)  # the squared correlation
    information = -math.log(1 - square) / 2
    reverse = square / (1 - square) + math.log(1 - square) / 2
    assert information + reverse == pytest.approx(slope**2)
    assert found == pytest.approx(information + reverse, rel=0.05)
    assert found > information


def test_a_q_that_does_not_look_at_the_features_finds_no_information() -> None:
    x, mean, log_variance = case()
    assert float(gaussian_club(x, mean[:1].expand_as(x), log_variance[:1])) == pytest.approx(0, abs=1e-12)


def test_a_wrong_q_gives_a_negative_estimate() -> None:
    """So it is called an estimate, not a bound, and is cut off at 0."""
    z = draw(1000, 4)
    assert float(gaussian_club(z, -z, torch.zeros(()))) < -1


def fitted(steps: int = 80, **params: Any) -> tuple[InfoScissors, torch.Tensor, torch.Tensor]:
    """Returns the defense with a network that has had its steps, images, and their features."""
    data = part("client_train", 32)
    x, split = to_float(data.images), home_of(InfoScissors).split(data, seed=0)
    defense = InfoScissors(InfoScissorsParams(**{"width": 8, "lr": 1e-2, "weight": 1.0} | params))
    torch.manual_seed(0)
    defense.prepare(split)
    split.edge.eval()
    with torch.no_grad():
        z = split.edge(x) + 0.1
    for _ in range(steps):
        defense.train_helpers(x, z, data.labels)
    return defense, x, z


def penalty(defense: InfoScissors, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    found = defense.extra_loss(x, z, torch.zeros(len(x), dtype=torch.int64), torch.zeros(len(x), 2))
    assert found is not None
    return found


Case = tuple[InfoScissors, torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def learned() -> Case:
    return fitted()


def test_the_penalty_is_the_weighted_estimate_for_a_pixel_value(learned: Case) -> None:
    defense, x, z = learned
    heavy, _, _ = fitted(steps=0, weight=2.5)
    heavy.network.load_state_dict(defense.network.state_dict())
    with torch.no_grad():
        mean, log_variance = defense.guessed(z)
    expected = reference(x.double(), mean.double(), log_variance.double()) / x[0].numel()
    assert float(penalty(defense, x, z).detach()) == pytest.approx(expected, rel=1e-5)
    assert float(penalty(heavy, x, z).detach()) == pytest.approx(2.5 * expected, rel=1e-5)


def test_the_network_learns_and_then_finds_information_in_the_right_features_only(learned: Case) -> None:
    untrained, x, z = fitted(steps=0)
    defense, _, _ = learned
    with torch.no_grad():
        before, after = (float(gaussian_log_likelihood(x, *d.guessed(z))) for d in (untrained, defense))
    assert after > before + 0.3 * x[0].numel()
    own, other = (float(penalty(defense, x, v).detach()) for v in (z, z.roll(1, 0)))
    assert own > 0.5
    assert other == 0.0


def test_the_variances_are_learned_within_their_bounds(learned: Case) -> None:
    defense, x, z = learned
    with torch.no_grad():
        mean, log_variance = defense.guessed(z)
    assert LOWEST <= float(log_variance.min()) < float(log_variance.max()) <= HIGHEST
    assert 0 <= float(mean.min()) < float(mean.max()) <= 1
    error = float((mean - x).square().mean())
    assert 0.3 < float(log_variance.exp().mean()) / error < 3


def test_a_step_against_the_penalty_hides_the_images_from_the_network(learned: Case) -> None:
    defense, x, z = learned
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(defense, x, z), z)
    with torch.no_grad():
        moved = z - 0.05 * z.std() * gradient / gradient.std()
        before, after = (float(gaussian_log_likelihood(x, *defense.guessed(v))) for v in (z, moved))
    assert after < before - 1


def test_below_zero_there_is_nothing_to_gain(learned: Case) -> None:
    defense, x, z = learned
    shuffled = z.roll(1, 0).requires_grad_()
    assert not torch.autograd.grad(penalty(defense, x, shuffled), shuffled)[0].any()


def test_scaling_and_shifting_a_channel_hides_nothing(learned: Case) -> None:
    defense, x, z = learned
    factor = torch.logspace(-2, 2, z.shape[1])[:, None, None]
    assert float(penalty(defense, x, factor * z + 3).detach()) == pytest.approx(
        float(penalty(defense, x, z).detach()), rel=2e-2
    )
    z = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(penalty(defense, x, z), z)
    wasted = 0.0
    for c in range(z.shape[1]):
        g, v = gradient[:, c].flatten(), z.detach()[:, c].flatten()
        scale, shift = v - v.mean(), torch.ones_like(v)
        wasted += float((g @ scale) ** 2 / (scale @ scale) + (g @ shift) ** 2 / (shift @ shift))
    assert wasted < 1e-6 * float(gradient.square().sum())


def test_the_gradient_of_the_penalty_leaves_the_network_as_it_is(learned: Case) -> None:
    defense, x, z = learned
    penalty(defense, x, z.clone().requires_grad_()).backward()
    assert all(p.grad is None and p.requires_grad for p in defense.network.parameters())


def test_the_network_is_not_stored() -> None:
    model = toy_target(InfoScissors(InfoScissorsParams(width=4)))
    assert any(name.startswith("defense.network") for name in model.state_dict())
    assert not any(name.startswith("defense") for name in stored_state(model))


@pytest.mark.parametrize("kind", ["zeros", "large", "one channel dead"])
def test_four_images_give_a_finite_loss_and_gradient(kind: str) -> None:
    defense, x, z = fitted(steps=0)
    x, z = x[:4], z[:4].clone()
    z = {"zeros": torch.zeros_like(z), "large": 1e6 * z, "one channel dead": z}[kind]
    if kind == "one channel dead":
        z[:, 0] = 7.0
    for _ in range(3):
        defense.train_helpers(x, z, torch.zeros(4, dtype=torch.int64))
    z.requires_grad_()
    loss = penalty(defense, x, z)
    (gradient,) = torch.autograd.grad(loss, z)
    assert bool(torch.isfinite(loss))
    assert bool(torch.isfinite(gradient).all())
    if kind != "large":
        assert not bool(gradient[:, 0].any())
