"""Averaging maps to a lower resolution: the wire, what the cloud gets back, and the undefended weights behind it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.composed import Composed
from splitaudit.data.base import DataInfo
from splitaudit.defenses.bottleneck import Bottleneck, BottleneckParams
from splitaudit.defenses.downsample import Downsample, DownsampleParams
from splitaudit.errors import Unsupported
from splitaudit.plugins import BACKBONES
from splitaudit.split import SplitModel
from splitaudit.targets import build, restore, stored_state
from splitaudit.testing.targets import toy_target

DRAWS = torch.Generator()
"""Never drawn from."""

MAPS = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(9))


def pooled(z: torch.Tensor, factor: int) -> torch.Tensor:
    return Downsample(DownsampleParams(factor=factor)).protect(z, DRAWS)


def widened(wire: torch.Tensor, factor: int, size: tuple[int, int], lift: str = "nearest") -> torch.Tensor:
    """Returns what the cloud's half gets of maps that were averaged from a size."""
    made = Downsample(DownsampleParams(factor=factor, lift=lift))  # type: ignore[arg-type]
    made.size = size
    return made.lift(wire)


def squares(z: torch.Tensor, factor: int) -> torch.Tensor:
    """Returns for each element the mean of its square, by a loop over the squares."""
    out = torch.empty_like(z)
    for top in range(0, z.shape[2], factor):
        for left in range(0, z.shape[3], factor):
            square = (..., slice(top, top + factor), slice(left, left + factor))
            out[square] = z[square].mean((2, 3), keepdim=True)
    return out


def target(backbone: str, cut: str, *parts: dict[str, Any], seed: int = 0) -> SplitModel:
    cls = BACKBONES.get(backbone)
    identity = {
        "dataset": {"name": "any"},
        "backbone": {"name": backbone, "params": cls.Params(**cls.cheap()).dump()},
        "cut": cut,
        "seed": seed,
        "defense": {"parts": list(parts)},
    }
    statistics = torch.zeros(3), torch.ones(3)
    return build(identity, DataInfo((3, 36, 36), tuple("abcd"), {}), statistics, torch.device("cpu")).eval()


NONE = {"name": "none", "params": {}}


def part(**params: Any) -> dict[str, Any]:
    return {"name": "downsample", "params": params}


@pytest.mark.parametrize("size", [(8, 12), (7, 9), (5, 1), (2, 3), (1, 1)])
@pytest.mark.parametrize("factor", [2, 3, 4, 16])
def test_the_cloud_gets_each_squares_mean_back_in_its_place(size: tuple[int, int], factor: int) -> None:
    """Also where squares stick out at the border, and where one square holds the whole map."""
    z = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    defense = Downsample(DownsampleParams(factor=factor))
    wire = defense.protect(z, DRAWS)
    assert tuple(wire.shape[1:]) == defense.wire_shape((3, *size))
    assert torch.allclose(widened(wire, factor, size), squares(z, factor), atol=1e-6)


def test_a_factor_of_two_sends_a_quarter_of_the_elements() -> None:
    assert pooled(MAPS, 2).numel() * 4 == MAPS.numel()
    assert float(pooled(MAPS, 2)[0, 0, 0, 0]) == pytest.approx(float(MAPS[0, 0, :2, :2].mean()))


def test_bilinear_lifting_gives_a_slope_back_and_nearest_a_stair() -> None:
    slope = torch.arange(8.0).expand(1, 1, 8, 8)
    smooth = widened(pooled(slope, 2), 2, (8, 8), "bilinear")
    assert torch.allclose(smooth[..., 1:-1], slope[..., 1:-1], atol=1e-5)
    assert widened(pooled(slope, 2), 2, (8, 8))[0, 0, 0].tolist() == [0.5, 0.5, 2.5, 2.5, 4.5, 4.5, 6.5, 6.5]


def test_averaging_and_repeating_is_a_projection() -> None:
    once = widened(pooled(MAPS, 3), 3, (8, 12))
    assert torch.allclose(widened(pooled(once, 3), 3, (8, 12)), once, atol=1e-6)
    assert float(once.square().sum()) < float(MAPS.square().sum())


@pytest.mark.parametrize(("backbone", "cut"), [("cnn4", "block1"), ("cnn4", "block3"), ("resnet18", "layer1_block2")])
@pytest.mark.parametrize("lift", ["nearest", "bilinear"])
def test_the_undefended_weights_fit_and_give_what_they_give_for_the_averaged_features(
    backbone: str, cut: str, lift: str
) -> None:
    """``when: infer`` loads edge and cloud of the undefended target; maps of 9 and 18 px have a ragged border."""
    base, defended = target(backbone, cut, NONE, seed=1), target(backbone, cut, part(factor=4, lift=lift), seed=2)
    assert set(base.state_dict()) == set(defended.state_dict())
    restore(defended, stored_state(base))
    x = torch.rand(2, 3, 36, 36, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        wire = defended.wire(x, DRAWS)
        assert wire.shape[1:] == defended.defense.wire_shape(defended.feature_shape)
        assert wire.numel() < base.clean(x).numel() / 8
        again = widened(wire, 4, (base.feature_shape[1], base.feature_shape[2]), lift)
        assert torch.allclose(defended.answer(wire), base.cloud(again), atol=1e-5)
        assert not torch.allclose(defended.answer(wire), base(x, DRAWS), atol=1e-3)


def test_a_factor_of_one_leaves_everything_as_it_is() -> None:
    assert torch.equal(pooled(MAPS, 1), MAPS)
    assert torch.equal(widened(MAPS, 1, (8, 12)), MAPS)


def test_the_gradient_is_spread_evenly_over_each_square() -> None:
    z = MAPS.clone().requires_grad_()
    pooled(z, 2).sum().backward()
    assert z.grad is not None
    assert torch.allclose(z.grad, torch.full_like(z, 0.25))


@pytest.mark.parametrize("factor", [0.0, 1e30])
def test_features_of_zero_or_great_size_stay_finite(factor: float) -> None:
    assert bool(torch.isfinite(pooled(factor * MAPS[:1], 2)).all())


@pytest.mark.parametrize("first", [True, False])
def test_it_composes_with_a_narrower_edge(first: bool) -> None:
    parts = [Downsample(DownsampleParams(factor=2)), Bottleneck(BottleneckParams(channels=3))]
    model = toy_target(Composed(parts if first else parts[::-1]))
    x = torch.rand(2, *model.info.image_shape)
    with torch.no_grad():
        assert model.wire(x, DRAWS).shape == (2, 3, 4, 4)
        assert model(x, DRAWS).shape == (2, 4)


def test_vectors_are_refused_with_the_reason() -> None:
    assert Downsample.supports("cnn4", "block2") is None
    assert "needs feature maps (C, H, W)" in str(Downsample.supports("resnet18", "pool"))
    with pytest.raises(Unsupported, match=r"downsample needs feature maps \(C, H, W\), got features with 1 axes"):
        toy_target(Downsample(DownsampleParams()), vector=True, steps=False)
