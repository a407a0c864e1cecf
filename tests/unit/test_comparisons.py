"""Flags that comparisons raise: on the row whose attack is too weak, only beyond the interval, and on no other row."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import store_run, suite

from splitaudit.plan import Plan
from splitaudit.report.comparisons import comparison_flags
from splitaudit.report.flags import BETTER_BLIND
from splitaudit.report.reading import Records
from splitaudit.store import Store

CUTS = ["block1", "block2", "block3"]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    folder = tmp_path_factory.mktemp("compared")
    made_up = suite(
        backbone={"name": "cnn4", "cut": CUTS, "params": {"width": 4}},
        defenses=["none", "noise"],
        attacks=[
            "prior",
            {"name": "rmle", "adaptive": [True, False]},
            {"name": "rmle", "params": {"steps": 20}},
            "decoder",
        ],
        metrics=["mse"],
        seeds=[0],
    )
    return folder, store_run(folder, made_up)[0]


def flags_of(
    stored: tuple[Path, Plan],
    leakage: Mapping[tuple[str, str, str], float],
    scatter: float = 0.0,
    *,
    worst_case: bool = False,
) -> Any:
    """Returns (cut, defense, attack, level) to the flags, where cells have the given leakage scores and all others 0.5.

    A key of (cut, defense, attack) names the leakage. ``scatter`` is added to it on every third image and half
    of it taken off the others, on other images at each cut and for each attack, so that no mean changes.
    """
    folder, plan = stored
    store = Store.open(folder)
    (reference,) = plan.references.values()
    prior = np.array((store.read("reference", reference) or {})["prior_mse"])
    changed: dict[tuple[str, str], dict[str, Any]] = {}
    for cell in plan.cells:
        if cell["key"]:
            record = store.read("cell", cell["key"])
            assert record is not None
            score = (
                0.0 if cell["attack"] == "prior" else leakage.get((cell["cut"], cell["defense"], cell["attack"]), 0.5)
            )
            shift = CUTS.index(cell["cut"]) + [ADAPTIVE, NAIVE, "decoder", SHORT, "prior"].index(cell["attack"])
            noise = scatter * np.where((np.arange(len(prior)) + shift) % 3, -0.5, 1)
            record["scores"]["mse"]["values"] = [float(v) for v in prior * np.clip(1 - score + noise, 0, None)]
            changed["cell", cell["key"]] = record
    records = Records(plan, lambda kind, key: changed.get((kind, key)) or store.read(kind, key))
    found = comparison_flags(plan, records, worst_case=worst_case)
    names = ("cut", "defense", "attack", "knowledge")
    return {tuple(plan.cells[i][n] for n in names): text for i, text in found.items()}


ADAPTIVE, NAIVE, SHORT = "rmle(steps=150)", "rmle(steps=150)@nonadaptive", "rmle(steps=20)"


def test_nothing_is_flagged_where_all_is_equal(stored: tuple[Path, Plan]) -> None:
    assert flags_of(stored, {}) == {}


def test_a_deeper_cut_that_leaks_more_flags_the_best_attack_at_the_shallower_one(stored: tuple[Path, Plan]) -> None:
    deep = {("block3", "none", a): 0.9 for a in (ADAPTIVE, SHORT, "decoder")} | {("block1", "none", "decoder"): 0.95}
    found = flags_of(stored, {**deep, ("block2", "none", "decoder"): 0.6})
    deeper = {k: v for k, v in found.items() if "a deeper cut" in v}
    assert {k[:3] for k in deeper} == {("block2", "none", "decoder")}
    assert set(deeper.values()) == {"a deeper cut leaks more: block3 than block2"}


def test_a_deeper_cut_within_the_interval_is_no_flag(stored: tuple[Path, Plan]) -> None:
    found = flags_of(stored, {("block3", "none", "decoder"): 0.52}, scatter=0.3)
    assert not any("a deeper cut" in v for v in found.values())


@pytest.mark.parametrize(
    ("better", "flag"), [("decoder", "white-box weaker"), (ADAPTIVE, "false security")], ids=["white-box", "adaptive"]
)
def test_a_difference_within_the_paired_interval_is_no_flag(stored: tuple[Path, Plan], better: str, flag: str) -> None:
    leakage = {("block2", "noise", better): 0.52}
    assert any(flag in v for v in flags_of(stored, leakage).values()), "without scatter it is beyond the interval"
    assert not any(flag in v for v in flags_of(stored, leakage, scatter=0.3).values())


def test_an_attack_that_ignores_the_defense_and_leaks_less_is_false_security(stored: tuple[Path, Plan]) -> None:
    found = flags_of(stored, {("block2", "noise", NAIVE): 0.1})
    false = {k: v for k, v in found.items() if "false security" in v}
    assert {k[:3] for k in false} == {("block2", "noise", NAIVE)}
    for text in false.values():
        hidden = re.search(
            rf"false security: {re.escape(NAIVE)}, ([\d.]+) \[([\d.]+), ([\d.]+)\] of leakage hidden", text
        )
        assert hidden is not None
        value, low, high = (float(hidden[i]) for i in (1, 2, 3))
        assert 0 < low <= value <= high
    assert not any("false security" in v for v in flags_of(stored, {("block2", "noise", NAIVE): 0.9}).values())


def test_an_attack_that_ignores_the_defense_and_leaks_more_says_that_the_other_is_too_weak(
    stored: tuple[Path, Plan],
) -> None:
    found = flags_of(stored, {("block2", "noise", NAIVE): 0.9})
    blind = {k: v for k, v in found.items() if BETTER_BLIND in v}
    assert {k[:3] for k in blind} == {("block2", "noise", ADAPTIVE)}
    assert all(NAIVE in v and "of leakage more" in v for v in blind.values())
    assert not any(
        BETTER_BLIND in v for v in flags_of(stored, {("block2", "noise", NAIVE): 0.52}, scatter=0.3).values()
    )


def test_what_ignores_the_defense_is_the_best_at_no_cut_and_no_rival(stored: tuple[Path, Plan]) -> None:
    """Its features are clean ones, which no attacker of its level has."""
    found = flags_of(stored, {(cut, "noise", NAIVE): 0.9 for cut in ("block2", "block3")})
    assert not any("a deeper cut" in v or "white-box weaker" in v for v in found.values())


def test_a_white_box_attack_that_is_weaker_than_a_black_box_one_is_flagged(stored: tuple[Path, Plan]) -> None:
    found = flags_of(stored, {(c, d, "decoder"): 0.8 for c in CUTS for d in ("none", "noise")})
    weak = {k for k, v in found.items() if "white-box weaker" in v}
    assert {k[:2] for k in weak} == {(c, d) for c in CUTS for d in ("none", "noise")}
    assert {k[2] for k in weak} == {ADAPTIVE, SHORT}, (
        "each of them that takes the defense into account, not the best alone"
    )
    one = flags_of(stored, {("block2", "noise", "decoder"): 0.8, ("block2", "noise", ADAPTIVE): 0.9})
    assert {k[2] for k, v in one.items() if "white-box weaker" in v} == {SHORT}


def test_the_worst_case_is_told_of_the_best_white_box_attack_alone(stored: tuple[Path, Plan]) -> None:
    """A weak attack beside a strong one says nothing against the worst case."""
    place = ("block2", "none")
    both = {(*place, "decoder"): 0.8, (*place, ADAPTIVE): 0.7, (*place, SHORT): 0.6}
    found = flags_of(stored, both, worst_case=True)
    assert {k[2] for k, v in found.items() if "white-box weaker" in v} == {ADAPTIVE}
    found = flags_of(stored, both | {(*place, ADAPTIVE): 0.9}, worst_case=True)
    assert not any("white-box weaker" in v for v in found.values())
