"""Siamese training: features of one class pulled together, those of different classes pushed apart."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.params import Params


class SiameseParams(Params):
    """Parameters of :class:`Siamese`."""

    weight: float = Field(20.0, ge=0, description="weight of the contrastive loss beside the cross-entropy")
    margin: float = Field(
        1.0,
        gt=0,
        description="distance beyond which two classes need not be pushed further, in units of the root mean squared "
        "distance between two images of the batch",
    )


class Siamese(Defense):
    """Adds λ·(mean d² of pairs of one class + mean max(0, m − d)² of pairs of different classes)/2 to the cross-entropy.

    d is the distance between the features of two images of the batch, in units of the root mean squared distance of all
    pairs in the batch, so that neither scaling nor shifting z changes the loss. What tells images of one class apart is
    thereby removed, and with it what shows the image. With K equally frequent classes the loss is 0 where each class is
    one point and the points are √(K/(K − 1)) apart: margins a little above 1 can be reached. The published method adds
    noise and a projection on principal components: ``siamese+pca+noise``.

    Source: Osia et al. 2020 (contrastive loss of Hadsell et al. 2006). Departures: relative distances, where the published
    loss also falls when all features shrink within a class and grow between classes; all pairs of the batch instead of
    drawn ones, both kinds with equal weight whatever the number of classes; trained from the start together with the
    cross-entropy, where the published one fine-tunes a trained network; projection and noise only by composition.
    """

    Params = SiameseParams
    version = 1
    source = "Osia et al., IEEE IoT-J 2020, arXiv 1703.02952; Hadsell et al., CVPR 2006, equation 4"

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"weight": 0.0}

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        return self.params.weight * contrastive_loss(z, y, self.params.margin) if self.params.weight > 0 else None


def contrastive_loss(z: torch.Tensor, y: torch.Tensor, margin: float = 1.0) -> torch.Tensor:
    """Returns half the mean of d² over pairs of one class plus half the mean of max(0, margin − d)² over other pairs.

    Args:
        z: features (N, ...).
        y: labels (N,).
        margin: in the unit of d, the root mean squared distance of two samples.

    Returns:
        A scalar ≥ 0; a kind of pairs that the batch lacks adds nothing. 0, with a gradient of 0, where all features are
        equal.
    """
    flat = z.flatten(1)
    # The order of magnitude is taken out first: squares of tiny or huge features would leave the range of the type.
    # About the mean less is lost to cancellation, and one product makes nothing of N × N × D.
    flat = flat - flat.detach().mean(0)
    greatest = flat.detach().abs().amax()
    flat = flat / torch.where(greatest > 0, greatest, 1.0)
    product = flat @ flat.T
    norms = product.diagonal()
    different = ~torch.eye(len(y), dtype=torch.bool, device=y.device)
    squares = (norms[:, None] + norms[None, :] - 2 * product).clamp_min(0) * different
    size = squares.sum() / different.sum().clamp_min(1)
    if float(size.detach()) == 0.0:
        return z.sum() * 0
    squares = squares / size
    # The root has no finite slope at 0. Distances that rounding cannot tell from 0 have no direction to push in.
    apart = squares > 1e-6
    distances = torch.where(apart, squares, 1.0).sqrt() * apart
    same = (y[:, None] == y[None, :]) & different
    other = y[:, None] != y[None, :]
    push = (margin - distances).clamp_min(0).square()
    return (_mean(squares, same) + _mean(push, other)) / 2


def _mean(values: torch.Tensor, chosen: torch.Tensor) -> torch.Tensor:
    return (values * chosen).sum() / chosen.sum().clamp_min(1)
