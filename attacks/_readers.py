"""Networks that read a class or another attribute from features or images, and how they are trained."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from splitaudit.nn.scale import Standardised

from ._cycle import one_cycle, shuffled
from ._decoding import BRANCH, LEAST
from ._doubling import judged

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
        half: the least cross-entropy of a training with half the budget, its rate too fallen to zero; None with too few
            epochs.
        constant: the cross-entropy of the best constant guess on the held-out inputs.
    """

    state: dict[str, torch.Tensor]
    loss: float
    accuracy: float
    curve: list[tuple[int, float]]
    steps: int
    half: float | None
    constant: float

    def judged(self) -> dict[str, Any]:
        """Returns the notes ``gain_by_doubling`` and ``converged``; with too few epochs to tell it has not converged.

        The weights kept are those of least cross-entropy, so that is what has to have stopped falling, not the accuracy: it
        stays at chance while scores begin to tell values apart, and moves after the kept weights.
        """
        if self.half is None:
            return {"converged": False}
        return judged(1 - self.loss / max(self.half, 1e-30), self.half, self.constant)


def train_reader(
    reader: Reader,
    batch: Batch,
    count: int,
    held_out: tuple[torch.Tensor, torch.Tensor],
    schedule: Schedule,
    order: torch.Generator,
    passes: int = 1,
) -> Read:
    """Trains a reader by cross-entropy with AdamW and one cycle of the rate, and keeps its best weights.

    Whether the budget was enough is judged against half of it, as of decoders (:func:`._decoding.train_inverse`): from the
    weights at ``BRANCH`` of the epochs on, the rate falls to zero until half of all steps are done.

    Args:
        reader: in place.
        batch: draws inputs anew at each call.
        count: how many there are.
        held_out: inputs and values by which the weights are chosen; never private ones.
        schedule: length and rate.
        order: of the inputs.
        passes: over the inputs in each of the schedule's epochs (:meth:`splitaudit.View.passes`).
    """
    optimizer, rate = one_cycle(reader.parameters(), schedule.lr, count, schedule.batch, schedule.epochs * passes)
    best, right, kept = float("inf"), 0.0, reader.state_dict()
    half, left = float("inf"), {}
    curve, steps = [], 0
    branch = max(1, int(BRANCH * schedule.epochs)) if schedule.epochs >= LEAST else 0

    def run() -> Iterator[None]:
        reader.train()
        for index in shuffled(count, schedule.batch, passes, order):
            if len(index) == 1:  # batch statistics of one input are nothing
                continue
            z, y = batch(index.to(held_out[0].device))
            optimizer.zero_grad(set_to_none=True)
            F.cross_entropy(reader(z), y).backward()
            optimizer.step()
            yield

    for epoch in range(1, schedule.epochs + 1):
        for _ in run():
            rate.step()
            steps += 1
        loss, accuracy = _judge(reader, held_out)
        curve.append((epoch, loss))
        if loss < best:
            best, right = loss, accuracy
            kept = {k: v.clone() for k, v in reader.state_dict().items()}
        if epoch == branch and steps:
            half, left = best, copy.deepcopy({"reader": reader.state_dict(), "optimizer": optimizer.state_dict()})
    if not math.isfinite(best):
        raise FloatingPointError("the cross-entropy on aux_val is not finite in any epoch")
    shares = held_out[1].bincount() / len(held_out[1])
    constant = float(-torch.xlogy(shares, shares).sum())
    if not left:
        return Read(kept, best, right, curve, steps, None, constant)
    reader.load_state_dict(left["reader"])
    optimizer.load_state_dict(left["optimizer"])
    peak, done = optimizer.param_groups[0]["lr"], 0
    budget = max(1, round((schedule.epochs / 2 - branch) * steps / schedule.epochs))
    while done < budget:
        for _ in run():
            done += 1
            optimizer.param_groups[0]["lr"] = peak * (1 - done / budget)
            if done == budget:
                break
        half = min(half, _judge(reader, held_out)[0])  # a half keeps its best weights, too
    return Read(kept, best, right, curve, steps, half, constant)


def _judge(reader: Reader, held_out: tuple[torch.Tensor, torch.Tensor]) -> tuple[float, float]:
    """Returns cross-entropy in nats and accuracy on held-out inputs."""
    scores = scores_of(reader, held_out[0])
    return float(F.cross_entropy(scores, held_out[1])), float((scores.argmax(1) == held_out[1]).float().mean())


def scores_of(reader: Reader, inputs: torch.Tensor) -> torch.Tensor:
    """Returns log-probabilities (N, K) of inputs (N, ...) in eval mode."""
    reader.eval()
    with torch.no_grad():
        size = max(1, min(256, AT_ONCE // (64 * max(1, inputs[0].numel() if len(inputs) else 1))))
        return torch.cat([reader(b) for b in inputs.split(size)]).log_softmax(1)
