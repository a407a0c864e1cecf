"""Label smoothing with a positive or a negative factor."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field

from splitaudit.defense import Defense
from splitaudit.params import Params


class LabelSmoothingParams(Params):
    """Parameters of :class:`LabelSmoothing`."""

    alpha: float = Field(
        -0.05,
        gt=-1,
        lt=1,
        description="smoothing factor α: weight of the uniform labels; negative ones are the defense",
    )
    warmup: bool = Field(
        True, description="a negative α grows with the mean probability of the true class, as the network learns"
    )
    floor: float = Field(
        20.0,
        gt=0,
        description="nats: with a negative α, a wrong class whose -log probability exceeds this is pushed no further",
    )


class LabelSmoothing(Defense):
    """Replaces the one-hot labels by (1 − α)·one-hot + α/K in the cross-entropy, α positive or negative.

    With -log p_k = n_k the loss of an image of class y is (1 − α)·n_y + (α/K)·Σ_k n_k, averaged over the batch. A positive α
    is the usual label smoothing (torch's ``label_smoothing``). A negative one drives the wrong classes' probabilities to
    zero, all alike, beyond what the task needs.

    Source: Struppek et al. 2024, whose finding concerns attacks that rebuild a typical image of a class from
    the whole network: positive factors help these, negative ones hinder them. **That is another attack than inverting
    features**: nothing here acts on the edge's features but through the task, so that the effect on split inference is an
    open question, which this suite measures. Departures, for α < 0 only:

    - The loss has no lower bound: each n_k, k ≠ y, pays for growing, for ever. The official code adds no bound; it lives on
      its schedule and on a learning rate that falls. Here n_k counts up to ``floor`` in the sum and has no gradient
      beyond, so that the loss is at least α·floor and logits stop growing. The first term, which pulls a misclassified
      image back, has no limit.
    - The schedule: the official code trains with α = 0 for the first half of 100 epochs, raises α to half of its value in
      the next quarter and has all of it in the last. The loss does not know the epoch here, and 12 epochs have no room for
      three phases, so α is multiplied by the mean probability of the true class over the batch, a number without
      gradient: about 1/K at the start, near 1 once the network fits its images. ``warmup: false`` leaves α as it is.
    """

    Params = LabelSmoothingParams
    version = 1
    source = "Struppek et al., ICLR 2024, soft labels; official code train_model.py (schedule)"

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"alpha": 0.0}

    def task_loss(self, logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        alpha = self.params.alpha
        if alpha >= 0:
            return F.cross_entropy(logits, y, label_smoothing=alpha)
        each = -logits.log_softmax(1)
        true = each.gather(1, y[:, None])
        weight = alpha * (-true).exp().mean().detach() if self.params.warmup else torch.full_like(each[0, 0], alpha)
        smooth = each.clamp_max(self.params.floor).mean(1)
        return ((1 - weight) * true[:, 0] + weight * smooth).mean()
