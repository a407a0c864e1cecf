"""Nearest neighbour: the auxiliary image whose features are nearest to the received ones."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.scale import channel_moments
from splitaudit.params import Params
from splitaudit.view import View


class NearestParams(Params):
    """Parameters of :class:`Nearest`."""

    neighbours: int = Field(1, ge=1, description="nearest auxiliary images whose mean is the guess")
    flips: bool = Field(True, description="also query the mirrored auxiliary images")


class Nearest(Attack):
    """Returns the attacker's own image whose *defended* features are nearest to the received ones.

    The distance is Euclidean with one scale per channel, over the elements that both show: what a random mask hides says
    nothing. What a mask without chance hides, as that of ``topk``, is small, and counts as the zero that was sent.
    Of several received draws the average is compared with averages of as many.

    A control: it shows what the auxiliary images alone are worth. An attack that is no better has learned no inversion.

    Source: own; nearest neighbour search.
    """

    Params = NearestParams
    version = 2
    source = "nearest neighbour search"
    requires = AdversaryKnowledge(edge="query", aux="other")
    uses = AdversaryKnowledge(edge="query", aux="same")
    uses_draws = True
    expected = Expected(
        beats_prior=False,
        worse_than_prior="it returns some image, not the mean of all: where features say nothing its error is twice theirs",
    )

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        pairs = view.pairs("train", flips=self.params.flips)
        count = min(self.params.neighbours, len(pairs))
        received = view.average
        shown = self._shown(view, received)
        mean, std = channel_moments(pairs.batch(torch.arange(min(len(pairs), 2048), device=view.device))[1])
        std = torch.where(std > 1e-6 * std.max(), std, torch.full_like(std, float("inf")))  # dead channels say nothing
        best = torch.full((len(received), count), float("inf"), device=view.device)
        which = torch.zeros(len(received), count, dtype=torch.int64, device=view.device)
        for index in torch.arange(len(pairs), device=view.device).split(256):
            own = pairs.batch(index)[1]
            distance = _distances((received - mean) / std, shown, (own - mean) / std, self._shown(view, own))
            candidates = torch.cat([best, distance], 1)
            best, at = candidates.topk(count, largest=False)
            which = torch.cat([which, index.expand(len(received), -1)], 1).gather(1, at)
        return torch.stack([pairs.images(row).mean(0) for row in which])

    def _shown(self, view: View, z: torch.Tensor) -> torch.Tensor | None:
        """Returns which elements of features (N, ...) are compared; None: all."""
        return view.visible(z) if view.stochastic else None

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        copies = 2 if self.params.flips else 1
        return Work(edge_passes=copies * n_aux, gflop=2e-9 * n_private * copies * n_aux * math.prod(feature_shape))


def _distances(
    a: torch.Tensor, shown_a: torch.Tensor | None, b: torch.Tensor, shown_b: torch.Tensor | None
) -> torch.Tensor:
    """Returns mean squared differences (N, M) of features (N, ...) and (M, ...) over the elements that both show."""
    a, b = a.flatten(1), b.flatten(1)
    if shown_a is None or shown_b is None:
        return (a.square().sum(1)[:, None] + b.square().sum(1)[None] - 2 * a @ b.T) / a.shape[1]
    p, q = shown_a.flatten(1).to(a.dtype), shown_b.flatten(1).to(b.dtype)
    a, b = a * p, b * q
    total = a.square() @ q.T + p @ b.square().T - 2 * a @ b.T
    common = p @ q.T
    return torch.where(common > 0, total / common.clamp_min(1), float("inf"))
