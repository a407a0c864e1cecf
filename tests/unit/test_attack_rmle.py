"""White-box inversion where a naive loss is misled."""

from __future__ import annotations

import torch
from torch import nn

from splitaudit.attacks.rmle import Rmle
from splitaudit.defense import Defense
from splitaudit.params import Params
from splitaudit.testing import attacked, control_edge, control_target
from splitaudit.testing.data import SHAPE


class Noisy(Defense):
    """Adds the same small noise to every element."""

    @property
    def stochastic(self) -> bool:
        return True

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return z + 0.2 * torch.empty_like(z).normal_(generator=generator)


class Dimmed(nn.Module):
    """Leaves next to nothing of every other channel, as a bottleneck's unused channels."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        share = torch.ones(z.shape[1], device=z.device)
        share[::2] = 1e-3
        return z * share[:, None, None]


def test_channels_of_noise_alone_do_not_drown_the_others() -> None:
    """Normalised by the clean features' deviation, their errors weigh a million times the rest (leakage below -3)."""
    edge = nn.Sequential(*control_edge("orthogonal", SHAPE), Dimmed())
    run = attacked(Rmle, control_target(edge, Noisy(Params())))
    assert run.leakage() > 0.8
