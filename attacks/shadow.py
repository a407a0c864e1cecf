"""Query-free inversion: the attacker trains a stand-in edge in front of the cloud half that it knows, and inverts that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import nn

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.scale import channel_axes
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.rising import still_rising
from splitaudit.split import SplitModel
from splitaudit.view import View

from ._cycle import one_cycle, shuffled
from ._decoding import Trained, decode, macs, network_of, train_inverse
from ._explained import unexplained
from ._stand_in import trainable, training
from .decoder import Decoder, DecoderParams

ROWS = 64
"""Fewest rows of channels whose statistics are matched."""

SEEN = 16
"""Fewest received images that show a channel to be dead."""

MATCHED = 512
"""Received images, at most, whose statistics the stand-in's features are pulled to."""


class ShadowParams(Params):
    """Parameters of :class:`Shadow`."""

    epochs: int = Field(15, ge=1, description="passes over the auxiliary images while the stand-in edge is trained")
    batch: int = Field(64, ge=2, description="images per step")
    lr: float = Field(2e-3, gt=0, description="peak learning rate of the stand-in edge (AdamW, one cycle)")
    match: float = Field(
        1.0,
        ge=0,
        description="weight of the distance between the statistics of the stand-in's features and of the received ones",
    )
    restarts: int = Field(
        3,
        ge=1,
        description="stand-ins from weights of their own, a decoder for each; the one that explains best is kept",
    )
    decoder: DecoderParams = Field(
        DecoderParams(), description="the decoder that is trained on the stand-in's features"
    )


@dataclass(frozen=True)
class StandIn:
    """An edge of the attacker's own.

    Attributes:
        model: the trained stand-in in front of the cloud.
        losses: cross-entropy of each epoch of its training; empty for an edge without weights, which is known by its
            architecture.
        accuracies: share of ``aux_val`` that the cloud classifies rightly by its features, after each epoch.
    """

    model: SplitModel
    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()

    def rising(self, n: int) -> bool:
        """Says whether the accuracy over n images was still rising when the training ended."""
        return bool(self.accuracies) and still_rising(list(self.accuracies), n)


@dataclass(frozen=True)
class Restart:
    """What came of one stand-in.

    Attributes:
        stand_in: the edge.
        decoder: trained on its features.
        unexplained: share of the received features that the guess leaves unexplained; infinite if that is no number.
        guess: (N, C, H, W).
    """

    stand_in: StandIn
    decoder: Trained
    unexplained: float
    guess: torch.Tensor

    def curves(self) -> dict[str, tuple[float, ...]]:
        """Returns name to the values of each epoch."""
        errors = tuple(error for _, error in self.decoder.curve)
        curves = {"stand_in_loss": self.stand_in.losses, "stand_in_accuracy": self.stand_in.accuracies}
        return {**curves, "stand_in_aux_val_mse": errors}


def _of_all(found: Sequence[Restart], kept: torch.Tensor) -> dict[str, list[float | None]]:
    """Returns what is to be known of every restart: how each did, and how far its guesses are from those that are kept.

    Guesses that are far apart say that the cloud leaves open which one is right.
    """
    return {
        "unexplained_by": [_figure(f.unexplained) for f in found],
        "stand_in_accuracy_by": [f.stand_in.accuracies[-1] if f.stand_in.accuracies else None for f in found],
        "stand_in_aux_val_mse_by": [_figure(f.decoder.error) for f in found],
        "apart_by": [_figure(float((f.guess - kept).square().mean())) for f in found],
    }


def _figure(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


class Shadow(Attack):
    """Trains an edge of the public architecture so that the frozen cloud classifies auxiliary images by its features.

    The stand-in starts from weights of its own; the public defense acts on its wire as the target's does (with what it has
    fitted or learned there), with fresh draws; channels that are zero in all that was received, as those that a defense has
    pruned from the edge are, are zero in the stand-in, too. Beside the cross entropy its features are pulled to the received
    ones, about which no image is known: mean, standard deviation of each channel, and the correlations between channels. Then
    a decoder is trained on the stand-in's (defended) features of the auxiliary images and applied to the received ones.

    A cloud hardly tells an image from one with its contrast turned over, so that a stand-in may see everything the other way
    round than the edge does, and the pictures that come of it are worse than none. Several stand-ins are trained from different
    weights, each with its decoder, and the one is kept whose guesses have, by the stand-in, the features that are nearest to
    those received (``unexplained``, see :func:`splitaudit.attacks._explained.unexplained`). That sorts out a stand-in that is
    turned over as far as contrasts of images are lopsided: where an image is as likely as its negative, the circle from
    features to guess to features closes for both, and chance decides. Nor does it find the best of those that are not turned
    over; the cloud's accuracy and the loss on ``aux_val`` tell neither.
    How far the guesses are apart is recorded (``apart_by``).

    ``converged``: the decoder by the rule of :class:`splitaudit.attacks.decoder.Decoder`, and the cloud's accuracy on the
    stand-in's features of ``aux_val`` no longer rises (``stand_in_rising``, the rule of the targets' own training). The error
    on the received features is beyond it: nobody without the edge knows it.

    No query is made. What comes out depends on how far the cloud pins the features down: a deeper cut leaves less to it.

    Source: the query-free attack of He et al., ACSAC 2019 (a shadow network, inverted). Departures: the statistics of the
    received features; restarts; a decoder instead of optimisation through the shadow, which would trust its gradients too much.
    """

    Params = ShadowParams
    version = 7
    source = "He et al., ACSAC 2019, query-free attack"
    requires = AdversaryKnowledge(cloud=True, aux="other", labels=True)
    uses = AdversaryKnowledge(cloud=True, aux="same", labels=True)
    uses_draws = True
    expected = Expected(beats_prior=False)

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        found = [self._restart(view, f" {number}" if number else "") for number in range(self.params.restarts)]
        kept = min(range(len(found)), key=lambda n: found[n].unexplained)
        best = found[kept]
        if not math.isfinite(best.unexplained):
            raise ValueError("no stand-in came out whose guess is finite: a lower `lr` may help")
        for curve, values in best.curves().items():
            for epoch, value in enumerate(values, 1):
                view.log(curve, epoch, value)
        if best.stand_in.accuracies:
            view.note(stand_in_accuracy=best.stand_in.accuracies[-1])
        rising = best.stand_in.rising(len(view.aux_val))
        judged = best.decoder.judged(to_float(view.aux_val.images.to(view.device)))
        judged["converged"] = judged["converged"] and not rising
        view.note(
            stand_in_aux_val_mse=best.decoder.error,
            stand_in_rising=rising,
            unexplained=best.unexplained,
            restart=kept,
            **_of_all(found, best.guess),
            **judged,
        )
        return best.guess

    def _restart(self, view: View, number: str) -> Restart:
        """Trains a stand-in and its decoder.

        Args:
            view: what the attacker sees.
            number: ends the names of all draws, so that each restart has its own.
        """
        stand_in = self._stand_in(view, number)
        images, val = view.aux_train.images.to(view.device), view.aux_val.images.to(view.device)
        if self.params.decoder.flips:
            images = torch.cat([images, images.flip(-1)])
        draws = view.generator(f"shadow decoder draws{number}")

        alive = _alive(view)

        def features(x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                clean = stand_in.model.clean(x)
                sent = [alive * stand_in.model.protect(clean, draws) for _ in range(view.knowledge.draws)]
                return view.averaged(sent)

        def batch(index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            x = to_float(images[index])
            return x, features(x)

        # Drawn once: a network may only be compared with itself on the same pairs.
        pairs = to_float(val), torch.cat([features(to_float(b)) for b in val.split(256)])
        p = self.params.decoder
        network = network_of(view, p.shape)
        network.set_scale(batch(torch.arange(min(len(images), 2048), device=view.device))[1])
        order = torch.Generator().manual_seed(view.seed_for(f"shadow decoder batches{number}"))
        passes = view.passes(len(images), 2 if p.flips else 1)
        decoder = train_inverse(network, batch, len(images), pairs, p, order, passes)
        guess = decode(view, p.shape, decoder.state)
        left = unexplained(view, stand_in.model, guess, view.generator(f"shadow explained{number}"), alive)
        finite = math.isfinite(left) and math.isfinite(decoder.error)
        return Restart(stand_in, decoder, left if finite else math.inf, guess)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        p = self.params.decoder
        copies = 2 if p.flips else 1
        forward = 2 * macs(p.shape.network(feature_shape, image_shape), feature_shape) / 1e9
        passes = 4 * n_aux * self.params.epochs + copies * n_aux * p.epochs  # the cloud costs about as much as the edge
        gflop = 3 * forward * copies * n_aux * 1.1 * p.epochs
        return Work(edge_passes=2 * passes * self.params.restarts, gflop=gflop * self.params.restarts)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"epochs": 2, "batch": 16, "restarts": 1, "decoder": Decoder.cheap()}

    def _stand_in(self, view: View, number: str) -> StandIn:
        """Returns an edge of the attacker's own, trained in front of the frozen cloud."""
        model, cloud = view.untrained(f"shadow{number}"), view.cloud
        images, labels = view.aux_train.images.to(view.device), view.aux_train.labels.to(view.device)
        edge = trainable(model)
        if not edge:
            return StandIn(model.eval())
        passes, alive = view.passes(len(images)), _alive(view)
        optimizer, rate = one_cycle(edge, self.params.lr, len(images), self.params.batch, self.params.epochs * passes)
        order = torch.Generator().manual_seed(view.seed_for(f"shadow batches{number}"))
        draws, mirror = view.generator(f"shadow wire{number}"), view.generator(f"shadow mirror{number}")
        received = _statistics(view.draws[:MATCHED, 0])
        # A handful of rows has no statistics to speak of, and a spread of next to nothing would drown the labels.
        match = self.params.match if _rows(view.draws[:MATCHED, 0]) >= ROWS else 0.0
        losses: list[float] = []
        accuracies: list[float] = []
        for _ in range(self.params.epochs):
            training(model)
            total = 0.0
            for index in shuffled(len(images), self.params.batch, passes, order):
                x, y = to_float(images[index.to(view.device)]), labels[index.to(view.device)]
                flip = torch.rand(len(x), generator=mirror, device=view.device) < 0.5
                x = torch.where(flip[:, None, None, None], x.flip(-1), x)
                z = alive * model.protect(model.clean(x), draws)
                loss = F.cross_entropy(cloud(z), y)
                total += float(loss.detach()) * len(x) / (passes * len(images))
                if match > 0 and len(x) > 1:
                    loss = loss + match * _distance(_statistics(z), received)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                rate.step()
            losses.append(total)
            accuracies.append(_accuracy(view, model.eval(), cloud, alive))
        return StandIn(model.requires_grad_(False), tuple(losses), tuple(accuracies))


def _alive(view: View) -> torch.Tensor:
    """Returns 0 for channels (numbers of a vector) that are zero in all that was received and 1 for others; it broadcasts.

    Of a handful of images nothing is said to be dead.
    """
    received = view.draws[:, 0]
    axes, shape = channel_axes(received)
    if len(received) < SEEN or _rows(received) < ROWS:
        return torch.ones(shape, device=view.device)
    shown = (view.draws != 0).any(1)
    for axis in axes:
        shown = shown.any(axis, keepdim=True)
    return shown.to(received.dtype)


def _accuracy(view: View, model: SplitModel, cloud: nn.Module, alive: torch.Tensor) -> float:
    """Returns the share of the validation images that a cloud classifies rightly by the features of a stand-in."""
    draws, right = view.generator("shadow held-out draws"), 0
    images, labels = view.aux_val.images.to(view.device), view.aux_val.labels.to(view.device)
    with torch.no_grad():
        for x, y in zip(images.split(256), labels.split(256), strict=True):
            right += int((cloud(alive * model.protect(model.clean(to_float(x)), draws)).argmax(1) == y).sum())
    return right / max(1, len(images))


Statistics = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _rows(z: torch.Tensor) -> int:
    """Returns how many rows of channels features have."""
    axes, _ = channel_axes(z)
    return math.prod(z.shape[a] for a in axes)


def _statistics(z: torch.Tensor) -> Statistics:
    """Returns mean, standard deviation (each (C,)) and correlation (C, C) of the channels; at most 256 have the last."""
    axes, _ = channel_axes(z)
    rows = z.movedim(next(a for a in range(z.ndim) if a not in axes), -1).flatten(0, -2)
    mean = rows.mean(0)
    centred = rows - mean
    std = (centred.square().mean(0) + 1e-12).sqrt()
    unit = (centred / std)[:, :256]
    return mean, std, unit.T @ unit / len(unit)


def _distance(own: Statistics, received: Statistics) -> torch.Tensor:
    """Returns how far statistics are from the received ones, in units of these, so that no scale counts."""
    size = received[1].square().mean().sqrt().clamp_min(1e-12)
    mean = ((own[0] - received[0]) / size).square().mean()
    std = ((own[1] - received[1]) / size).square().mean()
    return mean + std + (own[2] - received[2]).square().mean()
