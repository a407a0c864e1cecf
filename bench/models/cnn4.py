"""The four-block CNN of the SiftFunnel paper."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from pydantic import Field
from torch import nn

from ..errors import Unsupported
from ..params import Params
from .base import Backbone


class CNN4Params(Params):
    """Parameters of :class:`CNN4`."""

    width: int = Field(64, ge=1, description="channels of the first block; each further block doubles them")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout probability in the head")


class CNN4(Backbone):
    """Four blocks of convolution 3×3, batch norm, max-pool 2, ReLU, then two linear layers without activation between.

    Image sides from 28 px, any channel count. At 3×64×64, width 64 and 10 classes it has 1,963,056 parameters.

    Source: arXiv 2501.00824, official code (``Classifier_4``). Departures: the width is a parameter; the head's first
    layer takes whatever the fourth block gives, so the input need not be 64 px.
    """

    Params = CNN4Params
    version = 1
    source = "arXiv 2501.00824, official code, Classifier_4"

    def cuts(self) -> tuple[str, ...]:
        return ("block1", "block2", "block3", "block4")

    def blocks(self, image_shape: tuple[int, int, int], classes: int) -> OrderedDict[str, nn.Module]:
        self.check(image_shape)
        channels, height, width = image_shape
        w = self.params.width
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        before = channels
        for i, after in enumerate((w, 2 * w, 4 * w, 8 * w), start=1):
            blocks[f"block{i}"] = nn.Sequential(
                OrderedDict(
                    conv=nn.Conv2d(before, after, 3, padding=1),
                    norm=nn.BatchNorm2d(after),
                    pool=nn.MaxPool2d(2),
                    act=nn.ReLU(),
                )
            )
            before = after
        flat = before * (height // 16) * (width // 16)
        blocks["head"] = nn.Sequential(
            OrderedDict(
                flatten=nn.Flatten(),
                hidden=nn.Linear(flat, 5 * classes),
                dropout=nn.Dropout(self.params.dropout),
                logits=nn.Linear(5 * classes, classes),
            )
        )
        return blocks

    def check(self, image_shape: tuple[int, int, int]) -> None:
        _, height, width = image_shape
        if min(height, width) < 28:
            raise Unsupported(f"backbone 'cnn4' needs images of at least 28 px a side, got {height}×{width}")

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 4}
