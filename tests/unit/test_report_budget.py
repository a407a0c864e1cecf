"""An attack that a budget of queries pays for on one target and not on another is missing on the other."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from audited_records import Errors, audited
from report_run import suite

from splitaudit.config import load_suite
from splitaudit.data.base import DataContext
from splitaudit.planner import make_plan
from splitaudit.report import gaps
from splitaudit.report.advantage import build_attributes
from splitaudit.report.findings import complete, find
from splitaudit.report.matched import build_matched
from splitaudit.report.matrix import build_matrix
from splitaudit.report.plot_heatmap import heatmap
from splitaudit.report.reading import beyond_budget
from splitaudit.report.summary import build_summary
from splitaudit.report.tables import Results
from splitaudit.report.worst_case import build_worst_case

REASON = (
    "attack 'decoder' needs at least 8 own images with features, a budget of 31 queries pays for 7 of 4 queries each"
)
LACK = "decoder, seed 0: skipped, its budget is too small"
ERRORS: Errors = {
    ("none", "decoder", 0): 0.05,
    ("none", "weak", 0): 0.2,
    ("random", "decoder", 0): REASON,
    ("random", "weak", 0): 0.6,
    ("fixed", "decoder", 0): 0.1,
    ("fixed", "weak", 0): 0.3,
}


def lacks(plan: Any, records: Any) -> dict[str, str]:
    return dict(build_summary(plan, records).set_index("defense")["incomplete"])


def test_a_defense_without_an_attack_that_others_have_is_incomplete_and_not_ranked() -> None:
    plan, records = audited(ERRORS)
    summary = build_summary(plan, records)
    assert dict(summary.set_index("defense")["incomplete"]) == {"none": "", "random": LACK, "fixed": ""}
    assert [r["defense"] for r in complete(summary.to_dict("records"))] == ["none", "fixed"]
    (finding,) = find(Results(*[summary] * (len(fields(Results)) - 1), suite={}))
    assert finding.text.startswith("Least leakage: fixed")
    assert any("Incomplete" in c and "random" in c for c in finding.cautions)
    assert "random" not in set(build_matched(plan, records, summary)["defense"])


@pytest.mark.parametrize(
    ("change", "lack"),
    [
        pytest.param({}, LACK, id="done beside it"),
        pytest.param({"knowledge": "query:queries=31"}, "", id="done at another level"),
        pytest.param({"backbone": "another"}, "", id="done at another place"),
        pytest.param({"key": None, "skip": REASON}, "", id="done nowhere"),
        pytest.param({"key": "missing"}, "", id="not run anywhere"),
    ],
)
def test_it_is_missing_only_where_another_target_of_the_place_and_level_has_it(
    change: dict[str, Any], lack: str
) -> None:
    plan, records = audited(ERRORS)
    for row in plan.cells:
        if row["attack"] == "decoder" and row["defense"] != "random":
            row |= change
            if row["key"] == "missing":
                plan.nodes["cell", "missing"] = plan.nodes["cell", f"{row['defense']}-decoder-0"]
    assert lacks(plan, records)["random"] == lack


def test_the_plans_own_reason_is_known_as_that_of_a_budget() -> None:
    made_up = suite(knowledge=["query:queries=4"], defenses=["none"], seeds=[0])
    reasons = {c["attack"]: c["skip"] for c in make_plan(load_suite(made_up), DataContext(offline=True)).cells}
    assert {a: beyond_budget(r) for a, r in reasons.items() if r} == {"decoder": True, "rmle": False}
    assert beyond_budget(REASON)
    assert beyond_budget("attack 'decoder' needs at least 8 own images with features, the budget pays for 7")


def test_what_is_not_possible_for_another_reason_is_not_missing() -> None:
    reason = "attack 'decoder' needs edge weights"
    assert lacks(*audited(ERRORS | {("random", "decoder", 0): reason}))["random"] == ""


def test_every_table_and_the_heat_map_say_so() -> None:
    plan, records = audited(ERRORS)
    worst = build_worst_case(plan, records).set_index("defense")["incomplete"]
    assert dict(worst) == {"none": "", "random": LACK, "fixed": ""}
    matrix = build_matrix(plan, records)
    row = matrix[(matrix["defense"] == "random") & (matrix["attack"] == "decoder")].iloc[0]
    assert (row["state"], row["reason"]) == ("budget\ntoo small", REASON)
    assert any(t.get_text() == "budget\ntoo small" for ax in heatmap(matrix, "leakage").axes for t in ax.texts)
    cells = dict(gaps.counts(plan, records))["cells at their levels"]
    assert {k: n for k, n in cells.items() if n} == {"done": 5, "skipped for their budget, done on other targets": 1}
    (skip,) = gaps.skips(plan, records)
    assert (skip.owed, skip.budget, skip.where) == (True, True, ("decoder on random at query",))


def test_an_attack_on_labels_is_missing_among_what_was_read_and_not_among_reconstructions() -> None:
    plan, records = audited(ERRORS)
    plan.metrics["label_accuracy"] = "k-label"
    for defense in ("none", "fixed"):
        plan.nodes["cell", f"{defense}-decoder-0"].identity["attribute"] = "label"
    worst = build_worst_case(plan, records)
    assert set(worst[worst["defense"] == "random"]["incomplete"]) == {""}
    read = build_attributes(plan, records).set_index("defense")
    assert read.loc["random", "incomplete"] == "decoder: not there for every seed"
