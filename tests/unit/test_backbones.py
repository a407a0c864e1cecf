"""Backbones: sizes, cuts, and features that nobody overwrites."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from splitaudit.errors import Unsupported
from splitaudit.models.base import Backbone
from splitaudit.plugins import BACKBONES
from splitaudit.split import SplitInfo, cut_blocks

NAMES = ["cnn4", "resnet18", "vgg16_bn"]
SHAPES = [(3, 28, 28), (1, 28, 28), (3, 32, 32), (1, 33, 47), (3, 64, 64), (1, 64, 64), (3, 224, 224)]


def backbone(name: str, **params: Any) -> Backbone:
    cls = BACKBONES.get(name)
    return cls(cls.Params(**{"width": 4, **params}))


def eval_blocks(made: Backbone, shape: tuple[int, int, int], classes: int = 5) -> OrderedDict[str, nn.Module]:
    blocks = made.blocks(shape, classes)
    for block in blocks.values():
        block.eval()
    return blocks


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_backbone_classifies_images_of_every_size_and_channel_count(name: str, shape: tuple[int, int, int]) -> None:
    if name == "vgg16_bn" and min(shape[1:]) < 32:
        with pytest.raises(Unsupported, match=r"at least 32 px a side, got 28×28"):
            backbone(name).check(shape)
        return
    z = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        for block in eval_blocks(backbone(name), shape).values():
            for norm in block.modules():
                # An untrained norm shrinks the signal; thirteen of them leave nothing that could be compared.
                norm.train(isinstance(norm, nn.BatchNorm2d))
            z = block(z)
    assert z.shape == (2, 5)
    assert bool(torch.isfinite(z).all())
    assert not torch.allclose(z[0], z[1]), "the logits say something about the image"


@pytest.mark.parametrize("name", NAMES)
def test_a_smaller_image_is_refused_with_both_sizes(name: str) -> None:
    least = 32 if name == "vgg16_bn" else 28
    backbone(name).check((3, least, least))
    with pytest.raises(Unsupported, match=rf"'{name}' needs images of at least {least} px a side, got {least - 1}×40"):
        backbone(name).blocks((3, least - 1, 40), 5)


@pytest.mark.parametrize("name", NAMES)
def test_every_cut_is_a_block_in_order_and_the_head_is_none(name: str) -> None:
    made = backbone(name)
    assert (*made.cuts(), "head") == tuple(made.blocks((3, 32, 32), 5))


@pytest.mark.parametrize("name", NAMES)
def test_the_two_halves_of_every_cut_are_the_whole(name: str) -> None:
    made, shape = backbone(name), (3, 32, 32)
    blocks = eval_blocks(made, shape)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    whole = nn.Sequential(blocks)
    with torch.no_grad():
        for cut in made.cuts():
            split = cut_blocks(blocks, SplitInfo(name, cut, shape, 5), torch.zeros(3), torch.ones(3))
            z = split.edge(x)
            assert tuple(z.shape[1:]) == split.feature_shape()
            assert torch.allclose(split.cloud(z), whole(x), atol=1e-6), cut


@pytest.mark.parametrize("name", NAMES)
def test_no_block_overwrites_the_features_that_it_receives(name: str) -> None:
    """In the official code of arXiv 2501.00824 a VGG's norm and its in-place ReLU share their storage."""
    z = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    kept = []
    with torch.no_grad():
        for block in eval_blocks(backbone(name), (3, 32, 32)).values():
            kept.append((z, z.clone()))
            z = block(z)
    assert all(torch.equal(now, then) for now, then in kept)


@pytest.mark.parametrize("name", NAMES)
def test_the_width_scales_the_channels_at_every_cut(name: str) -> None:
    def channels(width: int) -> list[int]:
        z = torch.zeros(1, 3, 32, 32)
        out = []
        with torch.no_grad():
            for block in list(eval_blocks(backbone(name, width=width), (3, 32, 32)).values())[:-1]:
                z = block(z)
                out.append(z.shape[1])
        return out

    assert [2 * c for c in channels(3)] == channels(6)


def test_resnets_layers_halve_the_map_and_double_the_channels_from_layer_2_on() -> None:
    z = torch.zeros(1, 3, 64, 64)
    shapes = {}
    with torch.no_grad():
        for name, block in eval_blocks(backbone("resnet18"), (3, 64, 64)).items():
            z = block(z)
            shapes[name] = tuple(z.shape[1:])
    assert shapes["stem"] == shapes["layer1_block2"] == (4, 64, 64)
    ends = [shapes[f"layer{i}_block2"] for i in (1, 2, 3, 4)]
    assert all(b == (2 * a[0], a[1] // 2, a[2] // 2) for a, b in pairwise(ends))
    assert shapes["pool"] == (32 * 4,)


def test_resnets_residual_connection_is_there() -> None:
    """With its convolutions silenced a block passes its (non-negative) input on."""
    block: Any = eval_blocks(backbone("resnet18"), (3, 32, 32))["layer1_block1"]
    nn.init.zeros_(block.norm2.weight)
    z = torch.rand(1, 4, 8, 8)
    with torch.no_grad():
        assert torch.equal(block(z), z)


def test_resnets_head_does_not_depend_on_the_image_size() -> None:
    counts = {
        sum(p.numel() for p in backbone("resnet18").blocks((3, s, s), 5)["head"].parameters()) for s in (28, 64, 224)
    }
    assert len(counts) == 1


def test_vggs_hidden_layer_sees_what_the_last_map_has_up_to_2_by_2() -> None:
    def inputs(height: int, width: int) -> int:
        hidden: Any = backbone("vgg16_bn").blocks((3, height, width), 5)["hidden1"]
        return hidden.linear.in_features

    assert [inputs(32, 32), inputs(63, 32), inputs(32, 64), inputs(64, 64), inputs(224, 224)] == [32, 32, 64, 128, 128]
