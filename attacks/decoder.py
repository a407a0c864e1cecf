"""Decoder-based inversion: a network trained to map features back to images."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.inverse import InverseNetwork
from splitaudit.params import Params
from splitaudit.view import View

from ._decoding import decode, macs, network_of, settled, train_inverse


class DecoderParams(Params):
    """Parameters of :class:`Decoder`."""

    width: int = Field(64, ge=1, description="channels of the inverse network at the features' resolution")
    depth: int = Field(2, ge=0, description="residual blocks at the features' resolution")
    epochs: int = Field(10, ge=1, description="passes over the auxiliary images and their mirror images")
    batch: int = Field(64, ge=1, description="pairs per step")
    lr: float = Field(3e-3, gt=0, description="peak learning rate (AdamW, one cycle)")
    flips: bool = Field(True, description="also query the mirrored auxiliary images")


class Decoder(Attack):
    """Trains an inverse network on pairs of auxiliary images and *defended* features and applies it.

    The features' random part is drawn anew at every step, so the network learns the posterior mean under the defense's
    randomness; of several received draws it decodes the average, and is trained on averages of as many. The weights kept are
    the best on ``aux_val``, on draws that are fixed once.

    Source: the inverse network of He et al. 2019 (black-box inversion). Departures: residual blocks, AdamW with one
    cycle, built from the feature shape; selection on the attacker's own validation images, never on private ones (which
    SIMBA, the SiftFunnel code, CEM and ResSFL do).
    """

    Params = DecoderParams
    version = 1
    source = "He et al., ACSAC 2019"
    requires = AdversaryKnowledge(edge="query", aux="other")
    uses = AdversaryKnowledge(edge="query", aux="same")
    uses_draws = True
    expected = Expected(identity_mse=2e-3)

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        network = network_of(view, self.params.width, self.params.depth)
        data, val = view.pairs("train", flips=self.params.flips), view.pairs("val")
        sample = torch.arange(min(len(data), 2048), device=view.device)
        network.set_scale(data.batch(sample)[1])
        held_out = val.batch(torch.arange(len(val), device=view.device))
        order = torch.Generator().manual_seed(view.seed_for("decoder batches"))
        trained = train_inverse(network, data.batch, len(data), held_out, self.params, order)
        for epoch, error in trained.curve:
            view.log("aux_val_mse", epoch, error)
        view.note(steps=trained.steps, aux_val_mse=trained.error, converged=settled(trained.curve))
        return trained.state

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return decode(view, self.params.width, self.params.depth, fitted)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        copies = 2 if self.params.flips else 1
        network = InverseNetwork(feature_shape, image_shape, self.params.width, self.params.depth)
        forward = 2 * macs(network, feature_shape) / 1e9
        return Work(edge_passes=copies * n_aux, gflop=3 * forward * copies * n_aux * self.params.epochs)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 32, "depth": 1, "epochs": 15, "batch": 16}
