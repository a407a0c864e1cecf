"""Only the largest features of each image are sent."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.params import Params


class TopKParams(Params):
    """Parameters of :class:`TopK`."""

    keep: float = Field(
        0.1, gt=0, le=1, description="share of an image's elements that is sent, the largest by magnitude"
    )


class TopK(Defense):
    """Keeps the k largest elements of each image by magnitude and zeroes the others: z' = z·[|z| among the k largest].

    k = keep·D, rounded, at least 1, over all D elements of one image (channels and places together). Of equal elements
    those with the lower index are kept, so never more than k are. Where fewer than k are not zero, nothing changes: about
    half of rectified features are zero anyway. The gradient is that of what is kept.

    Values *and places* cross the wire: a sparse code needs up to log₂ D bits for each place, and which elements are large
    says much about an image by itself. The cost counts that code, or all D elements where it is longer.

    Source: the top-k baseline of ResSFL's code (Li et al., CVPR 2022, ``prune_defense``); top-k sparsification of
    features in split learning: Zheng et al., IJCAI 2023. Departures: per image, where ResSFL ranks the whole batch at once
    (a device sends one image); by magnitude, where it ranks signed values (the same for rectified features); in training
    too unless ``when: infer``; not randomised.
    """

    Params = TopKParams
    version = 1
    source = "Li et al., CVPR 2022, official code prune_defense; Zheng et al., IJCAI 2023"
    acts_on_wire = True

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"keep": 1.0}

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.params.keep == 1:
            return z
        size = z.detach().flatten(1).abs()
        count = self._count(size.shape[1])
        # The order in which topk returns equal values is not defined: those at the threshold are taken by their index.
        least = size.topk(count, dim=1, sorted=True).values[:, -1:]
        above, level = size > least, size == least
        room = count - above.sum(1, keepdim=True)
        kept = above | (level & (level.cumsum(1) <= room))
        return z * kept.view(z.shape)

    def visible(self, received: torch.Tensor) -> torch.Tensor | None:
        # A zero was small, or is a true zero of the edge: only non-zeros carry a value.
        return received != 0 if self.params.keep < 1 else None

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def ceiling(self, received: torch.Tensor) -> torch.Tensor | None:
        size = received.flatten(1).abs()
        sent = size > 0
        least = size.masked_fill(~sent, float("inf")).amin(1)
        # Fewer than may be kept: what is left out was zero.
        least = torch.where(sent.sum(1) < self._count(size.shape[1]), 0.0, least)
        return least.reshape(-1, *[1] * (received.ndim - 1))

    def wire_bits(self, feature_shape: tuple[int, ...]) -> int:
        size = math.prod(feature_shape)
        return min(32 * size, self._count(size) * (32 + math.ceil(math.log2(size))))

    def _count(self, size: int) -> int:
        return max(1, round(self.params.keep * size))
