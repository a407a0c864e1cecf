"""SiftFunnel's CNN edge and losses against values of the official code (arXiv 2501.00824, pv4_classifier_4).

Parameter counts, operations and the loss fixture were obtained by running that code's classes and re-derived in numpy.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from splitaudit.data.base import DataInfo
from splitaudit.defenses.siftfunnel import SiftFunnel, SiftFunnelParams, smoothed_divergence
from splitaudit.nn.attention import CBAM, SqueezeExcite, TripletAttention
from splitaudit.nn.dependence import channel_correlation_published, distance_correlation_published
from splitaudit.pixels import to_float
from splitaudit.split import Normalize, SplitModel
from splitaudit.targets import build
from splitaudit.testing.data import part


def target(defense: str, shape: tuple[int, int, int], width: int = 64, **params: Any) -> SplitModel:
    identity = {
        "dataset": {"name": "any"},
        "backbone": {"name": "cnn4", "params": {"width": width, "dropout": 0.5}},
        "cut": "block2",
        "seed": 0,
        "defense": {"parts": [{"name": defense, "params": params}]},
    }
    info = DataInfo(shape, tuple("abcdefghij"), {})
    statistics = torch.zeros(shape[0]), torch.ones(shape[0])
    return build(identity, info, statistics, torch.device("cpu")).eval()


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("defense", "shape", "edge", "flops", "wire"),
    [
        ("none", (3, 64, 64), 76_032, 165_150_720, (128, 16, 16)),
        ("siftfunnel", (3, 64, 64), 10_354, 20_649_808, (12, 16, 16)),
        ("none", (1, 64, 64), 74_880, 155_713_536, (128, 16, 16)),
        ("siftfunnel", (1, 64, 64), 9_202, 11_212_624, (12, 16, 16)),
    ],
)
def test_the_edges_cost_and_wire_are_the_published_ones(
    defense: str, shape: tuple[int, int, int], edge: int, flops: int, wire: tuple[int, int, int]
) -> None:
    model = target(defense, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.edge(torch.zeros(1, *shape))
    assert parameters(model.edge) == edge
    assert counter.get_total_flops() == flops
    assert model.feature_shape == wire


@pytest.mark.parametrize(("defense", "count"), [("none", 1_963_056), ("siftfunnel", 2_059_214)])
def test_the_whole_models_have_the_published_parameter_counts(defense: str, count: int) -> None:
    assert parameters(target(defense, (3, 64, 64))) == count


def test_attention_modules_have_the_published_parameter_counts() -> None:
    assert parameters(SqueezeExcite(64, 2)) == 256
    assert parameters(SqueezeExcite(12, 3)) == 72
    assert parameters(TripletAttention()) == 300
    assert parameters(CBAM(12, 2)) == 146


def test_the_wires_scale_at_initialisation_is_tiny_as_published() -> None:
    """Mean |z| of about 0.004: why an attack loss that is not normalised sees nothing."""
    model = target("siftfunnel", (3, 64, 64))
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        mean = float(model.edge(x).abs().mean())
    assert 1e-4 < mean < 0.03


def grid(*shape: int) -> list[torch.Tensor]:
    return list(torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in shape), indexing="ij"))


@pytest.fixture(scope="module")
def fixture() -> dict[str, torch.Tensor]:
    b, c, h, w = grid(8, 3, 16, 16)
    x = torch.sin(0.37 * b + 1.3 * c + 0.21 * h + 0.11 * w + 0.05 * b * h)
    b, c, h, w = grid(8, 4, 8, 8)
    z = torch.cos(0.61 * b + 0.9 * c + 0.4 * h - 0.3 * w + 0.07 * b * w).clamp_min(0)
    b, k = grid(8, 10)
    return {"x": x, "z": z, "logits": torch.cos(0.5 * b + 0.8 * k), "y": torch.arange(8)}


@pytest.mark.parametrize(("smooth", "value"), [(0.25, 1.36691943), (0.35, 1.07126892)])
def test_the_smoothed_task_term_agrees_with_the_fixture(
    fixture: dict[str, torch.Tensor], smooth: float, value: float
) -> None:
    assert float(smoothed_divergence(fixture["logits"], fixture["y"], smooth)) == pytest.approx(value, abs=1e-6)


def test_the_penalties_agree_with_the_fixture(fixture: dict[str, torch.Tensor]) -> None:
    x, z = fixture["x"], fixture["z"]
    assert float(distance_correlation_published(x, z)) == pytest.approx(0.97236908, abs=1e-6)
    assert float(channel_correlation_published(z)) == pytest.approx(0.44237096, abs=1e-6)
    assert float(z.abs().mean()) == pytest.approx(0.32211235, abs=1e-6)
    assert float((z != 0).sum()) / len(z) == pytest.approx(129.125, abs=1e-9)


def test_the_whole_loss_agrees_with_the_fixture(fixture: dict[str, torch.Tensor]) -> None:
    defense = SiftFunnel(SiftFunnelParams(smooth=0.35, alpha=4.5, beta=0.4, gamma=0.1, activity=0.03))
    defense.normalize = Normalize(torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64))
    x, z, y, logits = (fixture[k] for k in ("x", "z", "y", "logits"))
    extra = defense.extra_loss(x, z, y, logits)
    assert extra is not None
    assert float(defense.task_loss(logits, y) + extra) == pytest.approx(5.263558, abs=1e-6)


def test_the_channel_term_rewards_dead_channels_as_published() -> None:
    """6 of 12 dead channels lower it from about 0.086 to about 0.042: kept as published, not hidden."""
    z = torch.rand(4, 12, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    dead = z.clone()
    dead[:, 6:] = 0
    assert float(channel_correlation_published(z)) == pytest.approx(0.086, abs=0.004)
    assert float(channel_correlation_published(dead)) == pytest.approx(0.042, abs=0.003)


def test_the_published_distance_correlation_has_a_floor_and_ours_has_none() -> None:
    """White noise at N = 128 reads about 0.99 when biased; the bias-corrected statistic reads about 0."""
    from splitaudit.nn.dependence import distance_correlation

    g = torch.Generator().manual_seed(1)
    x, z = torch.randn(128, 12288, generator=g), torch.randn(128, 3072, generator=g)
    assert float(distance_correlation_published(x, z)) > 0.97
    assert abs(float(distance_correlation(x, z))) < 0.1


VERSION_1 = {
    "lift": 2959.421665293467,
    "z": 0.0024315652066213187,
    "task": 3.944427490234375,
    "extra": 0.4035435616970062,
}


def test_the_default_parameters_still_give_the_numbers_of_version_1_at_the_published_width() -> None:
    """Recorded before other backbones, variants and the least width of attention (version 2) were added.

    If this fails on purpose, raise the version of the defense.
    """
    model = target("siftfunnel", (3, 32, 32), width=64)
    data = part("client_train", 16, (3, 32, 32))
    x = to_float(data.images)
    z = model.clean(x)
    logits = model.cloud(z)
    extra = model.defense.extra_loss(x, z, data.labels, logits)
    assert extra is not None
    found = {
        "lift": float(sum(p.detach().double().abs().sum() for p in model.cloud.get_submodule("lift").parameters())),
        "z": float(z.detach().double().abs().mean()),
        "task": float(model.defense.task_loss(logits, data.labels).detach()),
        "extra": float(extra.detach()),
    }
    assert found == pytest.approx(VERSION_1, rel=1e-5)
