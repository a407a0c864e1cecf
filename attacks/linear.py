"""Linear inversion: ridge regression from features to images, in closed form."""

from __future__ import annotations

import math

import torch
from pydantic import Field

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.ridge import JUDGED, most_images
from splitaudit.params import Params
from splitaudit.view import View

from ._ridges import MOST, PENALTIES, VALIDATION, PairRidge, streamed


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
    expected = Expected(control_mse=dict.fromkeys(INVERTIBLE, 1e-3))

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        pairs, val = view.pairs("train", flips=self.params.flips), view.pairs("val")
        ridge = PairRidge(view, pairs, val)
        view.note(aux_val_mse=ridge.error, penalty=ridge.penalty)
        return ridge(view.average).clamp(0, 1)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        features, pixels = math.prod(feature_shape), math.prod(image_shape)
        pairs = (2 if self.params.flips else 1) * n_aux
        if streamed(features, pixels, pairs):
            # Twice: moments and factors are in double precision. Penalties are compared by a few pixels only.
            factors = len(PENALTIES) * features**2 * (features / 3 + 2 * min(pixels, JUDGED))
            flop = 2 * pairs * features * (features + pixels) + factors + 2 * features**2 * pixels
        else:
            pairs = most_images(features, pixels, pairs, MOST)
            flop = 2 * pairs**2 * features + len(PENALTIES) * pairs * (
                pairs**2 / 3 + 2 * VALIDATION * (features + pairs)
            )
        return Work(edge_passes=(2 if self.params.flips else 1) * n_aux, gflop=2 * flop / 1e9)
