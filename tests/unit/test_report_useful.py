"""A defense that gives up the task leaks little for nothing: it is named as that, and never as the best."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from audited_records import Errors, N, at_chance, audited, failed

from splitaudit.report.cells import build_cells
from splitaudit.report.exported import latex
from splitaudit.report.figures import _trade_off_caption
from splitaudit.report.findings import Finding, find
from splitaudit.report.matched import build_matched, build_pairs
from splitaudit.report.page_matched import matched_groups
from splitaudit.report.plot_draws import leakage_by_draws
from splitaudit.report.plot_trade_off import front_of
from splitaudit.report.reading import Records
from splitaudit.report.summary import build_summary
from splitaudit.report.tables import Results
from splitaudit.report.targets import build_targets
from splitaudit.report.usefulness import DROPS, LIMIT, useless
from splitaudit.report.usefulness import at_chance as said_at_chance

ERRORS: Errors = {("none", "a", 0): 0.1, ("costly", "a", 0): 0.8, ("broken", "a", 0): 0.9, ("good", "a", 0): 0.3}
ACCURACY = {"costly": 0.58, "broken": 0.5}
NOTE = "leakage_change_note"
METRICS = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def flagged(errors: Errors = ERRORS, accuracy: dict[str, float] | None = None) -> tuple[Any, Any]:
    """Returns plan and records in which the accuracy of ``broken`` is at chance."""
    plan, records = audited(errors, accuracy if accuracy is not None else ACCURACY)
    if any(defense == "broken" for defense, _, _ in errors):
        at_chance(records, "broken-0")
    return plan, records


def told(summary: pd.DataFrame) -> Finding:
    tables = {f.name: summary for f in fields(Results)} | {"pairs": pd.DataFrame(), "suite": {}}
    (finding,) = find(Results(**tables))
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


def test_what_is_only_incomplete_is_not_said_to_be_useless() -> None:
    incomplete: Errors = {**ERRORS, ("good", "strong", 0): None}
    text = told(build_summary(*flagged(incomplete))).text
    assert text.startswith(
        "No defense is named the least: each one that is complete is at chance or loses more than 5 points"
    )
    without = build_summary(*flagged({**{k: v for k, v in ERRORS.items() if k[0] != "good"}, ("good", "a", 0): None}))
    assert told(without).text.startswith("No defense is named the least: each one that is complete is")


def test_where_only_the_undefended_target_is_complete_it_is_not_named_the_least() -> None:
    errors: Errors = {("none", "a", 0): 0.1, ("x", "a", 0): 0.3, ("x", "strong", 0): None}
    plan, records = audited(errors)
    for _ in range(2):
        text = told(build_summary(plan, records)).text
        assert text.startswith("Incomplete, so none is named the least. Undefended: a leakage score of")
        at_chance(records, "none-0")


@pytest.mark.parametrize("broken", ["none", "x"])
def test_without_a_known_worst_case_on_both_sides_nothing_is_said_to_be_alike(broken: str) -> None:
    """The change against the undefended target holds 0, under the attacks that are done."""
    errors: Errors = {(d, "weak", s): 0.5 + s / (100 if d == "none" else 90) for d in ("none", "x") for s in range(3)}
    assert "not distinguishable" in str(build_summary(*audited(errors)).set_index("defense").loc["x", NOTE])
    errors |= {(d, "strong", s): 0.6 for d in ("none", "x") for s in range(3)} | {(broken, "strong", 0): None}
    summary = build_summary(*audited(errors))
    row = summary.set_index("defense").loc["x"]
    assert row["leakage_change_lo"] <= 0 <= row["leakage_change_hi"]
    assert row[NOTE] == "a worst case is not known"
    finding = told(summary)
    assert "not distinguishable" not in " ".join((finding.text, *finding.cautions))


def test_where_all_are_useful_nothing_is_left_out() -> None:
    some: Errors = {("none", "a", 0): 0.1, ("good", "a", 0): 0.3, ("better", "a", 0): 0.4}
    finding = told(build_summary(*audited(some)))
    assert finding.text.startswith("Least leakage: better with")
    assert not any("Not named" in c for c in finding.cautions)


def test_a_suite_without_accuracies_names_the_least_and_says_that_its_cost_is_not_known() -> None:
    """It named one that had given up the task, and said nothing."""
    summary = build_summary(*audited({("none", "a", 0): 0.1, ("x", "a", 0): 0.3})).assign(accuracy_drop=float("nan"))
    finding = told(summary)
    assert finding.text.startswith("Least leakage, at a cost that is not known: x with")
    assert any(c.startswith("What accuracy it loses against none is not known: x.") for c in finding.cautions)


def test_one_failed_training_of_none_does_not_hide_what_a_defense_costs() -> None:
    errors: Errors = {(d, "a", s): e for d, e in (("none", 0.1), ("wreck", 0.9), ("good", 0.3)) for s in range(3)}
    plan, records = audited(errors, {"none": 1.0, "wreck": 0.6, "good": 1.0})
    assert told(build_summary(plan, records)).text.startswith("Least leakage of those that lose at most 5 points")
    failing = failed(plan, records, "none-2")
    summary = build_summary(plan, failing)
    finding = told(summary)
    assert ", at a cost that is not known: wreck with" in finding.text
    assert "not known: wreck, good. A defense that gives up its task" in " ".join(finding.cautions)
    pairs = build_pairs(plan, failing, summary)
    assert set(zip(pairs["defense"], pairs["other"], strict=True)) == {("wreck", "good")}
    assert pairs["leakage_difference"].notna().all()
    matched = build_matched(plan, failing, summary).set_index("defense").loc["wreck"]
    assert set(matched["note"]) == {"what it loses is not known"}
    assert (matched["incomplete"] == 0).all()
    assert (matched["settings"] == 1).all()


def test_of_a_single_private_image_the_finding_says_that_nothing_is_known_of_others() -> None:
    some: Errors = {("none", "a", 0): 0.1, ("good", "a", 0): 0.3}
    plan, records = audited(some)
    assert not any("single private image" in c for c in told(build_summary(plan, records)).cautions)

    def read(kind: str, key: str) -> Any:
        record = records.read(kind, key)
        return (
            {**record, "private": {"groups": [0] * N, "labels": [0] * N}} if kind == "reference" and record else record
        )

    finding = told(build_summary(plan, Records(plan, read)))
    assert any("single private image, or crops of one image alone" in c for c in finding.cautions)
    assert any("not distinguishable from that of the undefended target: good" in c for c in finding.cautions)
    summary = build_summary(plan, Records(plan, read))
    assert not summary["flags"].str.contains("no better than the prior").any()
    assert r"[-$\infty$, 1.000]" in latex(summary)
    assert "∞" not in latex(summary)
    drawn = pd.concat([summary, summary.assign(knowledge="query:16")])
    assert leakage_by_draws(drawn).axes[0].get_ylim()[1] < 1.1
    plt.close("all")


def test_no_volume_is_measured_against_an_undefended_target_at_chance() -> None:
    """What is kept of an accuracy at chance is noise divided by noise."""
    plan, records = audited({("none", "a", 0): 0.1, ("x", "a", 0): 0.3}, {"none": 0.58, "x": 0.66})
    for table in (
        build_targets(plan, records),
        build_cells(plan, records),
    ):  # widened ends stay within what is possible
        for name in ("accuracy", "mse"):
            ends = [c for c in (f"{name}_lo", f"{name}_hi") if c in table]
            assert all(table[end].dropna().between(0, 1).all() for end in ends)
    assert build_matched(plan, records, build_summary(plan, records))["hypervolume"].notna().all()
    at_chance(records, "none-0")
    assert build_matched(plan, records, build_summary(plan, records))["hypervolume"].isna().all()


@pytest.mark.parametrize(("drop", "why"), [(0.05, ""), (0.0501, "5.0 points of accuracy lost"), (None, ""), (-0.1, "")])
def test_the_limit_is_the_largest_of_the_table_at_equal_accuracy(drop: float | None, why: str) -> None:
    assert max(DROPS) == LIMIT
    assert useless({"defense": "x", "accuracy_drop": drop, "flags": ""}) == why
    assert (
        useless({"defense": "x", "accuracy_drop": drop, "flags": "accuracy at chance (0.125)"}) == "accuracy at chance"
    )


def test_the_undefended_target_costs_nothing_but_may_be_at_chance() -> None:
    assert useless({"defense": "none", "accuracy_drop": None, "flags": ""}) == ""
    assert said_at_chance({"defense": "none", "flags": "not converged; accuracy at chance (0.125)"})


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
