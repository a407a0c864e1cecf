"""CEM: conditional entropy of the image kept up, by features that scatter little within a class beside the noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.nn.mixture import ClassCentres
from splitaudit.nn.scale import batch_standardised
from splitaudit.params import Params
from splitaudit.split import Split

from .noise import Noise, NoiseParams


class CemParams(Params):
    """Parameters of :class:`Cem`."""

    weight: float = Field(1.0, ge=0, description="weight of the mixture term beside the cross-entropy")
    sigma: float = Field(
        0.3,
        ge=0,
        description="standard deviation of the Gaussian noise on the wire, in units of each channel's standard "
        "deviation of clean features",
    )
    adds_noise: bool = Field(
        True, description="adds that noise itself; false where another part of a composition adds it"
    )
    components: int = Field(3, ge=1, description="components of the mixture for each class")
    threshold: float = Field(
        0.125, ge=0, description="scatter within a component that is not punished, in units of the noise's variance"
    )
    gamma: float = Field(
        0.01, gt=0, description="added to both variances under the logarithm, in units of a channel's variance"
    )


class Cem(Defense):
    """Adds λ·Σ_c w_c·max(0, log(v_c + γ) − log(τ·σ² + γ)) to the cross-entropy, and Gaussian noise of deviation σ.

    Features are modelled by a mixture of Gaussians, ``components`` for each class. v_c is the mean over the batch's images
    of component c, and over all elements, of the squared distance to the component's centre; w_c is the share of the batch
    that belongs to it. Both variances are in units of each channel's variance in the batch, with the gradient through
    that unit: scaling or shifting a channel hides nothing. Centres follow the features by k-means, batch by batch,
    without gradient (:class:`splitaudit.nn.mixture.ClassCentres`); they are used in training only and not stored.

    What it needs: Gaussian noise of known variance on the wire. With it, I(x; z') is at most the entropy of the
    component plus Σ_c w_c·½·log det(I + Σ_c/σ²), whatever the features' distribution within a component, so H(x | z') is
    bounded from below. D/2 times the term is the second part, with one variance for all D elements (never below the
    exact value), where γ = σ² and τ = 0; the published γ and τ make it a stand-in that falls with it. Without noise
    (σ = 0) nothing is bounded and the term only draws the images of a class together.

    To be put on top of another defense: ``nopeek+cem``; of every one but those that start from a trained network (``pca``,
    ``nullspace``, ``fisher_noise``, ``shredder``, ``disco``), whose edge it could not shape any more, and
    ``dpsgd_groupnorm``, whose promise a loss over the images of a batch would break. In ``cem+noise`` both add noise; with
    ``adds_noise: false`` the other one does, ``sigma`` has to say how much, and the term keeps its meaning only for Gaussian
    noise. In ``noise+cem`` the noise would count as scatter.

    Source: Xia et al. 2025 and its official code (log form; one variance a component; γ = 0.01; τ = 0.125; hard
    assignment to the nearest centre among those of the true class). Departures: relative units for σ, v_c and γ, where the
    published ones are absolute, on features that a sigmoid keeps in [0, 1]; centres follow every batch instead of one
    k-means an epoch on all features; w_c and v_c are the batch's, where the code mixes v_c with the value of the last
    epoch, and (it seems by mistake) looks up w_c and that value by the number of a class in a list of samples; λ is
    constant, where the code multiplies 8 or 16 by 0.001 over the learning rate; published with a sparse-coding,
    adversarial or other defense below it, never alone.
    """

    Params = CemParams
    version = 1
    source = "Xia et al., CVPR 2025, arXiv 2503.00383, official code"
    claims = {"mse": "up", "mi_upper_nats": "down"}  # noqa: RUF012
    additive = True

    @property
    def stochastic(self) -> bool:
        return self.params.adds_noise and self.params.sigma > 0

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"weight": 0.0, "sigma": 0.0}

    def prepare(self, split: Split) -> None:
        sigma, shape = self.params.sigma if self.params.adds_noise else 0.0, split.feature_shape()
        self.noise = Noise(NoiseParams(sigma=sigma, distribution="gaussian", relative=True))
        self.noise.prepare(split)
        self.centres = ClassCentres(split.info.classes, self.params.components, math.prod(shape))

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        if self.params.weight > 0:
            self.centres.update(batch_standardised(z).flatten(1), y)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        if self.params.weight == 0:
            return None
        allowed = self.params.threshold * self.params.sigma**2
        return self.params.weight * mixture_term(
            batch_standardised(z).flatten(1), y, self.centres, allowed, self.params.gamma
        )

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        self.noise.calibrate(features)

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return self.noise.protect(z, generator)


def mixture_term(
    flat: torch.Tensor, y: torch.Tensor, centres: ClassCentres, allowed: float, gamma: float
) -> torch.Tensor:
    """Returns Σ_c w_c·max(0, log(v_c + gamma) − log(allowed + gamma)) over the components in a batch, a scalar ≥ 0.

    Args:
        flat: features (N, D).
        y: labels (N,).
        centres: of the mixture's components.
        allowed: variance up to which a component costs nothing, in the unit of flat².
        gamma: in the unit of flat².
    """
    squares, which = centres.assign(flat, y)
    # By a product, since adding at indices is not repeatable on CUDA. Samples without a centre (-1) are in no column.
    member = (which[:, None] == torch.arange(centres.counts.numel(), device=y.device)).to(flat.dtype)
    counts = member.sum(0)
    variance = (squares @ member) / counts.clamp_min(1) / flat.shape[1]
    excess = ((variance + gamma).log() - math.log(allowed + gamma)).clamp_min(0)
    return (counts / len(y) * excess).sum()
