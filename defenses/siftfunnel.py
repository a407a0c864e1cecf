"""SiftFunnel: a narrow, attentive edge trained to carry little about the image."""

from __future__ import annotations

from typing import Any

import torch

from splitaudit.defense import Defense
from splitaudit.nn.dependence import (
    channel_correlation,
    channel_correlation_published,
    distance_correlation,
    distance_correlation_published,
)
from splitaudit.split import Normalize, Split

from ._siftfunnel_designs import DESIGNS
from ._siftfunnel_edge import sift
from ._siftfunnel_losses import relative_activity, smoothed_divergence
from ._siftfunnel_params import SiftFunnelParams


class SiftFunnel(Defense):
    """Replaces the edge by a narrow one with attention, and adds three penalties to a smoothed task loss.

    **Loss**: α·KL(q_s ‖ p) + β·dependence(x̃, z) + γ·redundancy(z) + w·activity(z), x̃ being the normalised input, w 0.03.

    - ``variant: published``: the squared distance correlation as the biased V-statistic (about 0.99 for independent noise
      in a batch of 128), the mean squared correlation between channels with its diagonal (at least 1/C, and lowered by
      dead channels), mean |z| (lowered by shrinking z, which hides nothing).
    - ``variant: corrected``: the bias-corrected distance correlation (about 0 for independent samples; left out of batches
      under 4); the correlation of different channels, corrected for chance, in which a dead channel counts as a copy of
      another; mean |z| over the root mean square of z. A rescaled z has the same loss. Same weights unless given.

    **Edge** (at width 64; other widths in proportion). The cut names the undefended split that the paper's code compares it
    with, also where the funnel edge does the work of deeper layers:

    - ``cnn4`` at ``block2``: block 1, attention, funnel; 12 channels on the wire, H/4 × W/4.
    - ``resnet18`` at ``layer1_block2``: stem, attention, two convolutions of layer 2's shape without residual connection,
      attention, funnel; 6 channels, H/2 × W/2; the cloud goes on at layer 3. The published edge also runs layer 1 and
      throws its result away: ``keep_dead_layer`` does so for comparing costs, it changes no number that is sent.
    - ``vgg16_bn`` at ``conv3_1``: the first two stages (without biases), attention after each, funnel; 4 channels, H/4 × W/4.

    Attention is SE and triplet attention; the funnel a convolution to few channels, BN, ReLU (cnn4: max-pool), then 1×1,
    3×3, SiLU, 1×1, 3×3, 5×5, ReLU; after it SE and CBAM. **Cloud**: two convolutions 3×3 that lift the channels (the
    published module of that name does not up-sample), BN, ReLU, triplet attention, then the backbone's rest. The layers
    inside attention have two or three units as published; they are never narrower, since a single rectified unit that
    starts dead turns the module into a constant.

    **Ablations**: a weight of 0 leaves a term out; ``smooth: 0`` makes the task term a cross-entropy; ``attention: false``
    takes out every attention module; ``funnel: false`` gives back the backbone's own edge up to the cut and its own cloud,
    with attention after the same blocks and on the wide wire. What remains starts from the same weights.

    Source: arXiv 2501.00824, official code (``pv4_classifier_4``, ``rn18_pv4``, ``vgg16_bn_pv4``, ``train_fcloud``).
    Departures: widths are parameters; the layer without effect is left out; the shared training loop is used (published:
    300 epochs of Adam with learning rate 0.002 or 0.01, selected on the test set).
    """

    Params = SiftFunnelParams
    version = 2
    source = "arXiv 2501.00824, official code pv4_classifier_4, rn18_pv4, vgg16_bn_pv4 and train_fcloud"
    claims = {"mse": "up", "mi_upper_nats": "down"}  # noqa: RUF012

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        off = {"smooth": 0.0, "alpha": 1.0, "beta": 0.0, "gamma": 0.0, "activity": 0.0}
        return {**off, "attention": False, "funnel": False}

    @classmethod
    def supports(cls, backbone: str, cut: str) -> str | None:
        if backbone in DESIGNS and DESIGNS[backbone].cut == cut:
            return None
        homes = ", ".join(f"'{name}' cut after '{design.cut}'" for name, design in DESIGNS.items())
        return f"siftfunnel has edges that stand in for {homes}, none for '{backbone}' at '{cut}'"

    def wrap(self, split: Split) -> Split:
        p = self.params
        self.normalize = _normalization(split)
        return sift(split, p.wire_channels, p.attention, p.funnel, p.keep_dead_layer)

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return self.params.alpha * smoothed_divergence(logits, y, self.params.smooth)

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        p = self.params
        corrected = p.variant == "corrected"
        terms: list[torch.Tensor] = []
        if p.activity > 0:
            terms.append(p.activity * (relative_activity(z) if corrected else z.abs().mean()))
        if p.beta > 0 and not (corrected and len(x) < 4):
            dependence = distance_correlation if corrected else distance_correlation_published
            terms.append(p.beta * dependence(self.normalize(x), z))
        if p.gamma > 0:
            terms.append(p.gamma * (channel_correlation if corrected else channel_correlation_published)(z))
        return sum(terms[1:], terms[0]) if terms else None


def _normalization(split: Split) -> Normalize:
    block: Any = split.edge.get_submodule("normalize")
    return Normalize(block.mean, block.std)
