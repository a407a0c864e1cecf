"""SiftFunnel: a narrow, attentive edge trained to carry little about the image (CNN backbone, as published)."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from splitaudit.defense import Defense
from splitaudit.nn.attention import CBAM, SqueezeExcite, TripletAttention
from splitaudit.nn.dependence import channel_correlation_published, distance_correlation_published
from splitaudit.params import Params
from splitaudit.split import Normalize, Split


class SiftFunnelParams(Params):
    """Parameters of :class:`SiftFunnel`; the defaults are the only complete setting that its authors' files reveal."""

    smooth: float = Field(0.35, ge=0, lt=1, description="label smoothing s: 1 - s on the true class, s/(K-1) elsewhere")
    alpha: float = Field(4.5, ge=0, description="weight of the task term (KL to the smoothed labels)")
    beta: float = Field(0.4, ge=0, description="weight of the distance correlation of input and features")
    gamma: float = Field(0.1, ge=0, description="weight of the channel correlation inside the features")
    activity: float = Field(0.03, ge=0, description="weight of the mean absolute feature, called entropy in the code")
    wire_channels: int | None = Field(
        None,
        ge=1,
        description="channels on the wire; null: three sixteenths of the width (12 at width 64, as published)",
    )


class SiftFunnel(Defense):
    """Replaces the edge's second block by a funnel with attention and adds three penalties to a smoothed task loss.

    Loss: α·KL(q_s ‖ p) + β·dCor²(x̃, z) + γ·mean ρ²(z) + 0.03·mean|z|, with x̃ the normalised input, the distance
    correlation as the biased V-statistic and the channel correlation with its diagonal: as published, floors included.

    Edge: block 1, SE, triplet attention, funnel (1×1 to a quarter of the width, BN, ReLU, max-pool, then 1×1, 3×3, SiLU, 1×1,
    3×3, 5×5 at the wire's channels, ReLU), SE, CBAM. Cloud: two 3×3 convolutions that lift the channels back (there is no
    spatial up-sampling in the published module of that name), BN, ReLU, triplet attention, then the backbone's rest.

    Source: arXiv 2501.00824, official code (``pv4_classifier_4``, ``train_fcloud``). Departures: widths other than 64 scale
    the funnel in proportion; the shared training loop is used (the published one runs 300 epochs of Adam with
    learning rate 0.002 and selects on the test set).
    """

    Params = SiftFunnelParams
    version = 1
    source = "arXiv 2501.00824, official code pv4_classifier_4 and train_fcloud"

    @classmethod
    def supports(cls, backbone: str, cut: str) -> str | None:
        if (backbone, cut) != ("cnn4", "block2"):
            return f"siftfunnel has an edge for backbone 'cnn4' cut after 'block2', not for '{backbone}' at '{cut}'"
        return None

    def wrap(self, split: Split) -> Split:
        width = int(split.info.params["width"])
        wire = self.params.wire_channels or max(1, 3 * width // 16)
        self.normalize = _normalization(split)
        edge = OrderedDict(split.edge.named_children())
        edge.pop("block2")
        edge["block1_se"] = SqueezeExcite(width, max(1, width // 32))
        edge["block1_triplet"] = TripletAttention()
        edge["funnel"] = _funnel(width, max(1, width // 4), wire)
        edge["wire_se"] = SqueezeExcite(wire, max(1, wire // 4))
        edge["wire_cbam"] = CBAM(wire, max(1, wire // 6))
        cloud = OrderedDict([("lift", _lift(wire, 2 * width)), ("lift_triplet", TripletAttention())])
        cloud.update(split.cloud.named_children())
        return Split(split.info, nn.Sequential(edge), nn.Sequential(cloud))

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.params.alpha * smoothed_divergence(logits, y, self.params.smooth)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        loss = self.params.activity * z.abs().mean()
        if self.params.beta > 0:
            loss = loss + self.params.beta * distance_correlation_published(self.normalize(x), z)
        if self.params.gamma > 0:
            loss = loss + self.params.gamma * channel_correlation_published(z)
        return loss


def smoothed_divergence(logits: torch.Tensor, y: torch.Tensor, smooth: float) -> torch.Tensor:
    """Returns KL(q ‖ p), batch mean in nats; q has 1 - s on the true class and s/(K - 1) on every other.

    Source: arXiv 2501.00824, official code (``L_kl``). With K - 1 instead of K this is not torch's label smoothing.
    """
    classes = logits.shape[1]
    q = torch.full_like(logits, smooth / (classes - 1)).scatter_(1, y[:, None], 1 - smooth)
    return F.kl_div(logits.log_softmax(1), q, reduction="batchmean")


def _normalization(split: Split) -> Normalize:
    block: Any = split.edge.get_submodule("normalize")
    return Normalize(block.mean, block.std)


def _funnel(width: int, middle: int, wire: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, middle, 1),
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(middle, wire, 1),
        nn.Conv2d(wire, wire, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(wire, wire, 1),
        nn.Conv2d(wire, wire, 3, padding=1),
        nn.Conv2d(wire, wire, 5, padding=2),
        nn.ReLU(),
    )


def _lift(wire: int, channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(wire, channels, 3, padding=1, bias=False),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )
