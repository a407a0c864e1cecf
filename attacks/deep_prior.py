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
from splitaudit.pixels import to_float
from splitaudit.view import View

from ._bands import shrinkage, spread
from ._descent import batches
from ._doubling import doubled_step
from ._objective import Objective
from ._own import own_images
from ._total_variation import total_variation
from ._whitening import Whitening, whitening

NOISE = 16
"""Channels of the fixed noise that each network turns into an image."""

AVERAGE = 0.95
"""Weight of the past in the running average of the images, which is smoother than any of them."""

CHECKS = 40
"""How often the running average is judged by its own loss."""

CALIBRATION = 16
"""Auxiliary validation images on which the shrinkage is fitted and convergence judged."""

UNJUDGED = "there are no auxiliary images of which it could be said what more steps gain"
"""Why nothing is said of convergence without them: the cosine decay flattens any loss at its end."""

Fitted = dict[str, torch.Tensor]


class DeepPriorParams(Params):
    """Parameters of :class:`DeepPrior`."""

    steps: int = Field(400, ge=1, description="optimiser steps")
    lr: float = Field(0.01, gt=0, description="learning rate (Adam, cosine decay)")
    width: int = Field(16, ge=1, description="channels of each network")
    tv: float = Field(1e-3, ge=0, description="weight of the total variation")
    draws: int = Field(
        4,
        ge=1,
        description="draws averaged at each step, of a defense that is random on average too",
    )


class DeepPrior(Attack):
    """Fits, for each image, the weights of an untrained convolutional network whose output is the image.

    A convolutional network is smooth long before it is noisy, which is the prior; it needs no auxiliary images. Each image
    has a network of its own, and all are trained at once as grouped convolutions: from fixed noise at a quarter of the
    side, four blocks (3×3, per-image norm, leaky ReLU), doubled twice, 1×1, sigmoid. Minimised is the normalised feature
    error of :class:`splitaudit.attacks.rmle.Rmle` plus total variation.

    What is found is the running average of the images, each image's best by its own loss. It shows detail of which the
    features say nothing, so where there are auxiliary images its step away from their mean is multiplied, in each band of
    frequencies, by the factor in [0, 1] that has the least squared error on own images attacked in rehearsal; on those
    the attack is never worse than the mean image. There too half the steps are compared with all of them, for ``converged``.
    Without auxiliary images the guess is what is found, and of convergence nothing is said. Nothing is chosen on private
    images.

    Source: the likelihood-maximisation attack of DISCO (Singh et al., CVPR 2021) and SIMBA's model optimisation, after
    deep image prior (Ulyanov et al. 2018). Departures: normalised loss, a small decoder without skips, many images at
    once, the running average, the shrinkage, selection by the attack's own loss (SIMBA selects by SSIM to the truth).
    """

    Params = DeepPriorParams
    version = 6
    source = "DISCO (Singh et al., CVPR 2021), likelihood maximisation; deep image prior (Ulyanov et al. 2018)"
    requires = AdversaryKnowledge(edge="weights")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    uses_draws = True
    search = {"lr": (0.005, 0.01, 0.02), "width": (16, 32), "tv": (0.0, 1e-3, 1e-2)}  # noqa: RUF012
    expected = Expected(control_mse=dict.fromkeys(INVERTIBLE, 1e-3), cheap_suffices=True)

    def fit(self, view: View) -> Fitted:
        if view.knowledge.aux == "none":
            w = torch.empty(64, *view.image_shape, device=view.device)
            w.normal_(generator=view.generator("deep_prior scale images"))
            own = GaussianPrior(view.image_shape).to(view.device)(w).clamp(0, 1)
            unit = whitening(view, own, "deep_prior scale draws", mixed=False)
            view.note(converged=None, not_judged=UNJUDGED)
            return {"whitening": unit.matrix, "factor": torch.zeros(0)}
        images = own_images(view, "train", 1, 1)[:2048]
        unit = whitening(view, images, "deep_prior scale draws", mixed=False)
        own = to_float(view.aux_val.images[-CALIBRATION:].to(view.device))
        seen = view.rehearsal(own, "deep_prior own draws")
        whole, factor = _shrunk(view, self._found(seen, unit, self.params.steps, "rehearsal"), own)
        half, _ = _shrunk(view, self._found(seen, unit, max(1, self.params.steps // 2), "half the steps"), own)
        view.note(
            aux_val_mse=float((whole - own).square().mean()),
            **doubled_step(factor, half, whole, own),
            shrinkage=[round(f, 3) for f in spread(factor)],
        )
        return {"whitening": unit.matrix, "factor": factor}

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        unit = Whitening(fitted["whitening"].to(view.device))
        found = self._found(view, unit, self.params.steps, "private")
        if not len(fitted["factor"]):
            return found
        return _weighed(view, found, fitted["factor"].to(view.device))

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        pixels, w = image_shape[1] * image_shape[2], self.params.width
        macs = 9 * w * (NOISE * pixels / 16 + w * (pixels / 16 + pixels / 4 + pixels)) + w * image_shape[0] * pixels
        images = self.params.steps * (n_private + (1.5 * CALIBRATION if n_aux else 0))
        return Work(edge_passes=3 * images, gflop=2e-9 * 4 * macs * images)  # grouped: a quarter of the usual rate

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 150, "width": 12}

    def _values(self, view: View) -> int:
        """Returns values of activations of one image's network: what bounds the images at once."""
        return 8 * self.params.width * math.prod(view.image_shape[1:])

    def _found(self, view: View, unit: Whitening, steps: int, role: str) -> torch.Tensor:
        """Returns the images (N, C, H, W) that the networks of a view's received features come to show."""
        p, z = self.params, view.average
        objective = Objective(view, GaussianPrior(view.image_shape), unit, p.tv, p.draws)
        parts = batches(z, self._values(view))
        return torch.cat([self._fitted(view, objective, z[at], steps, f"{role} {int(at[0])}") for at in parts])

    def _fitted(self, view: View, objective: Objective, z: torch.Tensor, steps: int, role: str) -> torch.Tensor:
        """Returns the images of received features that are fitted at once."""
        draws = view.generator(f"deep_prior init {role}")
        networks = Networks(len(z), view.image_shape, self.params.width, draws).to(view.device)
        visible = objective.visible(z)
        fresh = view.generator(f"deep_prior wire {role}")

        def loss_of(x: torch.Tensor, g: torch.Generator) -> torch.Tensor:
            return objective.feature_error(x, z, visible, g) + self.params.tv * total_variation(x)

        optimizer = torch.optim.Adam(networks.parameters())
        best = average = torch.zeros(0)
        lowest = torch.full((len(z),), float("inf"), device=view.device)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = self.params.lr * (1 + math.cos(math.pi * step / steps)) / 2
            x = networks()
            loss = loss_of(x, fresh)
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
            with torch.no_grad():
                average = x.detach().clone() if step == 0 else average.lerp(x.detach(), 1 - AVERAGE)
                if step % max(1, steps // CHECKS) == 0 or step == steps - 1:
                    now = loss_of(average, view.generator(f"deep_prior judge {role}"))
                    best = (
                        average.clone()
                        if step == 0
                        else torch.where((now < lowest)[:, None, None, None], average, best)
                    )
                    lowest = torch.minimum(lowest, now)
                    if role == "private 0":
                        view.log("loss", step + 1, float(now.mean()))
        return best


def _shrunk(view: View, found: torch.Tensor, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the guesses (N, C, H, W) of own images and the factor (1, C, H, W) with which they come nearest to these."""
    basis = _about(view)
    factor = shrinkage(basis.analyse(found - basis.mean), basis.analyse(own - basis.mean), sure=True)
    return _weighed(view, found, factor), factor


def _weighed(view: View, found: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Returns images (N, C, H, W) whose step away from the mean image is multiplied, coefficient by coefficient."""
    basis = _about(view)
    basis.scale = factor
    with torch.no_grad():
        return basis(basis.analyse(found - basis.mean)).clamp(0, 1)


def _about(view: View) -> GaussianPrior:
    """Returns the cosine basis about the mean auxiliary image."""
    basis = GaussianPrior(view.image_shape).to(view.device)
    basis.mean = view.prior[None]
    return basis


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
