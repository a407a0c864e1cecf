"""A defense that gives up the task leaks little for nothing: it is named as that, and never as the best."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from audited_records import Errors, audited

from splitaudit.report.figures import _trade_off_caption
from splitaudit.report.findings import Finding, find
from splitaudit.report.matched import build_matched
from splitaudit.report.page_matched import matched_groups
from splitaudit.report.plot_trade_off import front_of
from splitaudit.report.summary import build_summary
from splitaudit.report.tables import Results
from splitaudit.report.usefulness import DROPS, LIMIT, at_chance, useless

ERRORS: Errors = {("none", "a", 0): 0.1, ("costly", "a", 0): 0.8, ("broken", "a", 0): 0.9, ("good", "a", 0): 0.3}
ACCURACY = {"costly": 0.58, "broken": 0.5}
METRICS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def flagged(errors: Errors = ERRORS, accuracy: dict[str, float] | None = None) -> tuple[Any, Any]:
    """Returns plan and records in which the accuracy of ``broken`` is at chance."""
    plan, records = audited(errors, accuracy if accuracy is not None else ACCURACY)
    if any(defense == "broken" for defense, _, _ in errors):
        record = records.get("target", "broken-0")
        assert record is not None
        record["measurements"]["accuracy"]["flags"] = ["accuracy at chance (1/2)"]
    return plan, records


def told(summary: pd.DataFrame) -> Finding:
    (finding,) = find(Results(*[summary] * (len(fields(Results)) - 1), suite={}))
    return finding


def test_the_best_is_the_least_of_those_that_still_do_their_task() -> None:
    finding = told(build_summary(*flagged()))
    assert finding.text.startswith("Least leakage of those that lose at most 5 points of accuracy: good with")
    cautions = " ".join(finding.cautions)
    assert "not done any more (accuracy at chance): broken." in cautions
    assert "costs more than 5 points of accuracy (points lost): costly (16.7)." in cautions


def test_where_none_is_useful_no_defense_is_named_and_the_undefended_target_is() -> None:
    few = {k: v for k, v in ERRORS.items() if k[0] != "good"}
    text = told(build_summary(*flagged(few))).text
    assert text.startswith("No defense is named the least: each one is at chance or loses more than 5 points")
    assert "Undefended: a leakage score of" in text


def test_where_all_are_useful_nothing_is_left_out() -> None:
    some: Errors = {("none", "a", 0): 0.1, ("good", "a", 0): 0.3, ("better", "a", 0): 0.4}
    finding = told(build_summary(*audited(some)))
    assert finding.text.startswith("Least leakage: better with")
    assert not any("Not named" in c for c in finding.cautions)


def test_a_suite_without_accuracies_still_names_the_least() -> None:
    summary = build_summary(*audited({("none", "a", 0): 0.1, ("x", "a", 0): 0.3})).assign(accuracy_drop=float("nan"))
    assert told(summary).text.startswith("Least leakage: x with")


@pytest.mark.parametrize(("drop", "why"), [(0.05, ""), (0.0501, "5.0 points of accuracy lost"), (None, ""), (-0.1, "")])
def test_the_limit_is_the_largest_of_the_table_at_equal_accuracy(drop: float | None, why: str) -> None:
    assert max(DROPS) == LIMIT
    assert useless({"defense": "x", "accuracy_drop": drop, "flags": ""}) == why
    assert useless({"defense": "x", "accuracy_drop": drop, "flags": "accuracy at chance (1/8)"}) == "accuracy at chance"


def test_the_undefended_target_costs_nothing_but_may_be_at_chance() -> None:
    assert useless({"defense": "none", "accuracy_drop": None, "flags": ""}) == ""
    assert at_chance({"defense": "none", "flags": "not converged; accuracy at chance (1/8)"})


def test_what_is_at_chance_is_on_no_front_and_the_caption_says_so() -> None:
    summary = build_summary(*flagged())
    assert "broken" not in front_of(summary, "query")
    assert "On no front, since its accuracy is at chance: broken." in _trade_off_caption(summary)
    assert "On no front" not in _trade_off_caption(build_summary(*audited(ERRORS, ACCURACY)))


def test_at_equal_accuracy_what_is_at_chance_stands_for_nothing() -> None:
    """All are at 9 of 12, so no drop tells the broken one apart."""
    plan, records = flagged(accuracy={})
    matched = build_matched(plan, records, build_summary(plan, records))
    rows = matched[(matched["allowed_drop"] == LIMIT)].set_index("defense")
    assert rows.loc["broken", "setting"] == ""
    assert rows.loc["broken", "note"] == "accuracy at chance"
    assert not rows.loc["broken", "on_front"]
    assert pd.isna(rows.loc["costly", "leakage_above_best"]), "the best is the best of those that do their task"
    ((_, page),) = matched_groups(matched)
    assert {row[0].text: row[2].interval for row in page}["broken"] == "accuracy at chance"


def test_the_rule_is_documented() -> None:
    assert "never named the best" in METRICS.replace("\n", " ")
