"""Edges of resnet18 and vgg16_bn, undefended and with SiftFunnel, against values of the official code.

Parameter counts, operations (2 per multiply-add; convolutions and matrix products) and wire shapes at width 64 and 64 px
were obtained by running the classes of arXiv 2501.00824's code; figures that were noted rounded are compared rounded.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from splitaudit.data.base import DataInfo
from splitaudit.split import SplitModel
from splitaudit.targets import build

SHAPE = (3, 64, 64)
CUTS = {"cnn4": "block2", "resnet18": "layer1_block2", "vgg16_bn": "conv3_1"}


def target(backbone: str, cut: str, defense: str, device: str = "meta", **params: Any) -> SplitModel:
    """A fresh target; on the device meta it has shapes and no numbers, which is enough to count."""
    identity = {
        "dataset": {"name": "any"},
        "backbone": {"name": backbone, "params": {"width": 64}},
        "cut": cut,
        "seed": 0,
        "defense": {"parts": [{"name": defense, "params": params}]},
    }
    with torch.device(device):
        statistics = torch.tensor([0.4914, 0.4822, 0.4465]), torch.tensor([0.2023, 0.1994, 0.2010])
        info = DataInfo(SHAPE, tuple("abcdefghij"), {})
        return build(identity, info, statistics, torch.device(device)).eval()


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def measured(module: nn.Module, z: torch.Tensor) -> tuple[int, tuple[int, ...], torch.Tensor]:
    """Operations, shape of the result and the result of one module."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        out = module(z)
    return counter.get_total_flops(), tuple(out.shape[1:]), out


def stages(half: nn.Sequential, z: torch.Tensor) -> dict[str, tuple[int, int, tuple[int, ...]]]:
    """Parameters, operations and output shape of every block of a half."""
    found = {}
    for name, block in half.named_children():
        flops, shape, z = measured(block, z)
        found[name] = (parameters(block), flops, shape)
    return found


@pytest.mark.parametrize(
    ("backbone", "cut", "count", "operations", "wire"),
    [
        ("cnn4", "block1", 1_920, 14_155_776, (64, 32, 32)),
        ("resnet18", "layer1_block2", 149_824, "1.2221 G", (64, 64, 64)),
        ("resnet18", "layer2_block1", 379_968, "1.6919 G", (128, 32, 32)),
        ("resnet18", "layer2_block2", 675_392, "2.2959 G", (128, 32, 32)),
        ("vgg16_bn", "pool2", 260_928, "769.1 M", (128, 16, 16)),
        ("vgg16_bn", "conv3_1", 556_608, "920.1 M", (256, 16, 16)),
        ("vgg16_bn", "pool3", 1_737_792, "1.5241 G", (256, 8, 8)),
    ],
)
def test_an_undefended_edge_costs_what_the_published_one_does(
    backbone: str, cut: str, count: int, operations: int | str, wire: tuple[int, ...]
) -> None:
    model = target(backbone, cut, "none")
    flops, shape, _ = measured(model.edge, torch.zeros(1, *SHAPE, device="meta"))
    shown = {"M": f"{flops / 1e6:.1f} M", "G": f"{flops / 1e9:.4f} G"}
    assert (flops if isinstance(operations, int) else shown[operations[-1]]) == operations
    assert parameters(model.edge) == count
    assert shape == wire


@pytest.mark.parametrize(
    ("backbone", "count", "flops", "wire"),
    [
        ("cnn4", 10_354, 20_649_808, (12, 16, 16)),
        ("resnet18", 231_832, 483_585_168, (6, 32, 32)),
        ("vgg16_bn", 300_574, 790_340_656, (4, 16, 16)),
    ],
)
def test_siftfunnels_edge_costs_what_the_published_one_does(
    backbone: str, count: int, flops: int, wire: tuple[int, ...]
) -> None:
    model = target(backbone, CUTS[backbone], "siftfunnel")
    assert measured(model.edge, torch.zeros(1, *SHAPE, device="meta"))[:2] == (flops, wire)
    assert parameters(model.edge) == count
    assert model.feature_shape == wire


def test_the_layer_that_the_published_resnet_edge_throws_away_is_counted_if_it_is_kept() -> None:
    kept = target("resnet18", CUTS["resnet18"], "siftfunnel", keep_dead_layer=True)
    assert measured(kept.edge, torch.zeros(1, *SHAPE, device="meta"))[0] == 1_691_544_720
    assert parameters(kept.edge) == 379_800


EDGE_STAGES = {
    "cnn4": {
        "block1": (1_920, 14_155_776, (64, 32, 32)),
        "block1_se": (256, 512, (64, 32, 32)),
        "block1_triplet": (300, 1_003_520, (64, 32, 32)),
        "funnel": (7_660, 5_439_488, (12, 16, 16)),
        "wire_se": (72, 144, (12, 16, 16)),
        "wire_cbam": (146, 50_368, (12, 16, 16)),
    },
    "resnet18": {
        "stem": (1_856, 14.16, (64, 64, 64)),
        "stem_se": (512, None, (64, 64, 64)),
        "stem_triplet": (300, None, (64, 64, 64)),
        "layer2_mix": (221_696, 452.98, (128, 32, 32)),
        "layer2_mix_se": (1_024, None, (128, 32, 32)),
        "layer2_mix_triplet": (300, None, (128, 32, 32)),
        "funnel": (5_998, 12.03, (6, 32, 32)),
        "wire_se": (24, None, (6, 32, 32)),
        "wire_cbam": (122, None, (6, 32, 32)),
    },
    "vgg16_bn": {
        "conv1_1": (1_856, None, (64, 64, 64)),
        "conv1_2": (36_992, None, (64, 64, 64)),
        "pool1": (0, 0, (64, 32, 32)),
        "pool1_se": (512, None, (64, 32, 32)),
        "pool1_triplet": (300, None, (64, 32, 32)),
        "conv2_1": (73_984, None, (128, 32, 32)),
        "conv2_2": (147_712, None, (128, 32, 32)),
        "pool2": (0, 0, (128, 16, 16)),
        "pool2_se": (1_024, None, (128, 16, 16)),
        "pool2_triplet": (300, None, (128, 16, 16)),
        "funnel": (37_780, None, (4, 16, 16)),
        "wire_se": (8, None, (4, 16, 16)),
        "wire_cbam": (106, None, (4, 16, 16)),
    },
}
"""Block to parameters, operations (an int, millions as noted, or None where not noted) and output shape."""

CLOUD_STAGES = {
    "cnn4": {
        "lift": (161_536, 82_575_360, (128, 16, 16)),
        "lift_triplet": (300, 852_992, (128, 16, 16)),
        "block3": (295_680, 150_994_944, (256, 8, 8)),
        "block4": (1_181_184, 150_994_944, (512, 4, 4)),
        "head": (410_160, 820_200, (10,)),
    },
    "resnet18": {
        "lift": (154_624, 316.1, (128, 32, 32)),
        "lift_triplet": (300, None, (128, 32, 32)),
        "layer3_block2": (1_180_672, None, (256, 16, 16)),
        "layer4_block2": (4_720_640, None, (512, 8, 8)),
        "pool": (0, 0, (2_048,)),
        "head": (20_490, None, (10,)),
    },
    "vgg16_bn": {
        "lift": (599_552, None, (256, 16, 16)),
        "lift_triplet": (300, None, (256, 16, 16)),
        "conv3_2": (590_592, None, (256, 16, 16)),
        "pool5": (0, 0, (512, 2, 2)),
        "hidden1": (2_048 * 4_096 + 4_096, None, (4_096,)),
        "hidden2": (4_096 * 4_096 + 4_096, None, (4_096,)),
        "head": (40_970, None, (10,)),
    },
}


@pytest.mark.parametrize("backbone", EDGE_STAGES)
def test_every_stage_has_the_published_parameters_operations_and_shape(backbone: str) -> None:
    model = target(backbone, CUTS[backbone], "siftfunnel")
    edge = stages(model.edge, torch.zeros(1, *SHAPE, device="meta"))
    assert list(edge) == ["normalize", *EDGE_STAGES[backbone]], "the order of the edge's blocks"
    cloud = stages(model.cloud, torch.zeros(1, *model.feature_shape, device="meta"))
    assert next(iter(cloud)) == "lift"
    for found, expected in ((edge, EDGE_STAGES[backbone]), (cloud, CLOUD_STAGES[backbone])):
        for name, (count, flops, shape) in expected.items():
            assert found[name][0] == count, name
            assert found[name][2] == shape, name
            if isinstance(flops, int):
                assert found[name][1] == flops, name
            elif flops is not None:
                digits = len(str(flops).partition(".")[2])
                assert round(found[name][1] / 1e6, digits) == flops, name


@pytest.mark.parametrize("backbone", ["resnet18", "vgg16_bn"])
def test_the_wires_scale_at_initialisation_is_tiny_on_the_other_backbones_too(backbone: str) -> None:
    """Mean |z| of a few thousandths: why an attack loss that is not normalised sees nothing."""
    model = target(backbone, CUTS[backbone], "siftfunnel", device="cpu")
    with torch.no_grad():
        z = model.edge(torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)))
    assert 1e-4 < float(z.abs().mean()) < 0.03
