"""The estimator of mutual information: known answers, its limits, and the faults that published estimators have."""

from __future__ import annotations

import math

import pytest
import torch
from metric_targets import OnTheWire, context

from splitaudit.defense import Defense
from splitaudit.metric import Measurement
from splitaudit.metrics._bounds import donsker_varadhan, info_nce, off_diagonal, read, status
from splitaudit.metrics._channel import reference_channel
from splitaudit.metrics._critic import Residual
from splitaudit.metrics._mine import estimate
from splitaudit.metrics._reference import Reference, mixture_weights, principal_components
from splitaudit.metrics.mutual_information import MutualInformation, MutualInformationParams
from splitaudit.stats import bootstrap_weights


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, d: int, nats: float, falling: bool = False, seed: int = 0) -> tuple[torch.Tensor, float]:
    """Returns Gaussian features (n, d) and the noise over their root mean square at which I = ½ Σ ln(1 + λ/σ²)."""
    deviation = torch.arange(1, d + 1).float() ** -0.5 if falling else torch.ones(d)
    rms = float(deviation.square().mean().sqrt())
    low, high = 1e-3, 1e4
    for _ in range(100):
        middle = math.sqrt(low * high)
        found = 0.5 * float(torch.log1p((deviation / (middle * rms)).square()).sum())
        low, high = (middle, high) if found > nats else (low, middle)
    return torch.randn(n, d, generator=seeded(seed)) * deviation, middle


def measured(
    features: torch.Tensor, sigma: float, defense: Defense | None = None, seed: int = 1, **params: int
) -> Measurement:
    measure = MutualInformation(MutualInformationParams(sigma_over_rms=sigma, **params))
    return measure.measure(context(features, defense=defense, seed=seed))


def nats(found: Measurement) -> float:
    value = found.values["mi_mine_nats"]
    assert isinstance(value, float), found
    return value


def random_wire(act: object) -> OnTheWire:
    return OnTheWire(act, stochastic=True)  # type: ignore[arg-type]


# -- known answers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("d", "true", "n", "falling"),
    [
        (20, 1.0, 2500, False),
        (50, 3.0, 2500, True),
        (50, 5.0, 5000, False),
        pytest.param(1024, 4.0, 5000, True, marks=pytest.mark.full),
        pytest.param(20, 0.5, 5000, False, marks=pytest.mark.full),
        pytest.param(50, 5.0, 5000, True, marks=pytest.mark.full),
    ],
)
def test_a_gaussian_channel_is_read_within_10_percent(d: int, true: float, n: int, falling: bool) -> None:
    """At five nats and 1,000 test images the estimator is near its limit: one sample in ten is flagged low_ess."""
    features, sigma = gaussian(n, d, true, falling, seed=2)
    found = measured(features, sigma)
    assert found.values["mi_mine_status"] == "ok"
    assert nats(found) == pytest.approx(true, rel=0.1)
    low, high = found.values["mi_mine_lo"], found.values["mi_mine_hi"]
    assert isinstance(low, float)
    assert isinstance(high, float)
    assert low < nats(found) < high
    assert found.flags == ()


@pytest.mark.parametrize("d", [10, 50])
def test_fifteen_nats_are_flagged_and_no_number_is_given(d: int) -> None:
    features, sigma = gaussian(2500, d, 15.0)
    found = measured(features, sigma, steps=100)
    assert found.values["mi_mine_status"] == "at_ceiling"
    assert found.values["mi_mine_nats"] is None
    assert found.values["mi_mine_hi"] is None
    assert found.flags == ("mutual information: at_ceiling",)
    assert "at its ceiling" in str(found.reason)
    low, ceiling = found.values["mi_mine_lo"], found.values["mi_ceiling_nats"]
    assert isinstance(low, float)
    assert ceiling == math.log(500)
    assert 0.85 * ceiling < low <= ceiling


def test_a_nearly_noiseless_wire_never_gives_an_unflagged_number() -> None:
    features = torch.randn(400, 4, 4, 4, generator=seeded()).relu()
    for sigma in (1.0, 0.1, 1e-3):
        found = measured(features, sigma, steps=50)
        assert found.values["mi_mine_nats"] is None
        assert found.flags
        assert all(math.isfinite(v) for v in found.values.values() if isinstance(v, float))


def test_constant_features_carry_nothing() -> None:
    found = measured(torch.ones(400, 3, 2, 2), 1.0)
    assert nats(found) == 0
    assert found.values["mi_mine_status"] == "ok"
    assert found.flags == ("constant features",)


@pytest.mark.parametrize("seed", [1, 2])
def test_a_wire_that_is_independent_of_the_image_reads_zero(seed: int) -> None:
    features, sigma = gaussian(2000, 30, 3.0)
    pure = random_wire(lambda z, g: 3 * torch.randn(z.shape, generator=g))
    assert abs(nats(measured(features, sigma, pure, seed=seed))) <= 0.05


def test_shuffled_features_read_zero() -> None:
    features, sigma = gaussian(2000, 30, 3.0)
    shuffle = random_wire(lambda z, g: z[torch.randperm(len(z), generator=g)])
    assert abs(nats(measured(features, sigma, shuffle))) <= 0.05


# -- the wire ---------------------------------------------------------------------------------------------------------


def test_additive_noise_of_the_defense_counts_like_reference_noise() -> None:
    """As much of the one as of the other: the reading is that of the clean wire at √2 times the reference."""
    features, sigma = gaussian(2500, 40, 3.0, falling=True)
    rms = float((features - features.mean(0)).square().mean().sqrt())
    noisy = random_wire(lambda z, g: z + sigma * rms * torch.randn(z.shape, generator=g))
    found = measured(features, sigma, noisy, steps=0)
    assert found.values["channel"] == "stochastic+reference noise"
    assert nats(found) == pytest.approx(nats(measured(features, sigma * 2**0.5, steps=0)), rel=0.1)
    assert nats(found) < 0.8 * nats(measured(features, sigma, steps=0))


def test_a_random_defense_with_another_shape_is_read_too() -> None:
    """Half of the coordinates cross the wire, with noise as large as the reference's: I is known."""
    features, sigma = gaussian(3000, 40, 4.0)
    rms = float((features - features.mean(0)).square().mean().sqrt())
    act = lambda z, g: z[:, :20] + sigma * rms * torch.randn(z[:, :20].shape, generator=g)  # noqa: E731
    found = measured(features, sigma, OnTheWire(act, stochastic=True, shape=(20,)))
    true = 20 / 2 * math.log1p(1 / (2 * sigma**2))
    # The centres are known only from some draws: it may read low, never high.
    assert 0.75 * true < nats(found) < 1.1 * true


def test_a_deterministic_defense_is_part_of_the_channel_and_information_falls() -> None:
    features, sigma = gaussian(2500, 40, 3.0)
    half = OnTheWire(lambda z, _: z[:, :20], stochastic=False, shape=(20,))
    found = measured(features, sigma, half)
    assert found.values["channel"] == "deterministic+reference noise"
    assert nats(found) == pytest.approx(1.5, rel=0.1)


def test_the_scale_of_the_features_does_not_matter() -> None:
    features, sigma = gaussian(1500, 20, 2.0)
    a, b = (nats(measured(k * features, sigma, steps=0)) for k in (1, 1000))
    assert a == pytest.approx(b, abs=0.02)
    assert a == pytest.approx(2, rel=0.1)


def test_more_reference_noise_never_reads_more() -> None:
    features, sigma = gaussian(2000, 30, 3.0, falling=True)
    readings = [nats(measured(features, sigma * k, steps=0)) for k in (1, 1.5, 2, 4)]
    assert readings == sorted(readings, reverse=True)
    assert readings[-1] < 0.3 * readings[0]


def test_heavy_tails_do_not_let_one_image_decide() -> None:
    """Images of very different contrast: one Gaussian for all wires gives a reading far below the truth here."""
    g = seeded()
    features = torch.randn(2000, 200, generator=g) * torch.randn(2000, 1, generator=g).exp()
    found = measured(features, 12.0, steps=0)
    assert found.values["mi_mine_status"] == "ok"
    assert nats(found) > 0.4


def test_groups_are_divided_and_resampled_as_wholes_when_asked() -> None:
    features, sigma = gaussian(1000, 20, 2.0)
    features = features.repeat_interleave(5, 0)
    groups = torch.arange(1000).repeat_interleave(5)
    params = MutualInformationParams(sigma_over_rms=sigma, division="groups", steps=0)
    found = MutualInformation(params).measure(context(features, groups=groups, seed=1)).values
    assert found["mi_n_test"] == 1000
    few = MutualInformation(params).measure(context(features, groups=groups % 8, seed=1))
    assert few.values["mi_mine_status"] == "too_few_images"
    assert "8 independent groups" in str(few.reason)


def test_features_that_are_no_numbers_are_an_error_and_no_figure() -> None:
    features = torch.randn(200, 4, generator=seeded())
    features[5, 1] = float("inf")
    with pytest.raises(ValueError, match="the target has diverged"):
        measured(features, 1.0)


# -- tables of scores -------------------------------------------------------------------------------------------------


def everything(m: int, r: int = 50) -> torch.Tensor:
    return torch.from_numpy(bootstrap_weights(m, r))


def test_all_off_diagonal_pairs_are_independent_ones_and_no_fixed_point_is() -> None:
    """A random permutation keeps about one pair of a batch together, which alone caps the value at ln B."""
    table = torch.eye(200) * 100
    assert float(donsker_varadhan(table)) == pytest.approx(100, abs=1e-4)
    assert not torch.isfinite(off_diagonal(table).diagonal()).any()
    assert int(torch.isfinite(off_diagonal(table)).sum()) == 200 * 199


def test_the_value_is_that_of_all_pairs_and_no_average_over_batches() -> None:
    """Averaging batches of 20 hides the one pair that carries the partition function, in all batches but its own."""
    table = torch.zeros(200, 200)
    table[3, 150] = 30.0
    batches = [donsker_varadhan(table[i : i + 20, i : i + 20]) for i in range(0, 200, 20)]
    assert float(torch.stack(batches).mean()) == pytest.approx(0, abs=1e-6)
    assert float(donsker_varadhan(table)) == pytest.approx(math.log(200 * 199) - 30, abs=1e-3)


def test_info_nce_never_exceeds_the_ceiling_and_the_reading_says_so() -> None:
    reading = read(torch.eye(100) * 1000, everything(100))
    assert reading.nce == pytest.approx(math.log(100))
    assert reading.value == pytest.approx(1000)
    assert status(reading, reading) == "at_ceiling"
    assert float(info_nce(torch.eye(100) * 1000)) <= math.log(100) + 1e-5


def test_a_partition_that_few_pairs_decide_is_flagged() -> None:
    table = torch.zeros(100, 100)
    table[3, 50] = 20.0
    reading = read(table, everything(100))
    assert reading.ess < 2
    assert status(reading, reading) == "low_ess"


def test_a_critic_below_its_own_start_is_flagged() -> None:
    weak, strong = read(torch.zeros(100, 100), everything(100)), read(torch.eye(100) * 3, everything(100))
    assert status(weak, strong) == "critic_limited"
    assert status(strong, strong) == "ok"


def test_resampled_duplicates_are_no_rivals_of_themselves() -> None:
    """A perfect table stays at its ceiling in the resamples: counted twice, an image would pull the limit down."""
    reading = read(torch.eye(100) * 1000, everything(100, 500))
    assert reading.nce_low > math.log(100) - 0.02


def test_the_critic_is_unbounded_and_zero_before_training() -> None:
    """A critic that ends in sigmoid and mean cannot read more than one nat, whatever the truth."""
    residual = Residual(5).requires_grad_(False)
    x, z = torch.randn(2, 30, 5, generator=seeded())
    assert float(residual(x, z).abs().max()) == 0
    last = residual.of_wire[-1]
    assert isinstance(last, torch.nn.Linear)
    torch.nn.init.constant_(last.weight, 1e4)
    assert float(residual(x, z).max()) > 1e3


def test_training_mends_a_start_that_is_wrong() -> None:
    """The defense keeps signs only: a straight line through the clean features explains them badly."""
    features = torch.randn(2500, 6, generator=seeded())
    signs = random_wire(lambda z, g: 3 * (z * 10).tanh() * (1 + 0.01 * torch.randn(z.shape, generator=g)))
    without = nats(measured(features, 2.0, signs, steps=0))
    assert nats(measured(features, 2.0, signs)) > without - 0.02
    assert without > 1


def test_no_best_of_many_evaluations_is_reported_on_test_images() -> None:
    """With nothing to find, training for long and picking the best epoch reads high; here the mean is about zero."""
    features = torch.randn(500, 8, generator=seeded())
    shuffle = random_wire(lambda z, g: z[torch.randperm(len(z), generator=g)])
    readings = [nats(measured(features, 0.5, shuffle, seed=s, steps=200)) for s in range(3)]
    assert abs(sum(readings) / 3) < 0.02


def test_what_validation_chose_does_not_depend_on_the_test_images() -> None:
    features, sigma = gaussian(1000, 20, 2.0)
    ids = torch.arange(1000)
    division = (ids[:600], ids[600:800], ids[800:])
    changed = features.clone()
    changed[800:] = 0
    one, other = (estimate(f, lambda z, _: z, False, sigma, division, seed=3, steps=200) for f in (features, changed))
    assert one.critic == other.critic
    assert one.reading != other.reading


# -- parts ------------------------------------------------------------------------------------------------------------


def test_the_frozen_start_is_the_exact_log_ratio_for_a_gaussian() -> None:
    """Against log N(z; c, I) − log N(z; 0, Σ + I), computed with torch's own densities."""
    d, n = 6, 4000
    deviation = torch.tensor([3.0, 2.0, 1.0, 1.0, 0.5, 0.1])
    features = torch.randn(n, d, generator=seeded()) * deviation
    train = torch.arange(3000)
    channel = reference_channel(features, lambda z, _: z, False, 1.0, train, seeded(1))
    z = channel.draw()
    test = torch.arange(3600, 4000)
    reference = Reference(channel, train, seeded(2))
    reference.fit(z[3000:3600])
    table = reference.table(z[test], test, channel.centres[test])
    normal = torch.distributions.MultivariateNormal
    given = normal(channel.centres[test][None], torch.eye(d)).log_prob(z[test][:, None])
    exact = given - normal(torch.zeros(d), torch.diag(deviation**2 + 1)).log_prob(z[test])[:, None]
    # The kernel part and the fitted weights leave q a little off, by the same amount in a row.
    assert float((table - exact).diagonal().mean().abs()) < 0.15
    differences = (table - exact) - (table - exact)[:, :1]
    assert float(differences.abs().max()) < 1e-3


def test_principal_components_agree_with_the_full_decomposition() -> None:
    x = torch.randn(300, 80, generator=seeded()) * torch.arange(1, 81).float() ** -1
    values, vectors = principal_components(x, 10, seeded(1))
    exact = torch.linalg.eigvalsh(x.T @ x / 300).flip(0)[:10]
    torch.testing.assert_close(values[:6], exact[:6], rtol=0.01, atol=0)
    torch.testing.assert_close(values, exact, rtol=0.1, atol=0)
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(10), atol=1e-4, rtol=0)
    none, _ = principal_components(torch.zeros(20, 5), 10, seeded(1))
    assert len(none) == 0


def test_mixture_weights_find_the_part_that_the_points_come_from() -> None:
    parts = torch.stack([torch.zeros(100), torch.full((100,), -5.0)], dim=1)
    log_weights, score = mixture_weights(parts)
    assert float(log_weights[0].exp()) > 0.98
    assert score == pytest.approx(0, abs=0.02)
    assert float(log_weights.logsumexp(0)) == pytest.approx(0, abs=1e-6)
