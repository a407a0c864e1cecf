"""Decoder-based inversion: a network trained to map features back to images."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field

from splitaudit.attack import INVERTIBLE, Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.view import View

from ._decoding import Shape, decode, macs, network_of, train_inverse


class DecoderParams(Params):
    """Parameters of :class:`Decoder`."""

    size: Literal["small", "base", "large"] = Field(
        "base",
        description="capacity of the inverse network: 32 channels at the features' resolution and one residual block; 64 and "
        "two; 128, four and self-attention",
    )
    width: int | None = Field(
        None,
        ge=1,
        description="channels at the features' resolution; null: as size says, and (but for small) more where those would hold "
        "less than a quarter of the numbers of the features and of the image",
    )
    depth: int | None = Field(None, ge=0, description="residual blocks there; null: as size says")
    skip: bool = Field(False, description="adds a learned linear map from the features to the image")
    loss: Literal["mse", "l1", "ssim"] = Field(
        "mse", description="what is minimised; ssim: the squared error plus 0.02 · (1 − SSIM)"
    )
    epochs: int = Field(
        9,
        ge=1,
        description="passes over the auxiliary images and their mirror images; where a level grants fewer images or queries as "
        "many more, for the same number of steps",
    )
    batch: int = Field(64, ge=1, description="pairs per step")
    lr: float = Field(3e-3, gt=0, description="peak learning rate (AdamW, one cycle)")
    flips: bool = Field(True, description="also query the mirrored auxiliary images")

    @property
    def shape(self) -> Shape:
        """The inverse network that the parameters describe."""
        width, depth = {"small": (32, 1), "base": (64, 2), "large": (128, 4)}[self.size]
        depth = depth if self.depth is None else self.depth
        return Shape(
            self.width or width,
            depth,
            self.size == "large",
            self.skip,
            grows=self.width is None and self.size != "small",
        )


class Decoder(Attack):
    """Trains an inverse network on pairs of auxiliary images and *defended* features and applies it.

    The features' random part is drawn anew at every step, so the network learns the posterior mean under the defense's
    randomness; of several received draws it decodes the average, and is trained on averages of as many. The weights kept are
    the best on ``aux_val``, on draws that are fixed once. ``converged``: half the budget leaves at most 5 % (and 0.01 of
    the leakage score) more error on ``aux_val``, or at most 0.002 of the leakage score.

    Source: the inverse network of He et al. 2019 (black-box inversion). Departures: residual blocks, AdamW with one
    cycle, built from the feature shape; selection on the attacker's own validation images, never on private ones (which
    SIMBA, the SiftFunnel code, CEM and ResSFL do).
    """

    Params = DecoderParams
    version = 3
    source = "He et al., ACSAC 2019"
    requires = AdversaryKnowledge(edge="query", aux="other")
    uses = AdversaryKnowledge(edge="query", aux="same")
    uses_draws = True
    search = {"lr": (2e-3, 3e-3, 6e-3), "size": ("base", "large"), "skip": (False, True)}  # noqa: RUF012
    expected = Expected(
        control_mse=dict.fromkeys(INVERTIBLE, 1e-3),
        # Vectors lose their places: only a linear map of all numbers to all pixels puts each back within nine epochs.
        control_params={"linear": {"skip": True}},
    )

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        network = network_of(view, self.params.shape)
        data, val = view.pairs("train", flips=self.params.flips), view.pairs("val")
        sample = torch.arange(min(len(data), 2048), device=view.device)
        network.set_scale(data.batch(sample)[1])
        held_out = val.batch(torch.arange(len(val), device=view.device))
        order = torch.Generator().manual_seed(view.seed_for("decoder batches"))
        passes = view.passes(len(data), 2 if self.params.flips else 1)
        trained = train_inverse(network, data.batch, len(data), held_out, self.params, order, passes)
        if trained.error == float("inf"):
            raise ValueError("the error on own images was not finite after any epoch: a lower `lr` may help")
        for epoch, error in trained.curve:
            view.log("aux_val_mse", epoch, error)
        view.note(steps=trained.steps, aux_val_mse=trained.error, **trained.judged(held_out[0]))
        return trained.state

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return decode(view, self.params.shape, fitted)

    def work(
        self, n_private: int, n_aux: int, image_shape: tuple[int, int, int], feature_shape: tuple[int, ...]
    ) -> Work:
        copies = 2 if self.params.flips else 1
        network = self.params.shape.network(feature_shape, image_shape)
        forward = 2 * macs(network, feature_shape) / 1e9
        return Work(edge_passes=copies * n_aux, gflop=3 * forward * copies * n_aux * 1.1 * self.params.epochs)

    @classmethod
    def cheap(cls) -> dict[str, Any]:
        return {"width": 32, "depth": 1, "epochs": 15, "batch": 16}
