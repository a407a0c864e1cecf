"""White-box attacks on compositions and on Laplace noise: what one part gives away, a part that adds little does not hide."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.attacks import _inversion, _whitening
from splitaudit.attacks._covered import shares
from splitaudit.attacks._laplace import laplace_error
from splitaudit.attacks.rmle import Rmle
from splitaudit.composed import Composed
from splitaudit.defense import Defense
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.plugins import DEFENSES
from splitaudit.testing import toy_target
from splitaudit.testing.attacking import attacked

DRAWS = torch.Generator()
WHITE_BOX = AdversaryKnowledge(edge="weights", aux="same")


def made(name: str, **params: Any) -> Defense:
    cls = DEFENSES.get(name)
    defense = cls(cls.Params(**params))
    defense.name = name
    return defense


def both(*parts: Defense) -> Composed:
    return Composed(list(parts))


def leakage(defense: Defense) -> float:
    return attacked(Rmle, toy_target(defense), params={"steps": 100}, knowledge=WHITE_BOX).leakage()


FAINT = {"sigma": 0.01}
"""Noise that alone leaves the leakage as it is."""


@pytest.mark.full
def test_a_pattern_shows_through_faint_noise() -> None:
    """Taken for noise of its own, the pattern hid much again: 0.924."""
    assert leakage(both(made("shredder"), made("noise", **FAINT))) > leakage(made("shredder")) - 0.005


@pytest.mark.full
def test_a_mask_by_chance_shows_through_faint_noise() -> None:
    """With masks of the attack's own: 0.768."""
    assert leakage(both(made("dropout"), made("noise", **FAINT))) > 0.975


@pytest.mark.full
@pytest.mark.parametrize(
    "nothing",
    [("cem", {"adds_noise": False, "weight": 0.0}), ("noise", {"sigma": 0.0}), ("dropout", {"rate": 0.0})],
    ids=lambda case: case[0],
)
def test_a_part_that_does_nothing_hides_nothing(nothing: tuple[str, dict[str, Any]]) -> None:
    """It used to take the mask of the part before it out of the attack's sight: 0.970 instead of 0.983."""
    alone = made("topk", keep=0.3)
    assert leakage(both(alone, made(nothing[0], **nothing[1]))) == pytest.approx(leakage(alone), abs=1e-4)


@pytest.mark.full
def test_errors_behind_laplace_noise_count_by_their_magnitude(monkeypatch: pytest.MonkeyPatch) -> None:
    laplace = made("noise", distribution="laplace")
    found = leakage(laplace)
    for module in (_inversion, _whitening):
        monkeypatch.setattr(module, "by_magnitude", lambda _: False)
    assert found > leakage(laplace) + 0.015


def test_the_magnitude_of_an_error_is_on_the_scale_of_its_square() -> None:
    """On average over Laplace noise E[2√2·s|e|] = 2s², less the smoothing."""
    deviation = torch.tensor(0.5)
    noise = torch.empty(2, 200_000).exponential_(generator=DRAWS.manual_seed(0))
    error = deviation * (noise[0] - noise[1]) / 2**0.5
    assert float(laplace_error(error, deviation).mean() / deviation.square()) == pytest.approx(2.0 - 0.6, abs=0.2)
    far = torch.tensor(50.0)
    assert float(laplace_error(far, deviation)) == pytest.approx(2 * 2**0.5 * 0.5 * (50 - 0.15), rel=1e-3)
    assert float(laplace_error(torch.zeros(1), deviation)) == 0.0


@pytest.mark.parametrize(("sigma", "low", "high"), [(0.001, 0.0, 1.0), (100.0, 0.5, 0.5)])
def test_an_element_counts_as_far_as_its_magnitude_shows_something(sigma: float, low: float, high: float) -> None:
    """Faint noise leaves no doubt which elements a mask has hidden, drowning noise says nothing of it."""
    target = toy_target(both(made("dropout"), made("noise", sigma=sigma)), steps=False)
    view = attacked(Rmle, target, params={"steps": 2, "optimiser": "adam"}, knowledge=WHITE_BOX).views[-1]
    clean = torch.empty(512, *target.feature_shape).normal_(generator=DRAWS.manual_seed(0))
    found = shares(view, clean, "test")
    assert found is not None
    pair = view.covered(clean, DRAWS)
    assert pair is not None
    sent, shown = pair
    share = found(sent)
    assert share.shape == sent.shape
    assert float(share[~shown].mean()) == pytest.approx(low, abs=0.05)
    assert float(share[shown].mean()) == pytest.approx(high, abs=0.05)


@pytest.mark.parametrize(
    ("defense", "said"),
    [
        (lambda: made("none"), True),
        (lambda: made("nopeek"), True),
        (lambda: made("noise"), False),
        (lambda: made("noise", sigma=0.0), True),
        (lambda: made("dropout", rate=0.0), True),
        (lambda: made("topk", keep=1.0), True),
        (lambda: made("disco", ratio=0.0), True),
        (lambda: made("cem", adds_noise=False), True),
        (lambda: made("quantize"), False),
        (lambda: both(made("nopeek"), made("noise", sigma=0.0)), True),
        (lambda: both(made("nopeek"), made("dropout")), False),
    ],
)
def test_a_defense_says_whether_it_leaves_the_wire_as_it_is(defense: Any, said: bool) -> None:
    assert defense().leaves_wire is said


@pytest.mark.parametrize(
    ("defense", "shape"),
    [
        (lambda: made("noise", distribution="laplace"), "laplace"),
        (lambda: made("clip_noise", distribution="laplace"), "laplace"),
        (lambda: made("cem"), "gaussian"),
        (lambda: both(made("nopeek"), made("noise", distribution="laplace")), "laplace"),
        (lambda: both(made("noise", distribution="laplace"), made("cem")), "gaussian"),
    ],
)
def test_a_defense_says_the_shape_of_its_noise(defense: Any, shape: str) -> None:
    assert defense().noise_shape == shape
