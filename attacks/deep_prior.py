"""Deep image prior: the image is the output of an untrained network, fitted to the received features."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.params import Params
from splitaudit.view import View

from ._inversion import Objective, batches, own_images, total_variation
from ._whitening import whitening

NOISE = 16
"""Channels of the fixed noise that each network turns into an image."""

AVERAGE = 0.95
"""Weight of the past in the running average of the images, which is smoother than any of them."""

CHECKS = 40
"""How often the running average is judged by its own loss."""


class DeepPriorParams(Params):
    """Parameters of :class:`DeepPrior`."""

    steps: int = Field(400, ge=1, description="optimiser steps")
    lr: float = Field(0.01, gt=0, description="learning rate (Adam, cosine decay)")
    width: int = Field(16, ge=1, description="channels of each network")
    tv: float = Field(1e-3, ge=0, description="weight of the total variation")
    draws: int = Field(4, ge=1, description="draws of a random defense averaged at each step")
    adaptive: bool = Field(True, description="false: pretend that there is no defense on the wire")


class DeepPrior(Attack):
    """Fits, for each image, the weights of an untrained convolutional network whose output is the image.

    A convolutional network is smooth long before it is noisy, which is the prior; it needs no auxiliary images. Each image
    has a network of its own, and all are trained at once as grouped convolutions: from fixed noise at a quarter of the
    side, four blocks (3×3, per-image norm, leaky ReLU), doubled twice, 1×1, sigmoid. Minimised is the normalised feature
    error of :class:`splitaudit.attacks.rmle.Rmle` plus total variation; a random defense is met with fresh draws.

    The guess is the running average of the images, each image's best by its own loss. Nothing is chosen on private images.

    Source: the likelihood-maximisation attack of DISCO (Singh et al., CVPR 2021) and SIMBA's model optimisation, after
    deep image prior (Ulyanov et al. 2018). Departures: normalised loss, a small decoder without skips, many images at
    once, the running average, selection by the attack's own loss (SIMBA selects by SSIM to the truth).
    """

    Params = DeepPriorParams
    version = 2
    source = "DISCO (Singh et al., CVPR 2021), likelihood maximisation; deep image prior (Ulyanov et al. 2018)"
    requires = AdversaryKnowledge(edge="weights")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    uses_draws = True
    search = {"lr": (0.005, 0.01, 0.02), "width": (16, 32), "tv": (0.0, 1e-3, 1e-2)}  # noqa: RUF012
    expected = Expected(
        control_mse=dict.fromkeys(INVERTIBLE, 1e-3),
        cheap_suffices=True,
        # To be taken out once the guess is shrunk to the mean image as far as the features are silent.
        worse_than_prior="an untrained network shows something even where the features say nothing",
    )

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        if view.knowledge.aux == "none":
            w = torch.empty(64, *view.image_shape, device=view.device)
            w.normal_(generator=view.generator("deep_prior scale images"))
            own = GaussianPrior(view.image_shape).to(view.device)(w).clamp(0, 1)
        else:
            own = own_images(view, "train", 1, 1)[:2048]
        unit = whitening(view, own, "deep_prior scale draws", self.params.adaptive, mixed=False)
        objective = Objective(
            view, GaussianPrior(view.image_shape), unit, self.params.tv, self.params.draws, self.params.adaptive
        )
        z = view.average
        parts = [self._fitted(view, objective, z[at], int(at[0])) for at in batches(z, self._values(view))]
        guess, last, before = (torch.cat(t) for t in zip(*parts, strict=True))
        gain = 1 - float(last.mean()) / max(float(before.mean()), 1e-30)
        view.note(gain_in_last_fifth=gain, converged=gain <= 0.1)
        return guess

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        pixels, w = image_shape[1] * image_shape[2], self.params.width
        macs = 9 * w * (NOISE * pixels / 16 + w * (pixels / 16 + pixels / 4 + pixels)) + w * image_shape[0] * pixels
        images = self.params.steps * n_private
        return Work(edge_passes=3 * images, gflop=2e-9 * 4 * macs * images)  # grouped: a quarter of the usual rate

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 150, "width": 12}

    def _values(self, view: View) -> int:
        """Returns values of activations of one image's network: what bounds the images at once."""
        return 8 * self.params.width * math.prod(view.image_shape[1:])

    def _fitted(
        self, view: View, objective: Objective, z: torch.Tensor, first: int
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns the images of some received features, their losses, and the losses after four fifths of the steps."""
        draws = view.generator(f"deep_prior init {first}")
        networks = Networks(len(z), view.image_shape, self.params.width, draws).to(view.device)
        visible = objective.visible(z)
        fresh = view.generator(f"deep_prior wire {first}")

        def loss_of(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
            return objective.feature_error(x, z, visible, g) + self.params.tv * total_variation(x)

        optimizer = torch.optim.Adam(networks.parameters())
        best = average = torch.zeros(0)
        lowest = torch.full((len(z),), float("inf"), device=view.device)
        before = lowest.clone()
        for step in range(self.params.steps):
            optimizer.param_groups[0]["lr"] = self.params.lr * (1 + math.cos(math.pi * step / self.params.steps)) / 2
            x = networks()
            loss = loss_of(x, fresh)
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
            with torch.no_grad():
                average = x.detach().clone() if step == 0 else average.lerp(x.detach(), 1 - AVERAGE)
                if step % max(1, self.params.steps // CHECKS) == 0 or step == self.params.steps - 1:
                    now = loss_of(average, view.generator(f"deep_prior judge {first}"))
                    best = (
                        average.clone()
                        if step == 0
                        else torch.where((now < lowest)[:, None, None, None], average, best)
                    )
                    lowest = torch.minimum(lowest, now)
                    if first == 0:
                        view.log("loss", step + 1, float(now.mean()))
                    if step < 0.8 * self.params.steps:
                        before = lowest.clone()
        return best, lowest, before


class Networks(nn.Module):
    """One small generator for each image, as grouped convolutions.

    Args:
        count: how many.
        image_shape: (C, H, W).
        width: channels of each.
        generator: draws noise and weights.
    """

    noise: torch.Tensor

    def __init__(self, count: int, image_shape: tuple[int, int, int], width: int, generator: torch.Generator) -> None:
        super().__init__()
        channels, height, across = image_shape
        self.count, self.image_shape = count, image_shape
        start = math.ceil(height / 4), math.ceil(across / 4)

        def normal(*shape: int, std: float) -> torch.Tensor:
            return torch.empty(*shape, device=generator.device).normal_(generator=generator) * std

        self.register_buffer("noise", normal(1, count * NOISE, *start, std=1.0))
        inputs = [NOISE, width, width, width]
        self.weights = nn.ParameterList(
            nn.Parameter(normal(count * width, i, 3, 3, std=(2 / (9 * i)) ** 0.5)) for i in inputs
        )
        self.gains = nn.ParameterList(nn.Parameter(torch.ones(1, count * width, 1, 1)) for _ in inputs)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(1, count * width, 1, 1)) for _ in inputs)
        self.last = nn.Parameter(normal(count * channels, width, 1, 1, std=width**-0.5))
        self.last_bias = nn.Parameter(torch.zeros(count * channels))

    def forward(self) -> torch.Tensor:
        """Returns the images (N, C, H, W) in [0, 1]."""
        h = self.noise
        for i, (weight, gain, bias) in enumerate(zip(self.weights, self.gains, self.biases, strict=True)):
            h = F.conv2d(h, weight, padding=1, groups=self.count)
            h = F.instance_norm(h) * gain + bias
            h = F.leaky_relu(h, 0.1)
            if i in (1, 2):
                size = self.image_shape[1:] if i == 2 else (2 * h.shape[2], 2 * h.shape[3])
                h = F.interpolate(h, size=size, mode="bilinear", align_corners=False)
        x = torch.sigmoid(F.conv2d(h, self.last, self.last_bias, groups=self.count))
        return x.reshape(self.count, *self.image_shape)
