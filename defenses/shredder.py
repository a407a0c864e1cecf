"""Noise that is learned on the frozen network."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pydantic import Field
from torch import nn

from splitaudit.defense import Defense
from splitaudit.nn.scale import ChannelScale
from splitaudit.params import Params
from splitaudit.split import Split


class ShredderParams(Params):
    """Parameters of :class:`Shredder`."""

    tensors: int = Field(8, ge=1, description="noise tensors that are learned, one of which is drawn for each image")
    start: float = Field(
        1.0,
        gt=0,
        description="standard deviation of the noise at the start, in units of each channel's standard deviation",
    )
    weight: float = Field(0.1, ge=0, description="weight of log(mean |noise|) beside the cross-entropy (nats)")
    sample: bool = Field(
        True,
        description="false: send the learned tensors themselves, as they are, instead of fresh noise of their order",
    )


class Shredder(Defense):
    """Adds noise tensors that are learned on the frozen network: z' = z + s_c·n, n drawn from a collection for each image.

    Edge and cloud stay as they are; the tensors n_1…n_T of the features' shape, which start as Laplace noise, minimise
    CE − λ·log(mean |n|). How far the noise grows from its start depends on the steps and their size (the training's, with
    Adam some thousandths of a unit each): in ten epochs of 50 steps from 1.0 to about 1.05 with λ = 0.1 and 1.3 with λ = 10, so
    that ``start`` says more of the strength than λ does. s_c is the standard deviation of channel c of the clean features on
    ``client_train``. At inference a tensor is drawn, a Laplace distribution of its location and scale gives as many fresh
    values as it has elements, and they are put into the order of its elements, so that the large ones lie where the
    network bears them (``sample``). Thousands of sorted values hardly vary, so what is sent is next to one of T tensors that
    whoever has the edge knows (``patterns``): most of the noise can be taken off.

    Source: Mireshghallah et al. 2020 (Shredder): the loss CE − λ·Σ|n| on frozen weights, the collection, the sampling in
    the order of the elements. Departures: log of the mean instead of the sum, so that λ does not depend on the size of the
    features and there is no schedule that stops the growth; noise relative to each channel; all tensors are learned at
    once, each image of a batch with one of its own, where the original trains them one after the other.
    """

    Params = ShredderParams
    version = 1
    source = "Mireshghallah et al., ASPLOS 2020, arXiv 1905.11814"
    claims = {"mse": "up", "mi_upper_nats": "down"}  # noqa: RUF012
    acts_on_wire = True
    usually = "infer"

    @property
    def stochastic(self) -> bool:
        return self.params.sample or self.params.tensors > 1

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"tensors": 2}

    def prepare(self, split: Split) -> None:
        shape = split.feature_shape()
        self.scale = ChannelScale(shape)
        uniform = (torch.rand(self.params.tensors, *shape) - 0.5).clamp(-0.5 + 1e-7, 0.5 - 1e-7)
        self.noise = nn.Parameter(self.params.start * _laplace(uniform))

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        self.scale.calibrate(features)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        if self.params.weight == 0:
            return None
        return -self.params.weight * self.noise.abs().mean().clamp_min(1e-12).log()

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        share = torch.empty(len(z), device=z.device).uniform_(generator=generator)
        which = (share * len(self.noise)).long().clamp_max(len(self.noise) - 1)
        chosen = self.noise[which]
        if self.params.sample and not self.training:
            chosen = self._fresh(chosen, which, generator)
        return z + self.scale(z) * chosen

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def patterns(self) -> torch.Tensor | None:
        # Thousands of sorted draws hardly differ from the distribution's quantiles: fresh noise is one of few known tensors.
        pattern = self.noise.detach()
        if self.params.sample:
            location, spread, ranks = self._law()
            count = ranks.shape[1]
            middle = (torch.arange(count, device=pattern.device) + 0.5) / count - 0.5
            quantiles = location + spread * _laplace(middle) * math.sqrt(2)
            pattern = torch.zeros_like(quantiles).scatter(1, ranks, quantiles).reshape(pattern.shape)
        return self.scale(pattern) * pattern

    def _law(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Returns location and scale of each tensor's Laplace law, (T, 1) each, and the order of its elements, (T, D)."""
        rows = self.noise.flatten(1)
        location = rows.median(1, keepdim=True).values
        return location, (rows - location).abs().mean(1, keepdim=True), rows.argsort(1)

    def _fresh(self, chosen: torch.Tensor, which: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns Laplace noise with the location and scale of each chosen tensor, in the order of its elements."""
        location, spread, ranks = self._law()
        uniform = torch.empty_like(chosen.flatten(1)).uniform_(generator=generator) - 0.5
        drawn = location[which] + spread[which] * _laplace(uniform.clamp(-0.5 + 1e-7, 0.5 - 1e-7)) * math.sqrt(2)
        return torch.zeros_like(drawn).scatter(1, ranks[which], drawn.sort(1).values).reshape(chosen.shape)


def _laplace(uniform: torch.Tensor) -> torch.Tensor:
    """Returns Laplace values of unit variance for uniform ones between -1/2 and 1/2."""
    return -uniform.sign() * torch.log1p(-2 * uniform.abs()) / math.sqrt(2)
