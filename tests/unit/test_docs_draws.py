"""The reference run on several draws of each image: averages do what they must, and the page has its figures."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
CELLS = pd.read_csv(ROOT / "results" / "reference" / "draws" / "cells.csv", keep_default_na=False)
DRAWS = (1, 4, 16, 64)
ATTACKS = ("linear", "rmle", "decoder", "refine")
NOISE = ("noise(sigma=0.5)@infer", "noise(sigma=2)@infer")
MASKS = ("dropout@infer", "shredder")


def leakage(defense: str, attack: str, draws: int, column: str = "leakage") -> float:
    level = "white-box" if draws == 1 else f"white-box:{draws}"
    found = CELLS[(CELLS["defense"] == defense) & (CELLS["attack"] == attack) & (CELLS["knowledge"] == level)]
    (value,) = found[column]
    return float(value)


@pytest.mark.parametrize("attack", [*ATTACKS, *(f"{a}@nonadaptive" for a in ATTACKS)])
@pytest.mark.parametrize("defenses", [NOISE, MASKS], ids=["noise", "masks"])
def test_the_page_has_the_figures_of_the_reference_run(attack: str, defenses: tuple[str, str]) -> None:
    figures = " | ".join(f"{leakage(d, attack, k):.3f}" for d in defenses for k in DRAWS)
    assert f"\n| `{attack}` | {figures} |\n" in PAGE


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(("many", "few"), [(16, 1), (64, 4)])
def test_sixteen_draws_are_worth_a_quarter_of_the_noise(attack: str, many: int, few: int) -> None:
    weak, strong = NOISE
    assert leakage(strong, attack, many) == pytest.approx(leakage(weak, attack, few), abs=0.005)


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("defense", [*NOISE, "dropout@infer"])
def test_more_draws_leak_more(attack: str, defense: str) -> None:
    found = [leakage(defense, attack, k) for k in DRAWS]
    assert found == sorted(found)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_number_of_draws_tells_who_ignores_a_mask_what_it_hides(attack: str) -> None:
    for k in DRAWS:
        low = leakage("dropout@infer", attack, k, "leakage_lo")
        assert leakage("dropout@infer", f"{attack}@nonadaptive", k, "leakage_hi") < low
