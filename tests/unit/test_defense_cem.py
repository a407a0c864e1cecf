"""CEM: its mixture term against a reference, the centres that follow the features, and the noise on the wire."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from splitaudit.composed import Composed
from splitaudit.defenses.cem import Cem, CemParams, mixture_term
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.defenses.nopeek import NoPeek, NoPeekParams
from splitaudit.nn.mixture import MEMORY, PER_CENTRE, ClassCentres
from splitaudit.nn.scale import batch_standardised
from splitaudit.pixels import to_float
from splitaudit.split import SplitModel
from splitaudit.targets import stored_state
from splitaudit.testing.data import part
from splitaudit.testing.targets import toy_target


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def opened(centres: torch.Tensor) -> ClassCentres:
    """Returns centres (K, components, D), all in use."""
    made = ClassCentres(*centres.shape)
    made.centres, made.counts = centres, torch.ones(centres.shape[:2])
    return made


def reference(flat: np.ndarray, y: np.ndarray, centres: np.ndarray, allowed: float, gamma: float) -> float:
    """The term image by image and component by component."""
    members: dict[tuple[int, int], list[float]] = {}
    for u, label in zip(flat, y, strict=True):
        distances = [((u - c) ** 2).sum() for c in centres[label]]
        nearest = int(np.argmin(distances))
        members.setdefault((int(label), nearest), []).append(distances[nearest] / flat.shape[1])
    total = 0.0
    for found in members.values():
        total += len(found) / len(flat) * max(0.0, np.log(np.mean(found) + gamma) - np.log(allowed + gamma))
    return total


def case() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns features, labels and centres; some components cost nothing, others do."""
    y = torch.arange(20) % 4
    return draw(20, 6) * torch.logspace(-2, 0.5, 20, dtype=torch.float64)[:, None], y, 0.1 * draw(4, 3, 6, seed=1)


@pytest.mark.parametrize(("allowed", "gamma"), [(0.01, 0.01), (0.5, 1e-3), (0.0, 2.0)])
def test_the_term_agrees_with_the_sum_over_components(allowed: float, gamma: float) -> None:
    flat, y, centres = case()
    expected = reference(flat.numpy(), y.numpy(), centres.numpy(), allowed, gamma)
    assert expected > 0
    assert float(mixture_term(flat, y, opened(centres), allowed, gamma)) == pytest.approx(expected, rel=1e-10)
    single = mixture_term(flat.float(), y, opened(centres.float()), allowed, gamma)
    assert float(single) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_the_weighted_term_of_standardised_features() -> None:
    model = toy_target(Cem(CemParams(weight=2.5, sigma=0.4, threshold=0.2, gamma=0.02)), steps=False).train()
    data = part("client_train", 24)
    x = to_float(data.images)
    z = model.clean(x).detach()
    defense = model.defense
    assert isinstance(defense, Cem)
    for _ in range(3):
        defense.train_helpers(x, z, data.labels)
    channels = z.double().transpose(0, 1).flatten(1)
    unit = (z.double() - channels.mean(1)[:, None, None]) / channels.std(1, unbiased=False)[:, None, None]
    kept = defense.centres.centres.double().numpy()
    kept[defense.centres.counts.numpy() == 0] = np.inf  # a component that is not in use
    expected = reference(unit.flatten(1).numpy(), data.labels.numpy(), kept, 0.2 * 0.4**2, 0.02)
    found = defense.extra_loss(x, z, data.labels, torch.empty(0))
    assert found is not None
    assert float(found) == pytest.approx(2.5 * expected, rel=1e-5)


def test_with_the_noise_as_gamma_the_term_is_twice_the_information_of_a_gaussian_channel() -> None:
    """½·log(1 + v/σ²) nats an element is what Gaussian features of variance v tell through noise of variance σ²."""
    flat = 1.5 * draw(4000, 8)
    centres = opened(torch.zeros(1, 1, 8, dtype=torch.float64))
    term = float(mixture_term(flat, torch.zeros(4000, dtype=torch.int64), centres, 0.0, 0.25))
    assert term / 2 == pytest.approx(0.5 * np.log(1 + 1.5**2 / 0.25), rel=0.01)


@pytest.mark.parametrize("sigma", [0.2, 0.5, 1.0])
def test_entropy_and_term_bound_what_features_tell_through_noise_whatever_their_distribution(sigma: float) -> None:
    """Four points in two components: their information through Gaussian noise is integrated numerically."""
    points = np.array([-2.5, -1.5, 1.0, 3.0])
    at = np.linspace(-9, 9, 20_001)
    each = np.exp(-((at - points[:, None]) ** 2) / (2 * sigma**2)) / (sigma * (2 * np.pi) ** 0.5)
    whole = each.mean(0)
    told = float((each * np.log(np.maximum(each, 1e-300) / np.maximum(whole, 1e-300))).sum() * (at[1] - at[0]) / 4)
    flat = torch.tensor(points)[:, None]
    centres = opened(torch.tensor([[[-2.0], [2.0]]], dtype=torch.float64))
    term = float(mixture_term(flat, torch.zeros(4, dtype=torch.int64), centres, 0.0, sigma**2))
    assert 0.5 < told < np.log(2) + term / 2


def test_a_component_within_the_threshold_costs_nothing_and_has_no_gradient() -> None:
    flat = (0.1 * draw(10, 6)).requires_grad_()
    y, centres = torch.zeros(10, dtype=torch.int64), opened(torch.zeros(1, 1, 6, dtype=torch.float64))
    for allowed, costs in ((0.02, False), (0.005, True)):
        loss = mixture_term(flat, y, centres, allowed, 1e-4)
        (gradient,) = torch.autograd.grad(loss, flat)
        assert (float(loss.detach()) > 0, bool(gradient.any())) == (costs, costs)


def test_the_gradient_draws_each_image_to_its_own_centre() -> None:
    flat, y, centres = case()
    flat.requires_grad_()
    (gradient,) = torch.autograd.grad(mixture_term(flat, y, opened(centres), 0.0, 1e-3), flat)
    for u, g, label in zip(flat.detach(), gradient, y, strict=True):
        away = u - centres[label][(u - centres[label]).square().sum(1).argmin()]
        assert float(g @ away) == pytest.approx(float(g.norm() * away.norm()), rel=1e-6)
        assert float(g.norm()) > 0


def test_images_belong_to_centres_of_their_class_only() -> None:
    """The centre of the other class is at the very place of the image."""
    centres = opened(torch.tensor([[[0.0]], [[5.0]]], dtype=torch.float64))
    squares, which = centres.assign(torch.tensor([[5.0], [5.0]], dtype=torch.float64), torch.tensor([0, 1]))
    assert squares.tolist() == [25.0, 0.0]
    assert which.tolist() == [0, 1]


def test_images_of_a_class_without_a_centre_are_left_out() -> None:
    flat, y, centres = case()
    made = opened(centres)
    made.counts[2] = 0
    known = y != 2
    whole = float(mixture_term(flat, y, made, 0.0, 1e-3))
    rest = float(mixture_term(flat[known], y[known], made, 0.0, 1e-3))
    assert whole == pytest.approx(rest * float(known.double().mean()))
    assert float(mixture_term(flat, y, ClassCentres(4, 3, 6).double(), 0.0, 1e-3)) == 0.0


def followed(batches: int, components: int = 2, gap: float = 6.0) -> tuple[ClassCentres, torch.Tensor]:
    """Returns centres after batches of two classes with two clusters each, and the clusters' true centres (2, 2, 5)."""
    truth = gap * draw(2, 2, 5, seed=9)
    made = ClassCentres(2, components, 5).double()
    for i in range(batches):
        y = torch.arange(16) % 2
        cluster = torch.arange(16) // 2 % 2
        made.update(truth[y, cluster] + draw(16, 5, seed=i), y)
    return made, truth


def test_the_centres_find_the_clusters_of_each_class() -> None:
    made, truth = followed(20)
    for label in range(2):
        gaps = torch.cdist(truth[label], made.centres[label]).amin(1)
        assert float(gaps.max()) < 1.0, label  # the mean of some tens of images with deviation 1 in 5 elements


def test_a_class_starts_at_its_mean_and_gets_a_further_centre_after_enough_images() -> None:
    made, _ = followed(1)
    assert made.counts.tolist() == [[8, 0], [8, 0]]
    assert PER_CENTRE == 16
    made, _ = followed(3)
    assert bool((made.counts[:, 1] > 1).all())


def test_centres_are_the_same_twice_and_do_not_touch_the_generators() -> None:
    before = torch.get_rng_state()
    first, again = followed(6)[0], followed(6)[0]
    assert torch.equal(first.centres, again.centres)
    assert torch.equal(before, torch.get_rng_state())


def test_a_centre_follows_features_that_move() -> None:
    """It forgets after some images; an average over all of them would stay at 5."""
    made, y = ClassCentres(1, 1, 3).double(), torch.zeros(32, dtype=torch.int64)
    for place in [0.0] * 20 + [10.0] * 20:
        made.update(place + 0.1 * draw(32, 3), y)
    assert MEMORY <= 64
    assert float(made.centres.min()) > 9.9


def cem(**params: Any) -> SplitModel:
    return toy_target(Cem(CemParams(**params)))


def sent(model: SplitModel, n: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    with torch.no_grad():
        z = model.clean(to_float(part("client_train", n).images))
        return z, model.protect(z, torch.Generator().manual_seed(0))


def test_the_noise_has_the_stated_deviation_in_units_of_each_channel() -> None:
    model = cem(sigma=0.5)
    with torch.no_grad():  # the statistics were taken on these 16 images
        z = model.clean(to_float(part("client_train", 16).images))
    draws = torch.stack([model.protect(z, torch.Generator().manual_seed(i)).detach() - z for i in range(40)])
    found = draws.transpose(0, 2).flatten(1).std(1) / z.transpose(0, 1).flatten(1).std(1, unbiased=False)
    assert float((found - 0.5).abs().max()) < 0.02
    assert model.defense.stochastic


@pytest.mark.parametrize("params", [{"sigma": 0.0}, {"adds_noise": False}])
def test_without_noise_of_its_own_the_features_are_sent_as_they_are(params: dict[str, Any]) -> None:
    model = cem(**params)
    z, wire = sent(model)
    assert torch.equal(z, wire)
    assert not model.defense.stochastic


def test_sigma_sets_the_threshold_even_where_another_part_adds_the_noise() -> None:
    flat, values = draw(16, 8, 4, 4).float(), []
    for sigma in (0.1, 2.0):
        model = toy_target(Cem(CemParams(sigma=sigma, adds_noise=False)), steps=False)
        y = torch.arange(16) % 4
        assert isinstance(model.defense, Cem)
        model.defense.centres = opened(torch.zeros(4, 3, 8 * 4 * 4))
        found = model.defense.extra_loss(flat, flat, y, torch.empty(0))
        assert found is not None
        values.append(float(found))
    assert values[0] > values[1] > 0


def test_it_goes_on_top_of_another_defense_and_under_noise() -> None:
    """The term sees the features before the noise that follows, and each part's loss is in the sum."""
    parts = [NoPeek(NoPeekParams()), Cem(CemParams(sigma=0.3, adds_noise=False)), Noise(NoiseParams(sigma=0.3))]
    model = toy_target(Composed(list(parts)), steps=False).train()
    data = part("client_train", 16)
    x = to_float(data.images)
    z = model.clean(x)
    logits = model.cloud(model.protect(z, torch.Generator().manual_seed(0)))
    model.defense.train_helpers(x, z.detach(), data.labels)
    losses = [p.extra_loss(x, z, data.labels, logits) for p in parts[:2]]
    whole = model.defense.extra_loss(x, z, data.labels, logits)
    assert whole is not None
    assert all(loss is not None and float(loss.detach()) != 0 for loss in losses)
    assert float(whole.detach()) == pytest.approx(sum(float(loss.detach()) for loss in losses if loss is not None))


def test_scaling_and_shifting_channels_changes_nothing_and_has_no_gradient() -> None:
    z, y = torch.relu(draw(16, 6, 4, 4)) + 0.1, torch.arange(16) % 4
    centres = ClassCentres(4, 2, 6 * 16).double()
    centres.update(batch_standardised(z).flatten(1), y)

    def term(v: torch.Tensor) -> torch.Tensor:
        return mixture_term(batch_standardised(v).flatten(1), y, centres, 0.01, 0.01)

    factor = torch.logspace(-2, 2, 6, dtype=torch.float64)[:, None, None]
    assert float(term(factor * z + 3)) == pytest.approx(float(term(z)), rel=1e-6)
    z.requires_grad_()
    (gradient,) = torch.autograd.grad(term(z), z)
    assert float(gradient.norm()) > 0
    for c in range(6):
        g, v = gradient[:, c].flatten(), z.detach()[:, c].flatten()
        assert abs(float(g @ (v - v.mean()))) < 1e-8 * float(g.norm() * v.norm())
        assert abs(float(g.sum())) < 1e-8 * float(g.norm())


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (8, 5), (8, 6, 5)])
def test_batch_standardisation_agrees_with_means_and_deviations_of_channels(shape: tuple[int, ...]) -> None:
    z = 4 * draw(*shape) + 2
    axes = {4: (0, 2, 3), 3: (0, 1), 2: (0,)}[len(shape)]
    expected = (z - z.mean(axes, keepdim=True)) / z.std(axes, unbiased=False, keepdim=True)
    assert torch.allclose(batch_standardised(z), expected, atol=1e-10)
    constant = torch.full_like(z, 7.0).requires_grad_()
    found = batch_standardised(constant)
    (gradient,) = torch.autograd.grad(found.pow(3).sum() + found.sum(), constant)
    assert not bool(found.any())
    assert not bool(gradient.any())


def test_descending_draws_the_images_of_a_class_together() -> None:
    y = torch.arange(24) % 4
    z = (draw(24, 8) + 0.5 * draw(4, 8, seed=1)[y]).requires_grad_()
    centres = ClassCentres(4, 1, 8).double()
    optimizer = torch.optim.Adam([z], lr=0.05)
    shares = []
    for _ in range(100):
        unit = batch_standardised(z).flatten(1)
        centres.update(unit.detach(), y)
        inside = torch.stack([(unit[y == c] - unit[y == c].mean(0)).square().mean() for c in range(4)])
        shares.append(float(inside.detach().mean()))
        optimizer.zero_grad()
        mixture_term(unit, y, centres, 0.01, 0.01).backward()
        optimizer.step()
    assert shares[0] > 0.5
    assert shares[-1] < 0.3 * shares[0]


def test_the_centres_are_not_stored() -> None:
    names = set(stored_state(cem()))
    assert any("noise.scale" in name for name in names)
    assert not any("centres" in name for name in names)


@pytest.mark.parametrize("kind", ["zeros", "large", "one class"])
def test_four_images_give_a_finite_loss_and_gradient(kind: str) -> None:
    model = toy_target(Cem(CemParams()), steps=False).train()
    x = to_float(part("client_train", 4).images)
    y = torch.zeros(4, dtype=torch.int64) if kind == "one class" else torch.arange(4)
    z = model.clean(x).detach()
    z = {"zeros": torch.zeros_like(z), "large": 1e6 * z, "one class": z}[kind].requires_grad_()
    for _ in range(6):
        model.defense.train_helpers(x, z.detach(), y)
        loss = model.defense.extra_loss(x, z, y, torch.empty(0))
        assert loss is not None
        (gradient,) = torch.autograd.grad(loss, z)
        assert bool(torch.isfinite(loss))
        assert bool(torch.isfinite(gradient).all())
