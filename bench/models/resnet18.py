"""ResNet-18 in the form for small images: a stem of stride 1 and no max-pool."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from pydantic import Field
from torch import nn

from ..errors import Unsupported
from ..params import Params
from .base import Backbone

_STAGES = 4
_GRID = 2
"""Side of the pooled map. At 64 px it is what an average pool of 4 leaves; a fixed side serves every image size."""


class ResNet18Params(Params):
    """Parameters of :class:`ResNet18`."""

    width: int = Field(64, ge=1, description="channels of the stem and layer1; each further layer doubles them")


class ResNet18(Backbone):
    """A stem (convolution 3×3 of stride 1, batch norm, ReLU) and four layers of two residual blocks, halving from layer2.

    Image sides from 28 px, any channel count. There is a cut after the stem, after each residual block and after the
    pooling (a vector); the SiftFunnel paper's code counts them as features 1 (``stem``), 2 (``layer1_block1``),
    3 (``layer1_block2``), and so on to 9 (``layer4_block2``) and 10 (``pool``). Width 64 is the published one.

    Source: He et al. 2016; arXiv 2501.00824, official code (``rn18``). Departures: the width is a parameter; the last map
    is averaged to 2×2 at every image size (as published at 64 px), so the head does not depend on it.
    """

    Params = ResNet18Params
    version = 1
    source = "He et al., CVPR 2016; arXiv 2501.00824, official code, rn18"

    def cuts(self) -> tuple[str, ...]:
        layers = [f"layer{i}_block{j}" for i in range(1, _STAGES + 1) for j in (1, 2)]
        return ("stem", *layers, "pool")

    def blocks(self, image_shape: tuple[int, int, int], classes: int) -> OrderedDict[str, nn.Module]:
        self.check(image_shape)
        before = self.params.width
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        blocks["stem"] = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(image_shape[0], before, 3, padding=1, bias=False),
                norm=nn.BatchNorm2d(before),
                act=nn.ReLU(),
            )
        )
        for i in range(_STAGES):
            after = self.params.width * 2**i
            blocks[f"layer{i + 1}_block1"] = ResidualBlock(before, after, stride=1 if i == 0 else 2)
            blocks[f"layer{i + 1}_block2"] = ResidualBlock(after, after)
            before = after
        blocks["pool"] = nn.Sequential(OrderedDict(pool=nn.AdaptiveAvgPool2d(_GRID), flatten=nn.Flatten()))
        blocks["head"] = nn.Linear(before * _GRID**2, classes)
        return blocks

    def check(self, image_shape: tuple[int, int, int]) -> None:
        _, height, width = image_shape
        if min(height, width) < 28:
            raise Unsupported(f"backbone 'resnet18' needs images of at least 28 px a side, got {height}×{width}")

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        # Not narrower: on processors without AVX-512 the gradient of a 1×1 convolution of stride 2 with fewer than 8 input
        # channels, channels last, writes beyond its memory (oneDNN 3.12, torch 2.14.1), and the process may die of it.
        return {"width": 8}


class ResidualBlock(nn.Module):
    """Two convolutions 3×3 without bias, each with batch norm, added to a shortcut, then ReLU.

    The shortcut is the identity, or a convolution 1×1 with batch norm where the shape changes. No operation is in place:
    what comes in may be features that somebody keeps.

    Args:
        before: channels that come in.
        after: channels that go out.
        stride: of the first convolution and the shortcut.
    """

    def __init__(self, before: int, after: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.act = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(
                OrderedDict(conv=nn.Conv2d(before, after, 1, stride, bias=False), norm=nn.BatchNorm2d(after))
            )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        inside = self.act(self.norm1(self.conv1(z)))
        return self.act(self.norm2(self.conv2(inside)) + self.shortcut(z))
