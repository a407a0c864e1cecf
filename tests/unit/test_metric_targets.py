"""Measures of a target: accuracy, cost, latency, effective information volume, entropy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from metric_targets import OnTheWire, context
from torch import nn

from splitaudit.data.base import Part
from splitaudit.defense import Defense
from splitaudit.metric import Measure, MeasureContext
from splitaudit.metrics._coding import Code
from splitaudit.metrics._splits import TooFew, divide
from splitaudit.metrics.accuracy import Accuracy
from splitaudit.metrics.cost import Cost, edge_parameters
from splitaudit.metrics.effective_information_volume import EffectiveInformationVolume
from splitaudit.metrics.entropy import Entropy, EntropyParams
from splitaudit.metrics.fisher_information import FisherInformation
from splitaudit.metrics.latency import Latency, LatencyParams
from splitaudit.metrics.reconstruction_floor import ReconstructionFloor
from splitaudit.models.cnn4 import CNN4, CNN4Params
from splitaudit.params import Params
from splitaudit.plugins import METRICS
from splitaudit.split import SplitInfo, SplitModel, cut_blocks

MEASURES = [
    "accuracy",
    "cost",
    "latency",
    "effective_information_volume",
    "entropy",
    "mutual_information",
    "reconstruction_floor",
]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def maps(n: int = 200, channels: int = 3, side: int = 4) -> torch.Tensor:
    return torch.randn(n, channels, side, side, generator=seeded()).relu()


def noise(sigma: float) -> OnTheWire:
    return OnTheWire(lambda z, g: z + sigma * torch.randn(z.shape, generator=g), stochastic=True)


def cnn4(cut: str, channels: int = 3, defense: Defense | None = None, width: int = 64) -> MeasureContext:
    shape = (channels, 64, 64)
    info = SplitInfo("cnn4", cut, shape, 10)
    blocks = CNN4(CNN4Params(width=width)).blocks(shape, 10)
    split = cut_blocks(blocks, info, torch.full((channels,), 0.5), torch.ones(channels))
    part = Part(torch.zeros(4, *shape, dtype=torch.uint8), torch.zeros(4, dtype=torch.long))
    return MeasureContext(SplitModel(split, defense or Defense(Params())).eval(), part, 0, torch.device("cpu"))


@pytest.mark.parametrize("name", MEASURES)
def test_a_measure_fills_its_declared_columns_and_repeats_itself(name: str) -> None:
    cls = METRICS.get(name)
    measure = cls(cls.Params(**cls.cheap()))
    assert isinstance(measure, Measure)
    before = torch.random.get_rng_state()
    first, second = (measure.measure(context(maps(), defense=noise(0.1), cloud=nn.Flatten())) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert set(first.values) == set(measure.columns)
    repeatable = [c for c, column in measure.columns.items() if not column.timing]
    assert {c: first.values[c] for c in repeatable} == {c: second.values[c] for c in repeatable}
    assert all(math.isfinite(v) for v in first.values.values() if isinstance(v, int | float))


# -- accuracy ---------------------------------------------------------------------------------------------------------


def test_accuracy_is_the_share_of_right_answers_and_comes_with_each_images_own() -> None:
    logits = torch.eye(2).repeat(50, 1)
    labels = torch.arange(100) % 2
    labels[:10] = 1 - labels[:10]
    found = Accuracy().measure(context(logits, labels=labels))
    assert found.values == {"accuracy": 0.9, "accuracy_n": 100, "accuracy_chance": 0.5}
    assert found.per_image["accuracy"] == [0.0] * 10 + [1.0] * 90
    assert found.flags == ()


def test_accuracy_goes_through_the_defended_wire() -> None:
    logits = torch.eye(2).repeat(50, 1)
    swap = OnTheWire(lambda z, _: z.flip(1), stochastic=False)
    assert Accuracy().measure(context(logits, labels=torch.arange(100) % 2, defense=swap)).values["accuracy"] == 0


def test_accuracy_of_a_random_defense_is_the_mean_over_five_draws() -> None:
    logits = torch.eye(2).repeat(100, 1)
    found = Accuracy().measure(context(logits, labels=torch.arange(200) % 2, defense=noise(1.0)))
    shares = {round(5 * v, 9) for v in found.per_image["accuracy"]}
    assert shares <= {0, 1, 2, 3, 4, 5}
    assert len(shares) > 2
    # Two noises of deviation 1 against a difference of 1.
    expected = 0.5 * (1 + math.erf(1 / 2))
    assert found.values["accuracy"] == pytest.approx(expected, abs=4 * (0.19 / 1000) ** 0.5)


@pytest.mark.parametrize(
    ("wrong", "flags"), [(44, ("accuracy at chance (0.5)",)), (42, ("accuracy at chance (0.5)",)), (30, ())]
)
def test_accuracy_that_chance_explains_is_flagged(wrong: int, flags: tuple[str, ...]) -> None:
    labels = torch.arange(100) % 2
    labels[:wrong] = 1 - labels[:wrong]
    found = Accuracy().measure(context(torch.eye(2).repeat(50, 1), labels=labels))
    assert found.flags == flags
    assert found.values["accuracy_chance"] == 0.5


def test_crops_of_one_tile_are_no_independent_evidence_that_a_task_was_learnt() -> None:
    """Five of eight tiles are right throughout: 0.625 of 160 crops, which would exclude a half if each stood for itself."""
    tiles = torch.arange(8).repeat_interleave(20)
    labels = torch.arange(160) % 2
    answers = torch.where(tiles < 5, labels, 1 - labels)
    logits = torch.eye(2)[answers]
    assert Accuracy().measure(context(logits, labels=labels)).flags == ()
    found = Accuracy().measure(context(logits, labels=labels, groups=tiles))
    assert found.values["accuracy"] == 0.625
    assert found.flags == ("accuracy at chance (0.5)",)


@pytest.mark.parametrize("seen", [1.0, 0.0])
def test_chance_is_what_the_best_constant_answer_reaches_on_the_measured_images(seen: float) -> None:
    """Of 100 images 80 are of one class: a target that always says so has learnt nothing, whatever 1/K is."""
    labels = (torch.arange(100) >= 80).long()
    found = Accuracy().measure(context(torch.tensor([[seen, 1 - seen]]).repeat(100, 1), labels=labels))
    assert found.values == {"accuracy": 0.8 if seen else 0.2, "accuracy_n": 100, "accuracy_chance": 0.8}
    assert found.flags == ("accuracy at chance (0.8)",)


@pytest.mark.parametrize(("right", "flags"), [(True, ()), (False, ("accuracy at chance (0.5)",))])
def test_an_accuracy_of_0_is_at_chance_and_one_of_1_is_not(right: bool, flags: tuple[str, ...]) -> None:
    labels = torch.arange(40) % 2
    logits = torch.eye(2)[labels if right else 1 - labels]
    assert Accuracy().measure(context(logits, labels=labels, groups=torch.arange(40) // 4)).flags == flags
    # Two tiles that are all right are what a guess between two classes reaches in every fourth case.
    few = Accuracy().measure(context(logits, labels=labels, groups=torch.arange(40) // 20))
    assert few.flags == ("accuracy at chance (0.5)",)


# -- cost and latency -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cut", "channels", "parameters", "flops", "wire"),
    [
        ("block1", 3, 1_920, 14_155_776, "64x32x32"),
        ("block2", 3, 76_032, 165_150_720, "128x16x16"),
        ("block2", 1, 74_880, 155_713_536, "128x16x16"),
    ],
)
def test_cost_of_the_siftfunnel_papers_cnn(cut: str, channels: int, parameters: int, flops: int, wire: str) -> None:
    """Values counted on the official code of arXiv 2501.00824 at 64 px."""
    found = Cost().measure(cnn4(cut, channels)).values
    assert found["edge_parameters"] == parameters
    assert found["edge_flops"] == flops
    assert found["edge_macs"] == flops // 2
    assert found["wire_shape"] == wire
    assert found["wire_elements"] == math.prod(int(n) for n in wire.split("x"))
    assert found["wire_bytes"] == 4 * math.prod(int(n) for n in wire.split("x"))


def test_cost_of_edge_and_cloud_add_up_to_the_whole_at_every_cut() -> None:
    whole = set()
    for cut in ("block1", "block3"):
        found = Cost().measure(cnn4(cut, width=4)).values
        edge, cloud = found["edge_macs"], found["cloud_macs"]
        assert isinstance(edge, int)
        assert isinstance(cloud, int)
        whole.add(edge + cloud)
    assert len(whole) == 1


class Shrink(Defense):
    """A 1×1 convolution on the wire, and a helper that stays at home."""

    helpers = ("critic",)

    def __init__(self) -> None:
        super().__init__(Params())
        self.down = nn.Conv2d(4, 2, 1)
        self.critic = nn.Linear(1000, 1000)

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (2, *feature_shape[1:])

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.down(z)


def test_cost_of_the_edge_includes_the_defense_on_the_wire_and_not_its_helpers() -> None:
    plain, target = cnn4("block1", width=4), cnn4("block1", width=4, defense=Shrink())
    target.model.cloud = nn.Sequential(nn.Flatten(), nn.Linear(2 * 32 * 32, 10))
    assert edge_parameters(target.model) == edge_parameters(plain.model) + 4 * 2 + 2
    found, without = Cost().measure(target).values, Cost().measure(plain).values
    assert found["edge_macs"] == int(without["edge_macs"] or 0) + 4 * 2 * 32 * 32
    assert found["wire_shape"] == "2x32x32"
    assert found["cloud_macs"] == 2 * 32 * 32 * 10


def test_latency_is_quiet_timed_and_names_the_machine() -> None:
    found = Latency().measure(cnn4("block1", width=4))
    median, high = found.values["edge_latency_median_ms"], found.values["edge_latency_p95_ms"]
    assert isinstance(median, float)
    assert isinstance(high, float)
    assert 0 < median <= high
    assert found.values["latency_processor"]
    assert found.values["latency_threads"] == torch.get_num_threads()
    assert Latency.quiet
    assert all(c.timing for c in Latency.columns.values())


def test_latency_of_a_slow_edge_stops_in_time_and_says_that_it_had_few_passes() -> None:
    found = Latency(LatencyParams(seconds=1e-9)).measure(context(maps()))
    assert found.values["latency_runs"] == 2
    assert found.values["latency_note"] == "from 2 passes only"
    # A flag would make the tables of two runs of the same thing differ: how many passes fit depends on the machine's load.
    assert found.flags == ()


# -- effective information volume -------------------------------------------------------------------------------------


def test_effective_information_volume_counts_non_zero_elements_per_image() -> None:
    z = maps()
    found = EffectiveInformationVolume().measure(context(z))
    assert found.values["effective_information_volume"] == int((z != 0).sum()) / len(z)
    assert found.values["eiv_nonzero_share"] == pytest.approx(0.5, abs=0.02)
    assert found.flags == ()


def test_effective_information_volume_of_a_fixture_of_cosines() -> None:
    """z = max(0, cos(.61b + .9c + .4h − .3w + .07bw)), 8×4×8×8: 129.125 by the official code of arXiv 2501.00824."""
    b, c, h, w = (
        torch.arange(n).double().reshape([-1 if i == a else 1 for i in range(4)]) for a, n in enumerate((8, 4, 8, 8))
    )
    z = torch.cos(0.61 * b + 0.9 * c + 0.4 * h - 0.3 * w + 0.07 * b * w).clamp(min=0)
    found = EffectiveInformationVolume().measure(context(z))
    assert found.values["effective_information_volume"] == 129.125


def test_effective_information_volume_of_noisy_features_is_flagged_as_meaningless() -> None:
    found = EffectiveInformationVolume().measure(context(maps(), defense=noise(1e-3)))
    assert found.values["effective_information_volume"] == 3 * 4 * 4
    assert "says nothing here" in found.flags[0]
    assert "random defense" in found.flags[0]


def eiv(z: torch.Tensor, defense: Defense | None = None) -> dict[str, float]:
    found = EffectiveInformationVolume().measure(context(z, defense=defense)).values
    return {k: float(v) for k, v in found.items() if isinstance(v, float | int)}


def test_bits_of_effective_information_volume_are_the_gaussian_information_over_the_noise() -> None:
    """20 features over noise of half their deviation: ½·20·log₂(1 + 4) bits; the 8-bit steps add next to nothing."""
    z = 3 * torch.randn(1500, 20, generator=seeded())
    found = eiv(z, noise(1.5))
    assert found["eiv_bits"] == pytest.approx(10 * math.log2(5), rel=0.03)
    assert found["eiv_dims"] == pytest.approx(20, rel=0.02)


def test_bits_over_8_bit_steps_count_the_bits_of_every_feature() -> None:
    """Uniform features fill their range: the variance is range²/12, the floor (range/255)²/12, so log₂ 255 bits each."""
    z = torch.rand(1500, 6, generator=seeded())
    assert eiv(z)["eiv_bits"] == pytest.approx(6 * math.log2(255), rel=0.02)


def test_fewer_images_than_features_do_not_inflate_bits_or_dimensions() -> None:
    """Plug-in variances of 200 images in 1,000 dimensions would promise 200 dimensions; there are 5."""
    basis = torch.linalg.qr(torch.randn(1000, 5, generator=seeded())).Q
    z = torch.randn(300, 5, generator=seeded(1)) @ basis.T
    assert eiv(z)["eiv_dims"] == pytest.approx(5, rel=0.15)
    noisy = z + 0.01 * torch.randn(300, 1000, generator=seeded(2))
    assert eiv(noisy, noise(1.0))["eiv_bits"] == pytest.approx(5 / 2, rel=0.25)


def test_effective_dimensions_do_not_change_with_noise_on_the_wire_and_the_count_does() -> None:
    z = maps()
    clean, noisy = eiv(z), eiv(z, noise(0.1))
    assert noisy["eiv_dims"] == pytest.approx(clean["eiv_dims"], rel=1e-3)
    assert noisy["effective_information_volume"] == pytest.approx(48)
    assert noisy["eiv_bits"] < clean["eiv_bits"]


@pytest.mark.parametrize("name", ["eiv_bits", "eiv_dims"])
def test_intervals_of_bits_and_dimensions_are_as_wide_as_other_images_would_move_them(name: str) -> None:
    """Fails if it is the scatter of something else, or of the variances of train images."""
    scale = torch.linspace(3, 0.1, 24)
    drawn = [eiv(torch.randn(1000, 24, generator=seeded(i)) * scale, noise(1.0)) for i in range(16)]
    # Other images also move the directions, which the interval holds fixed, but hardly at 600 images in 24 dimensions.
    scatter = float(torch.tensor([d[name] for d in drawn]).std())
    reach = sum(d[f"{name}_hi"] - d[name] for d in drawn) / len(drawn) / 1.96
    assert 0.6 * scatter < reach < 1.7 * scatter
    assert all(d[f"{name}_lo"] < d[name] < d[f"{name}_hi"] for d in drawn)


def test_the_count_of_non_zeros_is_there_for_every_image() -> None:
    z = maps()
    found = EffectiveInformationVolume().measure(context(z))
    assert found.per_image == {"effective_information_volume": (z != 0).flatten(1).sum(1).tolist()}


def test_effective_information_volume_of_constant_features_is_0_bits_in_0_dimensions() -> None:
    found = eiv(torch.ones(200, 3, 4, 4))
    assert (found["eiv_bits"], found["eiv_dims"], found["effective_information_volume"]) == (0, 0, 48)


def test_effective_information_volume_of_a_random_mask_is_not_flagged() -> None:
    mask = OnTheWire(lambda z, g: z * (torch.rand(z.shape, generator=g) < 0.5), stochastic=True)
    found = EffectiveInformationVolume().measure(context(maps(), defense=mask))
    assert found.values["eiv_nonzero_share"] == pytest.approx(0.25, abs=0.02)
    assert found.flags == ()


# -- entropy ----------------------------------------------------------------------------------------------------------


def bits(z: torch.Tensor, defense: Defense | None = None) -> tuple[float, float, float]:
    v = Entropy().measure(context(z, defense=defense)).values
    values = [v["entropy_bits"], v["entropy_bits_indep"], v["entropy_bits_se"]]
    assert all(isinstance(x, float) for x in values)
    return tuple(float(x) for x in values if isinstance(x, float))  # type: ignore[return-value]


def test_entropy_of_uniform_independent_levels_is_known() -> None:
    """2,000 images of 4 × 4 × 4 elements, each one of 16 equally probable levels: 4 bits an element."""
    z = torch.randint(0, 16, (2000, 4, 4, 4), generator=seeded()).float()
    context_code, alone, error = bits(z)
    assert alone == pytest.approx(4 * 64, rel=0.005)
    assert 4 * 64 * 0.999 < context_code < 4 * 64 * 1.05
    assert error < 0.1


def test_neighbours_shorten_the_code_of_smooth_maps_and_not_that_of_vectors() -> None:
    fine = torch.randn(300, 2, 3, 3, generator=seeded())
    smooth = nn.functional.interpolate(fine, size=(12, 12), mode="bilinear")
    context_code, alone, _ = bits(smooth)
    assert context_code < 0.95 * alone
    context_code, alone, _ = bits(smooth.flatten(1))
    assert context_code == alone


def test_constant_features_cost_next_to_nothing() -> None:
    assert bits(torch.ones(200, 3, 4, 4))[0] < 0.1


def test_entropy_does_not_depend_on_the_scale_of_the_features_and_rises_with_noise() -> None:
    z = maps(300)
    assert bits(1000 * z)[0] == pytest.approx(bits(z)[0], rel=1e-3)
    assert bits(z, noise(0.5))[0] > 1.1 * bits(z)[0]


def test_the_code_is_a_code_whatever_it_meets() -> None:
    """Probabilities of all levels add up to 1 in every context, and values beyond the fitted range are clipped."""
    z = maps(100).numpy()
    code = Code(z)
    np.testing.assert_allclose((2.0**-code._bits).sum(-1), 1, rtol=1e-9)
    np.testing.assert_allclose((2.0**-code._alone).sum(-1), 1, rtol=1e-9)
    assert np.isfinite(code.lengths(1e6 * z - 5)[0]).all()


def test_entropy_of_too_few_images_is_missing_with_the_reason() -> None:
    found = Entropy().measure(context(maps(60)))
    assert set(found.values.values()) == {None}
    assert "60 images are too few" in str(found.reason)


@pytest.mark.parametrize("measure", [Entropy, EffectiveInformationVolume, FisherInformation, ReconstructionFloor])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_no_numbers_give_no_figure_and_the_reason(measure: type[Measure], bad: float) -> None:
    z = maps()
    z[3, 0, 0, 0] = bad
    found = measure().measure(context(z))
    assert set(found.values.values()) == {None}
    assert "the target has diverged" in str(found.reason)
    assert found.flags[0].endswith(": invalid")


def test_noise_bits_are_the_entropy_of_quantised_noise() -> None:
    """Constant levels in mid-range plus noise of three steps: ½ log₂(2πe·9) bits an element, and nothing else is sent."""
    z = torch.zeros(400, 2, 4, 4)
    z[:, :, 0, 0] = torch.linspace(-1, 1, 400)[:, None]  # sets the range; the noise is 3/255 of it
    found = Entropy().measure(context(z, defense=noise(3 * 2 / 255))).values
    bits = found["noise_bits"]
    assert isinstance(bits, float)
    assert bits == pytest.approx(32 * 0.5 * math.log2(2 * math.pi * math.e * 9), rel=0.03)
    assert Entropy().measure(context(z)).values["noise_bits"] == 0


def test_what_is_left_of_the_code_after_the_noise_bounds_the_information_from_above() -> None:
    """32 Gaussian features over noise as large carry 11.1 nats; the code is some bits longer than it would have to be."""
    z = torch.randn(2000, 2, 4, 4, generator=seeded())
    found = Entropy().measure(context(z, defense=noise(1.0))).values
    upper = found["mi_upper_nats_8bit"]
    assert isinstance(upper, float)
    assert 32 / 2 * math.log(2) < upper < 1.5 * 32 / 2 * math.log(2)


def test_the_noise_of_a_mask_has_no_known_entropy() -> None:
    mask = OnTheWire(lambda z, g: z * (torch.rand(z.shape, generator=g) < 0.5), stochastic=True)
    found = Entropy().measure(context(maps(), defense=mask))
    assert found.values["noise_bits"] is None
    assert "additive Gaussian noise only" in str(found.reason)
    assert isinstance(found.values["mi_upper_nats_8bit"], float)


def test_the_mean_absolute_activation_is_what_the_published_code_calls_entropy() -> None:
    z = maps()
    assert Entropy().measure(context(z)).values["mean_abs_activation"] == pytest.approx(float(z.abs().mean()), rel=1e-6)


def test_entropy_of_features_too_large_for_memory_uses_fewer_images_and_says_so() -> None:
    z = maps(300, channels=8, side=16)
    found = Entropy(EntropyParams(memory_mb=1)).measure(context(z))
    assert found.flags == ("entropy from the first 128 images: more do not fit into memory",)
    assert isinstance(found.values["entropy_bits"], float)
    none = Entropy(EntropyParams(memory_mb=1)).measure(context(maps(150, channels=16, side=16)))
    assert set(none.values.values()) == {None}
    assert "at least 100 are needed" in str(none.reason)


# -- division ---------------------------------------------------------------------------------------------------------


def test_no_tile_is_in_two_divisions_and_every_image_is_in_one() -> None:
    groups = torch.randint(0, 60, (1000,), generator=seeded())
    part = Part(torch.zeros(1000, 1, 1, 1, dtype=torch.uint8), torch.zeros(1000), groups)
    divisions = divide(part, seeded(1))
    assert sorted(torch.cat(divisions).tolist()) == list(range(1000))
    tiles = [set(groups[d].tolist()) for d in divisions]
    assert tiles[0].isdisjoint(tiles[1] | tiles[2])
    assert tiles[1].isdisjoint(tiles[2])
    assert [len(d) for d in divisions] == pytest.approx([600, 200, 200], abs=40)


def test_a_part_of_few_tiles_is_too_small_to_divide_by_tiles() -> None:
    part = Part(torch.zeros(1000, 1, 1, 1, dtype=torch.uint8), torch.zeros(1000), torch.arange(1000) % 9)
    with pytest.raises(TooFew, match="9 independent groups"):
        divide(part, seeded())
    assert len(divide(part, seeded(), grouped=False)[0]) == 600
