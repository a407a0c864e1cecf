"""Additive noise on the wire."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pydantic import Field

from splitaudit.defense import Defense, NoiseShape
from splitaudit.nn.scale import ChannelScale
from splitaudit.params import Params
from splitaudit.split import Split


class NoiseParams(Params):
    """Parameters of :class:`Noise`."""

    sigma: float = Field(
        1.0,
        ge=0,
        description="standard deviation of the noise; in units of each channel's standard deviation if relative",
    )
    distribution: Literal["gaussian", "laplace"] = Field("gaussian", description="shape of the noise")
    relative: bool = Field(
        True, description="sigma is relative to each channel's standard deviation of clean features on client_train"
    )


class Noise(Defense):
    """Adds independent zero-mean noise to every element: z' = z + σ·s_c·ε.

    ε has unit variance (Gaussian, or Laplace with scale 1/√2); s_c is the standard deviation of channel c of the clean
    features on ``client_train`` (running and without gradient in training, exact and frozen afterwards), or 1 if not
    relative.

    Source: He et al. 2019 (Gaussian and Laplace noise at inference); Titcombe et al. 2021 (also in training). Departures:
    ``sigma`` is the standard deviation for both shapes, the scale is relative by default (an absolute one can be
    defeated by a network that inflates its features), and the cloud is trained with the noise unless ``when: infer``.
    It is no differential privacy: nothing is clipped, so there is no epsilon.
    """

    Params = NoiseParams
    version = 1
    source = "He et al., ACSAC 2019; Titcombe et al. 2021"
    claims = {"mse": "up"}  # noqa: RUF012
    acts_on_wire = True
    additive = True

    @property
    def stochastic(self) -> bool:
        return self.params.sigma > 0

    @property
    def noise_shape(self) -> NoiseShape:
        return self.params.distribution

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"sigma": 0.0}

    def prepare(self, split: Split) -> None:
        self.scale = ChannelScale(split.feature_shape()) if self.params.relative else None

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        if self.scale is not None:
            self.scale.calibrate(features)

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        scale = self.scale(z) if self.scale is not None else 1.0
        if self.params.sigma == 0:
            return z
        if self.params.distribution == "gaussian":
            unit = torch.empty_like(z).normal_(generator=generator)
        else:
            # A difference of two exponentials is Laplace; each has variance 1, so the difference has 2.
            first = torch.empty_like(z).exponential_(generator=generator)
            unit = (first - torch.empty_like(z).exponential_(generator=generator)) / 2**0.5
        return z + self.params.sigma * scale * unit
