"""Posterior sampling: fresh draws of a random defense at every step, and whether there were levels enough."""

from __future__ import annotations

from typing import Any

from splitaudit.attacks.diffusion import Diffusion
from splitaudit.testing.attack_draws import RecordedNoise
from splitaudit.testing.attacking import Sizes, attacked
from splitaudit.testing.targets import control_target

QUICK: dict[str, Any] = {**Diffusion.cheap(), "epochs": 4, "draws": 1, "variance": 0.3}


def notes(**params: Any) -> dict[str, Any]:
    target = control_target("orthogonal", RecordedNoise(1.0))
    return attacked(Diffusion, target, params={**QUICK, **params}, sizes=Sizes(private=2)).views[-1].notes


def test_few_levels_have_not_converged_and_many_have() -> None:
    few, many = notes(levels=4), notes(levels=60)
    assert [few["converged"], many["converged"]] == [False, True]
    assert few["gain_by_doubling"] > 0.05
    assert many["aux_val_mse"] < few["aux_val_mse"]


def test_levels_too_few_to_be_halved_are_not_called_converged() -> None:
    found = notes(levels=3)
    assert found["converged"] is False
    assert "gain_by_doubling" not in found


def test_every_step_sees_a_fresh_draw_of_a_random_defense() -> None:
    noise, levels, steps = RecordedNoise(), 6, 3
    params = {**QUICK, "epochs": 1, "levels": levels, "data_steps": steps}
    attacked(Diffusion, control_target("orthogonal", noise), params=params, sizes=Sizes(private=2))
    draws = {d.state for d in noise.made if d.gradient}
    assert len(draws) == steps * (levels + levels + levels // 2), (
        "on own images, on the private ones, and on own ones with half the levels"
    )
