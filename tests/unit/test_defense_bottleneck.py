"""The feature auto-encoder edge, against the counts of its published code (arXiv 2501.00824)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from splitaudit.data.base import DataInfo
from splitaudit.defenses.bottleneck import Bottleneck, BottleneckParams, Stage
from splitaudit.errors import Unsupported
from splitaudit.plugins import BACKBONES
from splitaudit.split import SplitModel
from splitaudit.targets import build
from splitaudit.testing.targets import toy_target


def target(
    backbone: str, cut: str, shape: tuple[int, int, int], defense: str = "bottleneck", **params: Any
) -> SplitModel:
    cls = BACKBONES.get(backbone)
    identity = {
        "dataset": {"name": "any"},
        "backbone": {"name": backbone, "params": cls.Params(width=64).dump()},
        "cut": cut,
        "seed": 0,
        "defense": {"parts": [{"name": defense, "params": params}]},
    }
    statistics = torch.zeros(shape[0]), torch.ones(shape[0])
    return build(identity, DataInfo(shape, tuple("abcdefghij"), {}), statistics, torch.device("cpu")).eval()


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "cut", "shape", "edge", "flops", "wire"),
    [
        ("cnn4", "block2", (3, 64, 64), 592_704, 429_391_872, (64, 16, 16)),
        ("cnn4", "block2", (1, 64, 64), 591_552, 419_954_688, (64, 16, 16)),
        ("resnet18", "layer1_block2", (3, 64, 64), 279_136, None, (32, 64, 64)),
    ],
)
def test_the_edges_cost_and_wire_are_the_published_ones(
    backbone: str, cut: str, shape: tuple[int, int, int], edge: int, flops: int | None, wire: tuple[int, int, int]
) -> None:
    model = target(backbone, cut, shape)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.wire(torch.zeros(1, *shape), torch.Generator())
    assert parameters(model.edge) == edge
    assert model.feature_shape == wire
    if flops is None:  # published rounded: 2.2791 GFLOP
        assert round(counter.get_total_flops() / 1e9, 4) == 2.2791
    else:
        assert counter.get_total_flops() == flops


def test_the_encoder_alone_has_the_published_parameter_count() -> None:
    assert parameters(Stage(128, 64)) == 516_672


def test_siftfunnels_twenty_times_lighter_edge_is_measured_against_this_one() -> None:
    """20.8 times the operations of SiftFunnel's edge, but only 8.0 times would be the undefended one's."""
    flops = {}
    for name in ("bottleneck", "siftfunnel", "none"):
        model = target("cnn4", "block2", (3, 64, 64), name)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model.edge(torch.zeros(1, 3, 64, 64))
        flops[name] = counter.get_total_flops()
    assert flops["bottleneck"] / flops["siftfunnel"] == pytest.approx(20.8, abs=0.05)
    assert flops["none"] / flops["siftfunnel"] == pytest.approx(8.0, abs=0.05)


def test_the_cloud_receives_the_features_shape_again() -> None:
    model = target("cnn4", "block1", (3, 32, 32))
    decoder = model.cloud.get_submodule("bottleneck_decoder")
    with torch.no_grad():
        z = model.wire(torch.rand(2, 3, 32, 32), torch.Generator())
        assert z.shape == (2, 32, 16, 16)
        assert bool((z >= 0).all())
        assert decoder(z).shape == (2, 64, 16, 16)
        assert model.cloud(z).shape == (2, 10)


@pytest.mark.parametrize(("channels", "expected"), [(None, 4), (1, 1), (8, 8)])
def test_the_wires_channels_are_half_or_as_asked(channels: int | None, expected: int) -> None:
    model = toy_target(Bottleneck(BottleneckParams(channels=channels)), steps=False)
    assert model.feature_shape == (expected, 8, 8)


@pytest.mark.parametrize("path", ["direct.", "bent.2."])
def test_a_stage_sends_the_sum_of_a_direct_and_a_bent_path(path: str) -> None:
    """Without one of them what is left is the other one alone."""
    torch.manual_seed(0)
    stage, z = Stage(4, 2).eval(), torch.randn(1, 4, 6, 6)
    with torch.no_grad():
        both = stage(z)
        other = stage.bent(z) if path == "direct." else stage.direct(z)
        stage.load_state_dict({k: v * (not k.startswith(path)) for k, v in stage.state_dict().items()})
        assert torch.allclose(stage(z), stage.out(other), atol=1e-6)
        assert not torch.allclose(stage(z), both, atol=1e-3)


def test_vectors_are_refused_with_the_reason() -> None:
    with pytest.raises(Unsupported, match=r"needs feature maps \(C, H, W\), got features with 1 axes after 'block1'"):
        toy_target(Bottleneck(BottleneckParams()), vector=True, steps=False)


@pytest.mark.parametrize(
    ("backbone", "cut", "refused"),
    [
        ("cnn4", "block4", False),
        ("resnet18", "layer4_block2", False),
        ("resnet18", "pool", True),
        ("a third party's", "anything", False),
        ("cnn4", "no such cut", False),
    ],
)
def test_a_plan_learns_ahead_which_cuts_give_vectors(backbone: str, cut: str, refused: bool) -> None:
    reason = Bottleneck.supports(backbone, cut)
    assert (reason is not None) == refused
    if refused:
        assert "after 'pool' of backbone 'resnet18'" in str(reason)
