"""Targets whose features are known: what the tests of measures are made of."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from splitaudit.data.base import Part
from splitaudit.defense import Defense
from splitaudit.metric import MeasureContext
from splitaudit.params import Params
from splitaudit.split import Split, SplitInfo, SplitModel

Wire = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


class Lookup(nn.Module):
    """An edge that looks up given features by the number that an image's first two pixels spell."""

    features: torch.Tensor

    def __init__(self, features: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("features", features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        digits = (x[:, 0, 0, :2] * 255).round().long()
        return self.features[(256 * digits[:, 0] + digits[:, 1]).clamp(max=len(self.features) - 1)]


class OnTheWire(Defense):
    """A defense made from a function of features and generator."""

    def __init__(self, act: Wire, stochastic: bool, shape: tuple[int, ...] | None = None) -> None:
        super().__init__(Params())
        self._act, self._stochastic, self._shape = act, stochastic, shape

    @property
    def stochastic(self) -> bool:
        return self._stochastic

    def wire_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._shape or feature_shape

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self._act(z, generator)


def numbered(n: int) -> torch.Tensor:
    """Returns n images, uint8, (n, 1, 1, 2), whose pixels spell their number."""
    index = torch.arange(n)
    return torch.stack([index // 256, index % 256], dim=1).to(torch.uint8).reshape(n, 1, 1, 2)


def context(
    features: torch.Tensor,
    *,
    defense: Defense | None = None,
    cloud: nn.Module | None = None,
    labels: torch.Tensor | None = None,
    groups: torch.Tensor | None = None,
    classes: int = 2,
    seed: int = 0,
) -> MeasureContext:
    """Returns what a measure gets of a target whose clean features are given, one row per image of ``measure``."""
    n = len(features)
    info = SplitInfo("lookup", "cut", (1, 1, 2), classes)
    split = Split(info, nn.Sequential(Lookup(features)), nn.Sequential(cloud or nn.Identity()))
    model = SplitModel(split, defense or Defense(Params())).eval()
    part = Part(numbered(n), torch.zeros(n, dtype=torch.long) if labels is None else labels, groups)
    return MeasureContext(model, part, seed, torch.device("cpu"))
