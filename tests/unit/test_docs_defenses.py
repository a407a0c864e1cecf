"""The page on defenses: it names all of them, when they act, and parameters that exist."""

from __future__ import annotations

import re
from pathlib import Path

from splitaudit.config import load_suite
from splitaudit.plugins import DEFENSES

PAGE = (Path(__file__).parents[2] / "docs" / "defenses.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", PAGE, re.M)
BUILT_IN = [n for n in DEFENSES.names() if "/" not in n and n != "none"]


def test_every_built_in_defense_has_a_row() -> None:
    assert sorted(name for name, *_ in ROWS) == sorted(BUILT_IN)


def test_the_page_says_when_each_acts() -> None:
    for name, _, acts, _ in ROWS:
        cls = DEFENSES.get(name)
        assert (acts == "on the trained network") is (cls.usually != "train+infer"), name
        # In training alone: nothing happens on the wire.
        if acts == "in training":
            assert not cls.acts_on_wire, name


def test_the_strengths_are_parameters() -> None:
    for name, _, _, strength in ROWS:
        for parameter in re.findall(r"`(\w+)`", strength):
            assert parameter in DEFENSES.get(name).Params.model_fields, (name, parameter)


def test_the_preset_has_every_defense() -> None:
    assert {d.name for d in load_suite("defenses").defenses} == {*BUILT_IN, "none"}
