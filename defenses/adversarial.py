"""Adversarial training against a decoder that is trained alongside."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.nn.inverse import InverseNetwork
from splitaudit.nn.scale import batch_standardised
from splitaudit.nn.similarity import multi_scale_ssim, ssim
from splitaudit.params import Params
from splitaudit.split import Split


class AdversarialParams(Params):
    """Parameters of :class:`Adversarial`."""

    weight: float = Field(1.0, ge=0, description="weight of the decoder's success beside the cross-entropy")
    width: int = Field(16, ge=1, description="channels of the simulated decoder")
    lr: float = Field(2e-3, gt=0, description="learning rate of the simulated decoder (Adam)")
    steps: int = Field(1, ge=1, description="decoder steps per step of the network")
    loss: Literal["explained", "deepobfuscator", "ressfl"] = Field(
        "explained", description="what counts as the decoder's success: share of variance explained, MS-SSIM, or SSIM"
    )
    threshold: float = Field(
        0.5, ge=-1, le=1, description="ressfl only: structural similarity up to which the decoder's success is free"
    )


class Adversarial(Defense):
    """Trains the edge to defeat a decoder, and the decoder to defeat the edge (min–max).

    The decoder D minimises the mean squared error of D(z). The network minimises CE + λ·max(0, 1 − MSE(D(z), x)/V) with V
    the mean squared error of the batch's mean image: the share of the images' variance that D explains. D sees features
    that are standardised per channel by the batch's own mean and deviation, and the gradient passes through both: shifting
    or scaling a channel hides nothing, so the penalty has no gradient that way.

    Other losses, each with the decoder trained on the same measure, averaged over the batch:

    - ``deepobfuscator``: CE − λ·(1 − MS-SSIM(D(z), x)); D minimises 1 − MS-SSIM. It has no end short of a similarity
      of 0: an error beyond that of a constant guess still gains. λ is 10 in the official code, in the last epochs less.
    - ``ressfl``: CE + λ·max(SSIM(D(z), x) − τ, 0); D minimises 1 − SSIM. Published λ 0.3 and τ 0.5.

    Source: the common core of DeepObfuscator (Li et al. 2021) and ResSFL (Li et al. 2022). Departures: by default the
    penalty is normalised and bounded, so that pushing the error beyond that of a constant guess gains nothing, where the
    plain −λ·MSE is unbounded; one decoder, no attribute classifier. From DeepObfuscator also: no term that draws D(z)
    towards a fixed picture of noise, one step for all terms instead of turns, and as many scales of MS-SSIM as the image
    allows. From ResSFL also: windows inside the image only, no epochs in which D learns alone, no bottleneck
    (``bottleneck+adversarial``), no transfer to further clients. From both: D sees standardised features.
    """

    Params = AdversarialParams
    version = 3
    source = "Li et al., IoTDI 2021; Li et al., CVPR 2022; official codes"
    claims = {"mse": "up"}  # noqa: RUF012
    helpers = ("decoder",)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"weight": 0.0}

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 4}

    def prepare(self, split: Split) -> None:
        self.decoder = InverseNetwork(split.feature_shape(), split.info.image_shape, self.params.width, depth=1)
        self._optimizer: torch.optim.Optimizer | None = None

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        if self.params.weight == 0:
            return
        if self._optimizer is None:
            self.decoder.requires_grad_(True)
            self._optimizer = torch.optim.Adam(self.decoder.parameters(), lr=self.params.lr)
        for _ in range(self.params.steps):
            self._optimizer.zero_grad(set_to_none=True)
            self.decoder_loss(self.decoder(batch_standardised(z)), x).backward()
            self._optimizer.step()

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        if self.params.weight == 0:
            return None
        for p in self.decoder.parameters():  # the gradient goes through the decoder, not into it
            p.requires_grad_(False)
        success = self.success(self.decoder(batch_standardised(z)), x)
        for p in self.decoder.parameters():
            p.requires_grad_(True)
        return self.params.weight * success

    def decoder_loss(self, guess: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Returns what the decoder minimises, a scalar, for its guess and the images, each (N, C, H, W)."""
        if self.params.loss == "explained":
            return F.mse_loss(guess, x)
        return 1 - (ssim if self.params.loss == "ressfl" else multi_scale_ssim)(guess, x).mean()

    def success(self, guess: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Returns what the network is punished for, before the weight, a scalar."""
        error = self.decoder_loss(guess, x)
        if self.params.loss == "deepobfuscator":
            return -error
        if self.params.loss == "ressfl":
            return torch.clamp(1 - error - self.params.threshold, min=0)
        variance = (x - x.mean(0, keepdim=True)).square().mean()
        return torch.clamp(1 - error / variance.clamp_min(1e-8), min=0)
