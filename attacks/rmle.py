"""White-box inversion: an image is optimised until the edge gives the received features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import FullGaussianPrior, GaussianPrior, fitted_prior, stored_prior
from splitaudit.nn.ridge import Ridge
from splitaudit.params import Params
from splitaudit.view import View, to_float

from ._inversion import Objective, batches, defended, descend, own_images
from ._whitening import Whitening, whitening


class RmleParams(Params):
    """Parameters of :class:`Rmle`."""

    steps: int = Field(150, ge=1, description="optimiser steps per start; a tenth as many follow as a test")
    restarts: int = Field(
        1, ge=1, description="starts; the first at the mean image, the others at draws from the prior"
    )
    lr: float = Field(
        0.2, gt=0, description="first step size, in standard deviations of the Gaussian prior (cosine decay)"
    )
    gaussian: float | None = Field(
        None,
        ge=0,
        description="assumed variance of the feature error relative to the channel's: weight of the Gaussian prior; "
        "null: the best on aux_val of 0.01, 0.1, 1 and 3",
    )
    tv: float = Field(0.1, ge=0, description="weight of the total variation, relative to the Gaussian prior's weight")
    draws: int = Field(4, ge=1, description="draws of a random defense averaged at each step")
    adaptive: bool = Field(True, description="false: pretend that there is no defense on the wire")


GRID = (0.01, 0.1, 1.0, 3.0)
"""Candidates for the prior's weight: from a clean, invertible edge to features drowned in noise."""

CALIBRATION = 24
"""Auxiliary validation images on which the weight is chosen."""

FINE, FINE_CALIBRATION = (0.2, 0.35, 0.6, 1.7, 3.0, 5.0), 128
"""Multiples of the best candidate that are tried too where the prior has a full covariance, and the images for that."""

TOLERANCE = 0.05
"""Greatest relative gain of the mean loss after the budget that counts as converged."""

Fitted = dict[str, torch.Tensor]


class Rmle(Attack):
    """Minimises the normalised feature error plus total variation plus a Gaussian prior, many images at once.

    For each image: mean over visible elements of the squared error of E[protect(f(x))] in the unit of
    :func:`._whitening.whitening` + v·(d_x/d_z)·(mean of squared standardised coefficients + tv·TV(x)) + the squared excess
    outside [0, 1]. In that unit features are whitened over channels and noise counts as noise, so that neither scale nor
    rotation of the channels gives false protection and a dead channel does not drown the others. v is the assumed
    variance of the error in that unit: with additive Gaussian noise of that variance this is the maximum a posteriori. The
    variable is the image's standardised coefficients: of the cosine transform, or of the full covariance where there are
    20 auxiliary images for each number of an image. The start is a ridge inversion of auxiliary pairs, fitted anew for each
    reconstruction (multiplied out it would be the largest artifact of a run). A random defense is met with fresh draws at
    every step, whose noise a running mean of the iterates leaves out; elements that it visibly masks are left out. Of
    several received draws z is the average, and every scale and weight is chosen on averages of as many.

    Images do not depend on each other: each runs the whole budget and keeps its best iterate by its own loss (under a
    random defense by its loss on draws that are always the same). A rate that decays to zero flattens any loss, so
    ``converged`` is judged by a run after the budget, a tenth as long (at least ten steps) at a tenth of the first rate:
    its gain in the mean loss is at most 5 %.

    Source: He et al. 2019 (regularised maximum likelihood). Departures: normalised loss; coefficients instead of pixels;
    a linear start instead of a constant one (from the mean image a trained edge often leads into a wrong valley, see
    docs/measurements.md); Gaussian prior beside the total variation, its weight chosen on auxiliary images; many images
    at once; the choice between iterates and between restarts by its own loss.
    """

    Params = RmleParams
    version = 5
    source = "He et al., ACSAC 2019"
    requires = AdversaryKnowledge(edge="weights")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    uses_draws = True
    search = {"lr": (0.1, 0.2, 0.4), "steps": (150, 300), "tv": (0.0, 0.1, 0.5)}  # noqa: RUF012
    expected = Expected(identity_mse=1e-3)

    def fit(self, view: View) -> Fitted:
        prior = GaussianPrior(view.image_shape).to(view.device)
        weight, penalty = self.params.gaussian, torch.zeros(0)
        if view.knowledge.aux == "none":
            w = torch.empty(64, *view.image_shape, device=view.device)
            guesses = prior(w.normal_(generator=view.generator("rmle prior draws"))).clamp(0, 1)
            unit = whitening(view, guesses, "rmle scale draws", self.params.adaptive)
        else:
            prior = fitted_prior(own_images(view, "train", 0, 1))
            images = own_images(view, "train", 1, 1)
            z = defended(view, images, "rmle ridge draws")
            unit = whitening(view, images, "rmle scale draws", self.params.adaptive)
            held_out = own_images(view, "val", 4, 4)
            ridge = Ridge(unit(z), images, unit(defended(view, held_out, "rmle held-out draws")), held_out)
            view.note(ridge_aux_val_mse=ridge.error, ridge_penalty=ridge.penalty)
            penalty = torch.tensor([ridge.penalty])
            if weight is None:
                weight = self._choose(view, prior, unit, ridge)
        weight = torch.tensor(0.03 if weight is None else weight)
        return prior.state_dict() | {"whitening": unit.matrix, "weight": weight, "ridge_penalty": penalty}

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        prior = stored_prior(fitted, view.image_shape).to(view.device)
        unit, start = Whitening(fitted["whitening"].to(view.device)), None
        if len(fitted["ridge_penalty"]):
            images = own_images(view, "train", 1, 1)
            z = defended(view, images, "rmle ridge draws")
            start = Ridge(unit(z), images, penalties=(float(fitted["ridge_penalty"]),))(unit(view.average))
        weight = torch.full((len(view),), float(fitted["weight"]), device=view.device)
        found = self._optimise(view, view.average, prior, unit, weight, "loss", start, self.params.restarts)
        gain = 1 - float(found.loss.mean()) / max(float(found.loss_before.mean()), 1e-30)
        view.note(prior_weight=float(fitted["weight"]), gain_after_budget=gain, converged=gain <= TOLERANCE)
        return found.image

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        images = n_private * self.params.restarts + (CALIBRATION * len(GRID) if self.params.gaussian is None else 0)
        return Work(edge_passes=2 * n_aux + 3.3 * self.params.steps * images, gflop=150)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 60}

    def _choose(self, view: View, prior: GaussianPrior, unit: Whitening, ridge: Ridge) -> float:
        """Attacks some of the attacker's own images with each weight and returns the best weight."""
        exact = isinstance(prior, FullGaussianPrior)
        own = to_float(view.aux_val.images[: FINE_CALIBRATION if exact else CALIBRATION].to(view.device))
        z = defended(view, own, "rmle own draws")
        start = ridge(unit(z))
        found: dict[float, float] = {}
        before: dict[float, float] = {}

        def tried(grid: Sequence[float], curve: str) -> None:
            count = len(grid)
            many = z.repeat(count, *([1] * (z.ndim - 1)))
            weight = torch.tensor(grid, device=view.device).repeat_interleave(len(own))
            starts = start.repeat(count, 1, 1, 1)
            made = self._optimise(view, many, prior, unit, weight, curve, starts, restarts=1)
            for image, errors in ((made.image, found), (made.image_before, before)):
                error = (image - own.repeat(count, 1, 1, 1)).square().reshape(count, -1).mean(1)
                errors.update(zip(grid, error.tolist(), strict=True))

        tried(GRID, "calibration_loss")
        if exact:
            # The prior is what the images have, so its weight is all that is left to get wrong; such images are small.
            tried([factor * min(found, key=found.__getitem__) for factor in FINE], "fine_calibration_loss")
        best = min(found, key=found.__getitem__)
        view.note(grid={f"{w:.4g}": e for w, e in found.items()}, rehearsal_gain=1 - found[best] / before[best])
        return best

    def _optimise(
        self,
        view: View,
        z: torch.Tensor,
        prior: GaussianPrior,
        unit: Whitening,
        weight: torch.Tensor,
        curve: str,
        first: torch.Tensor | None,
        restarts: int,
    ) -> Inverted:
        """Runs every start and keeps, image by image, the one with the lowest loss."""
        objective = Objective(view, prior, unit, self.params.tv, self.params.draws, self.params.adaptive)
        starts = view.generator(f"rmle starts {curve}")
        pixels, features = math.prod(view.image_shape), z[0].numel()
        weight = weight * (pixels / features)
        totals: dict[int, float] = {}
        parts: list[Inverted] = []
        for at in batches(z, weight.new_empty(1, pixels)):
            best: Inverted | None = None
            for number in range(restarts):
                w = torch.zeros(len(at), *view.image_shape, device=view.device)
                if first is not None and number == 0:
                    w = prior.encode(first[at].clamp(0, 1))
                elif number > (first is not None):
                    w.normal_(generator=starts)

                def log(step: int, total: float, shown: bool = number == 0) -> None:
                    if shown:
                        totals[step] = totals.get(step, 0.0) + total / len(z)

                def generators(role: str, name: str = f"rmle {curve} {number} {int(at[0])}") -> torch.Generator:
                    return view.generator(f"{name} {role}")

                found = descend(objective, z[at], w, weight[at], self.params.lr, self.params.steps, generators, log)
                with torch.no_grad():
                    images = (prior(w).clamp(0, 1) for w in (found.w, found.w_before))
                now = Inverted(*images, found.loss, found.loss_before)
                best = now if best is None else best.better(now)
            parts += [] if best is None else [best]
        every = max(1, self.params.steps // 40)
        for step, total in totals.items():
            if step == 1 or step % every == 0:
                view.log(curve, step, total)
        return Inverted(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Inverted)))


@dataclass(frozen=True)
class Inverted:
    """What the optimisation has found.

    Attributes:
        image: (N, C, H, W) in [0, 1].
        image_before: the same at the end of the budget, before the run after it.
        loss: of each image, (N,).
        loss_before: at the end of the budget.
    """

    image: torch.Tensor
    image_before: torch.Tensor
    loss: torch.Tensor
    loss_before: torch.Tensor

    def better(self, other: Inverted) -> Inverted:
        """Returns, image by image, the one of two results with the lower loss."""
        keep = self.loss <= other.loss
        both = ((getattr(self, f.name), getattr(other, f.name)) for f in fields(self))
        return Inverted(*(torch.where(keep.reshape(-1, *[1] * (a.ndim - 1)), a, b) for a, b in both))
