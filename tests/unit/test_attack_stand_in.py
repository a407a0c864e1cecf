"""Attackers who train an edge of their own: what they train, what they reach, and what they must not draw from."""

from __future__ import annotations

import torch

from splitaudit.attacks._stand_in import trainable, training
from splitaudit.attacks.shadow import _distance, _statistics
from splitaudit.attacks.unsplit import Unsplit
from splitaudit.defenses.shredder import Shredder, ShredderParams
from splitaudit.defenses.vib import Vib, VibParams
from splitaudit.testing.attack_draws import RecordedNoise
from splitaudit.testing.attacking import TINY, attacked, random_defense
from splitaudit.testing.targets import control_target, toy_target


def test_a_stand_in_trains_its_edge_behind_the_defense_as_it_is_and_draws_nothing_from_the_global_generator() -> None:
    """Fails where the defense goes on learning from the attacker's features, or where dropout draws from nobody's seed."""
    model = control_target("orthogonal", Vib(VibParams()), (3, 16, 16)).requires_grad_(True)
    names = {id(p): n for n, p in model.named_parameters()}
    assert not any(names[id(p)].startswith("defense.") for p in trainable(model))
    assert any(names[id(p)].startswith("edge.") for p in trainable(model))
    assert not any(names[id(p)].startswith("cloud.") for p in trainable(model))
    model.edge.append(torch.nn.Dropout(0.5))
    training(model)
    before = torch.get_rng_state()
    model.clean(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)
    assert model.edge.training
    assert not model.defense.training


def test_statistics_are_compared_whatever_the_scale_and_tell_features_apart() -> None:
    g = torch.Generator().manual_seed(0)
    z = torch.randn(40, 8, 4, 4, generator=g).relu()
    other = (z * torch.linspace(0.2, 3, 8)[:, None, None]).flip(1)
    assert float(_distance(_statistics(z), _statistics(z))) < 1e-6
    small, large = (float(_distance(_statistics(s * other), _statistics(s * z))) for s in (1e-3, 1e3))
    assert small > 0.1
    assert abs(small - large) < 1e-3 * large


def test_unsplit_explains_the_features_by_images_that_are_not_grey_and_says_nothing_of_convergence() -> None:
    run = attacked(Unsplit, toy_target(), params={"rounds": 12})
    notes = run.views[-1].notes
    assert notes["loss_left"] < 0.5
    assert float(run.guess.std((1, 2, 3)).min()) > 0.03
    assert notes["converged"] is None
    assert "nothing ties its loss" in notes["not_judged"]


def test_what_unsplits_own_draw_hides_is_no_evidence_against_its_clone() -> None:
    """Counted as zeros, a quarter of the elements leave a tenth of the loss whatever the images, of one draw a quarter."""
    run = attacked(Unsplit, control_target("orthogonal", random_defense()), params={"rounds": 16})
    assert run.views[-1].notes["loss_left"] < 0.07


def test_unsplit_meets_a_random_defense_with_fresh_draws_at_every_step() -> None:
    noise = RecordedNoise()
    attacked(Unsplit, control_target("orthogonal", noise), params={"rounds": 2, "image_steps": 3}, sizes=TINY)
    draws = [d.state for d in noise.made if d.gradient]
    assert len(set(draws)) == len(draws) == 2 * (3 + 20) * 4


def test_unsplit_takes_off_the_pattern_that_a_defense_added() -> None:
    """On an edge without weights there is no clone to learn: what the guess gets wrong is the pattern, of an error of 1."""
    defense = Shredder(ShredderParams(tensors=4, start=1.0))
    run = attacked(Unsplit, control_target("orthogonal", defense), params={"rounds": 40})
    assert float(run.errors().mean()) < 0.5 * float(run.prior_errors().mean())
