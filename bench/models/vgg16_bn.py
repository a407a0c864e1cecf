"""VGG-16 with batch norm."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from pydantic import Field
from torch import nn

from ..errors import Unsupported
from ..params import Params
from .base import Backbone

_STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
"""(multiple of the width, number of convolutions) per stage; each stage ends with a max-pool."""


class VGG16BNParams(Params):
    """Parameters of :class:`VGG16BN`."""

    width: int = Field(
        64, ge=1, description="channels of the first stage; the others, and the hidden layers (64 × width), follow"
    )


class VGG16BN(Backbone):
    """Thirteen convolutions 3×3 with batch norm and ReLU in five stages, each ended by max-pool 2; two hidden layers.

    Image sides from 32 px, any channel count. There is a cut after each convolution with its norm and ReLU
    (``conv1_1`` … ``conv5_3``), after each pool and after each hidden layer. In the layer count of the SiftFunnel
    paper's code (one more than the index in torchvision's ``features``) ``pool2`` ends at 14, ``conv3_1`` at 17 and
    ``pool3`` at 24. Width 64 is the published one.

    Source: Simonyan and Zisserman 2015; arXiv 2501.00824, official code (``vgg16_bn``: the hidden layers' dropout of 0.3 and
    0.2). Departures: the width is a parameter; the last map is averaged to at most 2×2 (what 64 px give), so the head
    fits larger images; dropout stands before the layer that it feeds, so a cut after a hidden layer has a clean wire.
    """

    Params = VGG16BNParams
    version = 1
    source = "Simonyan and Zisserman, ICLR 2015; arXiv 2501.00824, official code, vgg16_bn"

    def cuts(self) -> tuple[str, ...]:
        features: list[str] = []
        for stage, (_, count) in enumerate(_STAGES, start=1):
            features += [f"conv{stage}_{i}" for i in range(1, count + 1)] + [f"pool{stage}"]
        return (*features, "hidden1", "hidden2")

    def blocks(self, image_shape: tuple[int, int, int], classes: int) -> OrderedDict[str, nn.Module]:
        self.check(image_shape)
        before, height, width = image_shape
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for stage, (multiple, count) in enumerate(_STAGES, start=1):
            for i in range(1, count + 1):
                after = multiple * self.params.width
                blocks[f"conv{stage}_{i}"] = nn.Sequential(
                    OrderedDict(conv=nn.Conv2d(before, after, 3, padding=1), norm=nn.BatchNorm2d(after), act=nn.ReLU())
                )
                before = after
            blocks[f"pool{stage}"] = nn.MaxPool2d(2)
        grid = min(2, height // 32), min(2, width // 32)
        hidden = 64 * self.params.width
        blocks["hidden1"] = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(grid),
                flatten=nn.Flatten(),
                linear=nn.Linear(before * grid[0] * grid[1], hidden),
                act=nn.ReLU(),
            )
        )
        blocks["hidden2"] = nn.Sequential(
            OrderedDict(dropout=nn.Dropout(0.3), linear=nn.Linear(hidden, hidden), act=nn.ReLU())
        )
        blocks["head"] = nn.Sequential(OrderedDict(dropout=nn.Dropout(0.2), logits=nn.Linear(hidden, classes)))
        return blocks

    def check(self, image_shape: tuple[int, int, int]) -> None:
        _, height, width = image_shape
        if min(height, width) < 32:
            raise Unsupported(f"backbone 'vgg16_bn' needs images of at least 32 px a side, got {height}×{width}")

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 4}
