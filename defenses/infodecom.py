"""InfoDecom, a light form: fewer frequencies of the image, less information in the features, then noise by the Jacobian."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import nn

from splitaudit.defense import Defense
from splitaudit.nn.image_prior import cosines
from splitaudit.params import Params
from splitaudit.split import Normalize, Split

from ._jacobian import IMAGES, probed, squared_jacobian

MOMENTUM = 0.1
"""Weight of the newest batch in the running size of the Jacobian."""

TINY = 1e-20
"""The least variance that is divided by: where nothing moves, nothing is infinite."""

LEAST_NOISE = 1e-12
"""The least σ², in units of the features' mean variance, that the bound is computed with: 14 nats a feature."""


class InfoDecomParams(Params):
    """Parameters of :class:`InfoDecom`."""

    keep: float = Field(
        0.25, gt=0, le=1, description="share of an image's cosine components that the edge sees; 1: all, as they are"
    )
    removed: Literal["high", "low"] = Field(
        "high", description="which components are taken out of the image: those of the highest or lowest frequencies"
    )
    weight: float = Field(
        1e-3, ge=0, description="weight of the information bound (nats an image) beside the cross-entropy (nats)"
    )
    error: float = Field(
        0.01,
        ge=0,
        description="noise: mean squared error of each kept component of the image (pixels in [0, 1]) that no unbiased "
        "attacker undercuts in the mean; 0: no noise",
    )

    @model_validator(mode="after")
    def _a_bound_needs_noise(self) -> Self:
        if self.weight > 0 and self.error == 0:
            raise ValueError(
                "weight is above 0 and error is 0: without noise the bound on the information is infinite. "
                "Set weight to 0 or error above 0."
            )
        return self


class InfoDecom(Defense):
    """Takes frequencies out of the image, keeps the information in its features low, and adds noise set by the Jacobian.

    1. **Frequencies.** The edge sees x̃ = Dᵀ(m ⊙ D x): D is the orthonormal cosine transform of each colour over the whole
       image (C, H, W), m keeps the share ``keep`` of the components, lowest frequencies √((k/H)² + (l/W)²) first
       (``removed: low``: highest first). What is taken out never reaches the features. It is part of the edge's first
       block and counts as its arithmetic.
    2. **Noise.** z' = z + σ·ε with one σ, σ² = error·E[tr(JᵀJ)]/d, J = ∂z/∂x through the filter and d the number of kept
       components. No unbiased attacker's mean squared error for each of them is below 1/dFIL, whose mean this sets to
       ``error`` (as ``fisher_noise``). In training σ² follows the batches (momentum 0.1, one random probe each, no
       gradient); ``calibrate`` sets it from 512 images of ``client_train``, two probes each, on the trained edge.
    3. **Information.** Loss: CE + weight·Σ_j ½·log(1 + v_j/σ²), v_j the variance of feature j over the batch. The sum
       bounds I(x; z') from above in nats an image, whatever the features' distribution (a sum of Gaussian channels), up to
       the error of variances that are estimated from a batch. Its gradient takes σ² as proportional to the mean of
       all v_j: features that merely shrink gain nothing, because σ then shrinks too.

    It is no guarantee for attackers with a prior, as all of them have: 1/dFIL binds unbiased ones alone.

    Source: Deng et al. 2026 (InfoDecom): removal of redundant frequencies, suppression of mutual information, then noise in
    closed form for a target FSInfo. **A light form**: abstract and summaries were at hand, neither the formulas nor the
    official code. Departures: which frequencies the paper removes is left to ``removed``; the transform is that of the
    whole image, not of blocks of 8×8; the bound on I(x; z') is that of Gaussian channels and has no network of its
    own; the target is the trace of the Fisher information (dFIL) in the mean over images, where FSInfo is its
    log-determinant for each image; all three act in one training, with the noise.

    In a composition it comes first: ``calibrate`` measures the Jacobian of the edge alone.
    """

    Params = InfoDecomParams
    version = 1
    source = (
        "Deng et al., AAAI 2026, arXiv 2511.13365 (light form); Maeng et al., NeurIPS 2023, arXiv 2305.04146 (noise)"
    )
    claims = {"mse": "up", "mi_upper_nats": "down"}  # noqa: RUF012
    acts_on_wire = True
    additive = True

    sigma: torch.Tensor
    seen: torch.Tensor

    @property
    def stochastic(self) -> bool:
        return self.params.error > 0

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"keep": 1.0, "weight": 0.0, "error": 0.0}

    def wrap(self, split: Split) -> Split:
        if self.params.keep == 1 and self.params.error == 0:
            return split
        edge = OrderedDict(split.edge.named_children())
        old: Any = edge["normalize"]
        edge["normalize"] = Filtered(old.mean, old.std, split.info.image_shape, self.params.keep, self.params.removed)
        return Split(split.info, nn.Sequential(edge), split.cloud)

    def prepare(self, split: Split) -> None:
        # In a tuple: it stays the edge's module, and none of the defense's.
        self._edge = (split.edge,)
        self.register_buffer("sigma", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        if self.params.error == 0:
            return
        # The features are made by the edge, whose first block sees the images that the Jacobian is measured on.
        with self._first.watched() as images:
            for _ in features():
                if sum(map(len, images)) >= IMAGES:
                    break
        if images:
            self._set(squared_jacobian(self._edge[0], images))

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        if self.params.weight == 0 or self.seen == 0:
            return None
        return self.params.weight * information_bound(z, self.sigma)

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if self.params.error == 0:
            return z
        if self.training:
            self._follow(z, generator)
        return z + self.sigma * torch.empty_like(z).normal_(generator=generator)

    @property
    def _first(self) -> Filtered:
        block = self._edge[0].get_submodule("normalize")
        assert isinstance(block, Filtered)
        return block

    def _follow(self, z: torch.Tensor, generator: torch.Generator) -> None:
        """Moves the running σ by the batch whose features these are."""
        x = self._first.released()
        if x is None or not z.requires_grad:
            return
        size = float(probed(z, x, generator, keep=True).square().sum()) / len(x)
        if self.seen > 0:
            size = (1 - MOMENTUM) * self._size() + MOMENTUM * size
        self._set(size)

    def _size(self) -> float:
        """Returns the size of the Jacobian that σ stands for."""
        return float(self.sigma.square()) * self._first.components / self.params.error

    def _set(self, size: float) -> None:
        """Sets σ from E[tr(JᵀJ)]."""
        self.sigma.fill_((self.params.error * size / self._first.components) ** 0.5)
        self.seen += 1


class Filtered(Normalize):
    """Takes frequencies out of images in [0, 1] before it normalises them.

    In training it keeps the batch as something that gradients can be taken for; :meth:`released` gives it away.

    Args:
        mean: of each channel, any shape of C numbers.
        std: of each channel.
        image_shape: (C, H, W).
        keep: share of the components that stay.
        removed: which go: ``high`` or ``low`` frequencies.
    """

    rows: torch.Tensor
    columns: torch.Tensor
    mask: torch.Tensor

    def __init__(
        self, mean: torch.Tensor, std: torch.Tensor, image_shape: tuple[int, int, int], keep: float, removed: str
    ) -> None:
        super().__init__(mean, std)
        channels, height, width = image_shape
        mask = kept_components(height, width, keep, removed)
        kept = kept_count(height, width, keep)
        self.all_kept = kept == height * width
        self.components = channels * kept
        # They follow from the parameters, so that the edge's stored tensors are those of the undefended one.
        self.register_buffer("rows", cosines(height), persistent=False)
        self.register_buffer("columns", cosines(width), persistent=False)
        self.register_buffer("mask", mask, persistent=False)
        self._batch: torch.Tensor | None = None
        self._watching: list[torch.Tensor] | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._watching is not None:
            self._watching.append(x.detach())
        self._batch = None
        if self.training and torch.is_grad_enabled():
            x = x if x.requires_grad else x.detach().requires_grad_(True)
            self._batch = x
        return super().forward(self.filtered(x))

    def filtered(self, x: torch.Tensor) -> torch.Tensor:
        """Returns images (N, C, H, W) without the removed components."""
        if self.all_kept:
            return x
        return self.rows.T @ (self.mask * (self.rows @ x @ self.columns.T)) @ self.columns

    def released(self) -> torch.Tensor | None:
        """Returns the last batch of the training, once, or None."""
        batch, self._batch = self._batch, None
        return batch

    def watched(self) -> _Watched:
        """Returns a context in which the images that pass are kept in a list."""
        return _Watched(self)

    def watch(self, into: list[torch.Tensor] | None) -> None:
        """Keeps the images that pass in a list from now on, or no longer."""
        self._watching = into


class _Watched:
    def __init__(self, block: Filtered) -> None:
        self.block, self.images = block, list[torch.Tensor]()

    def __enter__(self) -> list[torch.Tensor]:
        self.block.watch(self.images)
        return self.images

    def __exit__(self, *_: object) -> None:
        self.block.watch(None)


def kept_components(height: int, width: int, keep: float, removed: str) -> torch.Tensor:
    """Returns which cosine components of an image stay, float (H, W): 1 for the share that is kept, at least one.

    Args:
        height: rows of the image.
        width: columns of the image.
        keep: share.
        removed: ``high`` or ``low`` frequencies go.
    """
    rows, columns = torch.arange(height, dtype=torch.float64), torch.arange(width, dtype=torch.float64)
    frequency = ((rows / height).square()[:, None] + (columns / width).square()).flatten()
    order = frequency.argsort(descending=removed == "low", stable=True)
    mask = torch.zeros(height * width)
    mask[order[: kept_count(height, width, keep)]] = 1
    return mask.reshape(height, width)


def kept_count(height: int, width: int, keep: float) -> int:
    """Returns how many cosine components of each colour stay."""
    return max(1, round(keep * height * width))


def information_bound(z: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Returns Σ_j ½·log(1 + v_j/σ²), which bounds the information in features plus noise, in nats an image; a scalar.

    The gradient takes σ² as proportional to the mean variance, so that it has no part along the features' scale.

    Args:
        z: clean features (N, ...), at least two images.
        sigma: standard deviation of the noise, a scalar.
    """
    variance = z.var(0, unbiased=False)
    scale = variance.mean().clamp_min(TINY)
    noise = (sigma.square() / scale.detach()).clamp_min(LEAST_NOISE)
    return torch.log1p(variance / (noise * scale)).sum() / 2
