"""Learned perceptual distance of a reconstruction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from splitaudit.metric import Metric
from splitaudit.metrics._images import check_images, in_chunks
from splitaudit.metrics._lpips_weights import Net, fetch, load, weights_file
from splitaudit.params import Params

SMALLEST = {"squeeze": 17, "alex": 31}
"""Least side in pixels at which the backbone's last feature map still has a pixel."""


class LPIPSParams(Params):
    """Parameters of :class:`LPIPS`."""

    net: Net = Field("squeeze", description="backbone: squeeze (5 MB of weights) or alex (240 MB)")


class LPIPS(Metric):
    """Computes the LPIPS distance, version 0.1, with the linear heads that package lpips ships.

    Images are scaled from [0, 1] to [−1, 1]; a grey image is repeated in three channels. The backbone's ImageNet
    weights are torchvision's and have to be there already (:meth:`fetch`): scoring never opens a connection and never
    puts other weights in their place.

    Departure: the default backbone is squeeze instead of the paper's alex, because of the size of the download; the
    values of the two are not comparable.
    """

    Params = LPIPSParams
    version = 1
    source = "Zhang et al. 2018, arXiv 1801.03924; package lpips, version 0.1 of the heads"
    label = "LPIPS distance"
    bounds = (0.0, float("inf"))
    best = 0.0
    higher_means = "less leakage"
    reference = "lpips.LPIPS"

    def __init__(self, params: Params | None = None) -> None:
        super().__init__(params)
        self._models: dict[torch.device, Any] = {}

    @classmethod
    def fetch(cls, params: LPIPSParams, *, offline: bool) -> Path:
        return fetch(params.net, offline=offline)

    def unavailable(self, image_shape: tuple[int, int, int]) -> str | None:
        channels, height, width = image_shape
        net = self.params.net
        if channels not in (1, 3):
            return f"LPIPS needs grey or RGB images, got {channels} channels"
        if min(height, width) < SMALLEST[net]:
            return f"LPIPS with {net} needs images of at least {SMALLEST[net]} px a side, got {height}×{width}"
        if not weights_file(net).is_file():
            return (
                f"LPIPS has no weights of its backbone {net} ({weights_file(net).name} is not in torch's cache). "
                "Fetch them once with: splitaudit fetch lpips"
            )
        return None

    def per_sample(self, truth: torch.Tensor, guess: torch.Tensor) -> torch.Tensor:
        truth, guess = check_images(truth, guess)
        reason = self.unavailable((truth.shape[1], truth.shape[2], truth.shape[3]))
        if reason is not None:
            raise ValueError(reason)
        if truth.device not in self._models:
            self._models[truth.device] = load(self.params.net).to(truth.device)
        model = self._models[truth.device]

        def compare(t: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
            return model(_prepared(t), _prepared(g)).flatten()

        with torch.no_grad():
            return in_chunks(compare, truth, guess)


def _prepared(images: torch.Tensor) -> torch.Tensor:
    images = images.float() * 2 - 1
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
