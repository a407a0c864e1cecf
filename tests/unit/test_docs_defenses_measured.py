"""The page on defenses: its figures and verdicts are those of the reference runs, which have every built-in defense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from splitaudit.config import load_suite
from splitaudit.labels import plugin_labels
from splitaudit.plugins import DEFENSES

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "defenses.md").read_text(encoding="utf-8")
REFERENCE = ROOT / "results" / "reference" / "defenses"
LEVELS = ("white-box", "query", "query-free")
BUILT_IN = [n for n in DEFENSES.names() if "/" not in n]


def alike(note: Any) -> str:
    """Returns the mark of a figure that cannot be told from the one that it is compared with."""
    return " =" if str(note).startswith("not distinguishable") else ""


def at_level(row: Any) -> str:
    """Returns the worst case at a level, of which nothing is missing."""
    assert pd.isna(row["incomplete"])
    if row["worst_attack"] == "prior":
        return "0 (prior)"
    interval = f" [{row['leakage_lo']:.3f}, {row['leakage_hi']:.3f}]" if row["knowledge"] != "query" else ""
    attack = "" if row["knowledge"] == "query-free" else f" {row['worst_attack']}"
    return f"{row['leakage']:.3f}{interval}{attack}{alike(row['leakage_change_note'])}"


def measured() -> dict[str, str]:
    """Returns defense to its row in the page's table of figures, from the accuracy on."""
    summary = pd.read_csv(REFERENCE / "summary.csv").set_index(["defense", "knowledge"], drop=False)
    none = summary.loc[("none", "white-box")]
    out = {}
    for defense in dict.fromkeys(summary["defense"]):
        row = summary.loc[(defense, "white-box")]
        leakage = [at_level(summary.loc[(defense, k)]) for k in LEVELS]
        cells = [
            f"{100 * row['accuracy']:.1f}{alike(row['accuracy_drop_note'])}",
            *leakage,
            f"{row['edge_macs'] / none['edge_macs']:.2f}",
            f"{row['edge_parameters'] / none['edge_parameters']:.3g}",
            f"{row['wire_bytes'] / none['wire_bytes']:.3f}",
        ]
        out[str(defense)] = f"| {' | '.join(cells)} |"
    return out


def side(row: Any, of: str) -> str:
    """Returns a figure, or the bounds of what has no figure."""
    value = row[f"{of}_value"]
    return f"{row[f'{of}_value_lo']:.3g} to {row[f'{of}_value_hi']:.3g}" if pd.isna(value) else f"{value:.3g}"


def verdicts() -> dict[str, str]:
    """Returns claim to its row in the page's table of claims."""
    out = {}
    for _, row in pd.read_csv(REFERENCE / "claims.csv").iterrows():
        moves = "lower" if str(row["threshold"]).startswith("<") else "higher"
        what = "information" if row["figure"].startswith("mi_") else "error"
        change = f"[{row['value_lo']:+.2g}, {row['value_hi']:+.2g}]"
        cells = [f"`{row['defense']}`", f"{what} {moves}", side(row, "baseline"), side(row, "defense"), change]
        out[row["claim"]] = f"| {' | '.join([*cells, row['overall']])} |"
    return out


def at_equal_accuracy(run: str = "strengths") -> dict[str, str]:
    """Returns defense to its row in one of the page's two tables at equal accuracy."""
    rows = pd.read_csv(REFERENCE / f"{run}-matched.csv")
    rows = rows[rows["knowledge"] == "white-box"]
    out = {}
    for defense, some in rows.groupby("defense", sort=False):
        cells = []
        for _, row in some.sort_values("allowed_drop").iterrows():
            if pd.isna(row["leakage"]):
                cells.append(str(row["note"]).replace("not distinguishable", "n.d."))
            else:
                cells.append(f"{'≈ ' if row['interpolated'] else ''}{row['leakage']:.3f}{alike(row['note'])}")
        out[str(defense)] = f"| {' | '.join([f'`{defense}`', *cells, f'{some.hypervolume_within.iloc[0]:.3f}'])} |"
    return out


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_reference_run_has_every_built_in_defense(name: str) -> None:
    assert any(label == name or label.startswith(f"{name}(") for label in measured())


@pytest.mark.parametrize(("name", "figures"), measured().items(), ids=measured())
def test_figures_of_a_defense_are_those_of_the_reference_run(name: str, figures: str) -> None:
    (row,) = (line for line in PAGE.splitlines() if line.startswith(f"| `{name}` | ") and line.endswith(figures))
    assert len(row.split(" | ")[1]) > 2 or name == "none", "what it does, in a few words"


@pytest.mark.parametrize(
    ("preset", "file"),
    [
        ("defenses", "summary.csv"),
        ("strengths", "strengths-summary.csv"),
        ("strengths-cloud", "cloud-summary.csv"),
    ],
)
def test_the_reference_tables_have_the_rows_of_the_presets_of_today(preset: str, file: str) -> None:
    suite = load_suite(preset)
    assert set(pd.read_csv(REFERENCE / file)["defense"]) == set(plugin_labels(DEFENSES, suite.defenses))
    missing = {n for n in BUILT_IN if not any(s.name == n for s in suite.defenses)}
    assert missing == set() or preset == "strengths-cloud"


@pytest.mark.parametrize("row", verdicts().values(), ids=verdicts())
def test_verdicts_on_claims_are_those_of_the_reference_run(row: str) -> None:
    assert row in PAGE


@pytest.mark.parametrize("row", at_equal_accuracy().values(), ids=at_equal_accuracy())
def test_leakage_at_equal_accuracy_is_that_of_the_reference_run(row: str) -> None:
    assert row in PAGE


@pytest.mark.parametrize("row", at_equal_accuracy("cloud").values(), ids=at_equal_accuracy("cloud"))
def test_leakage_with_a_cloud_that_adapts_is_that_of_the_reference_run(row: str) -> None:
    assert row in PAGE.split("### With a cloud that was trained")[1]


def without_queries() -> dict[str, str]:
    """Returns defense to its row in the page's table of two trainings that were attacked without a query."""
    found = []
    for file in ("cells.csv", "second-training-cells.csv"):
        cells = pd.read_csv(REFERENCE / file)
        cells = cells[(cells["attack"] == "shadow") & (cells["knowledge"] == "query-free")]
        found.append({str(r["defense"]): r for _, r in cells.iterrows()})
    first, second = found
    return {
        name: " | ".join(
            [f"| `{name}`"]
            + [f"{r['leakage']:.3f} [{r['leakage_lo']:.3f}, {r['leakage_hi']:.3f}]" for r in (first[name], row)]
        )
        + " |"
        for name, row in second.items()
    }


@pytest.mark.parametrize("row", without_queries().values(), ids=without_queries())
def test_leakage_without_a_query_is_that_of_both_trainings(row: str) -> None:
    assert row in PAGE
