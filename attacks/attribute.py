"""Reading a class or another attribute of private images from their features, without rebuilding the image."""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field

from splitaudit.attack import LabelAttack, Work
from splitaudit.data.base import LABEL
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.seeds import seeded_globally
from splitaudit.view import View

from ._decoding import macs
from ._readers import Reader, Schedule, scores_of, train_reader
from ._ridges import PairRidge


class AttributeParams(Params):
    """Parameters of :class:`Attribute`."""

    attribute: str = Field("label", description="what is read: label (the class) or an attribute of the dataset")
    reader: Literal["linear", "network"] = Field(
        "network", description="linear: ridge regression on one-hot values, in closed form; network: a small classifier"
    )
    width: int = Field(64, ge=1, description="channels of the network's first convolution")
    epochs: int = Field(12, ge=1, description="passes over the auxiliary images and their mirror images")
    batch: int = Field(64, ge=2, description="features per step")
    lr: float = Field(3e-3, gt=0, description="peak learning rate (AdamW, one cycle)")
    flips: bool | None = Field(
        None,
        description="also query the mirrored auxiliary images; null: for the class alone, since an attribute may tell left "
        "from right",
    )


class Attribute(LabelAttack):
    """Trains a reader on pairs of *defended* features and known values of auxiliary images, and applies it.

    The features' random part is drawn anew at every step; of several received draws the average is read, and the reader
    is trained on averages of as many. The weights (or the penalty) are the best on ``aux_val``. ``converged``: half the budget
    leaves at most 5 % (and 0.01 of the best constant guess's) more cross-entropy there.

    The class is what the cloud is to find out, so to read it is no breach where the cloud is the adversary; it is the
    yardstick beside which another attribute stands.

    Source: attribute inference from representations (Song and Shmatikov, ICLR 2020, *Overlearning reveals sensitive
    attributes*). Departures: any shape of features; fresh draws of random defenses.
    """

    Params = AttributeParams
    version = 3
    source = "Song and Shmatikov, ICLR 2020"
    requires = AdversaryKnowledge(edge="query", aux="same", labels=True)
    uses_draws = True

    def has_fit(self) -> bool:
        return self.params.reader == "network"

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        p = self.params
        pairs, val = view.pairs("train", flips=self._flips), view.pairs("val")
        known, held_out, count = values_of(view, self.attribute, 2 if self._flips else 1)
        reader = self._network(view, count)
        sample = torch.arange(min(len(pairs), 2048), device=view.device)
        reader.set_scale(pairs.batch(sample)[1])
        order = torch.Generator().manual_seed(view.seed_for("attribute batches"))
        read = train_reader(
            reader,
            lambda index: (pairs.batch(index)[1], known[index]),
            len(pairs),
            (val.batch(torch.arange(len(val), device=view.device))[1], held_out[: len(val)]),
            Schedule(p.epochs, p.batch, p.lr),
            order,
            view.passes(len(pairs), 2 if self._flips else 1),
        )
        for epoch, loss in read.curve:
            view.log("aux_val_cross_entropy", epoch, loss)
        view.note(
            steps=read.steps,
            aux_val_accuracy=read.accuracy,
            aux_val_cross_entropy=read.loss,
            **read.judged(),
        )
        return read.state

    def infer(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        p = self.params
        known, held_out, count = values_of(view, self.attribute, 2 if self._flips else 1)
        if p.reader == "linear":
            pairs, val = view.pairs("train", flips=self._flips), view.pairs("val")
            one_hot = (F.one_hot(v, count).float() for v in (known, held_out))
            ridge = PairRidge(view, pairs, val, *one_hot)
            view.note(penalty=ridge.penalty)
            return ridge(view.average)
        reader = self._network(view, count)
        reader.load_state_dict(fitted)
        return scores_of(reader, view.average)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        copies = 2 if self._flips else 1
        if self.params.reader == "linear":
            return Work(edge_passes=2 * copies * n_aux, gflop=50)
        forward = 2 * macs(Reader(feature_shape, 2, self.params.width), feature_shape) / 1e9
        return Work(edge_passes=copies * n_aux, gflop=3 * forward * copies * n_aux * 1.1 * self.params.epochs)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 16, "epochs": 15, "batch": 16}

    @property
    def _flips(self) -> bool:
        return mirrored(self.params.flips, self.attribute)

    def _network(self, view: View, count: int) -> Reader:
        with seeded_globally(view.seed_for("attribute init")):
            return Reader(view.feature_shape, count, self.params.width).to(view.device)


def mirrored(flips: bool | None, attribute: str) -> bool:
    """Says whether mirrored images are taken to have the value of the image: unless said, only its class."""
    return attribute == LABEL if flips is None else flips


def values_of(view: View, attribute: str, copies: int = 1) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Returns the values of an attribute on ``aux_train`` (repeated for mirrored copies) and ``aux_val``, and their number.

    A value that no auxiliary image has is never read.
    """
    train, val = (part.known(attribute).to(view.device) for part in (view.aux_train, view.aux_val))
    return train.repeat(copies), val, int(torch.cat([train, val]).max()) + 1
