"""Training inverse networks, and reading features with them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from splitaudit.nn.inverse import InverseNetwork, places_of
from splitaudit.seeds import seeded_globally
from splitaudit.view import View

from ._cycle import one_cycle, shuffled
from ._doubling import judged, spread_of

if TYPE_CHECKING:
    from .decoder import DecoderParams

BRANCH, LEAST = 0.4, 3
"""Share of the epochs after which a training with half the budget leaves the course of the whole; the fewest for that."""

HELD = 4
"""An inverse network that grows holds at least a fourth of the numbers of the features, or of the image where it has fewer.
All of them are worth 0.002 of the leakage score at deep cuts, for 2.5 to 4 times the time (docs/measurements.md)."""

Batch = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""From indices to images (N, C, H, W) in [0, 1] and their features (N, ...)."""


@dataclass(frozen=True)
class Shape:
    """An inverse network by its capacity; see :class:`splitaudit.nn.inverse.InverseNetwork`.

    Attributes:
        width: channels at the features' resolution.
        depth: residual blocks there.
        attention: self-attention there.
        skip: a linear map beside the network.
        grows: more channels there where ``width`` of them hold less than 1/``HELD`` of the numbers of the features and of
            the image: a narrow lead would hide what a deep cut, of many channels and few places, still sends.
    """

    width: int
    depth: int
    attention: bool = False
    skip: bool = False
    grows: bool = False

    def network(self, feature_shape: tuple[int, ...], image_shape: tuple[int, int, int]) -> InverseNetwork:
        """Returns the network for features and images of given shapes."""
        width, places = self.width, places_of(feature_shape)
        if self.grows and places:
            held = min(math.prod(feature_shape), math.prod(image_shape)) / HELD
            width = max(width, math.ceil(held / math.prod(places)))
        return InverseNetwork(feature_shape, image_shape, width, self.depth, self.attention, self.skip)


@dataclass(frozen=True)
class Trained:
    """An inverse network after its training.

    Attributes:
        state: the weights with the least error on held-out pairs.
        error: that error, mean squared; infinite where no epoch ended with a finite one, and the weights are the first then.
        curve: (epoch, error on the held-out pairs).
        steps: how many steps were taken.
        half: the error of a training with half the budget, its rate too fallen to zero; None with too few epochs.
    """

    state: dict[str, torch.Tensor]
    error: float
    curve: list[tuple[int, float]]
    steps: int
    half: float | None

    def judged(self, truth: torch.Tensor) -> dict[str, Any]:
        """Returns the notes ``gain_by_doubling`` and ``converged``; with too few epochs to tell it has not converged.

        Args:
            truth: the held-out images, (N, C, H, W).
        """
        if self.half is None:
            return {"converged": False}
        return judged(1 - self.error / max(self.half, 1e-30), self.half, spread_of(truth))


def train_inverse(
    network: InverseNetwork,
    batch: Batch,
    count: int,
    held_out: tuple[torch.Tensor, torch.Tensor],
    schedule: DecoderParams,
    order: torch.Generator,
    passes: int = 1,
) -> Trained:
    """Trains a network to map features to images with AdamW and one cycle of the rate, and keeps its best weights.

    A rate that falls to zero flattens any curve at its end, so whether the budget was enough is judged against half of it:
    from the weights at :data:`BRANCH` of the epochs on, the rate falls to zero until half of all steps are done.

    Args:
        network: in place.
        batch: draws pairs anew at each call.
        count: how many pairs there are.
        held_out: images and features by whose error the weights are chosen; never private ones.
        schedule: passes over the pairs, pairs a step, the peak learning rate, the loss.
        order: of the pairs.
        passes: over the pairs in each of the schedule's epochs (:meth:`splitaudit.View.passes`).
    """
    optimizer, rate = one_cycle(network.parameters(), schedule.lr, count, schedule.batch, schedule.epochs * passes)
    loss_of = LOSSES[schedule.loss]
    best, kept = float("inf"), {k: v.clone() for k, v in network.state_dict().items()}
    curve, step = [], 0
    branch = max(1, int(BRANCH * schedule.epochs)) if schedule.epochs >= LEAST else 0
    left: dict[str, Any] = {}

    def run() -> Iterator[None]:
        network.train()
        for index in shuffled(count, schedule.batch, passes, order):
            x, z = batch(index.to(held_out[0].device))
            optimizer.zero_grad(set_to_none=True)
            loss_of(network(z), x).backward()
            optimizer.step()
            yield

    for epoch in range(1, schedule.epochs + 1):
        for _ in run():
            rate.step()
            step += 1
        error = _error(network, held_out)
        curve.append((epoch, error))
        if error < best:
            best, kept = error, {k: v.clone() for k, v in network.state_dict().items()}
        if epoch == branch:
            left = copy.deepcopy({"network": network.state_dict(), "optimizer": optimizer.state_dict()})
    if not left or best == float("inf"):
        return Trained(kept, best, curve, step, None)
    network.load_state_dict(left["network"])
    optimizer.load_state_dict(left["optimizer"])
    peak, done = optimizer.param_groups[0]["lr"], 0
    steps = max(1, round((schedule.epochs / 2 - branch) * passes * math.ceil(count / schedule.batch)))
    while done < steps:
        for _ in run():
            done += 1
            optimizer.param_groups[0]["lr"] = peak * (1 - done / steps)
            if done == steps:
                break
    return Trained(kept, best, curve, step, _error(network, held_out))


def _with_structure(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Returns the mean squared error plus 0.02 · (1 − SSIM): on natural images the two terms are of one size.

    SSIM is that of windows around every pixel, of images mirrored at their border, where the metric takes windows inside
    alone: a decoder is to learn the border too. Below 11 px a side the window does not fit and the squared error is left.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    error = F.mse_loss(guess, truth)
    if min(truth.shape[2:]) < 11:
        return error
    found = structural_similarity_index_measure(guess, truth, data_range=1.0)
    return error + 0.02 * (1 - (found[0] if isinstance(found, tuple) else found))


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mse": F.mse_loss,
    "l1": F.l1_loss,
    "ssim": _with_structure,
}
"""What a decoder may minimise, by name."""


def decode(view: View, shape: Shape, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the guesses (N, C, H, W) in [0, 1] of a fitted decoder for the (averaged) features of a view."""
    network = network_of(view, shape)
    network.load_state_dict(fitted)
    network.eval()
    with torch.no_grad():
        return torch.cat([network(z) for z in view.average.split(256)])


def network_of(view: View, shape: Shape) -> InverseNetwork:
    """Returns the untrained network of a decoder for a view."""
    with seeded_globally(view.seed_for("decoder init")):
        network = shape.network(view.feature_shape, view.image_shape)
    return network.to(view.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def macs(network: torch.nn.Module, input_shape: tuple[int, ...]) -> float:
    """Returns the multiply-adds of one forward pass of one sample."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        sample = torch.empty(1, *input_shape)
    network = network.to("meta").eval()  # batch norm of one sample has no statistics of its own
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(sample)
    return counter.get_total_flops() / 2


def _error(network: InverseNetwork, held_out: tuple[torch.Tensor, torch.Tensor]) -> float:
    network.eval()
    x, z = held_out
    with torch.no_grad():
        total = sum(float((network(b) - t).square().sum()) for t, b in zip(x.split(256), z.split(256), strict=True))
    return total / x.numel()
