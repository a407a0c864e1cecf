"""Loss terms that are SiftFunnel's own; measures of dependence that others share are in ``splitaudit.nn.dependence``."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def smoothed_divergence(logits: torch.Tensor, y: torch.Tensor, smooth: float) -> torch.Tensor:
    """Returns KL(q ‖ p), batch mean in nats; q has 1 - s on the true class and s/(K - 1) on every other.

    With s = 0 it is the cross-entropy.

    Source: arXiv 2501.00824, official code (``L_kl``). With K - 1 instead of K this is not torch's label smoothing.
    """
    if smooth == 0:
        return F.cross_entropy(logits, y)
    classes = logits.shape[1]
    q = torch.full_like(logits, smooth / (classes - 1)).scatter_(1, y[:, None], 1 - smooth)
    return F.kl_div(logits.log_softmax(1), q, reduction="batchmean")


def relative_activity(z: torch.Tensor) -> torch.Tensor:
    """Returns the mean over images of mean |z| / root mean square of z: how evenly activity is spread.

    1 where all elements are equally large, 0.8 for Gaussian features, near √a where only a fraction a is active and
    equally large; 0 for an image whose features are all zero. Unlike mean |z| it cannot be lowered by making features
    smaller, which hides nothing.

    Args:
        z: (N, ...).
    """
    flat = z.flatten(1)
    # Relative to the greatest element, so that squares of tiny features do not underflow.
    greatest = flat.detach().abs().amax(1, keepdim=True)
    flat = flat / torch.where(greatest > 0, greatest, 1.0)
    square = flat.square().mean(1)
    return (flat.abs().mean(1) / torch.where(square > 0, square, 1.0).sqrt()).mean()
