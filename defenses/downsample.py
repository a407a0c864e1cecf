"""Feature maps averaged to a lower resolution before they are sent."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.errors import Unsupported
from splitaudit.params import Params
from splitaudit.split import Split

from ._feature_axes import feature_axes, needs_maps


class DownsampleParams(Params):
    """Parameters of :class:`Downsample`."""

    factor: int = Field(2, ge=1, description="elements on each side of the square that is averaged to one")
    lift: Literal["nearest", "bilinear"] = Field(
        "nearest", description="how the cloud widens what it receives to its own resolution"
    )


class Downsample(Defense):
    """Averages squares of ``factor``×``factor`` elements of each channel: (C, H, W) becomes (C, ⌈H/f⌉, ⌈W/f⌉) on the wire.

    A square that sticks out at the lower or right border averages the elements that it has. The cloud widens the maps to H×W
    again: ``nearest`` repeats each element (averaging and repeating together project the features on those that are
    constant over squares), ``bilinear`` interpolates between the middles of the squares. Linear in the features and public:
    its gradient is exact.

    Source: own; lower resolution is a usual baseline (ResSFL and SIMBA compare with blur and with strided bottlenecks).
    Departures from those: no weights, so that nothing but the resolution changes. Feature maps only: vectors have no
    neighbours, and of tokens the order alone says which are.
    """

    Params = DownsampleParams
    version = 1
    source = "own: average pooling; compare the bottleneck layers of ResSFL (Li et al., CVPR 2022)"
    acts_on_wire = True

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"factor": 1}

    @classmethod
    def supports(cls, backbone: str, cut: str) -> str | None:
        axes = feature_axes(backbone, cut)
        return None if axes in (3, None) else needs_maps("downsample", backbone, cut, axes)

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (feature_shape[0], *(math.ceil(side / self.params.factor) for side in feature_shape[1:]))

    def obstacle(self, split: Split, images: int) -> str | None:
        axes = len(split.feature_shape())
        return None if axes == 3 else needs_maps("downsample", split.info.backbone, split.info.cut, axes)

    def prepare(self, split: Split) -> None:
        if reason := self.obstacle(split, images=0):
            raise Unsupported(reason)
        self.size = split.feature_shape()[1:]

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        factor = self.params.factor
        if factor == 1:
            return z
        return F.avg_pool2d(z, factor, ceil_mode=True)

    def lift(self, sent: torch.Tensor) -> torch.Tensor:
        factor = self.params.factor
        if factor == 1:
            return sent
        # Widened to whole squares and cut: so each element lands where it was averaged, also at a ragged border.
        if self.params.lift == "nearest":
            wide = sent.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        else:
            wide = F.interpolate(sent, scale_factor=factor, mode="bilinear", align_corners=False)
        return wide[:, :, : self.size[0], : self.size[1]]
