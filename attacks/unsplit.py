"""UnSplit: image and edge are both guessed, from the received features and the public architecture alone."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.params import Params
from splitaudit.view import View

from ._expected import averaged_expectation, expected_wire
from ._patterns import without_patterns
from ._stand_in import trainable, training
from ._total_variation import total_variation
from ._whitening import covers

AT_ONCE = 128
"""Images that share a clone of the edge."""

UNJUDGED = "without images of its own nothing ties its loss to the error of an image"
"""Why nothing is said of convergence."""


class UnsplitParams(Params):
    """Parameters of :class:`Unsplit`."""

    rounds: int = Field(40, ge=1, description="alternations between images and clone")
    image_steps: int = Field(20, ge=1, description="steps on the images per round")
    edge_steps: int = Field(20, ge=1, description="steps on the clone's weights per round")
    image_lr: float = Field(
        0.05, gt=0, description="step size of the images, in standard deviations of the prior (Adam)"
    )
    edge_lr: float = Field(1e-3, gt=0, description="learning rate of the clone (Adam with AMSGrad)")
    tv: float = Field(0.1, ge=0, description="weight of the total variation of the images")
    draws: int = Field(4, ge=1, description="draws averaged at each step, of a defense that is random on average too")


class Unsplit(Attack):
    """Alternates between images and a clone of the edge, until the clone's features of the images are the received ones.

    Minimised is the mean squared error of the features, over the mean square of the received ones, plus total variation. The
    variable is the image's standardised cosine coefficients about mid-grey (a 1/f² spectrum, which needs no auxiliary
    images). The clone is shared by the images that are attacked together, starts from weights of the attacker's own and is
    trained through the public defense: what that says it sends on average, else fresh draws. Of a visible mask, elements
    count that the received features show.

    It knows the least of all attacks: neither weights nor queries nor images. Where nothing ties the clone to the edge, its
    images need not look like the private ones; that it does not beat the prior is a result. Nor does a loss that has come to
    rest say that the images have: of convergence nothing is said, ``loss_left`` is the share of the first loss that is left.

    Source: UnSplit (Erdoğan et al., WPES 2022). Departures: cosine coefficients; a clone for many images at once, where the
    original has one for each; the loss relative to the features' size.
    """

    Params = UnsplitParams
    version = 6
    source = "UnSplit, Erdoğan et al., WPES 2022"
    requires = AdversaryKnowledge()
    uses = AdversaryKnowledge()
    uses_draws = True
    expected = Expected(beats_prior=False)

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        view.note(converged=None, not_judged=UNJUDGED)
        parts = [self._together(view, z, number) for number, z in enumerate(view.average.split(AT_ONCE))]
        return torch.cat(parts)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        steps = self.params.rounds * (self.params.image_steps + self.params.edge_steps)
        return Work(edge_passes=3 * steps * n_private, gflop=1.0)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"rounds": 4, "image_steps": 5, "edge_steps": 5}

    def _together(self, view: View, z: torch.Tensor, number: int) -> torch.Tensor:
        p = self.params
        clone = view.untrained(f"unsplit {number}")
        prior = GaussianPrior(view.image_shape).to(view.device)
        covered = covers(view)
        training(clone)
        w = torch.zeros(len(z), *view.image_shape, device=view.device, requires_grad=True)
        weights = trainable(clone)
        images = torch.optim.Adam([w], lr=p.image_lr)
        edge = torch.optim.Adam(weights, lr=p.edge_lr, amsgrad=True) if weights else None
        draws, visible = view.generator(f"unsplit wire {number}"), view.visible(z)
        shown = torch.ones_like(z) if visible is None else visible.to(z.dtype)
        size = (z.square() * shown).sum() / shown.sum().clamp_min(1)
        seen = None if visible is None else view.visible
        count = p.draws if view.stochastic else 1

        def loss() -> torch.Tensor:
            x = prior(w)
            clean = clone.clean(x)
            # Behind a mask that noise covers, what is sent on average is the mean of draws: nobody sees what it hides.
            sent = None if covered else averaged_expectation(clone.defense.expectation, clean, draws, count)
            known = sent is not None
            if sent is None:
                sent = expected_wire(clone.protect, seen, clean, draws, count)
            left = z - sent
            if known and visible is None and view.patterns is not None:
                left = without_patterns(left, view.patterns, view.knowledge.draws)
            error = (left.square() * shown).flatten(1).sum(1) / shown.flatten(1).sum(1).clamp_min(1)
            outside = (x - x.clamp(0, 1)).square().flatten(1).mean(1)
            return (error / size.clamp_min(1e-30) + p.tv * total_variation(x) + outside).mean()

        first, value = math.nan, torch.zeros(())
        for round_ in range(p.rounds):
            for optimizer, steps in ((images, p.image_steps), (edge, p.edge_steps)):
                for _ in range(steps if optimizer is not None else 0):
                    value = loss()
                    first = float(value.detach()) if math.isnan(first) else first
                    images.zero_grad(set_to_none=True)
                    if edge is not None:
                        edge.zero_grad(set_to_none=True)
                    value.backward()
                    if optimizer is not None:
                        optimizer.step()
            if number == 0:
                view.log("loss", round_ + 1, float(value.detach()))
        if number == 0:
            view.note(loss_left=float(value.detach()) / max(first, 1e-30))
        with torch.no_grad():
            return prior(w).clamp(0, 1)
