"""Random zeroing of features on the wire."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.params import Params


class DropoutParams(Params):
    """Parameters of :class:`Dropout`."""

    rate: float = Field(0.5, ge=0, lt=1, description="probability with which an element is set to zero")
    rescale: bool = Field(False, description="divide what is kept by 1 - rate")


class Dropout(Defense):
    """Sets each element to zero with probability ``rate``, at inference too: z' = m ⊙ z.

    Source: He et al. 2019/2020 and the SiftFunnel code (``z * Bernoulli(1 - r)``, not rescaled, r = 0.8 there). Departure:
    the cloud is trained with the mask unless ``when: infer``.
    """

    Params = DropoutParams
    version = 1
    source = "He et al., IEEE IoT-J 2020; arXiv 2501.00824, official code"
    claims = {"mse": "up"}  # noqa: RUF012
    acts_on_wire = True

    @property
    def stochastic(self) -> bool:
        return self.params.rate > 0

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"rate": 0.0}

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.params.rate == 0:
            return z
        keep = torch.empty_like(z).uniform_(generator=generator) >= self.params.rate
        kept = z * keep
        return kept / (1 - self.params.rate) if self.params.rescale else kept

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        # A zero is either masked or a true zero of the edge; nobody can tell which, so only non-zeros are evidence.
        return received != 0 if self.params.rate > 0 else None

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z / (1 - self.params.rate) if self.params.rescale else z
