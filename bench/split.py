"""A backbone cut in two, and the defended model built from it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .errors import Unsupported

if TYPE_CHECKING:
    from .defense import Defense


@dataclass(frozen=True)
class SplitInfo:
    """What a split is made of.

    Attributes:
        backbone: registry name.
        params: the backbone's validated parameters.
        cut: name of the block after which the model is split.
        image_shape: (C, H, W).
        classes: number of classes.
    """

    backbone: str
    cut: str
    image_shape: tuple[int, int, int]
    classes: int
    params: dict[str, Any] = field(default_factory=dict)


class Normalize(nn.Module):
    """Maps images in [0, 1] to zero mean and unit standard deviation per channel (constants of ``client_train``)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).clone())
        self.register_buffer("std", std.reshape(1, -1, 1, 1).clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.std


@dataclass
class Split:
    """The two halves of a model, before or after a defense has changed its architecture.

    Attributes:
        info: what it is made of.
        edge: images in [0, 1], (N, C, H, W), to features; its first block is ``normalize``.
        cloud: features to logits (N, K).
        received: shape of one image's features as a later defense of a composition receives them; None: the edge's own.
    """

    info: SplitInfo
    edge: nn.Sequential
    cloud: nn.Sequential
    received: tuple[int, ...] | None = None

    def feature_shape(self) -> tuple[int, ...]:
        """Returns the shape of one image's features, without the batch axis."""
        return feature_shape(self.edge, self.info.image_shape) if self.received is None else self.received


def feature_shape(edge: nn.Module, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Runs one grey image through an edge in eval mode and returns the shape of its features."""
    with evaluating(edge), torch.no_grad():
        return tuple(edge(torch.full((1, *image_shape), 0.5, device=device_of(edge))).shape[1:])


def device_of(module: nn.Module) -> torch.device:
    """Returns the device of a module's first parameter or buffer, or the CPU where it has none."""
    first = next(chain(module.parameters(), module.buffers()), None)
    return torch.device("cpu") if first is None else first.device


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Puts a module into eval mode for the block, and every part of it back into its own mode afterwards."""
    modes = [(m, m.training) for m in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


def cut_blocks(blocks: OrderedDict[str, nn.Module], info: SplitInfo, mean: torch.Tensor, std: torch.Tensor) -> Split:
    """Cuts named blocks after ``info.cut`` and puts the normalisation in front of the edge."""
    names = list(blocks)
    if info.cut not in names:
        raise Unsupported(f"backbone '{info.backbone}' has no cut '{info.cut}' (it has {', '.join(names)})")
    at = names.index(info.cut) + 1
    edge = OrderedDict([("normalize", Normalize(mean, std)), *((n, blocks[n]) for n in names[:at])])
    return Split(info, nn.Sequential(edge), nn.Sequential(OrderedDict((n, blocks[n]) for n in names[at:])))


class SplitModel(nn.Module):
    """A defended split model: edge, defense on the wire, cloud.

    Args:
        split: the halves after the defense's :meth:`~splitaudit.Defense.wrap`.
        defense: the defense.
    """

    def __init__(self, split: Split, defense: Defense) -> None:
        super().__init__()
        self.info = split.info
        self.edge = split.edge
        self.cloud = split.cloud
        self.defense = defense
        self.feature_shape = split.feature_shape()

    def clean(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the edge's output before the defense acts on the wire, (N, *feature_shape). x in [0, 1]."""
        return self.edge(x)

    def wire(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns what crosses the wire: one draw of the defended features. x in [0, 1], (N, C, H, W)."""
        return self.protect(self.edge(x), generator)

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Applies the defense to clean features and checks what it returns.

        Raises:
            ValueError: if the result's shape is not the declared one.
        """
        out = self.defense.protect(z, generator)
        if not isinstance(out, torch.Tensor):
            raise ValueError(f"defense '{self.defense.name}': protect returned {type(out).__name__}, expected a tensor")
        expected = (len(z), *self.defense.wire_shape(tuple(z.shape[1:])))
        if tuple(out.shape) != expected:
            raise ValueError(
                f"defense '{self.defense.name}': protect returned shape {tuple(out.shape)}, expected {expected}. "
                "Declare the shape of one image's features in wire_shape if the defense changes it."
            )
        return out

    def forward(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Returns logits (N, K) through the defended wire."""
        return self.answer(self.wire(x, generator))

    def answer(self, sent: torch.Tensor) -> torch.Tensor:
        """Returns the cloud's logits (N, K) for what was sent, (N, *wire_shape)."""
        return self.cloud(self.defense.lift(sent))


class CloudSide(nn.Module):
    """The cloud's half of a target with its side of the defense: what was sent, (N, *wire_shape), to logits (N, K).

    Args:
        model: the target.
    """

    def __init__(self, model: SplitModel) -> None:
        super().__init__()
        self.cloud, self.defense = model.cloud, model.defense

    def forward(self, sent: torch.Tensor) -> torch.Tensor:
        return self.cloud(self.defense.lift(sent))
