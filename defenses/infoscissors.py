"""InfoScissors: less information about the image in the features, by the CLUB estimate."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.nn.club import gaussian_club, gaussian_log_likelihood
from splitaudit.nn.inverse import InverseNetwork
from splitaudit.nn.scale import batch_standardised
from splitaudit.params import Params
from splitaudit.split import Split

LOWEST, HIGHEST = -6.0, 0.0
"""Bounds of log σ² of q: σ between 0.05 and 1 for images in [0, 1], which also bounds the gradient."""


class InfoScissorsParams(Params):
    """Parameters of :class:`InfoScissors`."""

    weight: float = Field(
        0.1,
        ge=0,
        description="weight of the estimated information (nats a pixel value) beside the cross-entropy (nats)",
    )
    width: int = Field(16, ge=1, description="channels of the network that gives q(image | features)")
    lr: float = Field(2e-3, gt=0, description="learning rate of that network (Adam)")
    steps: int = Field(1, ge=1, description="steps of that network per step of the classifier")


class InfoScissors(Defense):
    """Adds λ·max(0, CLUB(x; z))/D to the cross-entropy, D the number of pixel values of an image.

    CLUB = mean_i log q(x_i | z_i) − mean_ij log q(x_j | z_i) over the batch. q(x | z) is a Gaussian with diagonal
    covariance: a network of the defense's own maps features (N, ...) to a mean in [0, 1] and to log σ² in [-6, 0] for
    each pixel value (N, C, H, W), and is trained alongside by maximum likelihood. It is not stored. The features it
    reads are standardised per channel by the batch's own mean and deviation, with the gradient through both: shifting or
    scaling a channel hides nothing.

    What it is not: a bound on what the wire tells. The estimate bounds I(x; z) from above only where q is exact, and for
    features without noise I(x; z) has no upper bound at all. ``noise+infoscissors`` measures the noisy wire.

    Source: Duan et al. 2023 and 2024 (PrivaScissors, then InfoScissors): CE plus weighted CLUB estimates; estimator of
    Cheng et al. 2020, equation 16. No official code was found. Departures: the term that protects the prediction is left
    out: it limits what the cloud's output tells of the label, which the cloud here gives by design, and nothing of it
    concerns the wire. Choices where the source leaves some or was not at hand: the direction q(x | z), a simulated
    attacker; the mean over all pairs of the batch instead of drawn ones; the estimate is cut off at 0, below which q is
    only deceived (with a fixed q it falls without limit); learned, bounded variances; a pixel value as the unit, so that
    λ need not follow the image's size; standardised features.
    """

    Params = InfoScissorsParams
    version = 1
    source = "Duan et al. 2023, arXiv 2306.07973, and NeurIPS 2024; Cheng et al., ICML 2020, equation 16"
    claims = {"mse": "up", "mi_upper_nats": "down"}  # noqa: RUF012
    helpers = ("network",)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"weight": 0.0}

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 4}

    def prepare(self, split: Split) -> None:
        channels, height, width = split.info.image_shape
        shape = (2 * channels, height, width)  # a mean and a variance for each pixel value
        self.network = InverseNetwork(split.feature_shape(), shape, self.params.width, depth=1)
        self._optimizer: torch.optim.Optimizer | None = None

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        if self.params.weight == 0:
            return
        if self._optimizer is None:
            self.network.requires_grad_(True)
            self._optimizer = torch.optim.Adam(self.network.parameters(), lr=self.params.lr)
        for _ in range(self.params.steps):
            (-gaussian_log_likelihood(x, *self.guessed(z)) / x[0].numel()).backward()
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        if self.params.weight == 0:
            return None
        self.network.requires_grad_(False)  # the gradient goes through the network, not into it
        information = gaussian_club(x, *self.guessed(z)) / x[0].numel()
        self.network.requires_grad_(True)
        return self.params.weight * information.clamp_min(0)

    def guessed(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns the mean and the log-variance of q(x | z) for features z (N, ...), each (N, C, H, W)."""
        mean, place = self.network(batch_standardised(z)).chunk(2, dim=1)
        return mean, LOWEST + (HIGHEST - LOWEST) * place
