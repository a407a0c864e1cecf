"""When an attack has converged: by what doubling its budget gains on its own images."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.attack import Attack
from splitaudit.attacks._doubling import doubled, judged
from splitaudit.attacks.decoder import Decoder
from splitaudit.attacks.latent import Latent
from splitaudit.attacks.refine import Refine
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.testing import attacked, control_target
from splitaudit.testing.attacking import Sizes


@pytest.mark.parametrize(
    ("gain", "error", "converged"),
    [
        (0.04, 0.1, True),
        (0.06, 0.1, False),
        (0.2, 0.005, True),  # a thousandth of the leakage score
        (0.04, 0.9, False),  # on a strong defense: 0.036 of it
        (-0.1, 0.9, True),
    ],
)
def test_a_gain_is_little_against_the_error_and_against_the_leakage(gain: float, error: float, converged: bool) -> None:
    assert judged(gain, error, 1.0) == {"gain_by_doubling": gain, "converged": converged}


def test_rehearsed_images_are_compared_with_the_truth() -> None:
    truth = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    notes = doubled(truth + 0.2, truth + 0.1, truth)
    assert notes["gain_by_doubling"] == pytest.approx(0.75, rel=1e-4)
    assert not notes["converged"]


@pytest.mark.full
@pytest.mark.parametrize(
    ("attack", "short", "long"),
    [
        (Refine, {"steps": 4}, {"steps": 150}),
        (Latent, {"search_steps": 4, "release_steps": 4}, {"search_steps": 120, "release_steps": 120}),
    ],
)
def test_a_short_budget_has_not_converged_and_a_long_one_has(
    attack: type[Attack], short: dict[str, Any], long: dict[str, Any]
) -> None:
    assert [last_notes(attack, "orthogonal", **p)["converged"] for p in (short, long)] == [False, True]


def test_a_decoder_has_converged_where_more_epochs_would_help_little() -> None:
    small = {"width": 16, "depth": 1, "batch": 16, "epochs": 24}
    assert not last_notes(Decoder, "orthogonal", **small)["converged"]
    assert last_notes(Decoder, control_target("orthogonal", Noise(NoiseParams(sigma=3.0))), **small)["converged"]


def last_notes(attack: type[Attack], target: Any, **params: Any) -> dict[str, Any]:
    """Returns the notes of the attack itself: those of a decoder that it builds on come before."""
    run = attacked(attack, target, params={**attack.cheap(), **params}, sizes=Sizes(private=2))
    return [v.notes for v in run.views if "converged" in v.notes][-1]


def test_too_few_epochs_to_tell_are_not_called_converged() -> None:
    run = attacked(Decoder, "identity", params={"epochs": 2, "width": 8, "depth": 0}, sizes=Sizes(private=2))
    assert run.views[0].notes["converged"] is False
    assert "gain_by_doubling" not in run.views[0].notes
