"""The table of all attacks in docs/attacks.md has the figures of the reference run."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
CELLS = pd.read_csv(ROOT / "results" / "reference" / "attacks" / "cells.csv")
SECTION = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8").split("## How strong they are")[1]
TABLE = SECTION.split("| attack |")[1].split("\n\n")[0].splitlines()
DEFENSES = ("none", "hsic", "noise", "siftfunnel")


def attacks() -> list[str]:
    done = CELLS[(CELLS["status"] == "done") & (CELLS["attack"] != "prior")]
    return list(dict.fromkeys(done["attack"]))


@pytest.mark.parametrize("attack", attacks())
def test_figures_of_an_attack_are_those_of_the_reference_run(attack: str) -> None:
    rows = CELLS[(CELLS["attack"] == attack) & (CELLS["status"] == "done")].drop_duplicates("defense")
    scores = rows.set_index("defense")["leakage"]
    (line,) = (text for text in TABLE if text.startswith(f"| `{attack.split('(')[0]}`"))
    told = [cell.strip().strip("*").replace("−", "-") for cell in line.split("|")[2:6]]
    assert told == [f"{scores[defense]:.3f}" for defense in DEFENSES]


def test_what_is_bold_is_the_strongest_on_its_defense() -> None:
    done = CELLS[CELLS["status"] == "done"]
    for number, defense in enumerate(DEFENSES):
        best = done[done["defense"] == defense].sort_values("leakage")["attack"].iloc[-1]
        (line,) = (text for text in TABLE if "**" in "".join(text.split("|")[2 + number : 3 + number]))
        assert line.startswith(f"| `{best.split('(')[0]}`")
