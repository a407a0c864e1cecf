"""The table of what is hidden from an attack that leaves the defense out of account."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from audited_records import Errors, audited

from splitaudit.plan import Plan
from splitaudit.report.adaptive_gap import COLUMNS, build_adaptive, in_words
from splitaudit.report.meanings import ADAPTIVE, TUNED
from splitaudit.report.page_adaptive import ADAPTIVE as ADAPTIVE_HEADS
from splitaudit.report.page_adaptive import adaptive_rows
from splitaudit.report.page_tables import heads
from splitaudit.report.page_tuned import TUNED as TUNED_HEADS
from splitaudit.report.reading import Records

NAIVE = "rmle@nonadaptive"


def both_ways(errors: Errors) -> tuple[Plan, Records]:
    plan, records = audited(errors)
    for row in plan.cells:
        plan.nodes["cell", row["key"]].identity["attack"] = {"name": "rmle", "adaptive": row["attack"] != NAIVE}
    return plan, records


def of(defense: str, adaptive: float | None, naive: float | None, seeds: int = 3) -> Errors:
    values = {"rmle": adaptive, NAIVE: naive}
    return {
        (defense, a, s): None if v is None else v * (1 + 0.01 * (s - 1))
        for s in range(seeds)
        for a, v in values.items()
    }


def test_what_is_hidden_is_the_difference_of_the_leakage_scores() -> None:
    frame = build_adaptive(*both_ways(of("noise", 0.1, 0.4) | of("dropout", 0.3, 0.3)))
    noise, dropout = frame.to_dict("records")
    assert (noise["defense"], noise["attack"], noise["ignoring"]) == ("noise", "rmle", NAIVE)
    assert noise["leakage_hidden"] == pytest.approx(noise["leakage"] - noise["leakage_ignoring"], rel=1e-4)
    assert noise["leakage_hidden"] == pytest.approx(0.3, abs=0.03)
    assert noise["leakage_hidden_lo"] > 0
    assert noise["note"] == ""
    assert dropout["note"] == "not distinguishable"
    assert in_words(frame) == f"It hides leakage, beyond the interval, in 1 of 2 rows, at most {noise['leakage_hidden']:.3f} " \
        "(rmle on noise, query)."  # fmt: skip
    page = adaptive_rows(frame)
    assert page[0][5].lines == ()
    assert page[1][5].lines == ("n.d.",)


def test_one_training_is_said_to_be_one() -> None:
    (found,) = build_adaptive(*both_ways(of("noise", 0.1, 0.4, seeds=1))).to_dict("records")
    assert found["note"] == "one seed: training noise not included"


def test_a_seed_that_failed_leaves_no_figure() -> None:
    errors = of("noise", 0.1, 0.4) | {("noise", NAIVE, 2): None}
    (found,) = build_adaptive(*both_ways(errors)).to_dict("records")
    assert pd.isna(found["leakage_hidden"])
    assert found["incomplete"] == f"{NAIVE}, seed 2: failed"
    assert in_words(build_adaptive(*both_ways(errors))) == "None of them is complete."


def test_an_attack_of_which_nothing_is_done_is_counted_as_missing() -> None:
    """With one seed, which is the default, it once had no row at all: 'in 1 of 1 rows'."""
    plan, records = both_ways(of("noise", 0.1, None, seeds=1) | of("dropout", 0.1, 0.4, seeds=1))
    frame = build_adaptive(plan, records)
    assert frame.set_index("defense")["incomplete"].tolist() == [f"{NAIVE}, seed 0: failed", ""]
    assert in_words(frame).startswith("It hides leakage, beyond the interval, in 1 of 1 rows")
    assert in_words(frame).endswith("Of 1 more something is missing.")


def test_without_such_an_attack_there_is_no_table() -> None:
    assert build_adaptive(*audited({("noise", "rmle", 0): 0.1})).empty


def test_the_results_format_describes_the_columns() -> None:
    assert list(COLUMNS) == [c for c in ADAPTIVE if c != "seed"]
    page = (Path(__file__).parents[2] / "docs" / "results-format.md").read_text(encoding="utf-8")
    lines = page.split("### adaptive.csv\n", 1)[1].split("\n### ", 1)[0].splitlines()
    assert [line for line in lines if line.startswith("| `")] == [
        f"| `{name}` | {unit} | {meaning} |" for name, (unit, meaning) in ADAPTIVE.items()
    ]


def test_tooltips_are_those_of_the_tables_own_columns() -> None:
    """Several tables have a `note`: that of tuning once said what this one's does."""
    plan, _ = audited({("none", "rmle", 0): 0.1})
    assert dict(heads(ADAPTIVE_HEADS, plan, "adaptive"))["note"] == ADAPTIVE["note"][1]
    assert dict(heads(TUNED_HEADS, plan, "tuned"))["note"] == TUNED["note"][1]
