"""Control edges: what an attack must invert, and what nobody can.

Each starts with the block ``normalize``, as every edge of a split does.
"""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn

from ..attack import INVERTIBLE
from ..seeds import derive, seeded_globally
from ..split import Normalize
from .hidden import under_attack

CONTROLS = (*INVERTIBLE, "constant")


class Constant(nn.Module):
    """Gives the same features for every image: nothing about it crosses the wire.

    Args:
        shape: of one image's features.
    """

    value: torch.Tensor

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("value", torch.linspace(0.2, 1.0, math.prod(shape)).reshape(1, *shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Zero times the image keeps the graph, so that a white-box attack gets a gradient (of zero).
        nothing = 0 * x.flatten(1).sum(1)
        return self.value + nothing.reshape(-1, *[1] * (self.value.ndim - 1))


class Scale(nn.Module):
    """Multiplies features by a constant: a funnel that shrinks them hides nothing."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.factor


class TooManyPasses(BaseException):
    """An attack went through the edge far more often than it announced; no ``except Exception`` of its own holds it up."""


class Passes(nn.Module):
    """Lets images through and counts them while an attack runs; copies share the count.

    Attributes:
        images: images that went forward.
        backward: images whose gradient came back.
        limit: forward images at which an attack is stopped.
    """

    def __init__(self, limit: float = math.inf) -> None:
        super().__init__()
        self.images = self.backward = 0
        self.limit = limit

    def __deepcopy__(self, memo: dict[int, object]) -> Passes:
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if under_attack():
            self.images += len(x)
            if self.images > self.limit:
                raise TooManyPasses
            if x.requires_grad:
                x.register_hook(self._came_back)
        return x

    def _came_back(self, gradient: torch.Tensor) -> None:
        self.backward += len(gradient)


def with_passes(edge: nn.Sequential, limit: float = math.inf) -> tuple[nn.Sequential, Passes]:
    """Returns an edge that counts what goes through it, and its counter."""
    counter = Passes(limit)
    (first, normalize), *others = edge.named_children()
    return nn.Sequential(OrderedDict([(first, normalize), ("passes", counter), *others])).eval(), counter


def control_edge(kind: str, image_shape: tuple[int, int, int], scale: float = 1.0) -> nn.Sequential:
    """Returns a control edge in eval mode, images in [0, 1] to features.

    Args:
        kind: ``identity`` (features are the image), ``linear`` (an orthogonal matrix: vectors), ``orthogonal`` (an
            orthogonal convolution 2×2 of stride 2: maps of half the size and four times the channels; odd sides lose
            their last row or column) or ``constant``.
        image_shape: (C, H, W).
        scale: a factor on the features.
    """
    channels, height, width = image_shape
    blocks: OrderedDict[str, nn.Module] = OrderedDict(normalize=Normalize(torch.zeros(channels), torch.ones(channels)))
    with seeded_globally(derive("control edge", 0, kind=kind)):
        if kind == "linear":
            size = channels * height * width
            matrix = nn.Linear(size, size, bias=False)
            nn.init.orthogonal_(matrix.weight)
            blocks["flatten"], blocks["matrix"] = nn.Flatten(), matrix
        elif kind == "orthogonal":
            conv = nn.Conv2d(channels, 4 * channels, 2, stride=2, bias=False)
            with torch.no_grad():
                conv.weight.copy_(
                    nn.init.orthogonal_(torch.empty(4 * channels, 4 * channels)).reshape(conv.weight.shape)
                )
            blocks["conv"] = conv
        elif kind == "constant":
            blocks["constant"] = Constant((2 * channels, height // 2, width // 2))
        elif kind == "identity":
            blocks["identity"] = nn.Identity()
        else:
            raise ValueError(f"control edge '{kind}' is not known, expected one of {', '.join(CONTROLS)}")
    if scale != 1:
        blocks["scale"] = Scale(scale)
    return nn.Sequential(blocks).eval()
