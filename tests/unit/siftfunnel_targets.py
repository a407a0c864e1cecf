"""SiftFunnel targets and toy batches for tests."""

from __future__ import annotations

from typing import Any

import torch

from splitaudit.data.base import DataInfo
from splitaudit.pixels import to_float
from splitaudit.split import SplitModel
from splitaudit.targets import build
from splitaudit.testing.data import part

CUTS = {"cnn4": "block2", "resnet18": "layer1_block2", "vgg16_bn": "conv3_1"}


def target(
    backbone: str, defense: str = "siftfunnel", shape: tuple[int, int, int] = (3, 32, 32), width: int = 8, **params: Any
) -> SplitModel:
    """A fresh target at the cut where SiftFunnel has an edge, four classes."""
    identity = {
        "dataset": {"name": "any"},
        "backbone": {"name": backbone, "params": {"width": width, **({"dropout": 0.5} if backbone == "cnn4" else {})}},
        "cut": CUTS[backbone],
        "seed": 0,
        "defense": {"parts": [{"name": defense, "params": params}]},
    }
    statistics = torch.full((shape[0],), 0.5), torch.full((shape[0],), 0.25)
    return build(identity, DataInfo(shape, tuple("abcd"), {}), statistics, torch.device("cpu"))


def batch(n: int = 16, shape: tuple[int, int, int] = (3, 32, 32)) -> tuple[torch.Tensor, torch.Tensor]:
    """Toy images in [0, 1] and their labels."""
    data = part("client_train", n, shape)
    return to_float(data.images), data.labels


def state(model: SplitModel) -> dict[str, torch.Tensor]:
    """Every tensor of a target's two halves."""
    return {k: v for k, v in model.state_dict().items() if k.startswith(("edge.", "cloud."))}
