"""PATROL at a given cut: channels of the edge are pruned in training, against a decoder, with a small Lipschitz constant."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import Field

from splitaudit.defense import Course, Defense
from splitaudit.errors import Unsupported
from splitaudit.params import Params
from splitaudit.split import Split

from ._pruned import ChannelMask, channel_sparsity, layers_of, prunable, spectral_norm
from .adversarial import Adversarial, AdversarialParams

START = 0.1
"""Share of the training before the first channel is pruned: activities need some steps to differ."""


class PruningParams(Params):
    """Parameters of :class:`Pruning`."""

    ratio: float = Field(0.5, ge=0, lt=1, description="share of each edge block's channels that is pruned in the end")
    until: float = Field(
        0.6, gt=START, le=1, description="share of the training after which all of them are gone; it starts at 0.1"
    )
    sparsity: float = Field(
        0.1, ge=0, description="weight of the channel sparsity (1/√C to 1 for each block) beside the cross-entropy"
    )
    lipschitz: float = Field(
        1e-3, ge=0, description="weight of the sum of the edge convolutions' spectral norms beside the cross-entropy"
    )
    weight: float = Field(1.0, ge=0, description="weight of the decoder's success beside the cross-entropy")
    width: int = Field(16, ge=1, description="channels of the simulated decoder")
    lr: float = Field(2e-3, gt=0, description="learning rate of the simulated decoder (Adam)")


class Pruning(Defense):
    """Prunes whole channels of the edge while it is trained against a decoder: z_c = 0 for ``ratio`` of the channels c.

    Each block of the edge that gives maps (N, C, H, W) from a convolution ends with a mask of its channels, the last one on
    the wire. A pruned channel is exactly 0 from then on, for every image. At step t of T (first tenth: none; then, up to
    ``until``·T) the least active channels are pruned until ratio·(1 − (1 − τ)³) of them are gone, τ from 0 to 1 in
    between (Zhu and Gupta 2017); the rest of the training adapts to it. A channel's activity is the running standard
    deviation of its values over images and places. At least one channel of a block stays.

    Loss: CE + weight·S + sparsity·Σ_b G_b + lipschitz·Σ_i k_i.

    - S is the success of a decoder that is trained alongside on the pruned features, the share of the images' variance that
      it explains: decoder and penalty of ``adversarial`` (``loss: explained``).
    - G_b = mean_c s_c / √(mean_c s_c²) over the channels c that block b still has, s_c their deviations in the batch: a
      group lasso over channels that does not reward smaller features.
    - k_i is the largest singular value of the i-th convolution's kernel, as a matrix (out, in·k·k), with its batch norm.
      A small one makes features react little to the image, so that inverting them is badly conditioned. On a wire
      without noise an attacker divides by it again: by itself it hides nothing but what is lost to rounding.

    **Cost.** In eval mode convolutions leave out pruned channels, so ``edge_macs`` counts the pruned edge. Not counted: the
    parameters and the bytes on the wire, which are stored and sent as dense tensors, zeros included; and the channels
    between the two convolutions of a residual block, which are not pruned. ``scaled_cost`` builds the network anew, and counts
    it unpruned.

    Source: Ding et al. 2024 (PATROL): an edge pruned during training, Lipschitz regularisation Σ α_i·k_i, and adversarial
    reconstruction training. **What is not kept**: PATROL spends what pruning saves on more layers at the edge, and says
    that their features are the more specific ones. Here defenses are compared at one cut; choose a deeper cut in
    the suite to get that, and compare the costs. Departures: the paper's formulas were not at hand but for that sum, so
    activity as the criterion, the schedule, the group lasso over activities instead of weights, one α for all layers, and
    the kernel's singular value with its norm are choices of this suite; the decoder's success is normalised and bounded,
    as in ``adversarial``; layers on the edge that are no convolutions stay as they are, a vector on the wire too.
    """

    Params = PruningParams
    version = 2
    source = "Ding et al., WACV 2024, arXiv 2307.10981; schedule of Zhu and Gupta 2017, arXiv 1710.01878"
    claims = {"mse": "up"}  # noqa: RUF012
    helpers = ("opponent.decoder",)

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"ratio": 0.0, "sparsity": 0.0, "lipschitz": 0.0, "weight": 0.0}

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 4}

    def wrap(self, split: Split) -> Split:
        if self.params.ratio == 0 and self.params.sparsity == 0:
            return split
        split, masks = prunable(split)
        if not masks:
            raise Unsupported(
                f"pruning needs convolutions on the edge, found none up to '{split.info.cut}' of backbone "
                f"'{split.info.backbone}'. Choose a later cut."
            )
        return split

    def prepare(self, split: Split) -> None:
        # In tuples: these modules stay the edge's.
        self._masks = tuple(m for m in split.edge.modules() if isinstance(m, ChannelMask))
        self._layers = tuple(layers_of(split.edge))
        if not self._masks and (self.params.ratio > 0 or self.params.sparsity > 0):
            raise Unsupported("pruning: the defense behind it replaces the edge's blocks. Put pruning last.")
        given = {"weight": self.params.weight, "width": self.params.width, "lr": self.params.lr}
        self.opponent = Adversarial(AdversarialParams(**given))
        self.opponent.prepare(split)
        self._step, self._steps = 0, 0

    @contextmanager
    def during(self, course: Course) -> Iterator[torch.optim.Optimizer]:
        self._step, self._steps = 0, course.steps
        yield course.optimizer

    def train_helpers(self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor) -> None:
        self.opponent.train_helpers(x, z, y)
        if self._steps > 0:
            self._step += 1
            self._prune(pruned_share(self._step / self._steps, self.params.until))

    def extra_loss(
        self, x: torch.Tensor, z: torch.Tensor, y: torch.Tensor, logits: torch.Tensor
    ) -> torch.Tensor | None:
        deviations = [d for d in (m.released() for m in self._masks) if d is not None]
        terms = [self.opponent.extra_loss(x, z, y, logits)]
        if self.params.sparsity > 0 and deviations:
            terms.append(self.params.sparsity * torch.stack([channel_sparsity(d) for d in deviations]).sum())
        if self.params.lipschitz > 0 and self._layers:
            norms = torch.stack([spectral_norm(conv, norm) for conv, norm in self._layers])
            terms.append(self.params.lipschitz * norms.sum())
        present = [t for t in terms if t is not None]
        return torch.stack(present).sum() if present else None

    def calibrate(self, features: Callable[[], Iterable[torch.Tensor]]) -> None:
        # Where weights of an earlier epoch are kept, or the training was cut short, the rest goes now.
        self._prune(1.0)

    def _prune(self, share: float) -> None:
        """Prunes this share of what is to be pruned in the end."""
        for mask in self._masks:
            mask.prune(int(int(self.params.ratio * len(mask.mask)) * share + 1e-9))


def pruned_share(place: float, until: float) -> float:
    """Returns which share of the channels to be pruned is gone at a place of the training, both from 0 to 1.

    Args:
        place: share of the training's steps that are done.
        until: the place from which on all are gone.
    """
    through = min(1.0, max(0.0, (place - START) / (until - START)))
    return 1 - (1 - through) ** 3
