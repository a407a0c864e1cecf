"""Search in the latent space of a generative prior that the attacker trains itself, then release to pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.image_prior import GaussianPrior
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.seeds import seeded_globally
from splitaudit.view import View

from ._bands import shrinkage
from ._budgets import Budget
from ._cycle import one_cycle, shuffled
from ._decoding import decode, macs
from ._descent import batches
from ._doubling import doubled
from ._expected import noisy
from ._near import Near
from ._objective import Objective
from ._own import own_images
from ._vae import ImageVae
from ._whitening import Whitening, whitening
from .decoder import Decoder, DecoderParams

GRID = (0.003, 0.03, 0.3, 3.0)
"""Candidates for the assumed variance of the feature error."""

CAUTION = 0.25
"""Factor on the step size of the release where the feature error is random."""

CALIBRATION = 24
"""Auxiliary validation images on which it is chosen."""

SPECTRUM = 1024
"""Auxiliary validation images, at most, on which the prior's own error is measured."""

Fitted = dict[str, torch.Tensor]


class LatentParams(Params):
    """Parameters of :class:`Latent`."""

    decoder: DecoderParams = Field(
        DecoderParams(),
        description="parameters of the decoder whose guess gives the start; the same ones share its training",
    )
    latent: int = Field(128, ge=1, description="numbers of the latent vector")
    width: int = Field(32, ge=1, description="channels of the prior at half the image's side")
    epochs: int = Field(12, ge=1, description="passes over the auxiliary images and their mirror images for the prior")
    batch: int = Field(64, ge=2, description="images per step of the prior's training")
    prior_lr: float = Field(2e-3, gt=0, description="peak learning rate of the prior's training (AdamW, one cycle)")
    search_steps: int = Field(100, ge=1, description="steps in the latent space")
    search_lr: float = Field(0.05, gt=0, description="step size there, in standard deviations of the latent prior")
    release_steps: int = Field(100, ge=1, description="steps on the image about what the search has found")
    release_lr: float = Field(0.8, gt=0, description="step size there, in standard deviations of the prior's own error")
    draws: int = Field(
        4,
        ge=1,
        description="draws averaged at each step, of a defense that is random on average too",
    )


class Latent(Attack):
    """Inverts within what a small variational autoencoder, trained on auxiliary images, can show; then beyond it.

    1. *Start*: the decoder's guess, encoded.
    2. *Search*: for each image, minimise the normalised feature error of its latent vector's image plus v·(d_u/d_z)·
       mean(u²), the prior of the latent space.
    3. *Release*: minimise the feature error of the image about what was found, with the prior's own error (measured on
       ``aux_val``) as the proximity term, as ``refine`` does about a decoder's guess.

    v is chosen on auxiliary images that are attacked in rehearsal; there too the last step is weighed by frequency. The
    autoencoder knows no target: one serves all of them.

    Source: the idea of GLASS (NeurIPS 2023). Departures: a self-trained autoencoder instead of a downloaded StyleGAN, one
    latent space instead of two, release to pixels, weights chosen on auxiliary images.
    """

    Params = LatentParams
    version = 5
    source = "the idea of GLASS (NeurIPS 2023), with a self-trained prior"
    requires = AdversaryKnowledge(edge="weights", aux="other")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    uses_draws = True
    search = {"search_lr": (0.02, 0.05, 0.1), "release_lr": (0.2, 0.8), "release_steps": (100, 300)}  # noqa: RUF012
    fit_scope = "images"
    fit_params = ("latent", "width", "epochs", "batch", "prior_lr")
    expected = Expected(control_mse=dict.fromkeys(INVERTIBLE, 1e-3), cheap_suffices=True)

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {"decoder": ("decoder", self.params.decoder.dump())}

    def fit(self, view: View) -> Fitted:
        p, images = self.params, view.aux_train.images.to(view.device)
        images = torch.cat([images, images.flip(-1)])
        network = self._network(view)
        order = torch.Generator().manual_seed(view.seed_for("latent batches"))
        noise = view.generator("latent noise")
        passes = view.passes(len(images), 2)
        optimizer, rate = one_cycle(network.parameters(), p.prior_lr, len(images), p.batch, p.epochs * passes)
        held_out = to_float(view.aux_val.images[:SPECTRUM].to(view.device))
        for epoch in range(1, p.epochs + 1):
            network.train()
            for index in shuffled(len(images), p.batch, passes, order):
                optimizer.zero_grad(set_to_none=True)
                network.loss(to_float(images[index.to(view.device)]), noise).backward()
                optimizer.step()
                rate.step()
            network.eval()
            view.log("prior_aux_val_mse", epoch, float((_shown(network, held_out) - held_out).square().mean()))
        basis = GaussianPrior(view.image_shape).to(view.device)
        basis.fit(own_images(view, "train", 0, 1))
        error = basis.analyse(held_out - _shown(network, held_out)).square().mean(0, keepdim=True)
        view.note(prior_aux_val_mse=view.curves["prior_aux_val_mse"][-1][1])
        state = {f"network.{k}": v for k, v in network.state_dict().items()}
        return {**state, "colours": basis.colours, "tau": (error + basis.floor).sqrt()}

    def reconstruct(self, view: View, fitted: Fitted) -> torch.Tensor:
        network = self._network(view)
        network.load_state_dict({k[8:]: v for k, v in fitted.items() if k.startswith("network.")})
        network.eval().requires_grad_(False)
        unit = whitening(view, own_images(view, "train", 1, 1), "latent scale draws")
        own = to_float(view.aux_val.images[-CALIBRATION:].to(view.device))
        rehearsed = view.rehearsal(own, "latent own draws")
        best, chosen, factor, kept = float("inf"), GRID[0], torch.zeros(0), own
        for variance in GRID:
            guess, weights = self._rehearsed(rehearsed, own, fitted, network, unit, variance, "calibration")
            mse = float((guess - own).square().mean())
            if mse < best:
                best, chosen, factor, kept = mse, variance, weights, guess
        if not len(factor):
            raise FloatingPointError("the feature error is not finite for any assumed variance")
        half = self._with_half_the_steps()._rehearsed(rehearsed, own, fitted, network, unit, chosen, "half_budget")[0]
        view.note(aux_val_mse=best, variance=chosen, **doubled(half, kept, own))
        found = self._search(view, network, unit, chosen, "search")
        near = self._near(view, fitted, unit, chosen)
        step = near.step(view, found, "release")
        with torch.no_grad():
            return near.basis(found, factor)(step).clamp(0, 1)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        network = ImageVae(image_shape, self.params.latent, self.params.width)
        forward = 2 * macs(_Both(network), image_shape) / 1e9
        images = n_private + (CALIBRATION * (len(GRID) + 0.5) if n_private else 0)
        steps = self.params.search_steps + self.params.release_steps
        return Work(
            edge_passes=3 * steps * images + (2 * n_aux if n_private else 0),
            gflop=forward * (6 * n_aux * self.params.epochs + 2 * self.params.search_steps * images),
        )

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        small = {"latent": 32, "width": 16, "epochs": 10, "batch": 16}
        return {**small, "search_steps": 30, "release_steps": 60, "decoder": Decoder.cheap()}

    def _network(self, view: View) -> ImageVae:
        with seeded_globally(view.seed_for("latent init")):
            network = ImageVae(view.image_shape, self.params.latent, self.params.width)
        return network.to(view.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def _with_half_the_steps(self) -> Latent:
        steps = {"search_steps": self.params.search_steps, "release_steps": self.params.release_steps}
        return Latent(self.params.model_copy(update={name: max(1, count // 2) for name, count in steps.items()}))

    def _rehearsed(
        self,
        view: View,
        own: torch.Tensor,
        fitted: Fitted,
        network: ImageVae,
        unit: Whitening,
        variance: float,
        role: str,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the guesses of own images (N, C, H, W), not clipped, and the weights of their release (1, C, H, W)."""
        found = self._search(view, network, unit, variance, role)
        near = self._near(view, fitted, unit, variance)
        step = near.step(view, found, f"{role}_release")
        weights = shrinkage(step, near.basis(found, near.tau).analyse(own - found))
        with torch.no_grad():
            return near.basis(found, weights)(step), weights

    def _near(self, view: View, fitted: Fitted, unit: Whitening, variance: float) -> Near:
        p = self.params
        tensors = (fitted[name].to(view.device) for name in ("colours", "tau"))
        release = Budget(p.release_steps, p.release_lr * (CAUTION if noisy(view) else 1))
        return Near(*tensors, unit, variance, release, p.draws)

    def _search(self, view: View, network: ImageVae, unit: Whitening, variance: float, role: str) -> torch.Tensor:
        """Returns, for each image, the best image of the prior that the search has met, by its own loss."""
        p, z = self.params, view.average
        objective = Objective(view, GaussianPrior(view.image_shape), unit, 0.0, p.draws)
        guess = decode(view, p.decoder.shape, view.fits["decoder"])
        activations = 8 * p.width * math.prod(view.image_shape[1:])
        return torch.cat(
            [
                self._found(view, objective, network, z[at], guess[at], variance, f"{role} {int(at[0])}")
                for at in batches(z, activations)
            ]
        )

    def _found(
        self,
        view: View,
        objective: Objective,
        network: ImageVae,
        z: torch.Tensor,
        guess: torch.Tensor,
        variance: float,
        role: str,
    ) -> torch.Tensor:
        """Returns what the search finds for images that are optimised at once, from a decoder's guess."""
        p = self.params
        with torch.no_grad():
            u = network.encode(guess)[0]
        best, lowest = u.clone(), torch.full((len(u),), float("inf"), device=view.device)
        u.requires_grad_(True)
        visible, fresh = objective.visible(z), view.generator(f"latent {role} wire")
        weight = variance * p.latent / max(1, z[0].numel())
        optimizer = torch.optim.Adam([u])

        def loss_of(at: torch.Tensor, g: torch.Generator) -> torch.Tensor:
            return objective.feature_error(network.decode(at), z, visible, g) + weight * at.square().mean(1)

        for step in range(p.search_steps + 1):
            optimizer.param_groups[0]["lr"] = p.search_lr * (1 + math.cos(math.pi * step / p.search_steps)) / 2
            loss = loss_of(u, fresh)
            if not objective.noisy or step % 10 == 0 or step == p.search_steps:
                with torch.no_grad():
                    now = loss_of(u, view.generator(f"latent {role} judge")) if objective.noisy else loss.detach()
                    best = torch.where((now < lowest)[:, None], u.detach(), best)
                    lowest = torch.minimum(lowest, now)
            if role == "search 0" and step % max(1, p.search_steps // 40) == 0:
                view.log("search", step + 1, float(loss.detach().mean()))
            if step < p.search_steps:
                optimizer.zero_grad(set_to_none=True)
                loss.sum().backward()
                optimizer.step()
        with torch.no_grad():
            return network.decode(best)


class _Both(torch.nn.Module):
    """Encoder and decoder one after the other, to count their arithmetic."""

    def __init__(self, network: ImageVae) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.decode(self.network.encode(x)[0])


def _shown(network: ImageVae, x: torch.Tensor) -> torch.Tensor:
    """Returns what a network shows of images: decoded from the mean of their code."""
    with torch.no_grad():
        return torch.cat([network.decode(network.encode(b)[0]) for b in x.split(256)])
