"""How much of what was received a guess explains, by an edge of the attacker's own."""

from __future__ import annotations

import torch

from splitaudit.nn.scale import channel_axes
from splitaudit.split import SplitModel
from splitaudit.view import View

from ._expected import expected_wire

DRAWS = 32
"""Draws of a random defense that stand for its expectation."""

FLOOR = 0.05
"""Least deviation of a channel, relative to the root mean square of all: one that says next to nothing has no say."""


def unexplained(
    view: View, model: SplitModel, guess: torch.Tensor, draws: torch.Generator, alive: torch.Tensor
) -> float:
    """Returns the share of the received features' variance that guesses leave unexplained, averaged over living channels.

    The features of a guess are those that are to be expected over the (public) defense's randomness: a single draw would hide
    other elements than the received one does, and the less a stand-in sends at all, the less it would miss. Behind a
    random mask only received elements that show the edge's output count; a mask without chance, as that of ``topk``, tells of
    the image by what it hides, too. 0: everything is explained; 1: no more than by the mean of each channel.

    Args:
        view: of the attack; received features (N, ...).
        model: the stand-in.
        guess: images in [0, 1], (N, C, H, W).
        draws: of the defense's randomness.
        alive: 0 for channels that were received as zero alone, which say nothing of a guess, 1 for others; it broadcasts.
    """
    received = view.average
    shown = view.visible(received) if view.stochastic else None
    seen = None if shown is None else model.defense.visible
    with torch.no_grad():
        own = torch.cat(
            [
                expected_wire(model.protect, seen, model.clean(x), draws, DRAWS if view.stochastic else 1)
                for x in guess.split(256)
            ]
        )
    weight = torch.ones_like(received) if shown is None else shown.expand_as(received).to(received.dtype)
    weight = weight * alive
    axes, shape = channel_axes(received)
    count = weight.sum(axes)

    def mean(x: torch.Tensor) -> torch.Tensor:
        return (x * weight).sum(axes) / count.clamp_min(1)

    variance = mean((received - mean(received).reshape(shape)).square())
    # Features that are the same for every image, or of one image alone, have no variance: their size is the unit.
    if not variance.any():
        variance = mean(received.square()).mean().expand_as(variance)
    left = mean((own - received).square()) / variance.clamp_min(max(FLOOR**2 * float(variance.mean()), 1e-24))
    return float(left[count > 0].mean()) if bool((count > 0).any()) else 0.0
