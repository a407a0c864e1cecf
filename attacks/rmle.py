"""White-box inversion: an image is optimised until the edge gives the received features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import FullGaussianPrior, GaussianPrior, fitted_prior, stored_prior
from splitaudit.nn.ridge import Ridge
from splitaudit.params import Params
from splitaudit.view import View

from ._budgets import Budget, Optimiser, Ways, budgets, choices, named
from ._descent import HELD, Descent, batches, descend
from ._doubling import doubled
from ._expected import noisy
from ._objective import Objective
from ._own import defended, own_images
from ._whitening import Whitening, whitening


class RmleParams(Params):
    """Parameters of :class:`Rmle`."""

    steps: int = Field(150, ge=2, description="losses with gradient per start, optimiser and image")
    restarts: int = Field(
        1,
        ge=1,
        description="starts: at the ridge inversion, at the mean image, then at draws from the prior; more find lower losses, "
        "not always better images",
    )
    optimiser: Optimiser = Field(
        "auto",
        description="adam, lbfgs, or the two of three (Adam with two step sizes, L-BFGS) that are best on aux_val, of which "
        "each image keeps the lower loss; where the loss is random it is Adam in any case",
    )
    lr: float | None = Field(
        None,
        gt=0,
        description="first step size of Adam, in standard deviations of the Gaussian prior (cosine decay); null: 0.2, 0.8 or "
        "both, as aux_val says, 0.2 where the loss is random",
    )
    gaussian: float | None = Field(
        None,
        ge=0,
        description="assumed variance of the feature error relative to the channel's: weight of the Gaussian prior; "
        "null: the best on aux_val (without auxiliary images on draws from the prior) of 0.01, 0.1, 1 and 3",
    )
    tv: float = Field(0.1, ge=0, description="weight of the total variation, relative to the Gaussian prior's weight")
    draws: int = Field(
        4,
        ge=1,
        description="draws averaged at each step, of a defense that is random on average too",
    )


RATES = (0.2, 0.8)
"""Candidates for Adam's step size."""

GRID = (0.01, 0.1, 1.0, 3.0)
"""Candidates for the prior's weight: from a clean, invertible edge to features drowned in noise."""

BLIND = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""The same without images of one's own: draws from the prior are rougher than images, and a coarse grid misses by more."""

CALIBRATION = 24
"""Auxiliary validation images on which the weight is chosen."""

FINE, FINE_CALIBRATION = (0.2, 0.35, 0.6, 1.7, 3.0, 5.0), 128
"""Multiples of the best candidate that are tried too where the prior has a full covariance, and the images for that."""

Fitted = dict[str, torch.Tensor]


class Rmle(Attack):
    """Minimises the normalised feature error plus total variation plus a Gaussian prior, many images at once.

    For each image: mean over visible elements of the squared error of E[protect(f(x))] in the unit of
    :func:`._whitening.whitening` (see :class:`._objective.Objective`) + v·(d_x/d_z)·(mean of squared standardised
    coefficients + tv·TV(x)) + the squared excess outside [0, 1]. In that unit features are whitened over channels and noise
    counts as noise, so that neither scale nor rotation of the channels gives false protection and a dead channel does not
    drown the others. v is the assumed variance of the error in that unit: with additive Gaussian noise of that variance
    this is the maximum a posteriori. The variable is the image's standardised coefficients: of the cosine transform, or of
    the full covariance where there are 20 auxiliary images for each number of an image. The start is a ridge inversion of
    auxiliary pairs, fitted anew for each reconstruction (multiplied out it would be the largest artifact of a run). Where a
    random defense does not say what it sends on average, it is met with fresh draws at every step, whose noise a running
    mean of the iterates leaves out. Elements that it visibly masks are left out, but for what their being masked tells
    (``topk``); patterns of which it adds one (``shredder``) are recognised and taken off. Of several received draws z is the
    average, and every scale and weight is chosen on averages of as many.

    Images do not depend on each other: each runs the whole budget and keeps its best iterate by its own loss (under a
    random defense by its loss on draws that are always the same). Two optimisers attack, the best two on auxiliary images
    (one where the loss is random): what is best for most leads about one image in 250 into a wrong valley, where
    another optimiser from the same start does not lead that one. Where the features do not say enough, a wrong image can
    have the lower loss, for the prior is of all images and not of this one; no number of starts mends that. ``converged``
    is judged on the attacker's own images, whose error is known: the whole budget leaves at most 5 % (and 0.01 of the
    leakage score) less error than half of it, or at most 0.002 of the leakage score. Without auxiliary images, draws from
    the prior stand in for them.

    Source: He et al. 2019 (regularised maximum likelihood). Departures: normalised loss; coefficients instead of pixels;
    a linear start instead of a constant one (from the mean image a trained edge often leads into a wrong valley, see
    docs/measurements.md); Gaussian prior beside the total variation, the weight of both chosen on auxiliary images in one
    ratio (``tv``, of which ``--tune`` tries others); many images at once; L-BFGS beside Adam; the choice between iterates,
    optimisers and restarts by its own loss.
    """

    Params = RmleParams
    version = 12
    source = "He et al., ACSAC 2019"
    requires = AdversaryKnowledge(edge="weights")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    uses_draws = True
    search = {"steps": (150, 300, 600), "tv": (0.0, 0.1, 0.5)}  # noqa: RUF012
    expected = Expected(control_mse=dict.fromkeys(INVERTIBLE, 1e-3), cheap_suffices=True)

    def fit(self, view: View) -> Fitted:
        prior = GaussianPrior(view.image_shape).to(view.device)
        grid = GRID if self.params.gaussian is None else (self.params.gaussian,)
        penalty, ridge = torch.zeros(0), None
        if view.knowledge.aux == "none":
            grid = BLIND if self.params.gaussian is None else grid
            w = torch.empty(64, *view.image_shape, device=view.device)
            own = prior(w.normal_(generator=view.generator("rmle prior draws"))).clamp(0, 1)
            unit = whitening(view, own, "rmle scale draws")
        else:
            # Other images' covariance forbids what only the private ones have; a variance for each frequency does not.
            prior = fitted_prior(own_images(view, "train", 0, 1), full=view.knowledge.aux == "same")
            images = own_images(view, "train", 1, 1)
            z = defended(view, images, "rmle ridge draws")
            unit = whitening(view, images, "rmle scale draws")
            own = own_images(view, "val", 4, 4, least=CALIBRATION)
            ridge = Ridge(unit(z), images, unit(defended(view, own, "rmle held-out draws")), own)
            view.note(ridge_aux_val_mse=ridge.error, ridge_penalty=ridge.penalty)
            penalty = torch.tensor([ridge.penalty])
        weight, ways = self._choose(view, prior, unit, own, ridge, grid)
        return prior.state_dict() | {
            "whitening": unit.matrix,
            "weight": torch.tensor(weight),
            "ridge_penalty": penalty,
            "budgets": torch.stack([budget.packed() for budget in ways]),
        }

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        prior = stored_prior(fitted, view.image_shape).to(view.device)
        unit, start = Whitening(fitted["whitening"].to(view.device)), None
        if len(fitted["ridge_penalty"]):
            images = own_images(view, "train", 1, 1)
            z = defended(view, images, "rmle ridge draws")
            start = Ridge(unit(z), images, penalties=(float(fitted["ridge_penalty"]),))(unit(view.average))
        weight = torch.full((len(view),), float(fitted["weight"]), device=view.device)
        ways = tuple(Budget.unpacked(row) for row in fitted["budgets"])
        view.note(prior_weight=float(fitted["weight"]), optimiser=named(ways))
        found = [
            self._optimise(
                view, view.average, prior, unit, weight, budget, "loss", start, self.params.restarts, not number
            )
            for number, budget in enumerate(ways)
        ]
        if len(found) > 1:
            view.note(images_left_to_the_second=int((found[1].loss < found[0].loss).sum()))
        return decoded(prior, reduce(Descent.better, found))

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        p = self.params
        adam = 0 if p.optimiser == "lbfgs" else len(RATES) if p.lr is None else 1
        ways = adam + (p.optimiser != "adam")
        weights = len(GRID if n_aux else BLIND) if p.gaussian is None else 1
        trials = CALIBRATION * (0.5 * min(2, ways) + ways * weights)
        images = n_private * p.restarts * min(2, ways) + trials
        return Work(edge_passes=2 * n_aux + 3.5 * self.params.steps * images, gflop=150)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 60, "optimiser": "lbfgs"}

    def _choose(
        self,
        view: View,
        prior: GaussianPrior,
        unit: Whitening,
        images: torch.Tensor,
        ridge: Ridge | None,
        grid: Sequence[float],
    ) -> tuple[float, Ways]:
        """Attacks some of the attacker's own images with each weight and optimiser; returns the best weight and ways.

        What half the budget reaches with them says whether the whole is enough.
        """
        p, exact = self.params, isinstance(prior, FullGaussianPrior) and len(grid) > 1
        own = images[: FINE_CALIBRATION if exact else CALIBRATION]
        z = defended(view, own, "rmle own draws")
        start = None if ridge is None else ridge(unit(z))
        alone: dict[tuple[float, Budget], float] = {}
        found: dict[tuple[float, Ways], float] = {}
        lowest, best, kept = float("inf"), (grid[0], (Budget(p.steps, RATES[0]),)), own

        def tried(grid: Sequence[float], budget: Budget, curve: str) -> list[Descent]:
            count = len(grid)
            many = z.repeat(count, *([1] * (z.ndim - 1)))
            weight = torch.tensor(grid, device=view.device).repeat_interleave(len(own))
            starts = None if start is None else start.repeat(count, 1, 1, 1)
            run = self._optimise(view, many, prior, unit, weight, budget, f"{curve} {budget.name}", starts, 1)
            return [Descent(*part) for part in zip(run.w.split(len(own)), run.loss.split(len(own)), strict=True)]

        def compared(grid: Sequence[float], ways: Ways, curve: str) -> None:
            nonlocal lowest, best, kept
            runs = {budget: tried(grid, budget, curve) for budget in ways}
            for number, weight in enumerate(grid):
                for budget in ways:
                    alone[weight, budget] = float((decoded(prior, runs[budget][number]) - own).square().mean())
                for chosen in choices(ways):
                    guess = decoded(prior, reduce(Descent.better, (runs[budget][number] for budget in chosen)))
                    found[weight, chosen] = float((guess - own).square().mean())
                    if found[weight, chosen] < lowest:
                        lowest, best, kept = found[weight, chosen], (weight, chosen), guess

        random = noisy(view)
        compared(grid, tuple(budgets(p.steps, p.optimiser, p.lr, RATES, random)), "calibration_loss")
        if exact:
            # The prior is what the images have, so its weight is all that is left to get wrong; such images are small.
            compared([factor * best[0] for factor in FINE], best[1], "fine_calibration_loss")
        if lowest == float("inf"):
            raise FloatingPointError("the guesses are not finite for any weight and optimiser")
        weight, ways = best
        # The better one first: the attack's curve is its.
        ways = tuple(sorted(ways, key=lambda budget: alone[weight, budget]))
        halves = (tried([weight], budget.half, "half_budget_loss")[0] for budget in ways)
        grid_notes = {f"{weight:.4g}, {named(chosen)}": error for (weight, chosen), error in found.items()}
        view.note(grid=grid_notes, **doubled(decoded(prior, reduce(Descent.better, halves)), kept, own))
        return weight, ways

    def _optimise(
        self,
        view: View,
        z: torch.Tensor,
        prior: GaussianPrior,
        unit: Whitening,
        weight: torch.Tensor,
        budget: Budget,
        curve: str,
        first: torch.Tensor | None,
        restarts: int,
        shown: bool = True,
    ) -> Descent:
        """Runs every start and returns, image by image, the one with the lowest loss; the curve is of the first start."""
        objective = Objective(view, prior, unit, self.params.tv, self.params.draws)
        starts = view.generator(f"rmle starts {curve}")
        pixels, features = math.prod(view.image_shape), z[0].numel()
        weight = weight * (pixels / features)
        totals: dict[int, float] = {}
        parts: list[Descent] = []
        for at in batches(z, HELD * pixels):
            best: Descent | None = None
            for number in range(restarts):
                w = torch.zeros(len(at), *view.image_shape, device=view.device)
                if first is not None and number == 0:
                    w = prior.encode(first[at].clamp(0, 1))
                elif number > (first is not None):
                    w.normal_(generator=starts)

                def log(step: int, total: float, first_start: bool = number == 0) -> None:
                    if shown and first_start:
                        totals[step] = totals.get(step, 0.0) + total / len(z)

                def generators(role: str, start: int = number, images: str = f"{int(at[0])}") -> torch.Generator:
                    # All starts are judged on the same draws: the lowest loss is to be that of the best image.
                    return view.generator(f"rmle {curve} {0 if role == 'judge' else start} {images} {role}")

                found = descend(objective, z[at], w, weight[at], budget, generators, log)
                best = found if best is None else best.better(found)
            parts += [] if best is None else [best]
        every = max(1, budget.steps // 40)
        for step, total in totals.items():
            if step == 1 or step % every == 0:
                view.log(curve, step, total)
        return Descent.joined(parts)


def decoded(prior: GaussianPrior, found: Descent) -> torch.Tensor:
    """Returns the images (N, C, H, W) in [0, 1] that were found."""
    with torch.no_grad():
        return torch.cat([prior(w).clamp(0, 1) for w in found.w.split(64)])
