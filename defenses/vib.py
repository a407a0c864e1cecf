"""MID: a variational information bottleneck on the wire."""

from __future__ import annotations

from collections import OrderedDict

import torch
from pydantic import Field
from torch import nn

from splitaudit.defense import Defense
from splitaudit.errors import Unsupported
from splitaudit.params import Params
from splitaudit.split import Split

from ._feature_axes import channels_of
from ._sampled import divergence, log_variance_of, sampled

START = -5.0
"""Log-variance at the start of training: σ of 0.08, nearly a clean wire."""

RANGE = 10.0
"""Bound of the log-variance on both sides: σ between 0.007 and 148, so that nothing overflows."""


WIDEST = 4096
"""Most channels that are mixed (of a vector: its numbers). Two square layers, their gradients and Adam's two moments take
32 bytes times its square, half a gigabyte here; of a vector of 65,536 numbers they would take 137."""


class VibParams(Params):
    """Parameters of :class:`Vib`."""

    beta: float = Field(
        1e-3, ge=0, description="weight of the information on the wire (nats an image) beside the cross-entropy (nats)"
    )


class Vib(Defense):
    """Sends a sample of a learned Gaussian instead of the features: z' = μ + σ·ε, in training and at inference.

    Loss: CE + β·KL(N(μ, σ²) ‖ N(0, I)), the divergence summed over elements and averaged over images, in nats an image.
    Its mean over images is an upper bound on I(x; z'), so β is what the network pays for a nat of information on the
    wire, whatever the size of the features.

    The edge ends with a layer that gives μ: a 1×1 convolution for maps, a linear layer for vectors and tokens, as many
    channels out as in. μ is therefore the clean feature that attacks and measures know, and the wire is μ plus noise.
    Another such layer, of the device too, gives log σ² from μ; it is bounded to ±10.

    Source: Wang et al. 2021 (MID), the variational bottleneck of Alemi et al. 2017. Departures: it acts on the wire,
    where MID limits the information in the prediction by a bottleneck before the last layer, and the SiftFunnel code puts
    it on the cloud's side of the cut, behind the last block or the pooling (the wire is then undefended); as many
    channels as the features instead of half, with no layer to widen them again on the cloud; log σ² instead of
    softplus(s − 5), and from μ instead of from the layer before it (the same family of functions wherever the μ layer is
    invertible); β is smaller (there 0.003 to 0.1): a wire has many more elements than a last hidden layer.
    """

    Params = VibParams
    version = 1
    source = "Wang et al., AAAI 2021; Alemi et al., ICLR 2017; arXiv 2501.00824, official code"
    claims = {"mse": "up", "mi_upper_nats": "down"}  # noqa: RUF012
    additive = True

    _sent: tuple[torch.Tensor, torch.Tensor] | None = None
    """Features of the last training batch and their divergence, until the loss has been asked for."""

    @property
    def stochastic(self) -> bool:
        return True

    def wrap(self, split: Split) -> Split:
        edge = OrderedDict(split.edge.named_children())
        edge["vib_mean"] = _layer(split.feature_shape())
        return Split(split.info, nn.Sequential(edge), split.cloud)

    def prepare(self, split: Split) -> None:
        self.spread = _layer(split.feature_shape())
        with torch.no_grad():
            self.spread.weight.zero_()
            self.spread.bias.fill_(START)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        sent, self._sent = self._sent, None
        if self.params.beta == 0:
            return None
        return self.params.beta * (sent[1] if sent and sent[0] is z else divergence(z, self.log_variance(z)))

    def expectation(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
        return z

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        unit = torch.empty_like(z).normal_(generator=generator)
        if not (self.training and torch.is_grad_enabled() and self.params.beta > 0):
            self._sent = None
            return z + (self.log_variance(z) / 2).exp() * unit
        # In a training step the loss takes its term from here: apart, their graphs would cost the memory twice.
        sent, nats = sampled(z, self.spread(z), unit, RANGE)
        self._sent = (z, nats)
        return sent

    def log_variance(self, mean: torch.Tensor) -> torch.Tensor:
        """Returns log σ² of the noise added to clean features μ (N, ...), the same shape, between -10 and 10."""
        return log_variance_of(self.spread(mean), RANGE)


def _layer(shape: tuple[int, ...]) -> nn.Conv2d | nn.Linear:
    """Returns a layer that mixes channels: the first axis of maps (C, H, W), the last one of vectors and tokens.

    Raises:
        Unsupported: for more than ``WIDEST`` channels.
    """
    channels = channels_of(shape)
    if channels > WIDEST:
        raise Unsupported(
            f"vib mixes at most {WIDEST:,} channels, got {channels:,} (each number of a vector is one): its layers grow with "
            "the square. Choose a cut with feature maps."
        )
    return nn.Conv2d(channels, channels, 1) if len(shape) == 3 else nn.Linear(channels, channels)
