"""The page on attacks: what is read of labels is what the reference run read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from splitaudit.config import load_suite
from splitaudit.labels import plugin_labels
from splitaudit.plugins import ATTACKS, DEFENSES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference" / "labels"
SUITE = load_suite(REFERENCE / "labels.yaml")
CELLS = pd.read_csv(REFERENCE / "cells.csv")
DEFENDED = plugin_labels(DEFENSES, SUITE.defenses)
READ = {"label": "class", "tone": "`tone`"}


def words(attack: str) -> str:
    """Returns an attack as the page's table names it."""
    attribute = READ["tone" if "tone" in attack else "label"]
    if attack.startswith("recognise"):
        return f"{attribute}, `recognise` through `decoder`"
    return f"{attribute}, `attribute`, {'linear' if 'linear' in attack else 'network'}"


def line(attack: str) -> str:
    """Returns the row of an attack in the page's table."""
    mine = CELLS[(CELLS["attack"] == attack) & (CELLS["knowledge"] == "query")].set_index("defense")["label_accuracy"]
    return " | ".join([f"| {words(attack)}", *(f"{mine[d]:.3f}" for d in DEFENDED)]) + " |"


@pytest.mark.parametrize("attack", plugin_labels(ATTACKS, SUITE.attacks))
def test_what_an_attack_reads_is_on_the_page(attack: str) -> None:
    assert line(attack) in PAGE


def test_the_table_has_the_defenses_of_the_suite_in_its_order() -> None:
    assert f"| | {' | '.join(DEFENDED)} |" in PAGE
