"""Channels pruned for each image, by a network that is trained against a decoder."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from splitaudit.defense import Defense
from splitaudit.errors import Unsupported
from splitaudit.nn.scale import channel_axes
from splitaudit.params import Params
from splitaudit.split import Split

from ._feature_axes import channels_of
from .adversarial import Adversarial, AdversarialParams

WIDEST = 8192
"""Most channels that are scored (of a vector: its numbers). The two layers, their gradients and Adam's two moments take 8
bytes times its square, half a gigabyte here; of a vector of 65,536 numbers they would take 34."""


class DiscoParams(Params):
    """Parameters of :class:`Disco`."""

    ratio: float = Field(0.6, ge=0, lt=1, description="share of channels that are set to zero for each image")
    alpha: float = Field(
        0.5, ge=0, le=1, description="weight of the decoder's failure; the cross-entropy has the weight 1 - alpha"
    )
    temperature: float = Field(
        0.1, gt=0, description="width of the soft mask that gradients see, in units of the scores' standard deviation"
    )
    width: int = Field(16, ge=1, description="channels of the simulated decoder")
    lr: float = Field(2e-3, gt=0, description="learning rate of the simulated decoder (Adam)")


class Disco(Defense):
    """Sets those channels to zero that a small network picks for each image: z' = m(z) ⊙ z.

    The pruner scores each channel from the means of all of an image's channels (two linear layers); the ``ratio``·C lowest are
    set to zero. It minimises (1−α)·CE + α·max(0, 1 − MSE(D(z'), x)/V), the decoder D minimises its mean squared error on
    what is sent; V is the mean squared error of the batch's mean image. Gradients pass through the mask as through a
    sigmoid of the scores about the threshold. The edge stays as it was trained, the cloud
    learns along (``when: infer``: it stays, too).

    Source: Singh et al. 2021 (DISCO): a dynamic pruner of channels against a proxy decoder. Departures: the decoder's
    failure is normalised and bounded, as in ``adversarial``, where the plain −α·‖D(z') − x‖ is not, and D reads what is sent
    in units of the batch's deviation, so that smaller features are no way out; the pruner sees
    channel means instead of whole maps, so that it is small on the device and fits any feature shape (vectors: each
    number is a channel; tokens: channels on the last axis).
    """

    Params = DiscoParams
    version = 2
    source = "Singh et al., CVPR 2021"
    claims = {"mse": "up"}  # noqa: RUF012
    acts_on_wire = True
    usually = "infer+cloud"
    helpers = ("opponent.decoder",)

    @property
    def leaves_wire(self) -> bool:
        return self.params.ratio == 0

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"ratio": 0.0, "alpha": 0.0}

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 4}

    def obstacle(self, split: Split, images: int) -> str | None:
        channels = channels_of(split.feature_shape())
        if channels <= WIDEST:
            return None
        return (
            f"disco scores at most {WIDEST:,} channels, got {channels:,} (each number of a vector is one): its pruner grows "
            "with the square. Choose a cut with feature maps."
        )

    def prepare(self, split: Split) -> None:
        if reason := self.obstacle(split, images=0):
            raise Unsupported(reason)
        self.channels = channels_of(split.feature_shape())
        inside = max(4, self.channels // 4)
        self.pruner = nn.Sequential(nn.Linear(self.channels, inside), nn.ReLU(), nn.Linear(inside, self.channels))
        self.pruner.requires_grad_(self._dropped > 0)  # nothing that it says is used where nothing is dropped
        given = {"weight": self.params.alpha, "width": self.params.width, "lr": self.params.lr}
        self.opponent = Adversarial(AdversarialParams(**given))
        self.opponent.prepare(split)

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (1 - self.params.alpha) * F.cross_entropy(logits, y)

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        self.opponent.train_helpers(x, self._pruned(z).detach(), y)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        return self.opponent.extra_loss(x, self._pruned(z), y, logits)

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self._pruned(z)

    def wire_bits(self, feature_shape: tuple[int, ...]) -> int:
        # Which channels are sent differs from image to image, and is said by one bit for each.
        channels = channels_of(feature_shape)
        dropped = self._dropped_of(channels)
        places = math.prod(feature_shape) // channels
        return 32 * (channels - dropped) * places + (channels if dropped else 0)

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        if self.params.ratio == 0:
            return None
        # A channel that is zero everywhere was pruned, or is dead: either way nothing of the image is in it.
        places = [a for a in channel_axes(received)[0] if a != 0]
        shown = (received != 0).any(places[-1], keepdim=True) if places else received != 0
        for axis in places[:-1]:
            shown = shown.any(axis, keepdim=True)
        return shown.expand_as(received)

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    @property
    def _dropped(self) -> int:
        """Channels that are set to zero for each image."""
        return self._dropped_of(self.channels)

    def _dropped_of(self, channels: int) -> int:
        return int(self.params.ratio * channels)

    def _pruned(self, z: torch.Tensor) -> torch.Tensor:
        if self._dropped == 0:
            return z
        axes, shape = channel_axes(z)
        places = [a for a in axes if a != 0]
        means = z.mean(places) if places else z
        scores = self.pruner(means)
        threshold = scores.sort(1).values[:, self._dropped - 1 : self._dropped]
        hard = (scores > threshold).to(z.dtype)
        width = self.params.temperature * scores.std(1, keepdim=True).detach().clamp_min(1e-12)
        soft = torch.sigmoid((scores - threshold.detach()) / width)
        mask = hard + (soft - soft.detach())  # the mask itself, exactly
        return z * mask.reshape(len(z), *shape[1:])
