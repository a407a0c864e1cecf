"""Decoder-based inversion: a network trained to map features back to images."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field

from splitaudit.attack import Attack, Expected, Work
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.nn.inverse import InverseNetwork
from splitaudit.params import Params
from splitaudit.seeds import seeded_globally
from splitaudit.view import View


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
        network = network_of(view, self.params)
        data, val = view.pairs("train", flips=self.params.flips), view.pairs("val")
        sample = torch.arange(min(len(data), 2048), device=view.device)
        network.set_scale(data.batch(sample)[1])
        held_out = val.batch(torch.arange(len(val), device=view.device))
        order = torch.Generator().manual_seed(view.seed_for("decoder batches"))
        steps = math.ceil(len(data) / self.params.batch) * self.params.epochs
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.params.lr, weight_decay=1e-4)
        # Auxiliary sets may be tiny: the cycle needs a few steps to have a shape.
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=self.params.lr, total_steps=max(steps, 4) + 1)
        best, kept = float("inf"), network.state_dict()
        step = 0
        for epoch in range(1, self.params.epochs + 1):
            network.train()
            for index in torch.randperm(len(data), generator=order).to(view.device).split(self.params.batch):
                x, z = data.batch(index)
                optimizer.zero_grad(set_to_none=True)
                F.mse_loss(network(z), x).backward()
                optimizer.step()
                schedule.step()
                step += 1
            error = _error(network, held_out)
            view.log("aux_val_mse", epoch, error)
            if error < best:
                best, kept = error, {k: v.clone() for k, v in network.state_dict().items()}
        view.note(steps=step, aux_val_mse=best, converged=settled(view.curves["aux_val_mse"]))
        return kept

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return decode(view, self.params, fitted)

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


def decode(view: View, params: DecoderParams, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the guesses (N, C, H, W) in [0, 1] of a fitted decoder for the (averaged) features of a view."""
    network = network_of(view, params)
    network.load_state_dict(fitted)
    network.eval()
    with torch.no_grad():
        return torch.cat([network(z) for z in view.average.split(256)])


def network_of(view: View, params: DecoderParams) -> InverseNetwork:
    """Returns the untrained network of a decoder for a view."""
    with seeded_globally(view.seed_for("decoder init")):
        network = InverseNetwork(view.feature_shape, view.image_shape, params.width, params.depth)
    return network.to(view.device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def settled(curve: list[tuple[int, float]], tolerance: float = 0.02) -> bool:
    """Says whether a falling curve has settled: its last fifth fell by less than ``tolerance`` of its value.

    Args:
        curve: points (step, value), values positive and better when lower.
        tolerance: greatest relative fall that counts as settled.
    """
    if len(curve) < 5:
        return False
    values = [v for _, v in curve]
    fifth = max(1, len(values) // 5)
    before, after = min(values[:-fifth]), min(values)
    return before - after <= tolerance * before


def macs(network: torch.nn.Module, input_shape: tuple[int, ...]) -> float:
    """Returns the multiply-adds of one forward pass of one sample."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        sample = torch.empty(1, *input_shape)
    network = network.to("meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(sample)
    return counter.get_total_flops() / 2


def _error(network: InverseNetwork, held_out: tuple[torch.Tensor, torch.Tensor]) -> float:
    network.eval()
    x, z = held_out
    with torch.no_grad():
        total = sum(float((network(b) - t).square().sum()) for t, b in zip(x.split(256), z.split(256), strict=True))
    return total / x.numel()
