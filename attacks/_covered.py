"""Masks that noise covers: how likely a received element shows the edge's output."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch

from splitaudit.nn.scale import channel_axes
from splitaudit.view import View

BINS, EACH = 128, 25
"""Most classes of magnitude for each channel, and fewest own elements in one: with fewer their share is chance."""


@dataclass(frozen=True)
class Shares:
    """By the magnitude of a received element: the share of such elements that show the edge's output.

    Where noise covers a mask, what is sent for features z is w·E[z' | shown] on average over all that was received alike, with
    w this share: next to 1 or 0 where the noise is small, the share of all elements where it drowns what tells them apart.

    Attributes:
        edges: between the classes of magnitude, (C, B - 1).
        share: (C, B).
    """

    edges: torch.Tensor
    share: torch.Tensor

    def __call__(self, received: torch.Tensor) -> torch.Tensor:
        """Returns the shares w, in [0, 1], of received features (N, ...), of the same shape."""
        rows = _by_channel(received.abs())
        found = self.share.gather(1, torch.searchsorted(self.edges, rows))
        channel = _channel(received)
        moved = received.movedim(channel, 0)
        return found.reshape(moved.shape).movedim(0, channel)


def shares(view: View, clean: torch.Tensor, role: str) -> Shares | None:
    """Returns the shares that an attacker counts on clean features (N, ...) of its own images; None: no mask is covered.

    An average of K draws shows an element as often as the K draws do.

    Args:
        view: of the attack, whose knowledge says how many draws are averaged.
        clean: the edge's output for own images.
        role: names the draws of the defense's randomness.
    """
    draws = view.generator(role)
    with torch.no_grad():
        found = [_drawn(view, part, draws) for part in clean.split(64)]
    pairs = [pair for pair in found if pair is not None]
    if not pairs:
        return None
    size = _by_channel(torch.cat([sent for sent, _ in pairs]).abs())
    shown = _by_channel(torch.cat([seen for _, seen in pairs]))
    bins = max(1, min(BINS, size.shape[1] // EACH))
    order = size.argsort(1)
    cuts = [size.shape[1] * i // bins for i in range(bins + 1)]
    sorted_size, sorted_shown = size.gather(1, order), shown.gather(1, order)
    share = torch.stack([sorted_shown[:, a:b].mean(1) for a, b in pairwise(cuts)], 1)
    return Shares(sorted_size[:, cuts[1:-1]].contiguous(), share)


def _drawn(view: View, clean: torch.Tensor, draws: torch.Generator) -> tuple[torch.Tensor, torch.Tensor] | None:
    """Returns what is received for clean features, an average of draws, and the share of these that show each element."""
    total: tuple[torch.Tensor, torch.Tensor] | None = None
    for _ in range(view.knowledge.draws):
        pair = view.covered(clean, draws)
        if pair is None:
            return None
        sent, seen = pair[0], pair[1].to(clean.dtype)
        total = (sent, seen) if total is None else (total[0] + sent, total[1] + seen)
    return None if total is None else (total[0] / view.knowledge.draws, total[1] / view.knowledge.draws)


def _channel(z: torch.Tensor) -> int:
    axes, _ = channel_axes(z)
    return next(a for a in range(z.ndim) if a not in axes)


def _by_channel(z: torch.Tensor) -> torch.Tensor:
    """Returns the elements of each channel, (C, ·)."""
    return z.movedim(_channel(z), 0).flatten(1).contiguous()
