"""The inversion decoders of the SiftFunnel code, and which of them it has for a target.

Source: arXiv 2501.00824, official code (``inversion_model_packages``), as structure and parameter counts. T4 doubles the
side (transposed convolution 4×4, stride 2), T3 keeps it (3×3, stride 1); all have a bias unless said.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import torch
from torch import nn

from splitaudit.attacks._reshaped import reshaped_by
from splitaudit.errors import Unsupported
from splitaudit.split import SplitInfo

Structure = Literal["chain", "autoencoder", "funnel", "residual", "vgg", "vgg_funnel"]

_CNN: dict[str, Structure] = {"undefended": "chain", "bottleneck": "autoencoder", "siftfunnel": "funnel"}

_NOT_BUILT: dict[tuple[str, str], str] = {
    ("resnet18", "siftfunnel"): "the published one expects 2×64×64 features where the published wire has 6×32×32",
    ("resnet18", "bottleneck"): "what its blocks consist of is not known completely",
    ("resnet18", "undefended"): "only that for maps of the image's size (stem, layer1) is known completely",
    ("vgg16_bn", "undefended"): "the published one is for maps of a quarter of the image's side (pool2, conv3)",
}

_CUTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("resnet18", "undefended"): ("stem", "layer1"),
    ("vgg16_bn", "undefended"): ("pool2", "conv3"),
    ("vgg16_bn", "siftfunnel"): ("conv3",),
}
"""Beginnings of the names of cuts whose maps have the side that a known decoder expects."""


class PublishedDecoder(nn.Module):
    """Maps features to an image in [0, 1] by one of the official code's decoders.

    ``chain``: T4 steps with batch norm and tanh that halve the channels (undefended CNN). ``autoencoder``: three T3 at
    twice the channels, then T4 steps (CNN). ``funnel``: five T3 at the wire's own channels, then T4 steps at 64 channels
    (CNN). ``residual``: two inverse residual blocks and a T3 (undefended ResNet, maps of the image's size). ``vgg``: T3,
    T4, T3, T4 with batch norm and tanh, and a T3 (undefended VGG, a quarter of the side). ``vgg_funnel``: three T3 of
    few channels, T4 to 128 and on as in ``vgg``. Vectors, whatever the structure: T4 steps from 4×4 at 512 channels.

    Departures: any side (the last map is resized bilinearly where doubling does not meet the image), any number of
    steps, widths in proportion where the chain would run below 16 channels.

    Args:
        feature_shape: shape of one image's features.
        image_shape: (C, H, W).
        structure: one of the above.
    """

    def __init__(self, feature_shape: tuple[int, ...], image_shape: tuple[int, int, int], structure: Structure) -> None:
        super().__init__()
        channels, height, width = image_shape
        if len(feature_shape) != 3:
            numbers = math.prod(feature_shape)
            steps = max(1, math.ceil(math.log2(max(height, width) / 4)))
            lead: list[nn.Module] = [nn.Flatten(), nn.Unflatten(1, (numbers, 1, 1))]
            lead += [nn.ConvTranspose2d(numbers, 512, 4), nn.BatchNorm2d(512), nn.Tanh()]
            layers, side = [*lead, *_chain(512, channels, steps)], (4 * 2**steps, 4 * 2**steps)
        else:
            wire, h, w = feature_shape
            fixed = {"residual": (0, _residual), "vgg": (2, _vgg), "vgg_funnel": (2, _vgg_funnel)}
            if structure in fixed:
                steps, build = fixed[structure]
                layers = build(wire, channels)
            else:
                steps = max(0, math.ceil(math.log2(max(height / h, width / w))))
                layers = {"chain": _chain, "autoencoder": _autoencoder, "funnel": _funnel}[structure](
                    wire, channels, steps
                )
            side = (h * 2**steps, w * 2**steps)
        if side != (height, width):
            layers.append(nn.Upsample((height, width), mode="bilinear", align_corners=False))
        self.body = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) in [0, 1] for features (N, *feature_shape)."""
        return self.body(z)


def published_structure(
    architecture: SplitInfo, defense_parts: Iterable[tuple[str, Mapping[str, Any]]], feature_shape: tuple[int, ...]
) -> Structure:
    """Returns which decoder the official code has for a target.

    Args:
        architecture: of the undefended model.
        defense_parts: name and parameters of each part of the defense. The last one that changes the edge decides.
        feature_shape: shape of one image's features on the wire.

    Raises:
        Unsupported: where there is none, or where it is not known completely; with the reason.
    """
    edge = _edge(defense_parts)
    backbone, (_, height, width) = architecture.backbone, architecture.image_shape
    if backbone == "cnn4":
        return _CNN[edge]
    if len(feature_shape) == 3:
        sides = feature_shape[1:]
        if backbone == "resnet18" and edge == "undefended" and sides == (height, width):
            return "residual"
        if backbone == "vgg16_bn" and edge != "bottleneck" and sides == (height // 4, width // 4):
            return "vgg" if edge == "undefended" else "vgg_funnel"
    raise Unsupported(f"{_none_for(architecture, edge)}; features {feature_shape}")


def unpublished(architecture: SplitInfo, defense_parts: Iterable[tuple[str, Mapping[str, Any]]]) -> str | None:
    """Returns why the official code has no decoder for a target, as far as that is known before its features are.

    Args:
        architecture: of the undefended model.
        defense_parts: name and parameters of each part of the defense.
    """
    parts = list(defense_parts)
    edge = _edge(parts)
    cuts = _CUTS.get((architecture.backbone, edge))
    if architecture.backbone == "cnn4":
        return None
    if not (cuts and architecture.cut.startswith(cuts)):
        return _none_for(architecture, edge)
    name = reshaped_by(parts)
    return name and f"{_none_for(architecture, edge)}; '{name}' sends another shape than the edge's"


def _edge(defense_parts: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    edge = "undefended"
    for name, params in defense_parts:
        if name == "bottleneck" or (name == "siftfunnel" and params["funnel"]):
            edge = name
    return edge


def _none_for(architecture: SplitInfo, edge: str) -> str:
    why = _NOT_BUILT.get((architecture.backbone, edge), "the official code has none")
    return (
        f"decoder_published has no published decoder for backbone '{architecture.backbone}' cut after "
        f"'{architecture.cut}', edge {edge}: {why}. Name a `structure` of another backbone, or use the attack `decoder`"
    )


def _chain(wire: int, image: int, steps: int) -> list[nn.Module]:
    if steps == 0:
        return [_t3(wire, image)]
    layers: list[nn.Module] = []
    for _ in range(steps - 1):
        after = max(16, wire // 2)
        layers += _normed(_t4(wire, after), after)
        wire = after
    return [*layers, _t4(wire, image)]


def _autoencoder(wire: int, image: int, steps: int) -> list[nn.Module]:
    wide = 2 * wire
    return [*_normed(_t3(wire, wide), wide), _t3(wide, wide), _t3(wide, wide), *_chain(wide, image, steps)]


def _funnel(wire: int, image: int, steps: int) -> list[nn.Module]:
    lead = [*_normed(_t3(wire, wire), wire), _t3(wire, wire), _t3(wire, wire), nn.Tanh()]
    lead += [_t3(wire, wire), _t3(wire, 16)]
    if steps == 0:
        return [*lead, _t3(16, image)]
    # No norm and no activation between the last steps, as published.
    inner = [_t4(16 if i == 0 else 64, 64) for i in range(steps - 1)]
    return [*lead, *inner, _t4(64 if inner else 16, image)]


def _residual(wire: int, image: int) -> list[nn.Module]:
    return [InverseResidual(wire), InverseResidual(wire), _t3(wire, image)]


def _vgg(wire: int, image: int) -> list[nn.Module]:
    half, quarter = max(1, wire // 2), max(1, wire // 4)
    layers = [*_normed(_t3(wire, wire), wire), *_normed(_t4(wire, half), half), *_normed(_t3(half, half), half)]
    return [*layers, *_normed(_t4(half, quarter), quarter), _t3(quarter, image)]


def _vgg_funnel(wire: int, image: int) -> list[nn.Module]:
    lead = [*_normed(_t3(wire, wire), wire), _t3(wire, wire), nn.Tanh(), _t3(wire, 32), _t4(32, 128)]
    lead += [*_normed(_t3(128, 128), 128), *_normed(_t4(128, 64), 64), *_normed(_t3(64, 64), 64)]
    return [*lead, _t3(64, image)]


class InverseResidual(nn.Module):
    """Two T3 without bias, each with batch norm, a tanh between them, added to what came in, (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        first, second = (_t3(channels, channels, bias=False) for _ in range(2))
        self.inside = nn.Sequential(*_normed(first, channels), second, nn.BatchNorm2d(channels))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.inside(z) + z


def _normed(layer: nn.Module, channels: int) -> list[nn.Module]:
    return [layer, nn.BatchNorm2d(channels), nn.Tanh()]


def _t3(before: int, after: int, bias: bool = True) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 3, padding=1, bias=bias)


def _t4(before: int, after: int) -> nn.Module:
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
