"""What the information measures are made of: rows of features, descriptions of wires, spectra, tables, twins."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from metric_targets import OnTheWire, context

from splitaudit.metrics import _known as known
from splitaudit.metrics._channel import Wire, additive_gaussian, describe, own_noise
from splitaudit.metrics._features import Rows, block_means, reduced
from splitaudit.metrics._prepared import NotMeasurable, Settings, prepared
from splitaudit.metrics._products import Products
from splitaudit.metrics._sandwich import lower, upper
from splitaudit.metrics._spectrum import spectrum
from splitaudit.metrics._tables import Tables
from splitaudit.metrics._threshold import crossing
from splitaudit.metrics._twin import twin_of
from splitaudit.stats import bootstrap_weights


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def everything(m: int, r: int = 50) -> torch.Tensor:
    return torch.from_numpy(bootstrap_weights(m, r))


def division(n: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randperm(n, generator=seeded(9))
    return ids[: 3 * n // 5], ids[3 * n // 5 : 4 * n // 5], ids[4 * n // 5 :]


def tables(features: torch.Tensor, own: torch.Tensor | None = None) -> Tables:
    kind = "deterministic" if own is None else "additive_gaussian"
    return Tables(Wire(kind, features, torch.zeros(()) if own is None else own), division(len(features)), 1)


# -- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "block"), [((2, 8, 8), 4), ((3, 7, 5), 2), ((11,), 4), ((6, 10), 8)])
def test_block_means_keep_white_noise_white_with_the_same_deviation(shape: tuple[int, ...], block: int) -> None:
    z = torch.randn(20_000, *shape, generator=seeded())
    small = block_means(z, block)
    assert small.shape[1] == reduced(shape, block) < math.prod(shape)
    covariance = small.T @ small / len(small)
    assert float((covariance - torch.eye(small.shape[1])).abs().max()) < 0.05


def test_block_means_are_an_orthonormal_projection() -> None:
    basis = block_means(torch.eye(3 * 6 * 5).reshape(-1, 3, 6, 5), 4)
    torch.testing.assert_close(basis.T @ basis, torch.eye(basis.shape[1]), atol=1e-6, rtol=0)


def test_features_that_fit_are_left_as_they_are() -> None:
    z = torch.randn(200, 2, 4, 4, generator=seeded())
    at = context(z)
    rows = Rows(at, at.data)
    assert (rows.block, rows.projection) == (1, "")
    torch.testing.assert_close(rows.clean(), z.flatten(1))
    assert rows.root_mean_square() == pytest.approx(float((z - z.mean(0)).square().mean().sqrt()))


def test_features_that_do_not_fit_come_batch_by_batch_and_are_never_held_whole() -> None:
    z = torch.randn(200, 4, 16, 16, generator=seeded())
    at = context(z)
    rows = Rows(at, at.data, most_bytes=200 * 4 * 256)
    assert rows.projection == "block means of 2 x 2 positions: 256 of 1024 numbers"
    torch.testing.assert_close(rows.clean(), block_means(z, 2))
    assert not at._clean
    # The scale of the noise is that of the features, not of their means.
    assert rows.root_mean_square() == pytest.approx(float((z - z.mean(0)).square().mean().sqrt()))


# -- descriptions of wires --------------------------------------------------------------------------------------------


def described(act: Callable[[torch.Tensor, torch.Generator], torch.Tensor], z: torch.Tensor | None = None) -> Wire:
    z = torch.randn(600, 4, 5, 5, generator=seeded()) if z is None else z
    at = context(z, defense=OnTheWire(act, stochastic=True))
    return describe(Rows(at, at.data), torch.arange(400), seeded(1), 3)


def laplace(z: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    one, other = (torch.empty_like(z).exponential_(generator=g) for _ in range(2))
    return z + (one - other) / 2**0.5


def per_channel(z: torch.Tensor, g: torch.Generator) -> torch.Tensor:
    return z + torch.tensor([0.1, 1.0, 2.0, 0.0]).reshape(4, 1, 1) * torch.randn(z.shape, generator=g)


def test_gaussian_noise_of_one_deviation_is_found_and_measured() -> None:
    wire = described(lambda z, g: z + 0.7 * torch.randn(z.shape, generator=g))
    assert wire.kind == "additive_gaussian"
    assert wire.isotropic
    assert float(wire.own) == pytest.approx(0.49, rel=0.01)
    assert wire.frozen is None


def test_gaussian_noise_with_a_deviation_per_channel_is_found_and_pooled_over_channels() -> None:
    wire = described(per_channel)
    assert wire.kind == "additive_gaussian"
    assert not wire.isotropic
    own = wire.own.reshape(4, 25)
    assert float((own - own[:, :1]).abs().max()) == 0
    assert own[:, 0].tolist() == pytest.approx([0.01, 1.0, 4.0, 0.0], rel=0.05)


@pytest.mark.parametrize(
    "act",
    [
        laplace,
        lambda z, g: z * (torch.rand(z.shape, generator=g) < 0.5),
        lambda z, g: z + z.abs() * torch.randn(z.shape, generator=g),
        lambda z, g: z + torch.randn(len(z), 1, 1, 1, generator=g),
        lambda z, g: z + (torch.rand(z.shape, generator=g) - 0.5),
        lambda z, g: 0.5 * z + torch.randn(z.shape, generator=g),
        lambda z, g: (z + torch.randn(z.shape, generator=g)).clamp(-1, 1),
    ],
    ids=["laplace", "mask", "multiplicative", "one number an image", "uniform", "shrunk", "clipped"],
)
def test_any_other_randomness_is_not_taken_for_additive_gaussian_noise(
    act: Callable[[torch.Tensor, torch.Generator], torch.Tensor],
) -> None:
    wire = described(act)
    assert wire.kind == "stochastic_other"
    assert wire.residual is not None
    assert wire.frozen is not None
    assert wire.frozen.kind == "deterministic"


def test_the_frozen_form_of_a_wire_draws_the_same_numbers_for_every_image() -> None:
    z = torch.randn(600, 12, generator=seeded())
    wire = described(lambda z, g: z * (torch.rand(z.shape, generator=g) < 0.5), z)
    assert wire.frozen is not None
    sent = wire.frozen.centres - wire.frozen.centres[:1]
    live = sent.abs().max(0).values > 1e-5
    assert 0 < int(live.sum()) < 12
    torch.testing.assert_close(sent[:, live], (z - z[:1])[:, live], atol=1e-4, rtol=1e-4)


def test_a_deterministic_defense_has_no_noise_and_is_not_tried() -> None:
    at = context(torch.randn(300, 12, generator=seeded()), defense=OnTheWire(lambda z, _: 2 * z, stochastic=False))
    rows = Rows(at, at.data)
    assert float(own_noise(rows)) == 0  # type: ignore[arg-type]
    assert describe(rows, torch.arange(200), seeded(), 3).kind == "deterministic"


def test_a_defense_is_tried_once_per_target() -> None:
    tried = []

    def act(z: torch.Tensor, g: torch.Generator) -> torch.Tensor:
        tried.append(len(z))
        return z + torch.randn(z.shape, generator=g)

    at = context(torch.randn(300, 12, generator=seeded()), defense=OnTheWire(act, stochastic=True))
    first = own_noise(Rows(at, at.data))
    calls = len(tried)
    again = Rows(at, at.data)
    again.unit = 2.0
    second = own_noise(again)
    assert first is not None
    assert second is not None
    torch.testing.assert_close(second, first / 4)
    assert len(tried) == calls


def test_too_few_images_to_try_a_defense_leave_it_unknown() -> None:
    at = context(torch.randn(15, 12, generator=seeded()), defense=OnTheWire(lambda z, g: z + 1, stochastic=True))
    assert additive_gaussian(Rows(at, at.data), seeded()) is None


# -- spectra ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [20, 300])
def test_directions_are_orthonormal_and_variances_add_up_to_the_whole(d: int) -> None:
    """More images than elements, and fewer: both closed forms."""
    z = torch.randn(200, d, generator=seeded()) * torch.arange(1, d + 1).float() ** -1
    found = spectrum(z[:100], z[100:])
    k = found.vectors.shape[1]
    assert k == min(d, 100)
    torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(k), atol=1e-5, rtol=0)
    total = float(found.values.sum() + found.free * found.rest)
    assert total == pytest.approx(float(z[100:].square().sum(1).mean()), rel=1e-4)


def test_directions_agree_with_the_full_decomposition() -> None:
    z = torch.randn(300, 400, generator=seeded()) * torch.arange(1, 401).float() ** -1
    found = spectrum(z, z)
    exact = torch.linalg.eigvalsh((z.T @ z / 300).double()).flip(0)
    torch.testing.assert_close(found.values[:8].double(), exact[:8], rtol=1e-3, atol=0)


def test_held_out_variances_do_not_promise_what_other_images_do_not_keep() -> None:
    """White features: 60 images in 100 dimensions look like variances of 0 to 5; on others they are 1."""
    z = torch.randn(1060, 100, generator=seeded())
    found = spectrum(z[:60], z[60:])
    assert float((found.values - 1).abs().max()) < 0.15
    assert float(found.rest) == pytest.approx(1, abs=0.05)
    assert found.information(1.0) == pytest.approx(50 * math.log(2), rel=0.03)
    assert found.effective_dimensions() == pytest.approx(100, rel=0.02)


@pytest.mark.parametrize("d", [400, 900])
def test_features_of_low_rank_have_orthonormal_directions_all_the_same(d: int) -> None:
    """All but five variances are rounding errors of the product, whose directions are no directions."""
    z = torch.randn(700, 5, generator=seeded()) @ torch.randn(5, d, generator=seeded(1)) * 100
    found = spectrum(z[:500], z[500:])
    k = found.vectors.shape[1]
    torch.testing.assert_close(found.vectors.T @ found.vectors, torch.eye(k), atol=1e-4, rtol=0)
    assert found.effective_dimensions() < 5.01


def test_features_without_variance_have_no_directions() -> None:
    found = spectrum(torch.zeros(50, 80), torch.zeros(50, 80))
    assert found.vectors.shape == (80, 0)
    assert found.information(1.0) == 0
    assert found.effective_dimensions() == 0


# -- tables -----------------------------------------------------------------------------------------------------------


def test_tables_at_any_noise_are_the_log_densities_themselves() -> None:
    """Against torch's normal distribution, and for a scale that no product was made at."""
    c, n = torch.randn(2, 40, 7, generator=seeded()).double().unbind()
    train = torch.randn(60, 7, generator=seeded(1)).double()
    products = Products(c, n, train, spectrum(train, c).vectors)
    for s in (0.3, 2.0):
        z = c / s + n
        normal = torch.distributions.Normal
        base = normal(0, 1).log_prob(z).sum(1)
        exact = normal(c[None] / s, 1).log_prob(z[:, None]).sum(2) - base[:, None]
        scores = products.at(s)
        torch.testing.assert_close(scores.table(), exact, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(scores.given, exact.diagonal(), atol=1e-6, rtol=1e-6)
        kernel = normal(train[None] / s, 1).log_prob(z[:, None]).sum(2).logsumexp(1) - math.log(60) - base
        torch.testing.assert_close(scores.kernel, kernel, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(scores.squares, z.square().sum(1), atol=1e-6, rtol=1e-6)


def test_an_images_own_kernel_is_left_out_of_its_density() -> None:
    c = torch.randn(50, 4, generator=seeded())
    scores = Products(c, torch.zeros(50, 4), c, spectrum(c, c).vectors, own=True).at(0.5)
    table = scores.table().fill_diagonal_(-math.inf)
    torch.testing.assert_close(scores.kernel, table.logsumexp(1) - math.log(49))


def test_noise_of_two_sizes_is_whitened_and_bounded_like_the_one_it_equals() -> None:
    """Ten coordinates over noise 1 and ten over 2 carry 5 ln 2 + 5 ln 1.25, at no reference noise and any scale."""
    z = torch.randn(3000, 20, generator=seeded())
    own = torch.cat([torch.ones(10), torch.full((10,), 4.0)])
    true = 5 * math.log(2) + 5 * math.log(1.25)
    for factor in (1.0, 100.0):
        at = tables(factor * z, factor**2 * own)
        w = everything(len(at.test))
        assert true - 0.5 < lower(at, 0.0, w).limit < true + 0.05
        assert upper(at, 0.0).limit == pytest.approx(true, abs=0.35)


def test_bounds_do_not_depend_on_which_path_they_came_by() -> None:
    """The same noise once as one number and once as one per coordinate, which is whitened for every reference noise."""
    z = torch.randn(1000, 30, generator=seeded())
    one, many = tables(z, torch.tensor(0.5)), tables(z, torch.full((30,), 0.5))
    w = everything(200)
    for sigma in (0.0, 1.0):
        assert lower(one, sigma, w).limit == pytest.approx(lower(many, sigma, w).limit, abs=1e-3)
        assert upper(one, sigma).limit == pytest.approx(upper(many, sigma).limit, abs=1e-3)


@pytest.mark.parametrize("nats", [1.0, 5.0, 50.0])
def test_the_upper_bound_is_above_the_truth_and_near_it(nats: float) -> None:
    z = torch.randn(2000, 40, generator=seeded())
    found = upper(tables(z), 1 / math.sqrt(math.expm1(2 * nats / 40)))
    assert nats - 2 * found.error < found.limit < 1.12 * nats + 0.3


def test_the_upper_bound_of_a_wire_that_is_only_modelled_is_refused() -> None:
    z = torch.randn(200, 5, generator=seeded())
    wire = Wire("stochastic_other", z, torch.ones(5), lambda g: torch.randn(200, 5, generator=g))
    with pytest.raises(ValueError, match="known channel"):
        upper(Tables(wire, division(200), 1), 1.0)


def test_the_form_of_the_density_is_never_chosen_on_the_images_that_it_is_read_on() -> None:
    """With each half's form replaced by a constant, the value is that of the other half's choice."""
    z = torch.randn(500, 10, generator=seeded())
    at = tables(z)
    found = upper(at, 1.0)
    view = at.at(1.0)
    excess = {n: view.test.given - q for n, q in view.reference.log_densities(view.test).items()}
    half = torch.arange(100) % 2 == 0
    on_even, on_odd = (min(excess, key=lambda n: float(excess[n][part].mean())) for part in (half, ~half))
    expected = float(torch.where(half, excess[on_odd], excess[on_even]).mean())
    assert found.limit == pytest.approx(expected + 1.645 * found.error)


# -- thresholds and twins ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "known_at", [{32.0: 1.0}, {32.0: 1.0, 8.0: 0.5}, {0.1: 30.0}, {1.0: 5.0, 4.0: 2.0}, {16.0: 0.1, 0.5: 9.0}]
)
def test_a_level_is_found_between_known_noises_and_beyond_them(known_at: dict[float, float]) -> None:
    value = lambda s: 10 * math.log1p(1 / s**2)  # noqa: E731
    at = crossing(value, 3.0, {s: value(s) for s in known_at}, refine=8)
    assert at is not None
    assert value(at) == pytest.approx(3, rel=0.03)


def test_a_level_that_is_never_reached_has_no_noise() -> None:
    assert crossing(lambda s: 1.0, 3.0, {1.0: 1.0}) is None
    assert crossing(lambda s: 9.0, 3.0, {1.0: 9.0}) is None


def test_a_twin_has_the_information_of_its_covariance_and_the_estimator_reads_it() -> None:
    features = torch.randn(1500, 12, generator=seeded()) @ torch.randn(12, 12, generator=seeded(1))
    features = features - features.mean(0)
    twin = twin_of(tables(features), 6.0, everything(300), 3, steps=0)
    values = np.linalg.eigvalsh(np.cov(features.numpy().T, bias=True))
    assert twin.true == pytest.approx(0.5 * np.log1p(values / 36).sum(), rel=1e-3)
    assert twin.noise == 1
    assert twin.reading.value == pytest.approx(twin.true, rel=0.15)


def test_a_twin_that_cannot_be_read_gets_more_noise_until_it_can() -> None:
    features = torch.randn(1000, 30, generator=seeded())
    twin = twin_of(tables(features - features.mean(0)), 0.1, everything(200), 3, steps=0)
    assert twin.noise > 5
    assert twin.true == pytest.approx(0.6 * math.log(200), rel=1e-3)
    assert twin.reading.value == pytest.approx(twin.true, rel=0.15)


def test_features_in_more_dimensions_than_images_have_a_twin_as_well() -> None:
    features = torch.randn(400, 1000, generator=seeded()) * 0.05
    twin = twin_of(tables(features - features[division(400)[0]].mean(0)), 1.0, everything(80), 3, steps=0)
    assert twin.true == pytest.approx(1000 / 2 * 0.0025, rel=0.1)


# -- preparation ------------------------------------------------------------------------------------------------------


def test_what_measures_share_is_prepared_once_per_target_and_settings() -> None:
    at = context(torch.randn(200, 5, generator=seeded()))
    assert prepared(at, Settings()) is prepared(at, Settings())
    assert prepared(at, Settings()) is not prepared(at, Settings(images=150))


@pytest.mark.parametrize(
    ("features", "status"),
    [
        (torch.ones(200, 5), "constant"),
        (torch.full((200, 5), math.nan), "invalid"),
        (torch.ones(50, 5), "too_few_images"),
    ],
)
def test_what_cannot_be_measured_has_a_status_and_a_reason(features: torch.Tensor, status: str) -> None:
    with pytest.raises(NotMeasurable) as caught:
        prepared(context(features), Settings())
    assert caught.value.status == status
    assert str(caught.value)


# -- known answers ----------------------------------------------------------------------------------------------------


def test_quadrature_agrees_with_the_closed_form_of_gaussians() -> None:
    from scipy.special import ndtri

    for sigma in (0.5, 2.0):
        exact = known.gaussian(np.ones(10), sigma)
        assert known.independent_elements(ndtri, 10, sigma) == pytest.approx(exact, rel=2e-3)
        assert known.student(1e6, 10, sigma) == pytest.approx(exact, rel=1e-4)


def test_a_random_sign_costs_one_bit_where_noise_is_small_and_nothing_where_it_is_large() -> None:
    lost = [2.5 * math.log1p(1 / s**2) - known.random_sign(5, s) for s in (0.01, 30.0)]
    assert lost[0] == pytest.approx(math.log(2), abs=1e-3)
    assert 0 < lost[1] < 0.01


def test_counting_images_gives_ln_n_without_noise_and_nothing_in_much() -> None:
    features = torch.randn(64, 8, generator=seeded())
    assert known.discrete(features, 1e-3, 2048) == pytest.approx(math.log(64), abs=1e-6)
    assert known.discrete(features, 1e3, 2048) == pytest.approx(0, abs=1e-3)
    # 200 images of a Gaussian, over noise as large: 4 ln 2 nats of the Gaussian, less what so few images lack.
    many = known.discrete(torch.randn(4000, 4, generator=seeded()), 1.0, 4096)
    assert many == pytest.approx(2 * math.log(2), abs=0.06)


# -- coverage ---------------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("nats", [1.0, 3.0])
def test_each_bound_is_on_the_wrong_side_of_the_truth_about_as_rarely_as_it_says(nats: float) -> None:
    """One-sided 95 % limits over 60 fresh samples: at most 8 misses, which chance exceeds once in 200 times."""
    sigma = 1 / math.sqrt(math.expm1(2 * nats / 10))
    below = above = 0
    for i in range(60):
        z = torch.randn(1000, 10, generator=seeded(100 + i))
        at = Tables(Wire("deterministic", z, torch.zeros(())), division(1000), i)
        below += lower(at, sigma, torch.from_numpy(bootstrap_weights(200, 200, i))).limit > nats
        above += upper(at, sigma).limit < nats
    assert below <= 8
    assert 0 < above <= 8


@pytest.mark.full
def test_leading_directions_alone_loosen_the_upper_bound_by_little() -> None:
    """Whitened wires have 512 directions found by iteration; the same wire as one number has them all."""
    z = torch.randn(2200, 1500, generator=seeded()) * torch.arange(1, 1501).float() ** -0.5
    whole, leading = tables(z, torch.tensor(0.01)), tables(z, torch.full((1500,), 0.01))
    assert leading.spectrum(0.0)[0].vectors.shape[1] == 512 < whole.spectrum(0.0)[0].vectors.shape[1]
    exact = 0.5 * float(torch.log1p(torch.arange(1, 1501).double() ** -1 / 0.01).sum())
    assert exact < upper(whole, 0.0).limit <= upper(leading, 0.0).limit * 1.001
    assert upper(leading, 0.0).limit < 1.05 * upper(whole, 0.0).limit


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("failures", [1, 2])
def test_a_spectrum_is_found_where_the_solver_does_not_converge_at_first(
    monkeypatch: pytest.MonkeyPatch, failures: int, silent: bool
) -> None:
    """A fixed mask of dropout made it fail in both precisions on one target, which then had no information at all.

    On some processors it says so by numbers that are none, and every bound that followed was none.
    """
    solve, calls = torch.linalg.eigh, []

    def reluctant(product: torch.Tensor) -> Any:
        calls.append(product.dtype)
        if len(calls) <= failures:
            if silent:
                return product[0] * float("nan"), product * float("nan")
            raise torch.linalg.LinAlgError("too many repeated eigenvalues")
        return solve(product)

    g = torch.Generator().manual_seed(0)
    train = torch.randn(300, 20, generator=g) * (torch.arange(20) % 2)
    held_out = torch.randn(300, 20, generator=g) * (torch.arange(20) % 2)
    plain = spectrum(train, held_out)
    monkeypatch.setattr(torch.linalg, "eigh", reluctant)
    found = spectrum(train, held_out)
    assert calls == [torch.float32, torch.float64, torch.float64][: failures + 1]
    assert found.information(1.0) == pytest.approx(plain.information(1.0), rel=0.02)
    assert found.effective_dimensions() == pytest.approx(plain.effective_dimensions(), rel=0.02)
