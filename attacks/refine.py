"""Refined decoding: white-box inversion that starts at a decoder's guess and knows how far it may be off."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.nn.ridge import most_images
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.view import View

from ._bands import shrinkage, spread
from ._budgets import Budget, Optimiser, budgets
from ._decoding import decode
from ._doubling import doubled_step
from ._expected import noisy
from ._near import Near
from ._own import own_images
from ._whitening import Whitening, whitening
from .decoder import Decoder, DecoderParams

GRID = (0.003, 0.03, 0.3, 3.0)
"""Candidates for the assumed variance of the feature error: from a clean wire to features drowned in noise."""

CALM, RATE = 0.2, 0.8
"""Adam's step size where the feature error is random, and where it is not."""

CALIBRATION = 32
"""Auxiliary validation images on which the weight and the shrinkage are chosen."""

SPECTRUM = 1024
"""Auxiliary validation images, at most, on which the decoder's error is measured."""

Fitted = dict[str, torch.Tensor]


class RefineParams(Params):
    """Parameters of :class:`Refine`."""

    decoder: DecoderParams = Field(
        DecoderParams(), description="parameters of the decoder that it starts from; the same ones share its training"
    )
    steps: int = Field(100, ge=2, description="losses with gradient per image")
    optimiser: Optimiser = Field(
        "auto",
        description="adam, lbfgs, or the better of them on aux_val; where the loss is random it is Adam in any case",
    )
    lr: float | None = Field(
        None,
        gt=0,
        description="first step size of Adam, in standard deviations of the decoder's error (cosine decay); null: 0.8, 0.2 "
        "where the loss is random",
    )
    variance: float | None = Field(
        None,
        ge=0,
        description="assumed variance of the feature error relative to the features': weight of the proximity term; null: "
        "the best on aux_val of 0.003, 0.03, 0.3 and 3",
    )
    shrink: bool = Field(True, description="weigh the step away from the decoder's guess by frequency, as aux_val says")
    draws: int = Field(
        4,
        ge=1,
        description="draws averaged at each step, of a defense that is random on average too",
    )


class Refine(Attack):
    """Minimises the feature error of an image near a decoder's guess.

    For each image: the normalised feature error of :class:`splitaudit.attacks.rmle.Rmle`, plus the proximity term
    v·(d_x/d_z)·mean((c/τ)²) and the squared excess outside [0, 1]. c are the cosine coefficients of the image less the
    decoder's guess, τ² the variances of the decoder's own error at each coefficient, measured on ``aux_val``: the
    decoder's guess with that error is the prior, and v says how far the features are to be believed. v is the best on
    auxiliary images.

    An optimum is no posterior mean, so it may go too far where the features say little. Its step away from the decoder's
    guess is therefore multiplied, in each band of frequencies, by the factor in [0, 1] that has the least squared error
    on ``aux_val``. A factor of 0 is the decoder itself: on auxiliary images the attack is never worse than it.

    The decoder is the one of the attack ``decoder`` with the same parameters, trained once for both.

    Source: own; the idea of starting an optimisation at an encoder's or decoder's guess is that of GLASS++ (NeurIPS
    2023). Departures from it: no generative prior; the proximity term is the decoder's measured error.
    """

    Params = RefineParams
    version = 5
    source = "own; optimisation from a decoder's guess as in GLASS++"
    requires = AdversaryKnowledge(edge="weights", aux="other")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    uses_draws = True
    search = {"lr": (0.2, 0.8), "steps": (100, 300)}  # noqa: RUF012
    expected = Expected(control_mse=dict.fromkeys(INVERTIBLE, 1e-3), cheap_suffices=True)

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {"decoder": ("decoder", self.params.decoder.dump())}

    def fit(self, view: View) -> Fitted:
        basis = GaussianPrior(view.image_shape).to(view.device)
        basis.fit(own_images(view, "train", 0, 1))
        unit = whitening(view, own_images(view, "train", 1, 1), "refine scale draws")
        held_out = view.aux_val.images[:SPECTRUM].to(view.device)
        tau = (self._spectrum(view, basis, held_out) + basis.floor).sqrt()
        own = to_float(held_out[-CALIBRATION:])
        seen = view.rehearsal(own, "refine own draws")
        guess = self._decoded(seen)
        p, best, fitted, kept, grid = self.params, float("inf"), Fitted(), guess, dict[str, float]()
        random = noisy(view)
        rates = (CALM,) if random else (RATE,)
        for budget in budgets(p.steps, p.optimiser, p.lr, rates, random):
            for variance in GRID if p.variance is None else (p.variance,):
                trial = {
                    "colours": basis.colours,
                    "tau": tau,
                    "whitening": unit.matrix,
                    "variance": torch.tensor(variance),
                    "budget": budget.packed(),
                }
                image, factor = self._rehearsed(view, trial, seen, guess, own, "calibration_loss")
                mse = grid[f"{variance:.4g}, {budget.name}"] = float((own - image).square().mean())
                if mse < best:
                    best, fitted, kept = mse, {**trial, "factor": factor}, image
        if not fitted:
            raise FloatingPointError("the feature error is not finite for any assumed variance")
        half = self._rehearsed(view, fitted, seen, guess, own, "half_budget_loss", half=True)[0]
        view.note(
            decoder_aux_val_mse=float((own - guess).square().mean()),
            aux_val_mse=best,
            grid=grid,
            **doubled_step(fitted["factor"], half, kept, own),
            variance=float(fitted["variance"]),
            optimiser=Budget.unpacked(fitted["budget"]).name,
            shrinkage=[round(f, 3) for f in spread(fitted["factor"])],
        )
        return fitted

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        guess, near = self._decoded(view), self._near(view, fitted)
        step = near.step(view, guess, "loss")
        with torch.no_grad():
            return near.basis(guess, fitted["factor"].to(view.device))(step).clamp(0, 1)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        images = n_private + CALIBRATION * (0.5 + 2 * (len(GRID) if self.params.variance is None else 1))
        return Work(edge_passes=2 * n_aux + 3 * self.params.steps * images, gflop=50)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 60, "optimiser": "lbfgs", "decoder": Decoder.cheap()}

    def _spectrum(self, view: View, basis: GaussianPrior, images: torch.Tensor) -> torch.Tensor:
        """Returns the mean squared error of the decoder at each coefficient, (1, C, H, W), over own images.

        A large ``aux_val`` keeps the images on which the weight is chosen out of it.
        """
        some = images[:-CALIBRATION] if len(images) >= 4 * CALIBRATION else images
        features, pixels = math.prod(view.feature_shape), math.prod(view.image_shape)
        total = torch.zeros(1, *view.image_shape, device=view.device)
        for number, part in enumerate(some.split(most_images(features, 4 * pixels, len(some)))):
            x = to_float(part)
            error = basis.analyse(x - self._decoded(view.rehearsal(x, f"refine held-out draws {number}")))
            total += error.square().sum(0, keepdim=True)
        return total / len(some)

    def _decoded(self, view: View) -> torch.Tensor:
        return decode(view, self.params.decoder.shape, view.fits["decoder"])

    def _rehearsed(
        self,
        view: View,
        trial: Fitted,
        seen: View,
        guess: torch.Tensor,
        own: torch.Tensor,
        curve: str,
        half: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns refined images (N, C, H, W), not clipped, from guesses of own images; and the weights (1, C, H, W)."""
        near = self._near(view, trial)
        step = (replace(near, budget=near.budget.half) if half else near).step(seen, guess, curve)
        truth = near.basis(guess, near.tau).analyse(own - guess)
        factor = shrinkage(step, truth) if self.params.shrink else torch.ones_like(near.tau)
        with torch.no_grad():
            return near.basis(guess, factor)(step), factor

    def _near(self, view: View, fitted: Fitted) -> Near:
        tensors = (fitted[name].to(view.device) for name in ("colours", "tau"))
        unit = Whitening(fitted["whitening"].to(view.device))
        budget = Budget.unpacked(fitted["budget"])
        return Near(*tensors, unit, float(fitted["variance"]), budget, self.params.draws)
