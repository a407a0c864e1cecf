"""The estimator of mutual information that the code of arXiv 2501.00824 has, for comparison with published figures."""

from __future__ import annotations

import math
from statistics import mean, stdev
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from scipy.special import stdtrit
from torch import nn

from splitaudit.metric import Column, Measure, MeasureContext, Measurement
from splitaudit.metrics._prepared import first_images
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.seeds import derive, generator, seeded_globally
from splitaudit.split import Normalize

REACH = 4
"""Positions beyond the features' edge that four 3 × 3 convolutions still see."""


class MinePublishedParams(Params):
    """Parameters of :class:`MinePublished`."""

    images: int = Field(5000, ge=100, description="images at most, the first of part measure; half train, half score")
    epochs: int = Field(100, ge=1, description="passes over the training half")
    batch: int = Field(128, ge=2, description="pairs per step, and per value that is averaged")
    lr: float = Field(0.01, gt=0, description="learning rate of AdamW, halved after 20 epochs without a lower score")
    beta1: float = Field(
        0.8, ge=0, lt=1, description="AdamW's first moment: 0.8 for cnn4 and vgg16_bn, 0.6 for resnet18"
    )


class PublishedCritic(nn.Module):
    """Scores pairs of a normalised image and features by four convolutions, a sigmoid and a mean, (N,), in (0, 1).

    Args:
        channels: of image and features together.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (channels, 64, 32, 16, 4)
        layers: list[nn.Module] = []
        for i in range(4):
            layers += [nn.Conv2d(widths[i], widths[i + 1], 3, padding=1), nn.Tanh() if i < 3 else nn.Sigmoid()]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        """Returns the scores of images (N, C, H, W) and features (N, C', h, w), put into the images' upper left corner."""
        z = F.pad(z, (0, x.shape[3] - z.shape[3], 0, x.shape[2] - z.shape[2]))
        return self.layers(torch.cat([x, z], dim=1)).mean((1, 2, 3))


def cap(features: tuple[int, ...], image: tuple[int, int]) -> float:
    """Returns the share of an image's positions that can react to features in its corner: no value exceeds it."""
    seen = [min(whole, part + REACH) for part, whole in zip(features, image, strict=True)]
    return seen[0] * seen[1] / (image[0] * image[1])


def batch_interval(values: list[float]) -> tuple[float, float]:
    """Returns the ends of Student's 95 % interval of the mean of at least two batches' values."""
    half = float(stdtrit(len(values) - 1, 0.975)) * stdev(values) / math.sqrt(len(values))
    return mean(values) - half, mean(values) + half


class MinePublished(Measure):
    """Computes what the SiftFunnel paper's code prints as mutual information. It is an index, not a number of nats.

    The critic ends in a sigmoid and a mean, so that no value exceeds 1, and features are padded into a corner of the
    image, so that only positions near them can react: no value exceeds ``mine_published_cap``, the share of positions
    within their reach. Values are comparable between maps of one size only. Independent pairs come from a random
    permutation of a batch of 128, fixed points included; the Donsker–Varadhan value of each batch is averaged, which
    hides the error of the partition function; of all epochs the best value on the scoring images is taken, at least 0.
    The learning rate is halved as the code does it, after 20 epochs in which that value, which is to grow, was not
    *lower* than before: while the critic learns.

    ``mine_published_lo`` and ``mine_published_hi`` are Student's 95 % interval of the mean over the scoring batches of the
    best epoch, kept between 0 and the cap: of the batches only. It says nothing of the critic's training, of the
    choice of the epoch, or of the target's seed.

    Off by default; use :class:`~splitaudit.metrics.mutual_information.MutualInformation` for information.

    Departures: the code trains the critic on the target's private training images and scores it on auxiliary ones; here
    both halves come from ``measure``, because no measure of a target sees the others.
    """

    Params = MinePublishedParams
    version = 2
    source = "arXiv 2501.00824, official code: Mutual_Information_estimator.py, ConvMINE"
    columns: ClassVar[dict[str, Column]] = {
        "mine_published": Column("", "more leakage", "MINE as arXiv 2501.00824 computes it: an index, not nats"),
        "mine_published_lo": Column(
            "",
            "more leakage",
            "lower end of its 95 % interval, over the scoring batches of the best epoch only",
        ),
        "mine_published_hi": Column("", "more leakage", "upper end of that interval"),
        "mine_published_cap": Column(
            "", "neither", "greatest value that its critic can give for features of this size"
        ),
    }

    @classmethod
    def cheap(cls) -> dict[str, int]:
        return {"images": 100, "epochs": 1, "batch": 16}

    def seconds(self, images: int) -> float:
        return 3e-3 * min(images, self.params.images) * self.params.epochs

    def measure(self, context: MeasureContext) -> Measurement:
        p = self.params
        none: dict[str, float | int | str | None] = dict.fromkeys(self.columns)
        model = context.model
        shape, (_, height, width) = tuple(model.defense.wire_shape(model.feature_shape)), model.info.image_shape
        if len(shape) != 3 or shape[1] > height or shape[2] > width:
            return Measurement(none, f"the published critic needs maps no larger than the image, got features {shape}")
        part = first_images(context.data, p.images)
        if len(part) < 2 * p.batch:
            return Measurement(
                none, f"{len(part)} images are too few for the published estimator (at least {2 * p.batch})"
            )
        seed = derive("measure published", context.seed)
        images, clean = self._pairs(context, part.images)
        if not bool(torch.isfinite(clean).all()):
            why = "features are not finite numbers: the target has diverged"
            return Measurement(none, why, ("published mutual information: invalid",))
        half = len(images) // 2
        with seeded_globally(seed):
            critic = PublishedCritic(images.shape[1] + shape[0]).to(context.device)
        noise, order = context.generator("wire"), generator("measure published order", context.seed)
        optimiser = torch.optim.AdamW(critic.parameters(), lr=p.lr, betas=(p.beta1, 0.99))
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.5, patience=20)
        best: list[float] = []
        for _ in range(p.epochs):
            for ids in torch.randperm(half, generator=order).split(p.batch):
                value = self._value(critic, context, images, clean, ids, noise, order)
                optimiser.zero_grad(set_to_none=True)
                (-value).backward()
                optimiser.step()
            with torch.no_grad():
                batches = torch.arange(half, len(images)).split(p.batch)
                values = [float(self._value(critic, context, images, clean, b, noise, order)) for b in batches]
            schedule.step(mean(values))  # published: lower counts as better
            if not best or mean(values) > mean(best):
                best = values
        limit = cap(shape[1:], (height, width))
        found: dict[str, float | int | str | None] = {
            "mine_published": max(mean(best), 0.0),
            "mine_published_cap": limit,
        }
        if len(best) < 2:
            return Measurement(found, "one scoring batch has no interval: raise images or lower batch")
        low, high = batch_interval(best)
        ends = {"mine_published_lo": max(low, 0.0), "mine_published_hi": min(max(high, 0.0), limit)}
        return Measurement(found | ends)

    def _pairs(self, context: MeasureContext, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns normalised images and their clean features."""
        normalize = next((m for m in context.model.edge.children() if isinstance(m, Normalize)), nn.Identity())
        x, z = [], []
        with torch.no_grad():
            for batch in images.split(context.batch):
                at = to_float(batch.to(context.device))
                x.append(normalize(at))
                z.append(context.model.clean(at))
        return torch.cat(x), torch.cat(z)

    def _value(
        self,
        critic: PublishedCritic,
        context: MeasureContext,
        images: torch.Tensor,
        clean: torch.Tensor,
        ids: torch.Tensor,
        noise: torch.Generator,
        order: torch.Generator,
    ) -> torch.Tensor:
        """Returns the Donsker–Varadhan value of one batch, with one random permutation of it."""
        at = ids.to(images.device)
        with torch.no_grad():
            z = context.model.protect(clean[at], noise)
        x = images[at]
        mixed = z[torch.randperm(len(ids), generator=order).to(z.device)]
        return critic(x, z).mean() - critic(x, mixed).logsumexp(0) + math.log(len(ids))
