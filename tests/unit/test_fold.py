"""Folding batch norm into convolutions changes the speed of an edge and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from splitaudit.nn.fold import folded


def trained_norm(channels: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for t in (norm.weight, norm.running_var):
            assert t is not None
            t.uniform_(0.5, 2)
        for t in (norm.bias, norm.running_mean):
            assert t is not None
            t.normal_()
    return norm


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


@pytest.mark.parametrize("bias", [True, False])
def test_the_folded_edge_gives_the_same_features_and_gradient(bias: bool) -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(4, 6, 3, bias=bias), trained_norm(6), nn.ReLU())
    edge = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=bias), trained_norm(4), nn.MaxPool2d(2), inner).eval()
    light = folded(edge)
    x = torch.rand(2, 3, 12, 12, requires_grad=True)
    z, z_light = edge(x), light(x)
    assert torch.allclose(z, z_light, atol=1e-5)
    (g,), (g_light,) = (torch.autograd.grad(out.square().sum(), x) for out in (z, z_light))
    assert torch.allclose(g, g_light, atol=1e-3 * float(g.abs().max()))
    assert norms(light) == 0


def test_the_original_is_left_as_it_is() -> None:
    edge = nn.Sequential(nn.Conv2d(3, 4, 3), trained_norm(4))
    edge.train()
    before = {k: v.clone() for k, v in edge.state_dict().items()}
    folded(edge)
    assert edge.training
    assert norms(edge) == 1
    assert all(torch.equal(v, before[k]) for k, v in edge.state_dict().items())


class _Swapped(nn.Module):
    """Runs its parts in another order than it lists them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), trained_norm(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(self.norm(x))


class _Halved(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return super().forward(input).tanh()


@pytest.mark.parametrize(
    "edge",
    [
        _Swapped(),
        nn.Sequential(_Halved(3, 3, 3), trained_norm(3)),
        nn.Sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3, track_running_stats=False)),
        nn.Sequential(trained_norm(3), nn.Conv2d(3, 3, 3)),
    ],
    ids=["no sequential", "a convolution of another kind", "statistics of the batch", "norm before the convolution"],
)
def test_what_cannot_be_folded_stays(edge: nn.Module) -> None:
    edge.eval()
    x = torch.rand(5, 3, 8, 8)
    light = folded(edge)
    assert norms(light) == 1
    assert torch.allclose(light(x), edge(x), atol=1e-6)


def test_hooks_between_the_two_are_not_lost() -> None:
    norm = trained_norm(3)
    norm.register_forward_pre_hook(lambda _, args: (args[0] * 2,))
    edge = nn.Sequential(nn.Conv2d(3, 3, 3), norm).eval()
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(folded(edge)(x), edge(x), atol=1e-6)
