"""CIFAR-10 through torchvision."""

from __future__ import annotations

from typing import Any

from ._torchvision import TorchvisionDataset


class Cifar10(TorchvisionDataset):
    """60,000 colour images of 32 px in 10 classes.

    25,000 / 2,500 client, 20,000 / 2,500 aux, 1,000 private, 9,000 measure.
    """

    version = 1
    source = "Krizhevsky 2009, Learning multiple layers of features from tiny images; read by torchvision"
    name = "cifar10"

    def reader(self) -> Any:
        from torchvision.datasets import CIFAR10

        return CIFAR10
