"""Clipping and calibrated noise: that the noise is what epsilon asks for, and that epsilon is what is promised."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import trapezoid

from splitaudit.composed import Composed
from splitaudit.defenses._gaussian_mechanism import epsilon_of, log_delta, noise_multiple
from splitaudit.defenses.clip_noise import ClipNoise, ClipNoiseParams
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.testing.data import part
from splitaudit.testing.targets import home_of

NEXT_TO_NONE = 1e12
"""An epsilon whose noise is a millionth of the bound: what is sent is the clipped features."""

BUDGETS = [(0.01, 1e-3), (0.5, 0.2), (1.0, 1e-5), (4.0, 1e-8), (8.0, 1e-5), (60.0, 1e-5)]
SHAPES = ["gaussian", "laplace"]


def defense(**params: Any) -> ClipNoise:
    made = ClipNoise(ClipNoiseParams(**params))
    made.prepare(home_of(ClipNoise).split(part("client_train", 8), seed=0))
    return made


def calibrated(z: torch.Tensor, **params: Any) -> ClipNoise:
    made = defense(**params).eval()
    made.calibrate(lambda: list(z.split(7)))
    return made


def features(n: int = 41, seed: int = 0) -> torch.Tensor:
    """Features of images whose norms differ much, (n, 4, 5, 5)."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, 4, 5, 5, generator=g)
    return z * torch.rand(n, 1, 1, 1, generator=g).add(0.05).mul(10)


def sent(made: ClipNoise, z: torch.Tensor, seed: int = 1) -> torch.Tensor:
    return made.protect(z, torch.Generator().manual_seed(seed))


def order(distribution: str) -> int:
    return 2 if distribution == "gaussian" else 1


def norms(z: torch.Tensor, distribution: str) -> torch.Tensor:
    return z.flatten(1).norm(order(distribution), dim=1)


def hockey_stick(epsilon: float, sigma: float, distance: float = 1.0) -> float:
    """Returns δ = ∫ max(0, p − e^ε q) of two Gaussians, by adding up a fine grid: no formula of the defense is used."""
    x = np.linspace(-40 * sigma, distance + 40 * sigma, 400_001)
    p = stats.norm.logpdf(x, distance, sigma)
    q = stats.norm.logpdf(x, 0, sigma)
    above = p > epsilon + q
    return float(trapezoid(np.where(above, np.exp(p) * -np.expm1(np.where(above, epsilon + q - p, 0)), 0), x))


@pytest.mark.parametrize(("epsilon", "delta"), BUDGETS)
def test_gaussian_noise_has_the_delta_that_was_asked_for_and_a_little_less_would_not(
    epsilon: float, delta: float
) -> None:
    multiple = noise_multiple(epsilon, delta)
    assert hockey_stick(epsilon, multiple) == pytest.approx(delta, rel=1e-4)
    assert hockey_stick(epsilon, 0.99 * multiple) > 1.001 * delta
    assert log_delta(epsilon, multiple) <= math.log(delta)


def test_the_published_value_and_the_classical_bound() -> None:
    """3.7306 is what the code of Balle and Wang gives for ε = 1, δ = 1e-5; the classical √(2 ln(1.25/δ))/ε is looser."""
    assert noise_multiple(1.0, 1e-5) == pytest.approx(3.730632, abs=1e-5)
    assert noise_multiple(1.0, 1e-5) < math.sqrt(2 * math.log(1.25 / 1e-5))


LIBRARY = [
    (0.01, 1e-3, 93.90741984),
    (0.5, 0.2, 1.106770491),
    (1.0, 1e-5, 3.730631635),
    (4.0, 1e-8, 1.395582684),
    (8.0, 1e-5, 0.6002290722),
    (60.0, 1e-5, 0.1323168413),
    (1e4, 1e-5, 7.287157453e-3),
    (1e6, 1e-9, 7.101116882e-4),
    (1e-3, 1e-12, 5412.302194),
]
"""ε, δ and the deviation, in distances, that dp-accounting 0.6.0 gives (gaussian_mechanism.get_sigma_gaussian)."""


@pytest.mark.parametrize(("epsilon", "delta", "sigma"), LIBRARY)
def test_the_noise_is_that_of_a_well_kept_library(epsilon: float, delta: float, sigma: float) -> None:
    assert noise_multiple(epsilon, delta) == pytest.approx(sigma, rel=1e-8)


@pytest.mark.parametrize(
    ("multiple", "epsilon"), [(0.05, 284.3918495), (1e-3, 504263.8929), (0.6002290722 / 8, 144.797845)]
)
def test_the_epsilon_of_given_noise_is_that_of_a_well_kept_library(multiple: float, epsilon: float) -> None:
    """Of dp-accounting 0.6.0 (gaussian_mechanism.get_epsilon_gaussian), at δ = 1e-5."""
    assert epsilon_of(multiple, 1e-5) == pytest.approx(epsilon, rel=1e-8)


@pytest.mark.parametrize(("epsilon", "delta"), [*BUDGETS, (1e4, 1e-5), (1e6, 1e-9), (1e-3, 1e-12)])
def test_epsilon_and_noise_are_each_others_inverse(epsilon: float, delta: float) -> None:
    assert epsilon_of(noise_multiple(epsilon, delta), delta) == pytest.approx(epsilon, rel=1e-5)


def test_noise_that_hides_everything_costs_no_epsilon() -> None:
    assert epsilon_of(1e3, 0.1) == 0.0


def test_vectors_are_as_private_as_their_distance_says() -> None:
    """δ in the plane, on a grid, for two values in any direction: it is that of the line through them."""
    sigma, epsilon = 0.8, 1.0
    x = np.linspace(-9, 9, 1001)
    at = np.stack(np.meshgrid(x, x), -1)
    p, q = (stats.multivariate_normal.pdf(at, mean, sigma**2 * np.eye(2)) for mean in ([0.6, 0.8], [0, 0]))
    delta = float(np.maximum(p - math.e**epsilon * q, 0).sum() * (x[1] - x[0]) ** 2)
    assert delta == pytest.approx(math.exp(log_delta(epsilon, sigma)), rel=1e-3)


@pytest.mark.parametrize("distribution", SHAPES)
def test_what_is_sent_is_told_apart_exactly_as_well_as_epsilon_allows(distribution: str) -> None:
    """An audit of protect: two images that are as far apart as can be, told apart by the likelihood ratio of the draws.

    The share that exceeds e^ε, P(S | a) − e^ε·P(S | b), is δ for Gaussian noise, and 0 for Laplace noise, of which
    any smaller epsilon would be broken.
    """
    made = calibrated(torch.ones(3, 4), epsilon=1.0, delta=0.1, distribution=distribution)
    a = torch.tensor([50.0, 0, 0, 0]).expand(100_000, 4)
    low, high = sent(made, -a, 1)[:, 0].double(), sent(made, a, 2)[:, 0].double()

    def excess(epsilon: float) -> float:
        cuts = torch.linspace(-8, 8, 161, dtype=torch.float64) * float(norms(torch.ones(1, 4), distribution))
        above = [(torch.searchsorted(z.sort().values, cuts) / len(z)) for z in (low, high)]
        return float(((1 - above[1]) - math.exp(epsilon) * (1 - above[0])).max())

    if distribution == "gaussian":
        assert excess(1.0) == pytest.approx(0.1, abs=0.01)
    else:
        assert excess(1.0) < 0.01
        assert excess(0.8) > 0.05


@pytest.mark.parametrize("distribution", SHAPES)
@pytest.mark.parametrize("clip", [0.5, 1.0, 1.5])
def test_images_above_the_bound_are_shortened_to_it_and_others_stay(distribution: str, clip: float) -> None:
    z = features()
    made = calibrated(z, epsilon=NEXT_TO_NONE, delta=1e-3, distribution=distribution, clip=clip)
    before, after = norms(z, distribution), norms(sent(made, z), distribution)
    bound = clip * float(before.median())  # of an odd number of images
    assert torch.allclose(after, before.clamp_max(bound), rtol=1e-3)
    assert bool((before > bound).any())
    assert bool((before < bound).any())
    assert torch.allclose(
        torch.nn.functional.cosine_similarity(sent(made, z).flatten(1), z.flatten(1)), torch.ones(len(z)), atol=1e-4
    )


@pytest.mark.parametrize("distribution", SHAPES)
def test_the_noise_has_the_shape_and_the_scale_that_epsilon_asks_for(distribution: str) -> None:
    z = features(401)
    budget: dict[str, Any] = {"epsilon": 2.0, "delta": 1e-3, "distribution": distribution, "clip": 0.7}
    quiet = sent(calibrated(z, **{**budget, "epsilon": NEXT_TO_NONE}), z)
    noise = (sent(calibrated(z, **budget), z) - quiet).flatten().double().numpy()
    bound = 0.7 * float(norms(z, distribution).median())
    expected = (
        stats.norm(scale=2 * bound * noise_multiple(2.0, 1e-3))
        if distribution == "gaussian"
        else stats.laplace(scale=2 * bound / 2.0)
    )
    assert stats.kstest(noise, expected.cdf).pvalue > 0.01
    assert float(noise.std()) == pytest.approx(expected.std(), rel=0.02)


def test_the_budget_can_be_read_from_the_defense() -> None:
    gaussian, laplace = defense(epsilon=3.0, delta=1e-6), defense(epsilon=3.0, delta=1e-6, distribution="laplace")
    assert (gaussian.epsilon, gaussian.delta) == (3.0, 1e-6)
    assert (laplace.epsilon, laplace.delta) == (3.0, 0.0)


@pytest.mark.parametrize("releases", [2, 16])
def test_the_mean_of_several_draws_costs_what_is_said(releases: int) -> None:
    """A mean of K draws is one draw of σ/√K; K·ε is the bound, reached by Laplace noise."""
    made = defense(epsilon=0.5, delta=1e-4)
    spent = made.epsilon_after(releases)
    assert hockey_stick(spent, made.noise_scale / 2 / math.sqrt(releases)) == pytest.approx(1e-4, rel=1e-3)
    assert 0.5 < spent < 0.5 * releases
    assert defense(epsilon=0.5, distribution="laplace").epsilon_after(releases) == 0.5 * releases
    with pytest.raises(ValueError, match="at least 1"):
        made.epsilon_after(0)


@pytest.mark.parametrize("distribution", SHAPES)
def test_the_bound_follows_the_features_in_training_and_is_frozen_afterwards(distribution: str) -> None:
    made = defense(epsilon=NEXT_TO_NONE, delta=1e-3, distribution=distribution).train()
    z = features()
    median = float(norms(z, distribution).median())
    sent(made, z)
    assert float(made.typical.median) == pytest.approx(median, rel=1e-5)  # the first batch sets it
    sent(made, 11 * z)
    assert float(made.typical.median) == pytest.approx(2 * median, rel=1e-5)  # later ones move it by a tenth
    made.eval()
    assert float(norms(sent(made, 1e3 * z), distribution).max()) == pytest.approx(2 * median, rel=1e-3)
    assert float(made.typical.median) == pytest.approx(2 * median, rel=1e-5)
    made.calibrate(lambda: [z[:20], z[20:]])
    assert float(made.typical.median) == pytest.approx(median, rel=1e-5)


@pytest.mark.parametrize("distribution", SHAPES)
def test_an_edge_gains_nothing_by_inflating_its_features(distribution: str) -> None:
    z = features()
    plain = sent(calibrated(z, distribution=distribution), z)
    inflated = sent(calibrated(1000 * z, distribution=distribution), 1000 * z)
    assert torch.allclose(inflated, 1000 * plain, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("distribution", SHAPES)
@pytest.mark.parametrize("factor", [0.0, 1e-30, 1.0, 1e30])
def test_features_and_gradients_stay_finite(distribution: str, factor: float) -> None:
    for fitted in (features(), torch.zeros(5, 4, 5, 5)):
        made = calibrated(fitted, distribution=distribution)
        z = (factor * features(1)).requires_grad_()
        out = sent(made, z)
        assert bool(torch.isfinite(out).all())
        out.sum().backward()
        assert z.grad is not None
        assert bool(torch.isfinite(z.grad).all())


def test_the_gradient_is_that_of_clipping_and_the_bound_has_none() -> None:
    """A shortened image cannot move along itself; one under the bound moves as it is."""
    made = calibrated(features(), epsilon=NEXT_TO_NONE, delta=1e-3).train()
    long, short = 100 * features(1), 1e-4 * features(1)
    for z, along in ((long, 0.0), (short, 1.0)):
        made.eval()
        at = z.clone().requires_grad_()
        (back,) = torch.autograd.grad((sent(made, at) * z).sum() / z.square().sum(), at)
        assert float((back * z).sum()) == pytest.approx(along, abs=1e-4)


@pytest.mark.parametrize("shape", [(24,), (6, 8), (4, 5, 5)])
def test_vectors_and_tokens_are_clipped_over_all_their_elements(shape: tuple[int, ...]) -> None:
    z = torch.randn(9, *shape, generator=torch.Generator().manual_seed(3))
    made = calibrated(z, epsilon=NEXT_TO_NONE, delta=1e-3, clip=0.5)
    out = sent(made, z)
    assert out.shape == z.shape
    assert float(norms(out, "gaussian").max()) == pytest.approx(0.5 * float(norms(z, "gaussian").median()), rel=1e-3)


def test_after_another_defense_the_bound_is_that_of_what_it_sends() -> None:
    both = Composed([Noise(NoiseParams(sigma=3.0)), ClipNoise(ClipNoiseParams())])
    both.prepare(home_of(ClipNoise).split(part("client_train", 8), seed=0))
    both.eval()
    z = torch.randn(32, 8, 8, 8, generator=torch.Generator().manual_seed(4))
    both.calibrate(lambda: [z])
    clip = both.parts[1]
    assert isinstance(clip, ClipNoise)
    assert float(clip.typical.median) == pytest.approx(math.sqrt(10 * 512), rel=0.03)
