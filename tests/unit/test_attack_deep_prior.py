"""The deep image prior: shrunk as own images say, judged on them, and against fresh draws."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from splitaudit.attacks import deep_prior
from splitaudit.attacks.deep_prior import CALIBRATION, DeepPrior
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.testing.attack_draws import RecordedNoise
from splitaudit.testing.attacking import Attacked, Sizes, attacked
from splitaudit.testing.targets import control_target

NARROW = {"width": 4, "draws": 1}
SIZES = Sizes(private=32, aux_train=256, aux_val=CALIBRATION)


def run(edge: Any, sizes: Sizes = SIZES, knowledge: AdversaryKnowledge | None = None, **params: Any) -> Attacked:
    return attacked(DeepPrior, edge, params={**NARROW, **params}, sizes=sizes, knowledge=knowledge)


def test_where_nothing_is_to_be_seen_it_stays_at_the_mean_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a network shows of nothing is a picture of its own, and worse than none."""
    found = run("constant", steps=40)
    loss = float(found.errors().mean() - found.prior_errors().mean())
    assert loss < 0.001
    monkeypatch.setattr(deep_prior, "shrinkage", lambda step, truth, **_: torch.ones_like(step[:1]))
    whole = run("constant", steps=40)
    assert float(whole.errors().mean() - whole.prior_errors().mean()) > loss + 0.003


def test_on_own_images_it_is_never_worse_than_their_mean() -> None:
    for edge in ("constant", "orthogonal"):
        view = run(edge, Sizes(private=2, aux_train=48, aux_val=CALIBRATION), steps=5).views[0]
        own = view.aux_val.images / 255
        # Clipping to [0, 1] after the step brings each image nearer to one that is inside.
        assert view.notes["aux_val_mse"] <= float((view.prior - own).square().mean()) + 1e-6


@pytest.mark.full
def test_few_steps_have_not_converged_and_many_have() -> None:
    """The rate that falls to zero flattens the loss at the end of any number of steps."""
    target = control_target("orthogonal", RecordedNoise(1.0))
    few, many = (run(target, Sizes(private=2), steps=n).views[0].notes for n in (100, 500))
    assert [few["converged"], many["converged"]] == [False, True]
    assert few["gain_by_doubling"] > 0.05


def test_without_auxiliary_images_nothing_is_said_of_convergence() -> None:
    found = run("orthogonal", Sizes(private=2), AdversaryKnowledge(edge="weights"), steps=5)
    assert found.views[0].notes["converged"] is None
    assert "auxiliary images" in found.views[0].notes["not_judged"]
    assert "converged" not in found.views[-1].notes


def test_every_step_sees_a_fresh_draw_of_a_random_defense() -> None:
    noise, steps = RecordedNoise(), 10
    run(control_target("orthogonal", noise), Sizes(private=2, aux_train=16, aux_val=8), steps=steps)
    assert len({d.state for d in noise.made if d.gradient}) == steps + steps + steps // 2, (
        "on the private images, on own ones, and on these with half the steps"
    )


def test_a_search_that_is_given_no_weight_has_not_converged_but_is_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both budgets leave the mean image then: equal errors would say that more steps gain nothing."""
    monkeypatch.setattr(deep_prior, "shrinkage", lambda step, truth, **_: torch.zeros_like(step[:1]))
    notes = run("orthogonal", steps=8).views[0].notes
    assert notes["converged"] is None
    assert "no step of the search helps" in notes["not_judged"]
