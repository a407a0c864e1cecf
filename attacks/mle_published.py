"""The white-box attack of the SiftFunnel paper's code: for comparison with its figures, not for judging a defense."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.attacks._reshaped import reshaped_by
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.split import SplitInfo
from splitaudit.view import View


class MlePublishedParams(Params):
    """Parameters of :class:`MlePublished`; the defaults are the official code's."""

    steps: int = Field(500, ge=1, description="optimiser steps")
    lr: float = Field(0.01, gt=0, description="learning rate (gradient descent with momentum 0.9)")
    tv: float = Field(1000.0, ge=0, description="weight of the root of the total variation")
    batch: int = Field(64, ge=1, description="images optimised together: the loss is their mean")


class MlePublished(Attack):
    """Descends mean (f(x) − z)² + λ·√TV(x) over a batch of images, from normal noise, and clips the last iterate.

    It cannot work as it stands: the loss is a mean over the batch, so each image gets a 64th of a step of 0.01; the
    feature error is not normalised, so a wire of tiny scale leaves the total variation alone in the loss. On most targets
    it ends worse than guessing the mean image. It is here so that figures obtained with it can be recognised. It compares what
    was received with the edge's own output, so that a defense that sends another shape is skipped with that reason.

    Source: arXiv 2501.00824, official code (``white_box_attack``). Departures: none in the optimisation; a random
    defense is ignored, as there.
    """

    Params = MlePublishedParams
    version = 1
    source = "arXiv 2501.00824, official code white_box_attack"
    requires = AdversaryKnowledge(edge="weights")
    # Not a claim of weakness but a fact of the published settings: the contract's power check does not apply.
    expected = Expected(
        beats_prior=False,
        worse_than_prior="as published it starts at noise, and where there is no gradient it stays there",
    )

    def supports(self, architecture: SplitInfo, defense_parts: Sequence[tuple[str, Mapping[str, Any]]]) -> str | None:
        name = reshaped_by(defense_parts)
        return name and (
            f"mle_published compares what was received with the edge's own output, as published, and '{name}' sends another "
            "shape. Use the attack `rmle`"
        )

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        draws = view.generator("mle_published start")
        guesses = []
        for number, z in enumerate(view.z.split(self.params.batch)):
            x = torch.randn((len(z), *view.image_shape), generator=draws, device=view.device).requires_grad_(True)
            optimizer = torch.optim.SGD([x], lr=self.params.lr, momentum=0.9)
            for step in range(1, self.params.steps + 1):
                optimizer.zero_grad(set_to_none=True)
                loss = (view.edge(x) - z).square().mean() + self.params.tv * batch_variation(x).sqrt()
                loss.backward()
                optimizer.step()
                if number == 0 and (step == 1 or step % max(1, self.params.steps // 40) == 0):
                    view.log("loss", step, float(loss.detach()))
            guesses.append(x.detach().clamp(0, 1))
        return torch.cat(guesses)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        return Work(edge_passes=3 * self.params.steps * n_private, gflop=1)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 5}


def batch_variation(x: torch.Tensor) -> torch.Tensor:
    """Returns the squared total variation of a batch (N, C, H, W), a scalar: a mean over images, not a sum.

    Σ dh² / (C(H−1)W) + Σ dw² / (CH(W−1)), over N. Source: arXiv 2501.00824, official code.
    """
    n, c, h, w = x.shape
    down = (x[:, :, 1:] - x[:, :, :-1]).square().sum() / (c * (h - 1) * w)
    across = (x[..., 1:] - x[..., :-1]).square().sum() / (c * h * (w - 1))
    return (down + across) / n
