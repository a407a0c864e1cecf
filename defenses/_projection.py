"""What projections of the features share: coefficients cross the wire, the cloud fills them up again."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch import nn

from splitaudit.defense import Defense
from splitaudit.params import Params
from splitaudit.split import Split


class ProjectionParams(Params):
    """Parameters of :class:`Projection`."""

    keep: float = Field(
        0.1, gt=0, le=1, description="share of the features' numbers that cross the wire; 1: all, as they are"
    )


class Projection(Defense):
    """Sends the coefficients Vᵀ(z − m) of flattened features; the cloud takes m + V·(what was sent).

    V has orthonormal columns, ``keep`` of as many as an image has feature numbers; m is the mean of the features over
    ``client_train``. Both are fitted to the trained undefended network, stored, public, and on the device too: they count
    as its parameters and its arithmetic.
    """

    Params = ProjectionParams
    acts_on_wire = True
    usually = "infer"

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"keep": 1.0}

    def count(self, feature_shape: tuple[int, ...]) -> int:
        """Returns how many coefficients are sent for features of a shape."""
        return max(1, round(self.params.keep * math.prod(feature_shape)))

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return feature_shape if self.params.keep == 1 else (self.count(feature_shape),)

    def prepare(self, split: Split) -> None:
        self.shape = split.feature_shape()
        if self.params.keep == 1:
            return
        size = math.prod(self.shape)
        # Parameters, so that they are counted as such, but none that anything trains.
        self.mean = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.basis = nn.Parameter(torch.eye(size, self.count(self.shape)), requires_grad=False)

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z if self.params.keep == 1 else (z.flatten(1) - self.mean) @ self.basis

    def lift(self, sent: torch.Tensor) -> torch.Tensor:
        return sent if self.params.keep == 1 else (self.mean + sent @ self.basis.T).reshape(-1, *self.shape)
