"""The feature auto-encoder edge: half the channels on the wire, with much work on the device."""

from __future__ import annotations

from collections import OrderedDict

import torch
from pydantic import Field
from torch import nn

from splitaudit.defense import Defense
from splitaudit.errors import Unsupported
from splitaudit.params import Params
from splitaudit.split import Split

from ._feature_axes import feature_axes, needs_maps


class BottleneckParams(Params):
    """Parameters of :class:`Bottleneck`."""

    channels: int | None = Field(
        None, ge=1, description="channels on the wire; null: half of the features' channels, as published"
    )


class Bottleneck(Defense):
    """Narrows the features behind the cut by an encoder on the device and widens them by a decoder on the cloud.

    Encoder and decoder have the same form: a convolution 3×3 plus, in parallel, convolution 3×3, SiLU, convolution 3×3, all
    at the incoming width; the sum passes a convolution 3×3 to the outgoing width, BN and ReLU. Cross-entropy alone trains
    them, with the rest. The edge that SiftFunnel is "almost 20 times lighter" than is this one, not the undefended: with
    ``cnn4`` at width 64 and 3×64×64 images it costs 20.8 times the operations of SiftFunnel's, and 2.6 times those of the
    undefended edge.

    Source: arXiv 2501.00824, official code (``AE_Classifier_4``, ``ResNet_AE``). Departures: any cut with feature maps;
    the unused ``quantization_factor`` is left out; its training is not published, so the shared loop trains it.
    """

    Params = BottleneckParams
    version = 1
    source = "arXiv 2501.00824, official code AE_Classifier_4 and ResNet_AE"
    claims = {"mse": "up"}  # noqa: RUF012

    @classmethod
    def supports(cls, backbone: str, cut: str) -> str | None:
        axes = feature_axes(backbone, cut)
        return None if axes in (3, None) else needs_maps("bottleneck", backbone, cut, axes)

    def wrap(self, split: Split) -> Split:
        shape = split.feature_shape()
        if len(shape) != 3:
            raise Unsupported(needs_maps("bottleneck", split.info.backbone, split.info.cut, len(shape)))
        inner = self.params.channels or max(1, shape[0] // 2)
        edge = OrderedDict(split.edge.named_children())
        edge["bottleneck_encoder"] = Stage(shape[0], inner)
        cloud: OrderedDict[str, nn.Module] = OrderedDict(bottleneck_decoder=Stage(inner, shape[0]))
        cloud.update(split.cloud.named_children())
        return Split(split.info, nn.Sequential(edge), nn.Sequential(cloud))


class Stage(nn.Module):
    """Half of the auto-encoder: maps (N, before, H, W) to (N, after, H, W), not negative.

    Args:
        before: channels that come in.
        after: channels that go out.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.direct = _conv(before, before)
        self.bent = nn.Sequential(_conv(before, before), nn.SiLU(), _conv(before, before))
        self.out = nn.Sequential(_conv(before, after), nn.BatchNorm2d(after), nn.ReLU())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.out(self.direct(z) + self.bent(z))


def _conv(before: int, after: int) -> nn.Conv2d:
    return nn.Conv2d(before, after, 3, padding=1)
