"""How the networks of attacks are trained: AdamW with one cycle of the learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import OneCycleLR


def one_cycle(
    parameters: Iterable[nn.Parameter], lr: float, images: int, batch: int, epochs: int
) -> tuple[AdamW, OneCycleLR]:
    """Returns the optimiser and the rate's course, to be stepped once a batch.

    Args:
        parameters: what is trained.
        lr: peak learning rate.
        images: images (or pairs) of an epoch.
        batch: images per step.
        epochs: passes over them.
    """
    optimizer = AdamW(parameters, lr=lr, weight_decay=1e-4)
    steps = math.ceil(images / batch) * epochs
    # Auxiliary sets may be tiny: the cycle needs a few steps to have a shape.
    return optimizer, OneCycleLR(optimizer, max_lr=lr, total_steps=max(steps, 4) + 1)


def shuffled(count: int, batch: int, passes: int, order: torch.Generator) -> Iterator[torch.Tensor]:
    """Yields the indices of each batch of several passes over ``count`` images, each pass in an order of its own."""
    for _ in range(passes):
        yield from torch.randperm(count, generator=order).split(batch)
