"""Networks that read a class or another attribute from features or images, and how they are trained."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from splitaudit.nn.scale import Standardised
from splitaudit.rising import still_rising

from ._cycle import one_cycle

Batch = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From indices to inputs (N, ...) and values of the attribute (N,)."""


LARGEST = 56
"""Side up to which a map passes the first convolution without being reduced, in px."""

AT_ONCE = 3 * 10**7
"""Greatest number of values that are read in one batch."""


class Reader(Standardised):
    """A small classifier of maps, vectors or tokens; its input is standardised by statistics that the caller sets.

    Maps pass convolutions that halve them until a side is at most 4, then the means of four quarters are read; anything
    else is flattened and passes two linear layers.

    Args:
        shape: of one input, without the batch.
        values: K, how many values the attribute has.
        width: channels of the first convolution, doubled once; or units.
    """

    def __init__(self, shape: tuple[int, ...], values: int, width: int = 64) -> None:
        super().__init__(shape)
        if len(shape) != 3:
            units = 4 * width
            self.body: nn.Module = nn.Sequential(
                nn.Flatten(),
                nn.Linear(math.prod(shape), units),
                nn.SiLU(),
                nn.Linear(units, units),
                nn.SiLU(),
                nn.Linear(units, values),
            )
            return
        first = max(1, min(shape[1:]) // LARGEST)  # at full size 224 px would take gigabytes
        layers: list[nn.Module] = [
            nn.Conv2d(shape[0], width, 2 * first + 1, stride=first, padding=first),
            nn.BatchNorm2d(width),
            nn.SiLU(),
        ]
        side, now = -(-min(shape[1:]) // first), width
        while True:
            then = 2 * width
            stride = 2 if side > 4 else 1
            layers += [nn.Conv2d(now, then, 3, stride=stride, padding=1), nn.BatchNorm2d(then), nn.SiLU()]
            side, now = -(-side // stride), then
            if side <= 4:
                break
        layers += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * now, values)]
        self.body = nn.Sequential(*layers)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Returns scores (N, K) of inputs (N, *shape)."""
        return self.body(self.standardised(z))


@dataclass(frozen=True)
class Schedule:
    """How a reader is trained: passes over the data, inputs a step, peak learning rate."""

    epochs: int
    batch: int
    lr: float


@dataclass(frozen=True)
class Read:
    """A reader after its training.

    Attributes:
        state: the weights with the least cross-entropy on held-out inputs.
        loss: that cross-entropy in nats.
        accuracy: on the held-out inputs, with those weights.
        curve: (epoch, cross-entropy on the held-out inputs).
        steps: how many steps were taken.
        converged: whether the accuracy on the held-out inputs no longer rose, by the rule of the targets' own training.
    """

    state: dict[str, torch.Tensor]
    loss: float
    accuracy: float
    curve: list[tuple[int, float]]
    steps: int
    converged: bool


def train_reader(
    reader: Reader,
    batch: Batch,
    count: int,
    held_out: tuple[torch.Tensor, torch.Tensor],
    schedule: Schedule,
    order: torch.Generator,
) -> Read:
    """Trains a reader by cross-entropy with AdamW and one cycle of the rate, and keeps its best weights.

    Args:
        reader: in place.
        batch: draws inputs anew at each call.
        count: how many there are.
        held_out: inputs and values by which the weights are chosen; never private ones.
        schedule: length and rate.
        order: of the inputs.
    """
    optimizer, rate = one_cycle(reader.parameters(), schedule.lr, count, schedule.batch, schedule.epochs)
    best, right, kept = float("inf"), 0.0, reader.state_dict()
    curve, accuracies, steps = [], [], 0
    for epoch in range(1, schedule.epochs + 1):
        reader.train()
        for index in torch.randperm(count, generator=order).to(held_out[0].device).split(schedule.batch):
            if len(index) == 1:  # batch statistics of one input are nothing
                continue
            z, y = batch(index)
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(reader(z), y).backward()
            optimizer.step()
            rate.step()
            steps += 1
        scores = scores_of(reader, held_out[0])
        loss = float(F.cross_entropy(scores, held_out[1]))
        curve.append((epoch, loss))
        accuracies.append(float((scores.argmax(1) == held_out[1]).float().mean()))
        if loss < best:
            best, right = loss, accuracies[-1]
            kept = {k: v.clone() for k, v in reader.state_dict().items()}
    if not math.isfinite(best):
        raise FloatingPointError("the cross-entropy on aux_val is not finite in any epoch")
    return Read(kept, best, right, curve, steps, not still_rising(accuracies, len(held_out[1])))


def scores_of(reader: Reader, inputs: torch.Tensor) -> torch.Tensor:
    """Returns log-probabilities (N, K) of inputs (N, ...) in eval mode."""
    reader.eval()
    with torch.no_grad():
        size = max(1, min(256, AT_ONCE // (64 * max(1, inputs[0].numel() if len(inputs) else 1))))
        return torch.cat([reader(b) for b in inputs.split(size)]).log_softmax(1)
