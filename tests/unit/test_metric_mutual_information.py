"""The estimator of mutual information: known answers, its limits, and the faults that published estimators have."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from metric_targets import OnTheWire, context

from splitaudit.defense import Defense
from splitaudit.metric import Measurement
from splitaudit.metrics import mutual_information
from splitaudit.metrics._bounds import donsker_varadhan, info_nce, off_diagonal, read, status
from splitaudit.metrics._channel import Wire
from splitaudit.metrics._critic import Residual
from splitaudit.metrics._known import random_sign
from splitaudit.metrics._mine import Estimate, estimate
from splitaudit.metrics._prepared import Settings, prepared
from splitaudit.metrics._reference import mixture_weights
from splitaudit.metrics._tables import Tables
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
    """Measures at one noise, with one short critic unless told otherwise."""
    measure = MutualInformation(MutualInformationParams(sigma_over_rms=sigma, **{"seeds": 1, "steps": 100, **params}))
    return measure.measured(context(features, defense=defense, seed=seed), everywhere=False)


def number(found: Measurement, column: str) -> float:
    value = found.values[column]
    assert isinstance(value, float), (column, value)
    return value


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
        (20, 1.0, 1500, False),
        (50, 3.0, 2000, True),
        pytest.param(50, 5.0, 5000, False, marks=pytest.mark.full),
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
    assert number(found, "mi_lower_nats") <= true * 1.03 <= number(found, "mi_upper_nats") * 1.06
    readable = 0.6 * number(found, "mi_ceiling_nats")
    assert number(found, "mi_twin_true") == pytest.approx(min(true, readable), rel=0.05)
    assert (number(found, "mi_twin_noise") == 1) is (true < readable)
    assert number(found, "mi_recovery") == pytest.approx(1, abs=0.15)


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


def test_constant_features_carry_nothing_and_have_a_status_of_their_own() -> None:
    found = MutualInformation().measure(context(torch.ones(400, 3, 2, 2)))
    assert nats(found) == 0
    assert found.values["mi_mine_status"] == "constant"
    assert found.flags == ("constant features",)
    assert "carry nothing" in str(found.reason)
    bounds = [v for c, v in found.values.items() if c.startswith(("mi_lower_nats", "mi_upper_nats"))]
    assert len(bounds) == 14
    assert set(bounds) == {0.0}


def test_features_that_vary_by_rounding_alone_are_constant() -> None:
    found = measured(1000 + 1e-4 * torch.randn(400, 6, generator=seeded()), 1.0)
    assert found.values["mi_mine_status"] == "constant"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_wire_that_is_independent_of_the_image_reads_zero(seed: int) -> None:
    features, sigma = gaussian(2000, 30, 3.0)
    pure = random_wire(lambda z, g: 3 * torch.randn(z.shape, generator=g))
    assert abs(nats(measured(features, sigma, pure, seed=seed))) <= 0.05


def test_of_shuffled_features_nothing_is_certified_and_no_value_is_given() -> None:
    """An observer who knew the permutation could undo it, which is what the upper bound allows for."""
    features, sigma = gaussian(2000, 30, 3.0)
    found = measured(features, sigma, random_wire(lambda z, g: z[torch.randperm(len(z), generator=g)]))
    assert number(found, "mi_lower_nats") <= 0.05
    assert found.values["mi_mine_status"] == "critic_limited"
    assert found.values["mi_mine_nats"] is None


# -- the wire ---------------------------------------------------------------------------------------------------------


def test_additive_noise_of_the_defense_counts_like_reference_noise() -> None:
    """As much of the one as of the other: the reading is that of the clean wire at √2 times the reference."""
    features, sigma = gaussian(2500, 40, 3.0, falling=True)
    rms = float((features - features.mean(0)).square().mean().sqrt())
    noisy = random_wire(lambda z, g: z + sigma * rms * torch.randn(z.shape, generator=g))
    found = measured(features, sigma, noisy, steps=0)
    assert found.values["channel"] == "additive_gaussian+reference noise"
    same = measured(features, sigma * 2**0.5, steps=0)
    assert nats(found) == pytest.approx(nats(same), rel=0.02)
    for column in ("mi_lower_nats", "mi_upper_nats"):
        assert number(found, column) == pytest.approx(number(same, column), rel=0.02)
    assert nats(found) < 0.8 * nats(measured(features, sigma, steps=0))


def test_a_wire_with_noise_of_its_own_can_be_read_without_reference_noise() -> None:
    features, sigma = gaussian(1500, 20, 2.0)
    rms = float((features - features.mean(0)).square().mean().sqrt())
    own = random_wire(lambda z, g: z + sigma * rms * torch.randn(z.shape, generator=g))
    found = measured(features, 0, own, steps=0)
    assert found.values["channel"] == "additive_gaussian"
    assert nats(found) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("wire", [None, random_wire(lambda z, g: z * (torch.rand(z.shape, generator=g) < 0.5))])
def test_a_wire_without_noise_has_the_status_deterministic_and_never_a_number(wire: Defense | None) -> None:
    found = MutualInformation(MutualInformationParams(sigma_over_rms=0, seeds=1, steps=0)).measure(
        context(torch.randn(400, 12, generator=seeded()), defense=wire)
    )
    assert found.values["mi_mine_status"] == "deterministic"
    for column in ("mi_mine_nats", "mi_mine_lo", "mi_mine_hi", "mi_lower_nats", "mi_upper_nats", "reid_top1"):
        assert found.values[column] is None
    assert "infinitely much" in str(found.reason)
    # The reference noises are declared, so their bounds are there all the same.
    assert number(found, "mi_upper_nats_at_0.25") > number(found, "mi_upper_nats_at_8") > 0


def test_an_upper_bound_for_a_random_mask_is_that_for_an_observer_who_knows_the_mask() -> None:
    """Half of the coordinates cross: given the mask this is a Gaussian channel of half the power, and so is the noise's."""
    features, sigma = gaussian(2500, 40, 4.0)
    known = 20 / 2 * math.log1p(2 / sigma**2)
    mask = random_wire(lambda z, g: z * (torch.rand(z.shape, generator=g) < 0.5))
    found = measured(features, sigma, mask, steps=0)
    assert found.values["channel"] == "stochastic_other+reference noise"
    assert number(found, "mi_upper_nats") == pytest.approx(known, rel=0.35)
    assert number(found, "mi_lower_nats") < known
    # What MINE reads of a mask that it has to guess is far from what one who knows it reads: no value.
    assert found.values["mi_mine_status"] == "critic_limited"


def test_a_reading_of_a_wire_that_the_channel_model_misses_stays_below_the_truth() -> None:
    """A random common sign leaves every centre at 0: the critic reads too little, and the upper bound says how much."""
    features = torch.randn(2500, 5, generator=seeded())
    flip = random_wire(lambda z, g: z * (torch.randint(2, (len(z), 1), generator=g) * 2 - 1))
    found = measured(features, 0.78, flip)
    true = random_sign(5, 0.78)
    assert number(found, "mi_mine_lo") < true
    assert number(found, "mi_upper_nats") > true


@pytest.mark.full
def test_a_random_defense_with_another_shape_is_read_too() -> None:
    """Half of the coordinates cross the wire, with noise as large as the reference's: I is known."""
    features, sigma = gaussian(3000, 40, 4.0)
    rms = float((features - features.mean(0)).square().mean().sqrt())
    act = lambda z, g: z[:, :20] + sigma * rms * torch.randn(z[:, :20].shape, generator=g)  # noqa: E731
    found = measured(features, sigma, OnTheWire(act, stochastic=True, shape=(20,)))
    true = 20 / 2 * math.log1p(1 / (2 * sigma**2))
    # The centres are known only from some draws, and the bound's observer knows the noise: limits, no value.
    assert 0.5 * true < number(found, "mi_lower_nats") < true < number(found, "mi_upper_nats")
    assert found.values["mi_mine_status"] == "critic_limited"


def test_a_deterministic_defense_is_part_of_the_channel_and_information_falls() -> None:
    features, sigma = gaussian(2500, 40, 3.0)
    half = OnTheWire(lambda z, _: z[:, :20], stochastic=False, shape=(20,))
    found = measured(features, sigma, half)
    assert found.values["channel"] == "deterministic+reference noise"
    assert nats(found) == pytest.approx(1.5, rel=0.1)


def test_the_scale_of_the_features_does_not_matter() -> None:
    features, sigma = gaussian(1500, 20, 2.0)
    a, *others = (nats(measured(k * features, sigma, steps=0)) for k in (1, 1000, 1e30, 1e-30))
    assert a == pytest.approx(2, rel=0.1)
    assert others == pytest.approx([a] * 3, abs=0.02)


def test_the_scale_of_a_noisy_wire_does_not_matter_either() -> None:
    features, sigma = gaussian(1500, 20, 2.0)
    found = []
    for k in (1.0, 1e25):
        noisy = random_wire(lambda z, g, k=k: z + k * torch.randn(z.shape, generator=g))
        found.append(measured(k * features, sigma, noisy, steps=0))
    assert [f.values["channel"] for f in found] == ["additive_gaussian+reference noise"] * 2
    assert nats(found[1]) == pytest.approx(nats(found[0]), abs=0.02)


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
    found = MutualInformation(params).measured(context(features, groups=groups, seed=1), everywhere=False).values
    assert found["mi_n_test"] == 1000
    few = MutualInformation(params).measure(context(features, groups=groups % 8, seed=1))
    assert few.values["mi_mine_status"] == "too_few_images"
    assert "8 independent groups" in str(few.reason)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_have_the_status_invalid_and_no_figure(bad: float) -> None:
    features = torch.randn(200, 4, generator=seeded())
    features[5, 1] = bad
    found = MutualInformation().measure(context(features))
    assert found.values["mi_mine_status"] == "invalid"
    assert "the target has diverged" in str(found.reason)
    assert found.flags == ("mutual information: invalid",)
    known = {"mi_mine_status", "mi_sigma_over_rms", "mi_selftest"}
    assert {c for c, v in found.values.items() if v is not None} == known


def test_a_defense_that_sends_no_numbers_is_invalid_too() -> None:
    broken = OnTheWire(lambda z, _: z / 0 * 0, stochastic=False)
    assert measured(torch.randn(200, 4, generator=seeded()), 1.0, broken).values["mi_mine_status"] == "invalid"


def test_too_few_images_are_a_status_with_its_reason() -> None:
    found = MutualInformation().measure(context(torch.randn(60, 4, generator=seeded())))
    assert found.values["mi_mine_status"] == "too_few_images"
    assert "60 images are too few" in str(found.reason)
    assert found.values["mi_mine_nats"] is None


def test_a_part_of_one_class_is_measured_like_any_other() -> None:
    features, sigma = gaussian(500, 10, 1.0)
    measure = MutualInformation(MutualInformationParams(sigma_over_rms=sigma, seeds=1, steps=0))
    one, two = (measure.measured(context(features, classes=n, seed=1), everywhere=False) for n in (1, 2))
    assert one == two


def test_features_too_large_for_memory_are_reduced_named_and_bounded_from_below_only() -> None:
    """Smooth maps keep most of their information in block means; the noise stays the one that was declared."""
    g = seeded()
    fine = torch.randn(600, 2, 4, 4, generator=g)
    features = torch.nn.functional.interpolate(fine, size=(32, 32), mode="bilinear").contiguous()
    params = {"sigma_over_rms": 24.0, "seeds": 1, "steps": 0}
    whole = MutualInformation(MutualInformationParams(**params)).measure(context(features))
    small = MutualInformation(MutualInformationParams(**params, memory_mb=1)).measure(context(features))
    assert whole.values["mi_projection"] == "none"
    assert small.values["mi_projection"] == "block means of 4 x 4 positions: 128 of 2048 numbers"
    assert small.values["channel"] == "deterministic+reference noise, projected"
    assert small.flags[0].startswith("features were reduced: block means")
    assert "no upper bound" in str(small.reason)
    assert all(v is None for c, v in small.values.items() if c.startswith("mi_upper"))
    low = number(small, "mi_lower_nats")
    assert 0.6 * number(whole, "mi_lower_nats") < low < number(whole, "mi_upper_nats")


def test_a_failed_self_test_leaves_no_numbers_and_says_why() -> None:
    features, sigma = gaussian(500, 10, 1.0)
    at = context(features)
    at.extra = {"self_tests": {"mutual_information": "failed: 10 Gaussian features: read 7.00 nats of 1.00"}}
    measure = MutualInformation(MutualInformationParams(sigma_over_rms=sigma, seeds=1, steps=0))
    measure.name = "mutual_information"
    found = measure.measure(at)
    assert found.reason == "n/a (self-test failed: 10 Gaussian features: read 7.00 nats of 1.00)"
    assert found.values["mi_mine_status"] == "invalid"
    assert not any(isinstance(v, float) for c, v in found.values.items() if c != "mi_sigma_over_rms")
    at.extra = {"self_tests": {"mutual_information": "passed"}}
    assert measure.measured(at, everywhere=False).values["mi_selftest"] == "passed"


# -- bounds at the reference noises -----------------------------------------------------------------------------------


def test_bounds_at_the_reference_noises_hold_the_truth_and_only_the_lower_ones_saturate() -> None:
    features = torch.randn(1500, 30, generator=seeded())
    found = MutualInformation(MutualInformationParams(sigma_over_rms=8, seeds=1, steps=0)).measure(context(features))
    ceiling = number(found, "mi_ceiling_nats")
    for noise in (8, 4, 2, 1, 0.5, 0.25):
        true = 30 / 2 * math.log1p(1 / noise**2)
        low, high = number(found, f"mi_lower_nats_at_{noise}"), number(found, f"mi_upper_nats_at_{noise}")
        assert low <= min(true + 0.05, ceiling)
        assert true - 0.1 < high < 1.1 * true + 0.3
        expected = "at_ceiling" if true > 7 else "ok"
        assert found.values[f"mi_lower_status_at_{noise}"] == expected
    # ½·30·ln(1 + 1/s²) = 3 at s = 2.13.
    assert number(found, "sigma_at_3nats_lo") <= 2.13 * 1.02 <= number(found, "sigma_at_3nats_hi") * 1.04
    assert number(found, "sigma_at_3nats") == pytest.approx(2.13, rel=0.05)


def test_re_identification_stays_below_what_fano_allows() -> None:
    features, sigma = gaussian(1500, 30, 3.0)
    found = measured(features, sigma, steps=0)
    assert 3 / 300 < number(found, "reid_top1") <= number(found, "reid_top1_max")
    assert number(found, "reid_top1_max") == pytest.approx(
        (number(found, "mi_upper_nats") + math.log(2)) / math.log(300), rel=1e-6
    )
    easy = measured(features, sigma / 30, steps=0)
    assert number(easy, "reid_top1") == 1
    assert number(easy, "reid_top1_max") == 1


def test_the_value_of_several_seeds_is_their_median_and_one_that_cannot_be_read_censors_all() -> None:
    one = read(torch.eye(100) * 3, everything(100))
    readings = tuple(replace(one, value=v) for v in (2.0, 9.0, 1.0))
    assert Estimate(readings, one, ("trained",) * 3).median == 0
    assert Estimate(readings[:2], one, ("trained",) * 2).median == 0
    features = torch.randn(600, 6, generator=seeded())
    found = measured(features, 2.0, seeds=2, steps=50)
    assert found.values["mi_seeds"] == 2
    assert nats(found) > 0
    fine = replace(one, value=2.6, low=2.4, high=2.8)
    bad = (fine, replace(fine, ess=3.0), fine)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            mutual_information, "estimate", lambda *_, **__: Estimate(bad, replace(one, nce_low=1.0), ("trained",) * 3)
        )
        censored = measured(features, 0.8)
    assert censored.values["mi_mine_status"] == "low_ess"
    assert censored.values["mi_mine_nats"] is None


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


@pytest.mark.full
def test_training_mends_a_start_that_is_wrong() -> None:
    """The defense keeps signs only: a straight line through the clean features explains them badly."""
    features = torch.randn(2500, 6, generator=seeded())
    signs = random_wire(lambda z, g: 3 * (z * 10).tanh() * (1 + 0.01 * torch.randn(z.shape, generator=g)))
    noise = 2.0 / 2.87  # what is sent is 2.87 times as large as the features
    without = nats(measured(features, noise, signs, steps=0))
    assert nats(measured(features, noise, signs)) > without - 0.02
    assert without > 1


@pytest.mark.full
def test_no_best_of_many_evaluations_is_reported_on_test_images() -> None:
    """With nothing to find, training for long and picking the best epoch reads high; here the mean is about zero."""
    features = torch.randn(500, 8, generator=seeded())
    shuffle = random_wire(lambda z, g: z[torch.randperm(len(z), generator=g)])
    readings = []
    for seed in range(3):
        # The measure gives no value of a channel that is only modelled; the estimator behind it has one.
        ready = prepared(context(features, defense=shuffle, seed=seed), Settings())
        result = estimate(ready.tables, 0.5, ready.weights(50, seed), seed, seeds=1, steps=200)
        readings.append(result.readings[result.median].value)
    assert abs(sum(readings) / 3) < 0.02


@pytest.mark.full
def test_what_validation_chose_does_not_depend_on_the_test_images() -> None:
    features, sigma = gaussian(1000, 20, 2.0)
    ids = torch.arange(1000)
    division = (ids[:600], ids[600:800], ids[800:])
    changed = features.clone()
    changed[800:] = 0
    weights = everything(200)
    wires = (Wire("deterministic", f, torch.zeros(())) for f in (features, changed))
    one, other = (estimate(Tables(w, division, 3), sigma, weights, 3, steps=200) for w in wires)
    assert one.critics == other.critics
    assert one.readings != other.readings


# -- parts ------------------------------------------------------------------------------------------------------------


def test_the_frozen_start_is_the_exact_log_ratio_for_a_gaussian() -> None:
    """Against log N(z; c, I) − log N(z; 0, Σ + I), computed with torch's own densities."""
    d, n = 6, 4000
    deviation = torch.tensor([3.0, 2.0, 1.0, 1.0, 0.5, 0.1])
    features = torch.randn(n, d, generator=seeded()) * deviation
    ids = torch.arange(n)
    tables = Tables(Wire("deterministic", features, torch.zeros(())), (ids[:3000], ids[3000:3600], ids[3600:]), 1)
    view = tables.at(1.0)
    table = view.reference.table(view.test)
    centres = features[3600:]
    z = centres + tables._drawn[600:]
    normal = torch.distributions.MultivariateNormal
    given = normal(centres[None], torch.eye(d)).log_prob(z[:, None])
    exact = given - normal(torch.zeros(d), torch.diag(deviation**2 + 1)).log_prob(z)[:, None]
    # The kernel part and the fitted weights leave q a little off, by the same amount in a row.
    assert float((table - exact).diagonal().mean().abs()) < 0.15
    differences = (table - exact) - (table - exact)[:, :1]
    assert float(differences.abs().max()) < 1e-3
    assert (
        float(
            (view.test.given - (given - normal(torch.zeros(d), torch.eye(d)).log_prob(z)[:, None]).diagonal())
            .abs()
            .max()
        )
        < 1e-3
    )


def test_every_estimate_of_the_wires_density_is_a_density() -> None:
    """By importance sampling from a wider Gaussian: its integral is 1, or the upper bound would be none."""
    ids = torch.arange(3000)
    features = torch.randn(3000, 3, generator=seeded()) * torch.tensor([2.0, 1.0, 0.1])
    tables = Tables(Wire("deterministic", features, torch.zeros(())), (ids[:600], ids[600:1000], ids[1000:]), 1)
    view = tables.at(1.0)
    # Wires with these very coordinates, put in the place of the test wires.
    wide = 3.0
    z = wide * torch.randn(2000, 3, generator=seeded(1))
    basis, _ = tables.spectrum(1.0)
    kernel = (z @ features[:600].T - features[:600].square().sum(1) / 2).logsumexp(1) - math.log(600)
    scores = replace(view.test, kernel=kernel, wires=z @ basis.vectors, squares=z.square().sum(1).double())
    proposal = torch.distributions.Normal(0, wide).log_prob(z).sum(1) - torch.distributions.Normal(0, 1).log_prob(
        z
    ).sum(1)
    for form, log_q in view.reference.log_densities(scores).items():
        assert float((log_q - proposal).exp().mean()) == pytest.approx(1, abs=0.08), form


def test_mixture_weights_find_the_part_that_the_points_come_from() -> None:
    parts = torch.stack([torch.zeros(100), torch.full((100,), -5.0)], dim=1)
    log_weights, score = mixture_weights(parts)
    assert float(log_weights[0].exp()) > 0.98
    assert score == pytest.approx(0, abs=0.02)
    assert float(log_weights.logsumexp(0)) == pytest.approx(0, abs=1e-6)


# -- the scale of what is sent ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.2, 5.0])
def test_a_factor_inside_a_defense_changes_nothing(factor: float) -> None:
    """Set against the clean features, the noise would drown a wire that is five times smaller and carries the same."""
    features, sigma = gaussian(2500, 40, 3.0, falling=True)
    plain = measured(features, sigma, steps=0)
    scaled = measured(features, sigma, OnTheWire(lambda z, _: factor * z, stochastic=False), steps=0)
    for column in ("mi_lower_nats", "mi_upper_nats", "mi_mine_nats", "mi_cap_nats"):
        assert number(scaled, column) == pytest.approx(number(plain, column), rel=1e-3)


def test_rescaled_dropout_carries_as_much_as_dropout() -> None:
    features, sigma = gaussian(2500, 200, 3.0)

    def dropout(gain: float) -> Measurement:
        return measured(
            features, sigma, random_wire(lambda z, g: gain * z * (torch.rand(z.shape, generator=g) < 0.2)), steps=0
        )

    kept, rescaled = dropout(1.0), dropout(5.0)
    for column in ("mi_lower_nats", "mi_upper_nats"):
        assert number(rescaled, column) == pytest.approx(number(kept, column), rel=1e-3)


def test_a_defense_that_sends_everything_or_nothing_has_no_upper_bound() -> None:
    """One set of its random numbers, held fixed, is either all or nothing: no mean over them."""
    features, sigma = gaussian(2500, 40, 3.0)
    found = measured(
        features, sigma, random_wire(lambda z, g: z * (torch.rand((len(z), 1), generator=g) < 0.5)), steps=0
    )
    assert found.values["mi_upper_nats"] is None
    assert "decide how much is sent at all" in (found.reason or "")
    assert number(found, "mi_lower_nats") > 0.1


def test_features_that_vary_on_few_images_are_not_called_constant() -> None:
    features = torch.zeros(1000, 8)
    features[::20] = torch.randn(50, 8, generator=seeded())
    found = measured(features, 1.0, steps=0)
    assert found.values["mi_mine_status"] != "constant"
    assert number(found, "mi_upper_nats") > 0


def test_a_defense_that_sends_the_same_for_every_image_is_constant() -> None:
    features, sigma = gaussian(1000, 20, 3.0)
    found = measured(features, sigma, OnTheWire(lambda z, _: torch.ones_like(z), stochastic=False), steps=0)
    assert (found.values["mi_mine_status"], found.values["mi_mine_nats"]) == ("constant", 0.0)
    assert "what the defense sends is the same" in (found.reason or "")


def test_mine_is_not_read_on_a_handful_of_test_images() -> None:
    features, sigma = gaussian(400, 10, 0.3)
    found = measured(features, sigma, steps=0)
    assert found.values["mi_mine_status"] == "too_few_images"
    assert found.values["mi_mine_nats"] is None
    assert number(found, "mi_upper_nats") > 0.2


def test_the_cap_is_what_white_gaussian_features_of_that_size_carry() -> None:
    features, sigma = gaussian(3000, 40, 3.0)
    found = measured(features, sigma, steps=0)
    assert number(found, "mi_cap_nats") == pytest.approx(3.0, rel=0.02)
    assert number(found, "mi_mine_nats") <= number(found, "mi_cap_nats") * 1.05
