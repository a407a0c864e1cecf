"""Linear inversion: ridge regression from features to images, in closed form."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.ridge import JUDGED, Ridge, StreamedRidge, most_images
from splitaudit.params import Params
from splitaudit.view import View

PENALTIES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
"""Candidates, relative to the mean squared norm of the centred features: from exact inversion to features drowned in noise."""

MOST = 10**8
"""Greatest number of values that are kept: of normal equations (in double precision), or of features and images."""

VALIDATION = 512
"""Pairs of ``aux_val`` on which the penalty is chosen, at most."""


class LinearParams(Params):
    """Parameters of :class:`Linear`."""

    flips: bool = Field(True, description="also query the mirrored auxiliary images")


class Linear(Attack):
    """Maps features to images by ridge regression on pairs of auxiliary images and *defended* features.

    The penalty is the best on ``aux_val``. Features keep their own scale: the solution is the same for a multiplied or
    rotated wire. With fewer features than pairs the normal equations are summed up over all pairs, else the dual form is
    solved on as many pairs as fit in memory. Of several received draws the average is used, and
    the regression is on averages of as many.

    A control and a strong attack where the edge is shallow; the map is fitted anew for each reconstruction, since
    multiplied out it would be the largest artifact of a run.

    Source: ridge regression (Hoerl and Kennard 1970); as an inversion attack own choice.
    """

    Params = LinearParams
    version = 1
    source = "ridge regression in closed form"
    requires = AdversaryKnowledge(edge="query", aux="other")
    uses = AdversaryKnowledge(edge="query", aux="same")
    uses_draws = True
    expected = Expected(identity_mse=1e-3)

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        pairs, val = view.pairs("train", flips=self.params.flips), view.pairs("val")
        z, x_val = val.batch(torch.arange(min(len(val), VALIDATION), device=view.device))[::-1]
        # One scale for all features: 32-bit squares of a wire at 1e-20 would be zero.
        size = (z - z.mean(0)).square().mean().sqrt().clamp_min(1e-30)
        order = torch.randperm(len(pairs), generator=_order(view)).to(view.device)
        if _streamed(z[0].numel(), x_val[0].numel(), len(pairs)):
            scaled = ((z_ / size, x) for x, z_ in map(pairs.batch, order.split(512)))
            ridge: Ridge | StreamedRidge = StreamedRidge(scaled, z / size, x_val, PENALTIES)
        else:
            some = order[: most_images(z[0].numel(), x_val[0].numel(), len(pairs), MOST)]
            x, own = (torch.cat(t) for t in zip(*map(pairs.batch, some.split(512)), strict=True))
            ridge = Ridge(own / size, x, z / size, x_val, PENALTIES, MOST)
        view.note(aux_val_mse=ridge.error, penalty=ridge.penalty)
        return torch.cat([ridge(b / size) for b in view.average.split(256)]).clamp(0, 1)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        features, pixels = math.prod(feature_shape), math.prod(image_shape)
        pairs = (2 if self.params.flips else 1) * n_aux
        if _streamed(features, pixels, pairs):
            # Twice: moments and factors are in double precision. Penalties are compared by a few pixels only.
            factors = len(PENALTIES) * features**2 * (features / 3 + 2 * min(pixels, JUDGED))
            flop = 2 * pairs * features * (features + pixels) + factors + 2 * features**2 * pixels
        else:
            pairs = most_images(features, pixels, pairs, MOST)
            flop = 2 * pairs**2 * features + len(PENALTIES) * pairs * (
                pairs**2 / 3 + 2 * VALIDATION * (features + pairs)
            )
        return Work(edge_passes=(2 if self.params.flips else 1) * n_aux, gflop=2 * flop / 1e9)


def _streamed(features: int, pixels: int, pairs: int) -> bool:
    """Says whether the normal equations of the features fit in memory and are the smaller system."""
    return features < pairs and features * (features + pixels) <= MOST


def _order(view: View) -> torch.Generator:
    return torch.Generator().manual_seed(view.seed_for("linear pairs"))
