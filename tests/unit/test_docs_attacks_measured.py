"""The undefended CNN of width 64: the reference runs reach what strong attacks have to, and the page has their figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference" / "width64"
DECODER = {"photos": 0.75, "cifar10": 0.80}
"""SSIM that a decoder has to reach."""


def cells(run: str) -> Any:
    """Returns the rows of a reference run by attack."""
    return pd.read_csv(REFERENCE / f"{run}-cells.csv").set_index("attack")


@pytest.mark.parametrize("dataset", DECODER)
def test_the_strongest_attacks_see_the_undefended_image(dataset: str) -> None:
    found = cells(dataset)
    assert set(found["status"].dropna()) == {"done"}
    assert (found.loc[["rmle", "refine"], "ssim"] >= 0.9).all()
    assert found.loc["decoder", "ssim"] >= DECODER[dataset]
    assert found.loc["refine", "mse"] <= found.loc["decoder", "mse"]
    assert found.loc["refine", "ssim"] >= found.loc["decoder", "ssim"]


@pytest.mark.parametrize("dataset", DECODER)
def test_a_decoder_does_so_within_a_minute(dataset: str) -> None:
    found = cells(f"{dataset}-minute").loc["decoder"]
    assert found["ssim"] >= DECODER[dataset]
    assert found["timing_fit_s"] + found["timing_attack_s"] <= 60


@pytest.mark.parametrize("attack", ["rmle", "refine", "decoder"])
def test_the_page_has_the_figures_of_the_reference_runs(attack: str) -> None:
    figures = [f"{r['ssim']:.3f} ({r['leakage']:.3f})" for r in (cells(d).loc[attack] for d in DECODER)]
    assert f"\n| `{attack}` | {' | '.join(figures)} |\n" in PAGE
