"""Fisher information, the reconstruction floor and the published estimator: what they are on edges with known answers."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any, ClassVar

import pytest
import torch
from metric_targets import OnTheWire, context
from torch import nn

from splitaudit.data.base import Part
from splitaudit.defense import Defense
from splitaudit.metric import Measure, MeasureContext, Measurement
from splitaudit.metrics._image_twin import distortion, image_twin, variances
from splitaudit.metrics.entropy import Entropy
from splitaudit.metrics.fisher_information import FisherInformation, FisherInformationParams
from splitaudit.metrics.mine_published import MinePublished, MinePublishedParams, PublishedCritic, cap
from splitaudit.metrics.reconstruction_floor import ReconstructionFloor
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.params import Params
from splitaudit.split import Split, SplitInfo, SplitModel

SHAPE = (3, 8, 8)
PIXELS = 3 * 8 * 8


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian_images(n: int, seed: int = 0) -> torch.Tensor:
    """Returns images (n, 3, 8, 8), uint8, with independent normal cosine coefficients of spectrum 1/f²."""
    prior = GaussianPrior(SHAPE)
    prior.scale *= 0.4
    with torch.no_grad():
        images = prior(torch.randn(n, *SHAPE, generator=seeded(seed)))
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def target(edge: nn.Module, defense: Defense | None = None, n: int = 300) -> MeasureContext:
    """Returns a target of an edge on Gaussian images."""
    split = Split(SplitInfo("known", "cut", SHAPE, 2), nn.Sequential(OrderedDict(edge=edge)), nn.Sequential())
    model = SplitModel(split, defense or Defense(Params())).eval()
    return MeasureContext(model, Part(gaussian_images(n), torch.zeros(n, dtype=torch.long)), 0, torch.device("cpu"))


def number(found: Measurement, column: str) -> float:
    value = found.values[column]
    assert isinstance(value, float), (column, value, found.reason)
    return value


class Times(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def noise(sigma: float) -> OnTheWire:
    return OnTheWire(lambda z, g: z + sigma * torch.randn(z.shape, generator=g), stochastic=True)


def rms_of(at: MeasureContext) -> float:
    z = at.clean_features().flatten(1)
    return float((z - z.mean(0)).square().mean().sqrt())


# -- Fisher information -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [1.0, 40.0])
def test_fisher_information_of_the_identity_is_one_over_the_noise_variance(factor: float) -> None:
    """J = aI and σ = a·rms(x): the scale of the features cancels."""
    at = target(Times(factor))
    found = FisherInformation(FisherInformationParams(sigma_over_rms=0.5)).measure(at)
    sigma = 0.5 * rms_of(at) / factor
    assert number(found, "dfil") == pytest.approx(1 / sigma**2, rel=0.02)
    assert number(found, "dfil_unbiased_mse") == pytest.approx(sigma**2, rel=0.02)
    assert found.values["dfil_noise"] == "reference"


def test_the_van_trees_form_is_the_least_error_for_a_linear_edge_and_gaussian_images() -> None:
    """Identity plus noise σ: Σ λσ²/(λ + σ²) over the cosine coefficients, known from their variances."""
    at = target(Times(3.0))
    found = FisherInformation().measure(at)
    sigma2 = (rms_of(at) / 3) ** 2
    v = variances(image_twin(at)).double()
    expected = float((v * sigma2 / (v + sigma2)).mean())
    assert number(found, "van_trees_mse") == pytest.approx(expected, rel=0.03)
    assert number(found, "van_trees_mse") < number(found, "dfil_unbiased_mse")


def test_noise_of_the_defense_lowers_fisher_information_like_reference_noise() -> None:
    at = target(nn.Identity())
    rms = rms_of(at)
    noisy = FisherInformation().measure(target(nn.Identity(), noise(rms)))
    assert number(noisy, "dfil") == pytest.approx(1 / (2 * rms**2), rel=0.03)
    assert noisy.values["dfil_noise"] == "reference + own"


def test_a_random_mask_is_read_with_its_random_numbers_known() -> None:
    mask = OnTheWire(lambda z, g: z * (torch.rand(z.shape, generator=g) < 0.25), stochastic=True)
    at = target(nn.Identity(), mask)
    found = FisherInformation(FisherInformationParams(probes=16)).measure(at)
    assert number(found, "dfil") == pytest.approx(
        1 / rms_of(at) ** 2, rel=0.1
    )  # a quarter of the power is sent, and noise is set against it
    assert "random numbers known" in str(found.values["dfil_noise"])


class Rounded(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 4).round() / 4


class StraightThrough(nn.Module):
    """Sends steps and has the gradient of what it would send without them."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + ((x * 4).round() / 4 - x).detach()


@pytest.mark.parametrize("edge", [Rounded(), StraightThrough()])
def test_a_wire_in_steps_has_no_fisher_information_instead_of_a_perfect_or_a_wrong_one(edge: nn.Module) -> None:
    found = FisherInformation().measure(target(edge))
    assert found.values["dfil"] is None
    assert found.values["van_trees_mse"] is None
    assert "gradient" in str(found.reason)


def test_the_weights_of_a_target_get_no_gradient() -> None:
    at = target(nn.Conv2d(3, 4, 3))
    FisherInformation().measure(at)
    assert all(p.grad is None for p in at.model.parameters())


# -- reconstruction floor ---------------------------------------------------------------------------------------------


def test_the_rate_distortion_function_is_that_of_shannon() -> None:
    equal = torch.full((50,), 4.0)
    assert distortion(equal, 0.0) == 4
    assert distortion(equal, 50.0) == pytest.approx(4 * math.exp(-2 * 50 / 50), rel=1e-6)
    # Below the water level a coefficient is not described at all: of variances 1 and 0.01, one nat goes to the first.
    two = torch.tensor([1.0, 0.01])
    assert distortion(two, 1.0) == pytest.approx((math.exp(-2) + 0.01) / 2, rel=1e-6)
    levels = [distortion(torch.rand(64, generator=seeded()), nats) for nats in (0, 1, 10, 100, 1e4)]
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] == pytest.approx(0, abs=1e-12)


def test_the_floor_is_below_the_least_error_of_a_gaussian_channel_and_rises_with_its_noise() -> None:
    """Identity plus noise σ: the posterior mean errs by Σ λσ²/(λ + σ²), and no floor may exceed that."""
    floors = []
    for share in (0.3, 1.0, 3.0):
        at = target(nn.Identity(), n=1500)
        sigma = share * rms_of(at)
        found = ReconstructionFloor().measure(target(nn.Identity(), noise(sigma), n=1500))
        v = variances(image_twin(at)).double()
        floors.append(number(found, "recon_floor_mse"))
        assert 0 < floors[-1] < float((v * sigma**2 / (v + sigma**2)).mean())
        assert found.values["recon_floor_channel"] == "own noise"
    assert floors == sorted(floors)


def test_the_floor_of_a_deterministic_wire_comes_from_the_code_length_of_its_8_bits() -> None:
    at = target(nn.Conv2d(3, 2, 3, stride=2))
    found = ReconstructionFloor().measure(at)
    assert found.values["recon_floor_channel"] == "8-bit wire"
    assert found.values["recon_floor_nats"] == Entropy().measure(at).values["mi_upper_nats_8bit"]
    assert 0 < number(found, "recon_floor_mse") < float(variances(image_twin(at)).mean())


def test_a_constant_wire_leaves_the_variance_of_the_images() -> None:
    at = target(Times(0.0))
    found = ReconstructionFloor().measure(at)
    assert number(found, "recon_floor_mse") == pytest.approx(float(variances(image_twin(at)).mean()), rel=1e-6)
    assert found.values["recon_floor_nats"] == 0


@pytest.mark.parametrize("measure", [FisherInformation, ReconstructionFloor])
def test_too_few_images_give_no_figure_and_the_reason(measure: type[Measure]) -> None:
    found = measure().measure(target(nn.Identity(), n=60))
    assert set(found.values.values()) == {None}
    assert "too few" in str(found.reason)


# -- the published estimator ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "count"), [(12, 32_372), (128, 99_188), (64, 62_324), (6, 28_916), (4, 27_764)])
def test_the_published_critic_has_the_parameters_of_the_official_code(channels: int, count: int) -> None:
    """Counted on the classes of GOERAHG214/SiftFunnel."""
    assert sum(p.numel() for p in PublishedCritic(3 + channels).parameters()) == count


def published(edge: nn.Module, defense: Defense | None = None, epochs: int = 6) -> Measurement:
    params = MinePublishedParams(epochs=epochs, batch=64)
    return MinePublished(params).measure(target(edge, defense, n=512))


def test_the_published_estimator_cannot_exceed_its_cap_however_much_crosses_the_wire() -> None:
    """A copy of the image carries thousands of bits; the critic's mean of sigmoids stays below 1."""
    found = published(nn.AvgPool2d(2))
    assert number(found, "mine_published_cap") == 1.0
    assert 0 < number(found, "mine_published") < 1


@pytest.mark.parametrize(("side", "share"), [(16, 0.0977), (32, 0.3164), (64, 1.0)])
def test_the_cap_is_the_share_of_positions_that_see_the_features(side: int, share: float) -> None:
    """Measured on the official code at 64 px: 20², 36² and all of 64² positions."""
    assert cap((side, side), (64, 64)) == pytest.approx(share, abs=1e-4)
    critic = PublishedCritic(2).eval()
    with torch.no_grad():
        x, z = torch.zeros(1, 1, 64, 64), torch.randn(1, 1, side, side, generator=seeded())
        corner = nn.functional.pad(z, (0, 64 - side, 0, 64 - side))
        moved = critic.layers(torch.cat([x, corner], 1)) != critic.layers(torch.cat([x, 0 * corner], 1))
    assert float(moved.any(1).float().mean()) == pytest.approx(share, abs=1e-4)


def test_of_nothing_the_published_estimator_reads_at_least_0_and_next_to_nothing() -> None:
    pure = OnTheWire(lambda z, g: torch.randn(z.shape, generator=g), stochastic=True)
    assert 0 <= number(published(nn.AvgPool2d(2), pure), "mine_published") < 0.02


def test_the_published_estimator_needs_maps_and_says_so() -> None:
    found = MinePublished().measure(context(torch.randn(300, 5, generator=seeded())))
    assert found.values == dict.fromkeys(MinePublished.columns)
    assert "needs maps" in str(found.reason)


class Scripted(MinePublished):
    """Scores as the test says, epoch by epoch; training moves nothing."""

    script: ClassVar[list[float]] = []

    def _value(self, critic: PublishedCritic, *rest: Any) -> torch.Tensor:
        if torch.is_grad_enabled():
            return 0 * sum(p.sum() for p in critic.parameters())  # type: ignore[return-value]
        return torch.tensor(self.script.pop(0), dtype=torch.float64)


def scripted(script: list[list[float]], batch: int = 64) -> Measurement:
    Scripted.script = [value for epoch in script for value in epoch]
    return Scripted(MinePublishedParams(epochs=len(script), batch=batch)).measure(target(nn.AvgPool2d(2), n=512))


def test_the_published_interval_is_students_over_the_batches_of_the_best_epoch() -> None:
    """Four batches: t of 3 degrees of freedom is 3.18245. s of (0.2, 0.3, 0.4, 0.5) is 0.129099."""
    found = scripted([[0.1, 0.1, 0.1, 0.1], [0.2, 0.5, 0.3, 0.4], [0.3, 0.3, 0.3, 0.3]])
    half = 3.18245 * 0.129099 / 2
    assert number(found, "mine_published") == pytest.approx(0.35)
    assert number(found, "mine_published_lo") == pytest.approx(0.35 - half, abs=1e-5)
    assert number(found, "mine_published_hi") == pytest.approx(0.35 + half, abs=1e-5)
    assert found.reason is None


def test_the_published_interval_stays_between_0_and_the_cap() -> None:
    below = scripted([[-0.2, -0.1, 0.0, 0.1]])
    assert [below.values[f"mine_published{end}"] for end in ("", "_lo")] == [0, 0]
    assert number(below, "mine_published_hi") == pytest.approx(3.18245 * 0.129099 / 2 - 0.05, abs=1e-5)
    assert number(scripted([[-0.4, -0.3, -0.2, -0.1]]), "mine_published_hi") == 0
    assert number(scripted([[0.1, 0.99, 0.99, 0.99]]), "mine_published_hi") == 1.0


def test_one_scoring_batch_has_a_value_and_no_interval() -> None:
    found = scripted([[0.25]], batch=256)
    assert number(found, "mine_published") == 0.25
    assert "mine_published_lo" not in found.values
    assert "one scoring batch has no interval" in str(found.reason)


@pytest.mark.parametrize(("slope", "rate"), [(0.01, 0.005), (-0.01, 0.01)])
def test_the_published_learning_rate_is_halved_while_the_value_grows(
    slope: float, rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in the code, whose plateau counts a lower value as better although the value is to grow."""
    made: list[torch.optim.AdamW] = []

    class Kept(torch.optim.AdamW):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(torch.optim, "AdamW", Kept)
    scripted([[0.4 + slope * epoch] * 4 for epoch in range(23)])
    assert made[0].param_groups[0]["lr"] == pytest.approx(rate)


def test_the_published_estimator_is_off_by_default() -> None:
    from splitaudit.config.suite import DEFAULT_METRICS

    assert "mine_published" not in DEFAULT_METRICS
    assert {"mutual_information", "fisher_information", "reconstruction_floor"} <= set(DEFAULT_METRICS)
