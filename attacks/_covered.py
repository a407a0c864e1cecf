"""Masks that noise covers: each received element is a mixture of what the edge sends and of nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from splitaudit.nn.scale import channel_axes
from splitaudit.view import View

SINGLE = 16
"""Most received draws whose average is a mixture of that many and one more; of more it is next to a Gaussian."""


@dataclass(frozen=True)
class Covered:
    """What an attacker counts, on images of its own, of a mask by chance that later noise covers.

    Attributes:
        share: probability ρ that an element is shown.
        noise: variance of the noise on an element, by channel, which broadcasts against features (N, ...).
        draws: received draws K that are averaged.
    """

    share: float
    noise: torch.Tensor
    draws: int

    def error(self, received: torch.Tensor, mean: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
        """Returns how errors count, (N, ...), on the scale of squares: -2s² log Σ_k p_k N(r; f·k/K, s²), up to a constant.

        p_k are the binomial probabilities that k of K draws show the element, s² = noise/K + the model's variance.

        Args:
            received: r, (N, ...), in the attack's unit, as all that follows.
            mean: f, what a shown element is on average, (N, ...).
            model: variance of the error that is assumed beside the noise, which broadcasts.
        """
        count, share = self.draws, self.share
        variance = self.noise / count + model
        if count > SINGLE:
            spread = share * (1 - share) / count * mean.detach().square()
            return (received - share * mean).square() * variance / (variance + spread)
        terms = [
            math.log(math.comb(count, k)) + k * math.log(share) + (count - k) * math.log1p(-share)
            - (received - mean * (k / count)).square() / (2 * variance)
            for k in range(count + 1)
        ]  # fmt: skip
        return -2 * variance * torch.stack(terms).logsumexp(0)


def covered(view: View, clean: torch.Tensor, unit: Callable[[torch.Tensor], torch.Tensor], role: str) -> Covered | None:
    """Returns what is counted on clean features (N, ...) of own images, noise in a unit; None: no mask is covered.

    Args:
        view: of the attack, whose knowledge says how many draws are averaged.
        clean: the edge's output for own images.
        unit: scales channels; the noise is given in it.
        role: names the draws of the defense's randomness.
    """
    draws = view.generator(role)
    shown = counted = 0.0
    noise: list[torch.Tensor] = []
    with torch.no_grad():
        for part in clean.split(64):
            pair, mean = view.covered(part, draws), view.expectation(part, draws)
            if pair is None or mean is None:
                return None
            # An element of zero is none whether it is shown or not, and visible masks call it hidden.
            alive = mean != 0
            seen = pair[1] & alive
            shown, counted = shown + float(seen.sum()), counted + float(alive.sum())
            axes, shape = channel_axes(mean)
            error = unit(pair[0] - mean).square() * seen
            noise.append(torch.stack([error.sum(axes), seen.sum(axes).to(error.dtype)]))
    total = torch.stack(noise).sum(0)
    # A channel that is never shown has the noise of all.
    each = torch.where(total[1] > 0, total[0] / total[1].clamp_min(1), total[0].sum() / total[1].sum().clamp_min(1))
    share = min(max(shown / max(counted, 1.0), 1e-6), 1 - 1e-6)
    return Covered(share, each.reshape(shape), view.knowledge.draws)
