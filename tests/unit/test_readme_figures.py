"""The README's figures of the default suite are those of the reference run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from splitaudit.config import load_suite
from splitaudit.labels import plugin_labels
from splitaudit.plugins import ATTACKS, DEFENSES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MEASUREMENTS = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference" / "quick"
CELLS = pd.read_csv(REFERENCE / "cells.csv")


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


def test_the_readme_has_a_row_for_each_and_no_other() -> None:
    start = README.index("| defense | worst attack |")
    table = README[start : README.index("\n\n", start)].splitlines()
    assert len(table) == 2 + len(figures())


@pytest.mark.parametrize(
    ("attack", "version"), list(pd.read_csv(REFERENCE / "attacks.csv").itertuples(index=False, name=None))
)
def test_figures_are_of_todays_attacks_or_the_readme_says_of_which(attack: str, version: int) -> None:
    """Figures of an earlier version stood there for two versions."""
    assert ATTACKS.get(attack).version == version or f"`{attack}` {version}" in README


@pytest.mark.parametrize("attack", ["rmle", "decoder"])
def test_the_undefended_target_has_the_same_figures_in_the_measurements(attack: str) -> None:
    row = next(r for _, r in CELLS.iterrows() if r["defense"] == "none" and r["attack"] == attack)
    figures = (
        f"{row['leakage']:.3f} [{row['leakage_lo']:.3f}, {row['leakage_hi']:.3f}], "
        f"SSIM {row['ssim']:.3f}, {row['equivalent_resolution']:.1f} px"
    )
    (line,) = (r for r in MEASUREMENTS.splitlines() if r.startswith(f"| `{attack}` on it |"))
    assert figures in line


def test_the_controls_are_the_same_in_the_measurements() -> None:
    (line,) = (r for r in MEASUREMENTS.splitlines() if r.startswith("| controls on `photos` |"))
    leakage = CELLS.groupby("attack")["leakage"].first()
    assert f"mean colour {leakage['mean_colour']:.3f}" in line
    for side in (4, 8, 16):
        assert f"{side}×{side} {leakage[f'thumbnail-{side}']:.3f}" in line


def test_what_scores_are_to_be_read_beside_is_that_of_the_reference_run() -> None:
    leakage = CELLS.groupby("attack")["leakage"].first()
    mean, thumbnail = leakage["mean_colour"], leakage["thumbnail-4"]
    said = f"each image's own mean colour has a leakage score of {mean:.3f} and a 4×4 thumbnail {thumbnail:.3f}"
    assert said in " ".join(README.split())
