"""Every ordered pair of built-in defenses: refused with a reason when it is planned, or it works."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch

from splitaudit.config.complete_defenses import complete_defenses
from splitaudit.config.suite import BackboneSpec, DefenseSpec
from splitaudit.data.base import DataInfo
from splitaudit.pixels import to_float
from splitaudit.plan_rows import defense_parts
from splitaudit.plugins import BACKBONES, DEFENSES
from splitaudit.possible import refusal
from splitaudit.stages import trained_before
from splitaudit.targets import adapts, build, channel_statistics, halves
from splitaudit.testing.data import CLASSES, part
from splitaudit.testing.targets import CPU
from splitaudit.training import Half, TrainingParams, calibrate, fit_defense, learned, train

SHAPE, CUT = (3, 28, 28), "block2"
SIZES = {"client_train": 16, "client_val": 8}
INFO = DataInfo(SHAPE, tuple(f"class{i}" for i in range(CLASSES)), SIZES)
BACKBONE = BackboneSpec(name="cnn4", cut=[CUT], params=BACKBONES.get("cnn4").Params(width=4).dump())

NAMES = [
    name
    for name in DEFENSES.names()
    if "/" not in name and name != "none" and "not installed" not in (DEFENSES.get(name).supports("cnn4", CUT) or "")
]
PAIRS = [f"{first}+{second}" for first in NAMES for second in NAMES if first != second]

REASONS = (
    "each replace the (task loss|architecture); only one may",
    "acts both in training and on the wire",
    "ends where .* on them afterwards",
    "bounds the gradient of one image's cross-entropy",
    "has to be the first defense that changes the shape",
    "nullspace: the cloud does not begin with",  # but with attention
    r"needs feature maps \(C, H, W\)",
)
"""All that is known to keep two defenses apart. Anything else would be a fault that reads like a reason."""


def params_of(name: str) -> dict[str, Any]:
    """Returns cheap parameters of a defense; siftfunnel's funnel sends a constant after so short a training."""
    return {"funnel": False} if name == "siftfunnel" else DEFENSES.get(name).cheap()


def planned(name: str) -> tuple[DefenseSpec | None, str | None]:
    """Returns the completed defense, or None with the mistake in its writing; and why it cannot be."""
    problems: list[str] = []
    params = {n: params_of(n) for n in name.split("+")}
    (spec,) = complete_defenses(DefenseSpec(name=name, params=params), problems)
    if problems:
        return None, problems[0]
    return spec, refusal(BACKBONE, CUT, spec, defense_parts(spec), INFO)


def identity(parts: list[dict[str, Any]], when: str) -> dict[str, Any]:
    return {
        "dataset": {"name": "toy"},
        "backbone": {"name": "cnn4", "params": BACKBONE.params},
        "cut": CUT,
        "seed": 0,
        "defense": {"parts": parts, "when": when},
    }


def made(target: dict[str, Any]) -> Any:
    """Returns a target that was trained for two steps as a run does it, in eval mode."""
    data, val = part("client_train", 16, SHAPE), part("client_val", 8, SHAPE)
    model = build(target, INFO, channel_statistics(data), CPU)
    frozen: tuple[Half, ...] = ()
    if target["defense"]["when"] != "train+infer":
        before = trained_before(target["defense"]) or defense_parts(DefenseSpec(name="none"))
        model.load_state_dict(base_of(tuple(p["name"] for p in before)), strict=False)
        fit_defense(model, data, CPU)
        calibrate(model, data, CPU)
        frozen = ("edge",) if adapts(target) else ("edge", "cloud")
    if learned(model, frozen):
        train(model, data, val, TrainingParams(epochs=1, batch=8), 0, {"dataset": "toy"}, CPU, frozen)
        calibrate(model, data, CPU)
    return model.eval()


@cache
def base_of(names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Returns the edge and cloud that defenses were trained with, or none."""
    parts = [p for n in names for p in defense_parts(DefenseSpec(name=n, params=params_of(n)))]
    return halves(made(identity(parts, "train+infer")).state_dict())


def check(name: str) -> bool:
    """Fails unless a pair works or is refused with a known reason; says which."""
    spec, reason = planned(name)
    first, second = name.split("+")
    if spec is None:
        assert reason is not None
        assert f"write '{second}+{first}'" in reason, reason
        return False
    if reason is not None:
        assert any(re.search(r, reason) for r in REASONS), reason
        return False
    model = made(identity(defense_parts(spec), spec.when or "train+infer"))
    with torch.no_grad():
        sent = model.wire(to_float(part("private", 4, SHAPE).images), torch.Generator().manual_seed(0))
        answers = model.answer(sent)
    assert bool(torch.isfinite(sent).all())
    assert tuple(sent.shape[1:]) == model.defense.wire_shape(model.feature_shape)
    assert bool(torch.isfinite(answers).all())
    return True


@pytest.mark.full
@pytest.mark.parametrize("first", NAMES)
def test_a_pair_works_or_is_refused_with_its_reason_when_it_is_planned(first: str) -> None:
    works = {pair: check(pair) for pair in PAIRS if pair.startswith(f"{first}+")}
    assert any(works.values()), "refusing everything would be easy"


@pytest.mark.parametrize(
    ("pair", "works"),
    [
        ("nopeek+noise", True),
        ("siamese+pca", True),
        ("nullspace+pca", True),
        ("siftfunnel+disco", False),
        ("downsample+nullspace", False),
        ("pca+nullspace", False),
        ("pca+downsample", False),
        ("downsample+pca", True),
        ("vib+shredder", False),
    ],
)
def test_these_pairs(pair: str, works: bool) -> None:
    assert check(pair) is works
