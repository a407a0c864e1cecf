"""White-box inversion: an image is optimised until the edge gives the received features."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.nn.ridge import Ridge
from splitaudit.nn.scale import channel_moments
from splitaudit.params import Params
from splitaudit.view import View, to_float


class RmleParams(Params):
    """Parameters of :class:`Rmle`."""

    steps: int = Field(150, ge=1, description="greatest number of optimiser steps per start")
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
    patience: int = Field(40, ge=1, description="steps without a gain of 0.1 % in the mean loss before a start ends")
    adaptive: bool = Field(True, description="false: pretend that there is no defense on the wire")


GRID = (0.01, 0.1, 1.0, 3.0)
"""Candidates for the prior's weight: from a clean, invertible edge to features drowned in noise."""

CALIBRATION = 24
"""Auxiliary validation images on which the weight is chosen."""


class Rmle(Attack):
    """Minimises the normalised feature error plus total variation plus a Gaussian prior, all images at once.

    For each image: mean over visible elements of ((E[protect(f(x))] − z)_c / s_c)² + v·(d_x/d_z)·(mean of squared
    standardised coefficients + tv·TV(x)) + the squared excess outside [0, 1]. s_c is channel c's standard deviation over
    defended features of auxiliary images (over the received features without any): differences cancel the mean, so the
    features' scale and offset give no false protection. v is the assumed variance of the normalised feature error: with
    additive Gaussian noise of that variance this is the maximum a posteriori. The variable is the image's standardised
    cosine coefficients, the start is a ridge inversion fitted to auxiliary pairs. A random defense is met with fresh
    draws at every step; elements that it visibly masks are left out. The losses are separable, so one batch holds all
    images.

    Source: He et al. 2019 (regularised maximum likelihood). Departures: normalised loss; coefficients instead of pixels;
    a linear start instead of a constant one (from the mean image a trained edge often leads into a wrong valley, see
    docs/measurements.md); Gaussian prior beside the total variation, its weight chosen on auxiliary images; all images at
    once; early stopping and the choice between restarts by its own loss.
    """

    Params = RmleParams
    version = 2
    source = "He et al., ACSAC 2019"
    requires = AdversaryKnowledge(edge="weights")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    expected = Expected(identity_mse=1e-3)

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        prior = GaussianPrior(view.image_shape).to(view.device)
        out: dict[str, torch.Tensor] = {}
        ridge: Ridge | None = None
        if view.knowledge.aux != "none":
            images = to_float(view.aux_train.images.to(view.device))
            prior.fit(images)
            with torch.no_grad():
                features = torch.cat([view.edge(b) for b in images.split(256)])
                # As they are sent: a channel of noise alone would drown the others if its scale were the clean one's.
                out["feature_scale"] = _scale(view.protect(features, view.generator("rmle scale draws")))
            ridge = self._ridge(view, images, features, out["feature_scale"])
        out |= prior.state_dict()
        weight = self.params.gaussian
        if weight is None and ridge is not None:
            weight = self._choose(view, prior, out["feature_scale"], ridge)
        out["weight"] = torch.tensor(0.03 if weight is None else weight, device=view.device)
        return out if ridge is None else out | {f"ridge.{k}": v for k, v in ridge.state().items()}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        prior = GaussianPrior(view.image_shape).to(view.device)
        prior.load_state_dict({k: fitted[k] for k in prior.state_dict()})
        scale = fitted["feature_scale"] if "feature_scale" in fitted else _scale(view.z)
        weight = fitted["weight"].expand(len(view))
        start = None
        if "ridge.solved" in fitted:
            start = Ridge.load({k.removeprefix("ridge."): v for k, v in fitted.items()})(view.z / scale)
        guess, _ = self._optimise(view, view.z, prior, scale, weight, "loss", start)
        view.note(prior_weight=float(fitted["weight"]))
        return guess

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        images = n_private * self.params.restarts + (CALIBRATION * len(GRID) if self.params.gaussian is None else 0)
        return Work(edge_passes=n_aux + 3 * self.params.steps * images, gflop=150)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"steps": 60}

    def _ridge(self, view: View, images: torch.Tensor, features: torch.Tensor, scale: torch.Tensor) -> Ridge:
        """Fits the linear inversion on defended auxiliary features."""
        draws = view.generator("rmle ridge draws")
        own = to_float(view.aux_val.images.to(view.device))
        with torch.no_grad():
            held_out = torch.cat([view.edge(b) for b in own.split(256)])
            z, z_val = view.protect(features, draws) / scale, view.protect(held_out, draws) / scale
        ridge = Ridge(z, images, z_val, own)
        view.note(ridge_aux_val_mse=ridge.error, ridge_penalty=ridge.penalty)
        return ridge

    def _choose(self, view: View, prior: GaussianPrior, scale: torch.Tensor, ridge: Ridge) -> float:
        """Attacks some of the attacker's own images with each weight, in one batch, and returns the best weight."""
        own = to_float(view.aux_val.images[:CALIBRATION].to(view.device))
        with torch.no_grad():
            z = view.protect(view.edge(own), view.generator("rmle own draws"))
        many = z.repeat(len(GRID), *([1] * (z.ndim - 1)))
        weight = torch.tensor(GRID, device=view.device).repeat_interleave(len(own))
        start = ridge(z / scale).repeat(len(GRID), 1, 1, 1)
        guess, _ = self._optimise(view, many, prior, scale, weight, "calibration_loss", start, restarts=1)
        errors = (guess - own.repeat(len(GRID), 1, 1, 1)).square().reshape(len(GRID), -1).mean(1)
        view.note(grid={str(w): float(e) for w, e in zip(GRID, errors, strict=True)})
        return GRID[int(errors.argmin())]

    def _optimise(
        self,
        view: View,
        z: torch.Tensor,
        prior: GaussianPrior,
        scale: torch.Tensor,
        weight: torch.Tensor,
        curve: str,
        first: torch.Tensor | None,
        restarts: int | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Runs every start and returns the best images (N, C, H, W) in [0, 1] and their losses (N,)."""
        start_draws, wire_draws = view.generator(f"rmle starts {curve}"), view.generator(f"rmle wire {curve}")
        visible = view.visible(z) if self.params.adaptive else None
        best = torch.zeros(len(z), *view.image_shape, device=view.device)
        best_loss = torch.full((len(z),), float("inf"), device=view.device)
        weight = weight * (best[0].numel() / z[0].numel())
        for start in range(restarts or self.params.restarts):
            w = torch.zeros(len(z), *view.image_shape, device=view.device)
            if first is not None and start == 0:
                w = prior.encode(first.clamp(0, 1))
            elif start > (first is not None):
                w.normal_(generator=start_draws)
            x, loss, converged = self._descend(view, z, w, prior, scale, weight, visible, wire_draws, curve, start)
            better = loss < best_loss
            best[better], best_loss[better] = x[better], loss[better]
            if start == 0 and curve == "loss":
                view.note(converged=converged)
        return best, best_loss

    def _descend(
        self,
        view: View,
        z: torch.Tensor,
        w: torch.Tensor,
        prior: GaussianPrior,
        scale: torch.Tensor,
        weight: torch.Tensor,
        visible: torch.Tensor | None,
        draws: torch.Generator,
        curve: str,
        start: int,
    ) -> tuple[torch.Tensor, torch.Tensor, bool]:
        w = w.detach().requires_grad_(True)
        optimizer = torch.optim.Adam([w], lr=self.params.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.params.steps)
        means: list[float] = []
        loss = torch.empty(0)
        for step in range(1, self.params.steps + 1):
            x = prior(w)
            error = self._feature_error(view, x, z, scale, visible, draws)
            penalty = w.square().flatten(1).mean(1) + self.params.tv * _total_variation(x)
            outside = (x - x.clamp(0, 1)).square().flatten(1).mean(1)
            loss = error + weight * penalty + outside
            optimizer.zero_grad(set_to_none=True)
            loss.sum().backward()
            optimizer.step()
            schedule.step()
            means.append(float(loss.detach().mean()))
            if start == 0 and (step == 1 or step % max(1, self.params.steps // 40) == 0):
                view.log(curve, step, means[-1])
            past = means[-self.params.patience - 1] if len(means) > self.params.patience else None
            if past is not None and min(means[-self.params.patience :]) > 0.999 * past:
                break
        tail = means[-max(2, len(means) // 10) :]
        converged = tail[0] - tail[-1] <= 0.02 * abs(tail[0])
        with torch.no_grad():
            return prior(w).clamp(0, 1), loss.detach(), converged

    def _feature_error(
        self,
        view: View,
        x: torch.Tensor,
        z: torch.Tensor,
        scale: torch.Tensor,
        visible: torch.Tensor | None,
        draws: torch.Generator,
    ) -> torch.Tensor:
        clean = view.edge(x)
        sent = self._expected_wire(view, clean, visible is not None, draws) if self.params.adaptive else clean
        error = ((sent - z) / scale).square()
        if visible is None:
            return error.flatten(1).mean(1)
        return (error * visible).flatten(1).sum(1) / visible.flatten(1).sum(1).clamp_min(1)

    def _expected_wire(self, view: View, clean: torch.Tensor, masked: bool, draws: torch.Generator) -> torch.Tensor:
        """Returns the mean of fresh draws of the defended features; with a visible mask, given that they are visible."""
        if not view.stochastic:
            return view.protect(clean, draws)
        total, count = torch.zeros_like(clean), torch.zeros_like(clean)
        for _ in range(self.params.draws):
            sent = view.protect(clean, draws)
            total = total + sent
            seen = view.visible(sent.detach()) if masked else None
            count += 1 if seen is None else seen.to(count.dtype)
        # An element that no draw shows counts as zero, so an edge output of zero is no way out of the loss.
        return total / count.clamp_min(1)


def _scale(features: torch.Tensor) -> torch.Tensor:
    """Returns each channel's standard deviation; dead channels get the greatest one, so they weigh next to nothing."""
    _, std = channel_moments(features)
    return torch.where(std > 1e-6 * std.max(), std, std.max().clamp_min(1e-12))


def _total_variation(x: torch.Tensor) -> torch.Tensor:
    """Returns the mean isotropic total variation per image (N,), smoothed at 1e-3."""
    down = x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
    across = x[:, :, :-1, 1:] - x[:, :, :-1, :-1]
    return (down.square() + across.square() + 1e-6).sqrt().flatten(1).mean(1)
