"""The tables of few and of other images in docs/attacks.md have the figures of their reference runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
LEVELS = ["query:aux=100", "query:queries=500", "query:aux=400", "query"]


def leakage(folder: str, table: str = "cells") -> Any:
    """Returns the leakage score of a reference run by defense, attack and level."""
    cells = pd.read_csv(ROOT / "results" / "reference" / folder / f"{table}.csv")
    return cells.set_index(["defense", "attack", "knowledge"])["leakage"]


@pytest.mark.parametrize("defense", ["none", "siftfunnel"])
def test_few_images(defense: str) -> None:
    now, before = leakage("levels"), leakage("levels", "before-cells")
    for attack in ("linear", "decoder"):
        figures = " | ".join(f"{now[defense, attack, level]:.3f}" for level in LEVELS)
        assert f"\n| `{attack}`, {defense} | {figures} |\n" in PAGE
    figures = " | ".join(f"{before[defense, 'decoder', level]:.3f}" for level in LEVELS[:3])
    assert f"\n| the same with as many fewer steps (`decoder` 2) | {figures} | |\n" in PAGE
    assert all(now[defense, "decoder", level] > before[defense, "decoder", level] + 0.03 for level in LEVELS[:3])


def test_other_images() -> None:
    found = leakage("other")

    def figure(attack: str, level: str) -> str:
        value = found.get(("none", attack, level))
        return "" if value is None else f"{value:.3f}".replace("-", "−")

    for attack, last in (("prior", "-0.027"), ("linear", "needs images"), ("decoder", "needs images")):
        figures = [figure(attack, level) for level in ("query", "query:aux=500", "query-other")]
        assert f"\n| `{attack}` | {' | '.join([*figures, last.replace('-', '−')])} |\n" in PAGE
    rmle = [figure("rmle", level) for level in ("white-box-other", "white-box-no-aux")]
    assert f"\n| `rmle` | | | {' | '.join(rmle)} |\n" in PAGE
    assert f"\n| `refine` | | | {figure('refine', 'white-box-other')} | needs images |\n" in PAGE
