"""Gaussian noise for a target Fisher leakage, set from the edge's Jacobian."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from splitaudit.defense import Defense, Network
from splitaudit.params import Params
from splitaudit.split import Split

from ._jacobian import squared_jacobian


class FisherNoiseParams(Params):
    """Parameters of :class:`FisherNoise`."""

    error: float = Field(
        0.01,
        gt=0,
        description="1/dFIL: mean squared error per pixel (pixels in [0, 1]) that no unbiased attacker undercuts in the mean",
    )


class FisherNoise(Defense):
    """Adds Gaussian noise z' = z + σ·ε with one σ, chosen for a diagonal Fisher information leakage on the trained edge.

    With J = ∂f/∂x the Fisher information about the image is JᵀJ/σ², and dFIL = tr(JᵀJ)/(d·σ²) for d pixels. An *unbiased*
    attacker's mean squared error per pixel is at least 1/dFIL (Cramér–Rao). σ² = error·E[tr(JᵀJ)]/d, the expectation over
    512 images of ``client_train`` with two Rademacher probes each, so that E[dFIL] = 1/error. It is a bound for unbiased
    attackers alone: real ones have priors, and do better wherever 1/dFIL exceeds what they know of images beforehand.

    Source: Maeng et al. 2022 (ReFIL) and NeurIPS 2023; the same noise serves FSInfoGuard (arXiv 2504.10016), whose target
    is a log-determinant. Departures: the network is the undefended one, without the penalty on dFIL in training;
    the target is met in the mean over images, not for each.
    """

    Params = FisherNoiseParams
    version = 1
    source = "Maeng et al., arXiv 2209.10119; Maeng et al., NeurIPS 2023, arXiv 2305.04146"
    claims = {"mse": "up"}  # noqa: RUF012
    acts_on_wire = True
    additive = True
    usually = "infer"

    sigma: torch.Tensor

    @property
    def stochastic(self) -> bool:
        return True

    def prepare(self, split: Split) -> None:
        self.pixels = math.prod(split.info.image_shape)
        self.register_buffer("sigma", torch.zeros(()))

    def fit(self, network: Network) -> None:
        size = squared_jacobian(network.edge, network.images())
        self.sigma.fill_(math.sqrt(self.params.error * size / self.pixels))

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + self.sigma * torch.empty_like(z).normal_(generator=generator)
