"""What SiftFunnel's edge is made of on each backbone, as the official code builds it at width 64."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

Blocks = OrderedDict[str, nn.Module]


@dataclass(frozen=True)
class Design:
    """What differs between the backbones.

    Attributes:
        cut: the undefended cut that the edge stands in for.
        trunk: the edge in front of the funnel, from the undefended edge's blocks and the width.
        attention: block of the trunk to (its channels as a multiple of the width, reduction of the squeeze-and-excitation
            after it); a triplet attention follows.
        entry: the funnel's first convolution, from the width.
        pool: whether the funnel halves the map.
        wire: channels on the wire at width 64.
        reductions: of the squeeze-and-excitation and the CBAM on the wire.
        lifted: channels that the cloud works with, as a multiple of the width.
        absorbed: blocks of the cloud whose place the funnel edge takes.
        biases: whether the trunk's convolutions keep the biases that the backbone gives them.
    """

    cut: str
    trunk: Callable[[Blocks, int], Blocks]
    attention: Mapping[str, tuple[int, int]]
    entry: Callable[[int], nn.Conv2d]
    wire: int
    reductions: tuple[int, int]
    lifted: int
    pool: bool = False
    absorbed: tuple[str, ...] = ()
    biases: bool = True


class Discarded(nn.Module):
    """Runs a module and returns its own input: work that nothing depends on."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.module(z)
        return z


def funnel_block(entry: nn.Conv2d, wire: int, pool: bool) -> nn.Sequential:
    """Returns the layers that squeeze maps into ``wire`` channels, behind their first convolution ``entry``."""
    middle = entry.out_channels
    return nn.Sequential(
        entry,
        nn.BatchNorm2d(middle),
        nn.ReLU(),
        *([nn.MaxPool2d(2)] if pool else []),
        nn.Conv2d(middle, wire, 1),
        nn.Conv2d(wire, wire, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(wire, wire, 1),
        nn.Conv2d(wire, wire, 3, padding=1),
        nn.Conv2d(wire, wire, 5, padding=2),
        nn.ReLU(),
    )


def lift_block(wire: int, channels: int) -> nn.Sequential:
    """Returns the cloud's first layers: from ``wire`` to ``channels`` channels at the same size."""
    return nn.Sequential(
        nn.Conv2d(wire, channels, 3, padding=1, bias=False),
        nn.Conv2d(channels, channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(),
    )


def _cnn4_trunk(own: Blocks, width: int) -> Blocks:
    return OrderedDict((n, own[n]) for n in ("normalize", "block1"))


def _resnet18_trunk(own: Blocks, width: int) -> Blocks:
    # Layer 2 without its residual connections; the published edge does not use layer 1.
    mix = nn.Sequential(
        nn.Conv2d(width, 2 * width, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
        nn.Conv2d(2 * width, 2 * width, 3, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),
        nn.ReLU(),
    )
    return OrderedDict(normalize=own["normalize"], stem=own["stem"], layer2_mix=mix)


def _vgg16_bn_trunk(own: Blocks, width: int) -> Blocks:
    return OrderedDict((n, b) for n, b in own.items() if n != "conv3_1")


DESIGNS: dict[str, Design] = {
    "cnn4": Design(
        cut="block2",
        trunk=_cnn4_trunk,
        attention={"block1": (1, 32)},
        entry=lambda w: nn.Conv2d(w, max(1, w // 4), 1),
        wire=12,
        reductions=(4, 6),
        lifted=2,
        pool=True,
    ),
    "resnet18": Design(
        cut="layer1_block2",
        trunk=_resnet18_trunk,
        attention={"stem": (1, 16), "layer2_mix": (2, 32)},
        entry=lambda w: nn.Conv2d(2 * w, max(1, w // 2), 1),
        wire=6,
        reductions=(3, 3),
        lifted=2,
        absorbed=("layer2_block1", "layer2_block2"),
    ),
    "vgg16_bn": Design(
        cut="conv3_1",
        trunk=_vgg16_bn_trunk,
        attention={"pool1": (1, 16), "pool2": (2, 32)},
        entry=lambda w: nn.Conv2d(2 * w, max(1, w // 2), 3, padding=1, bias=False),
        wire=4,
        reductions=(4, 4),
        lifted=4,
        biases=False,
    ),
}
"""By backbone, as the official code builds them at width 64."""
