"""The README's figures of the default suite are those of the reference run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from splitaudit.config import load_suite
from splitaudit.labels import plugin_labels
from splitaudit.plugins import DEFENSES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference" / "quick"


def figures() -> dict[str, str]:
    """Returns defense to the end of its row in the README, from the worst attack on."""
    rows = pd.read_csv(REFERENCE / "summary.csv")
    out = {}
    for _, row in rows[rows["knowledge"] == "white-box"].iterrows():
        cells: list[Any] = [
            row["worst_attack"],
            f"{row['leakage']:.3f} [{row['leakage_lo']:.3f}, {row['leakage_hi']:.3f}]",
            f"{row['ssim']:.3f}",
            f"{row['equivalent_resolution']:.1f} px",
            f"{row['accuracy']:.3f} [{row['accuracy_lo']:.3f}, {row['accuracy_hi']:.3f}]",
        ]
        out[row["defense"]] = f"| {' | '.join(cells)} |"
    return out


@pytest.mark.parametrize(("defense", "row"), figures().items(), ids=figures())
def test_figures_of_a_defense_are_those_of_the_reference_run(defense: str, row: str) -> None:
    (line,) = (line for line in README.splitlines() if line.startswith(f"| {defense}") and line.endswith(row))
    assert line[len(defense) + 2] in " ,", "the defense's own row"


def test_the_reference_run_has_the_defenses_of_the_default_suite() -> None:
    assert set(figures()) == set(plugin_labels(DEFENSES, load_suite("quick").defenses))


def test_what_scores_are_to_be_read_beside_is_that_of_the_reference_run() -> None:
    leakage = pd.read_csv(REFERENCE / "cells.csv").groupby("attack")["leakage"].first()
    mean, thumbnail = leakage["mean_colour"], leakage["thumbnail-4"]
    said = f"each image's own mean colour has a leakage score of {mean:.3f} and a 4×4 thumbnail {thumbnail:.3f}"
    assert said in " ".join(README.split())
