"""NoPeek: features decorrelated from the image."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.nn.dependence import distance_correlation
from splitaudit.params import Params


class NoPeekParams(Params):
    """Parameters of :class:`NoPeek`."""

    alpha: float = Field(1.0, ge=0, description="weight of the squared distance correlation beside the cross-entropy")


class NoPeek(Defense):
    """Adds the distance correlation of image and features to the loss: CE + α·dCor²(x, z).

    Source: Vepakomma et al. 2020. Departures: the bias-corrected statistic (U-centred) replaces the biased one, whose
    value for independent samples is far from 0 in a batch; its square is penalised, not the correlation or its logarithm,
    so that the pull fades as the correlation falls and α is not comparable with the paper's.
    """

    Params = NoPeekParams
    version = 1
    source = "Vepakomma et al., ICDM workshops 2020"
    claims = {"mse": "up"}  # noqa: RUF012

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"alpha": 0.0}

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        if self.params.alpha == 0 or len(x) < 4:
            return None
        return self.params.alpha * distance_correlation(x, z)
