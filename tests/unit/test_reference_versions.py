"""Reference figures are of today's attacks, or their folder says of which: nobody takes them for more than they are."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from splitaudit.plugins import ATTACKS
from splitaudit.report.columns import TRUTH

REFERENCE = Path(__file__).parents[2] / "results" / "reference"
FOLDERS = sorted(p.parent for p in REFERENCE.glob("*/attacks.csv"))


def versions(folder: Path) -> dict[str, int]:
    return dict(pd.read_csv(folder / "attacks.csv").itertuples(index=False, name=None))


def test_every_folder_with_cells_says_of_which_versions_its_attacks_are() -> None:
    assert {p.parent for p in REFERENCE.glob("*/*cells.csv")} <= set(FOLDERS)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_the_versions_are_of_the_attacks_that_the_cells_have(folder: Path) -> None:
    tables = [pd.read_csv(p) for p in folder.glob("*cells.csv")]
    cells = pd.concat([t[t["knowledge"] != TRUTH] for t in tables]) if tables else pd.DataFrame({"attack": []})
    named = {re.split(r"[(@]", label)[0] for label in cells["attack"]}
    assert named <= set(versions(folder))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: p.name)
def test_an_earlier_version_is_named_beside_its_figures(folder: Path) -> None:
    text = (folder / "README.md").read_text(encoding="utf-8")
    for attack, version in versions(folder).items():
        today = ATTACKS.get(attack).version
        named = re.search(rf"`{attack}` (is its version |\(|(\d+ or )?){version}\b", text)
        assert version == today or named, f"{attack} {version}, today {today}, is not named in {folder.name}/README.md"
