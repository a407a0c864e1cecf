"""Attackers who train an edge of their own: what they train, and what they must not draw from."""

from __future__ import annotations

import torch

from splitaudit.attacks._stand_in import trainable, training
from splitaudit.attacks.shadow import _distance, _statistics
from splitaudit.defenses.vib import Vib, VibParams
from splitaudit.testing.targets import control_target


def test_a_stand_in_trains_what_its_defense_learns_and_draws_nothing_from_the_global_generator() -> None:
    """Fails where the noise of a bottleneck stays as it starts, nearly none, or where dropout draws from nobody's seed."""
    model = control_target("orthogonal", Vib(VibParams()), (3, 16, 16)).requires_grad_(True)
    names = {id(p): n for n, p in model.named_parameters()}
    assert any(names[id(p)].startswith("defense.") for p in trainable(model))
    assert any(names[id(p)].startswith("edge.") for p in trainable(model))
    assert not any(names[id(p)].startswith("cloud.") for p in trainable(model))
    model.edge.append(torch.nn.Dropout(0.5))
    training(model)
    before = torch.get_rng_state()
    model.clean(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.edge.training


def test_statistics_are_compared_whatever_the_scale_and_tell_features_apart() -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.randn(40, 8, 4, 4, generator=g).relu()
    other = (z * torch.linspace(0.2, 3, 8)[:, None, None]).flip(1)
    assert float(_distance(_statistics(z), _statistics(z))) < 1e-6
    small, large = (float(_distance(_statistics(s * other), _statistics(s * z))) for s in (1e-3, 1e3))
    assert small > 0.1
    assert abs(small - large) < 1e-3 * large
