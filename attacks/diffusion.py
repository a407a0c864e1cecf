"""Posterior sampling with a diffusion model that the attacker trains itself on auxiliary images."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field
from torch.optim.swa_utils import get_ema_multi_avg_fn

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.seeds import seeded_globally
from splitaudit.view import View

from ._bands import shrinkage
from ._cycle import one_cycle, shuffled
from ._decoding import macs
from ._denoiser import DATA, Denoiser
from ._descent import batches
from ._doubling import doubled_step
from ._objective import Objective
from ._own import own_images
from ._whitening import Whitening, whitening

GRID = (0.003, 0.03, 0.3, 3.0)
"""Candidates for the assumed variance of the feature error."""

CALIBRATION = 16
"""Auxiliary validation images on which it is chosen."""

FIRST, LAST = 10.0, 0.03
"""Noise levels between which the sampling runs, for images scaled to [-1, 1]."""

AVERAGE = 0.999
"""Greatest weight of the past in the running average of the weights: with fewer than 9,000 steps it is less, to the end."""

FEW = 4
"""Fewest levels of which half say anything."""

Fitted = dict[str, torch.Tensor]


class DiffusionParams(Params):
    """Parameters of :class:`Diffusion`."""

    width: int = Field(32, ge=4, description="channels of the denoiser at the image's own size")
    epochs: int = Field(
        20, ge=1, description="passes over the auxiliary images and their mirror images for the denoiser"
    )
    batch: int = Field(64, ge=1, description="images per step of its training")
    lr: float = Field(1e-3, gt=0, description="peak learning rate of its training (AdamW, one cycle)")
    levels: int = Field(30, ge=2, description="noise levels of the sampling")
    data_steps: int = Field(8, ge=1, description="optimiser steps towards the features at each noise level")
    samples: int = Field(1, ge=1, description="samples of the posterior that are averaged")
    variance: float | None = Field(
        None,
        ge=0,
        description="assumed variance of the feature error relative to the features'; null: the best on aux_val of 0.003, "
        "0.03, 0.3 and 3",
    )
    draws: int = Field(
        4,
        ge=1,
        description="draws averaged at each step, of a defense that is random on average too",
    )


class Diffusion(Attack):
    """Samples images that the diffusion model holds for likely and whose features are the received ones.

    From noise, at falling noise levels σ: the denoiser's mean image; a few steps of Adam from there on the normalised feature
    error plus v·(d_x/d_z)·(squared distance from the mean image over r²), r² = σ²/(1 + σ²/0.25) being the variance left
    around it; then noise of the next level. The last mean is a sample. A sample goes further from the mean image than what
    is known of it: its difference is multiplied, in each band of frequencies, by the factor in [0, 1] that has the least
    squared error on rehearsed auxiliary images, where v is chosen too. An average over several samples comes nearer to the
    posterior mean. The denoiser knows no target: one serves all of them.

    ``converged`` speaks of the sampling: all levels leave hardly less error of the rehearsed images than half as many (with
    fewer than four it has not). Of the denoiser's training it says nothing.

    On a CPU: ``{width: 24, epochs: 6}`` on the 3,200 images of ``photos`` trains in minutes; the default is meant for a GPU.

    Source: the idea of DPS (Chung et al., ICLR 2023) and DRAG (ICML 2025), posterior sampling with feature guidance.
    Departures: a small self-trained model of pixels; the guidance is an optimisation about the denoised image instead of a
    gradient through the denoiser, which is cheaper and needs no step size per level.
    """

    Params = DiffusionParams
    version = 7
    source = "the idea of DPS and DRAG, with a self-trained model"
    requires = AdversaryKnowledge(edge="weights", aux="other")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    uses_draws = True
    search = {"data_steps": (4, 8, 20), "levels": (30, 60), "samples": (1, 4)}  # noqa: RUF012
    fit_scope = "images"
    fit_params = ("width", "epochs", "batch", "lr")
    expected = Expected(
        control_mse=dict.fromkeys(INVERTIBLE, 1e-3),
        # The default ones keep it too, but for minutes: a tiny denoiser is enough where the features say everything.
        control_params={edge: {"width": 8, "epochs": 2, "levels": 20, "data_steps": 20} for edge in INVERTIBLE},
    )

    def fit(self, view: View) -> Fitted:
        p, images = self.params, view.aux_train.images.to(view.device)
        images = torch.cat([images, images.flip(-1)])
        network = self._network(view).train()
        order = torch.Generator().manual_seed(view.seed_for("diffusion batches"))
        noise = view.generator("diffusion noise")
        passes = view.passes(len(images), 2)
        optimizer, rate = one_cycle(network.parameters(), p.lr, len(images), p.batch, p.epochs * passes)
        weights = network.state_dict()
        average = {k: v.detach().clone() for k, v in weights.items()}
        step = 0
        for epoch in range(1, p.epochs + 1):
            total = torch.zeros((), device=view.device)  # read once an epoch: a GPU waits for every reading
            for index in shuffled(len(images), p.batch, passes, order):
                optimizer.zero_grad(set_to_none=True)
                loss = network.loss(to_float(images[index.to(view.device)]), noise)
                loss.backward()
                optimizer.step()
                rate.step()
                step += 1
                total += loss.detach() * len(index) / (passes * len(images))
                average_in = get_ema_multi_avg_fn(min(AVERAGE, (1 + step) / (10 + step)))
                average_in(list(average.values()), list(weights.values()), step)
            view.log("denoiser_loss", epoch, float(total))
        return average

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        network = self._network(view)
        network.load_state_dict(fitted)
        network.eval().requires_grad_(False)
        unit = whitening(view, own_images(view, "train", 1, 1), "diffusion scale draws", mixed=False)
        own = to_float(view.aux_val.images[-CALIBRATION:].to(view.device))
        rehearsed = view.rehearsal(own, "diffusion own draws")
        basis = GaussianPrior(view.image_shape).to(view.device)
        basis.mean = view.prior[None]
        truth = basis.analyse(own - basis.mean)
        errors: dict[float, float] = {}
        best, chosen, weights, kept = float("inf"), 0.0, torch.zeros(0), truth
        for variance in GRID if self.params.variance is None else (self.params.variance,):
            step = basis.analyse(self._mean(rehearsed, network, unit, variance, f"trial {variance}") - basis.mean)
            factor = shrinkage(step, truth, sure=True)
            errors[variance] = float((truth - factor * step).square().mean())
            if errors[variance] < best:
                best, chosen, weights, kept = errors[variance], variance, factor, factor * step
        if not len(weights):
            raise FloatingPointError("the samples are not finite for any assumed variance")
        view.note(grid={str(v): e for v, e in errors.items()}, variance=chosen, aux_val_mse=best)
        if self.params.levels >= FEW:
            fewer = Diffusion(self.params.model_copy(update={"levels": self.params.levels // 2}))
            step = basis.analyse(fewer._mean(rehearsed, network, unit, chosen, "half the levels") - basis.mean)
            view.note(
                **doubled_step(weights, shrinkage(step, truth, sure=True) * step, kept, truth)
            )  # the transform keeps squared errors
        else:
            view.note(converged=False)
        step = basis.analyse(self._mean(view, network, unit, chosen, "sample") - basis.mean)
        basis.scale = weights
        with torch.no_grad():
            return basis(step).clamp(0, 1)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        p = self.params
        forward = 2 * macs(_AtOneLevel(Denoiser(image_shape[0], p.width)), image_shape) / 1e9
        trials = CALIBRATION * ((len(GRID) if p.variance is None else 1) + 0.5) if n_private else 0
        images = p.levels * p.samples * (n_private + trials)
        return Work(
            edge_passes=3.3 * p.data_steps * images + (n_aux if n_private else 0),
            gflop=forward * (6 * n_aux * p.epochs + images),
        )

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 8, "epochs": 8, "batch": 16, "levels": 10}

    def _network(self, view: View) -> Denoiser:
        with seeded_globally(view.seed_for("diffusion init")):
            network = Denoiser(view.image_shape[0], self.params.width)
        return network.to(view.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _mean(self, view: View, network: Denoiser, unit: Whitening, variance: float, role: str) -> torch.Tensor:
        """Returns the mean of the samples for each received image, (N, C, H, W) in [0, 1]."""
        count = self.params.samples
        return sum(self._sampled(view, network, unit, variance, f"{role} {i}") for i in range(count)) / count

    def _sampled(self, view: View, network: Denoiser, unit: Whitening, variance: float, role: str) -> torch.Tensor:
        """Returns one sample for each received image, (N, C, H, W) in [0, 1]."""
        p, z = self.params, view.average
        objective = Objective(view, GaussianPrior(view.image_shape), unit, 0.0, p.draws)
        levels = torch.exp(torch.linspace(math.log(FIRST), math.log(LAST), p.levels)).tolist()
        parts = []
        for at in batches(z, 40 * p.width * math.prod(view.image_shape[1:])):
            noise, fresh = (view.generator(f"diffusion {role} {int(at[0])} {what}") for what in ("noise", "wire"))
            visible = objective.visible(z[at])
            shape = (len(at), *view.image_shape)
            noisy = FIRST * torch.empty(shape, device=view.device).normal_(generator=noise)
            clean = noisy
            for number, sigma in enumerate(levels):
                with torch.no_grad():
                    mean = network(noisy, torch.full((len(at),), sigma, device=view.device)).clamp(-1, 1)
                clean, error = self._nearer(objective, mean, z[at], visible, fresh, sigma, variance)
                if number + 1 < len(levels):
                    noisy = clean + levels[number + 1] * torch.empty_like(clean).normal_(generator=noise)
                if int(at[0]) == 0:
                    view.log(role, number + 1, error)
            parts.append(((clean + 1) / 2).clamp(0, 1))
        return torch.cat(parts)

    def _nearer(
        self,
        objective: Objective,
        mean: torch.Tensor,
        z: torch.Tensor,
        visible: torch.Tensor | None,
        fresh: torch.Generator,
        sigma: float,
        variance: float,
    ) -> tuple[torch.Tensor, float]:
        """Returns images near the denoised ones (scaled to [-1, 1]) with nearer features, and their feature error."""
        left = sigma / math.sqrt(1 + (sigma / DATA) ** 2)
        weight = variance * mean[0].numel() / max(1, z[0].numel())
        step = torch.zeros_like(mean, requires_grad=True)  # in units of what is left
        optimizer = torch.optim.Adam([step])
        error = torch.zeros(())
        for number in range(self.params.data_steps):
            optimizer.param_groups[0]["lr"] = 0.3 * (1 - number / self.params.data_steps)
            x = (mean + left * step + 1) / 2
            found = objective.feature_error(x, z, visible, fresh)
            outside = (x - x.clamp(0, 1)).square().flatten(1).mean(1)
            optimizer.zero_grad(set_to_none=True)
            (found + outside + weight * step.square().flatten(1).mean(1)).sum().backward()
            optimizer.step()
            error = found.detach().mean()
        return (mean + left * step).detach(), float(error)


class _AtOneLevel(torch.nn.Module):
    """A denoiser at a fixed noise level, to count its arithmetic."""

    def __init__(self, network: Denoiser) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x, x.new_ones(len(x)))
