"""Every attack runs behind every backbone, cut and defense, or says in one clause why it does not."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from splitaudit.attack import Attack
from splitaudit.defense import Defense
from splitaudit.plugins import ATTACKS, BACKBONES, DEFENSES
from splitaudit.split import SplitModel
from splitaudit.testing.attacking import TINY, attacked
from splitaudit.testing.outcome import NotApplicable
from splitaudit.testing.targets import Home, defended, home_of, make

BUILT_IN = [n for n in ATTACKS.names() if "/" not in n]
SHAPE = (3, 32, 32)


def cuts() -> list[tuple[str, str]]:
    """Returns every built-in backbone with each of its cuts."""
    out = []
    for name in (n for n in BACKBONES.names() if "/" not in n):
        backbone = BACKBONES.get(name)
        out += [(name, cut) for cut in backbone(backbone.Params(**backbone.cheap())).cuts()]
    return out


@lru_cache(maxsize=1)
def target_at(backbone: str, cut: str) -> SplitModel:
    cls = BACKBONES.get(backbone)
    return defended(named("noise"), Home(cls(cls.Params(**cls.cheap())), backbone, cut, SHAPE)).eval()


@lru_cache(maxsize=1)
def target_behind(defense: str) -> SplitModel:
    cls: type[Defense] = DEFENSES.get(defense)
    return defended(named(defense), home_of(cls)).eval()


def named(defense: str) -> Defense:
    """Returns a defense under its registry name, by which attacks know it."""
    made: Defense = make(DEFENSES.get(defense))
    made.name = defense
    return made


def runs(attack: str, target: SplitModel) -> None:
    cls: type[Attack] = ATTACKS.get(attack)
    made = make(cls)
    reason = made.supports(target.info, [(target.defense.name, target.defense.params.dump())])
    if reason is not None:
        assert reason
        assert "\n" not in reason
        return
    run = attacked(cls, target, sizes=TINY)
    assert torch.isfinite(torch.as_tensor(run.guess)).all()
    if cls.infers == "image":
        assert run.guess.shape == run.truth.shape


@pytest.mark.parametrize(
    ("backbone", "cut"),
    [
        pytest.param(b, c, marks=pytest.mark.full if (b, c) == ("cnn4", "block2") else pytest.mark.slow)
        for b, c in cuts()
    ],
)
def test_every_attack_runs_behind_every_cut(backbone: str, cut: str) -> None:
    for attack in BUILT_IN:
        runs(attack, target_at(backbone, cut))


@pytest.mark.slow
@pytest.mark.parametrize("defense", [n for n in DEFENSES.names() if "/" not in n])
def test_every_attack_runs_behind_every_defense(defense: str) -> None:
    try:
        target = target_behind(defense)
    except NotApplicable as exc:  # an extra that is not installed
        pytest.skip(str(exc))
    for attack in BUILT_IN:
        runs(attack, target)
