"""What a row of worst cases lacks: an attack that is refused, left out or without values makes no defense look the safer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from audited_records import Errors, N, audited
from test_summary import row, told

from splitaudit.plan import Plan
from splitaudit.report import gaps
from splitaudit.report.advantage import ACCURACY, build_attributes
from splitaudit.report.cells import build_cells
from splitaudit.report.flags import collect
from splitaudit.report.matched import build_matched, build_pairs
from splitaudit.report.plot_trade_off import front_of
from splitaudit.report.reading import Records
from splitaudit.report.summary import build_summary
from splitaudit.report.worst_case import build_worst_case

STRONG: Errors = {
    ("none", "strong", 0): 0.01,
    ("none", "weak", 0): 0.5,
    ("a", "strong", 0): 0.2,
    ("a", "weak", 0): 0.5,
    ("b", "weak", 0): 0.5,
}
REFUSED = "attack 'strong' is not for this; it needs what 'b' does not send"


def refused(errors: Errors, attack: str = "strong") -> tuple[Plan, Records]:
    """Returns a run in which an attack refuses the defense ``b``."""
    plan, records = audited(errors)
    like = next(c for c in plan.cells if c["defense"] == "b")
    plan.cells.append({**like, "attack": attack, "key": None, "skip": REFUSED})
    return plan, records


def excluded(errors: Errors) -> tuple[Plan, Records]:
    """Returns a run whose suite excludes the strong attack from ``b``: the plan has no row for it at all."""
    return audited(errors)


@pytest.mark.parametrize(("run", "why"), [(refused, REFUSED), (excluded, "excluded by the suite")])
def test_a_defense_is_not_the_least_by_not_being_attacked(run: Any, why: str) -> None:
    plan, records = run(STRONG)
    summary = build_summary(plan, records)
    found = row(summary, "b")
    assert found["incomplete"] == f"strong: strongest on another defense, not made here ({why.replace(';', ',')})"
    ((lack, where),) = gaps.incomplete(summary)
    assert (lack, where) == (found["incomplete"], ["b (query)"])
    assert found["leakage"] < row(summary, "a")["leakage"]
    assert found["leakage_change_note"].startswith("a worst case is not known")
    matched = build_matched(plan, records, summary)
    assert set(matched["best_measured"]) == {"a"}
    assert not matched.loc[matched["defense"] == "b", "on_front"].any()
    assert front_of(summary, "query") == ["a"]
    assert told(summary).text.startswith("Least leakage of those that are complete: a with")
    worst = build_worst_case(plan, records).set_index("defense")["incomplete"].fillna("")
    assert [bool(worst[d]) for d in ("none", "a", "b")] == [False, False, True]


def test_an_attack_that_decides_nowhere_may_be_refused() -> None:
    """A weak control that cannot run on one defense takes nothing from its figures."""
    plan, records = refused(
        {k: v for k, v in STRONG.items() if k != ("b", "weak", 0)} | {("b", "strong", 0): 0.3}, "weak"
    )
    assert set(build_summary(plan, records)["incomplete"].fillna("")) == {""}


def test_an_attack_for_few_defenses_alone_takes_nothing_from_the_others() -> None:
    """An attack that is made for what one defense sends refuses the rest: the one that it attacks was the only one ranked."""
    errors: Errors = {(d, "rmle", 0): e for d, e in (("none", 0.1), ("a", 0.3), ("b", 0.3), ("drop", 0.4))}
    frame = build_summary(*audited(errors | {("drop", "unmask", 0): 0.2}))
    assert row(frame, "drop")["worst_attack"] == "unmask"
    assert set(frame["incomplete"].fillna("")) == {""}


def test_an_attack_that_wins_elsewhere_by_less_than_its_interval_decides_nothing() -> None:
    swing = np.where(np.arange(N) % 2, 1.3, 0.69)  # 0.995 of the other in the mean, and far from it on each image
    errors: Errors = {(d, "rmle", 0): 0.3 for d in ("none", "a", "b")}
    errors |= {("none", "decoder", 0): 0.6, ("a", "decoder", 0): 0.3 * swing}
    assert set(build_summary(*audited(errors))["incomplete"].fillna("")) == {""}
    sure = build_summary(*audited(errors | {("a", "decoder", 0): 0.2}))
    assert row(sure, "b")["incomplete"].startswith("decoder: strongest on another defense")


def test_the_next_best_attack_of_an_incomplete_row_decides_nothing_elsewhere() -> None:
    """Where the strongest failed, the weak one stands in its place: who excludes the weak one is not the less whole for it."""
    errors: Errors = {(d, a, 0): e for d in ("none", "x") for a, e in (("strong", 0.1), ("weak", 0.5))}
    errors = errors | {
        ("x", "strong", 0): None,
        ("y", "strong", 0): 0.3,
        ("z", "strong", 0): 0.2,
        ("z", "weak", 0): 0.6,
    }
    frame = build_summary(*audited(errors))
    assert [bool(t) for t in frame.set_index("defense")["incomplete"].fillna("")] == [False, True, False, False]


def test_an_unrelated_failure_elsewhere_does_not_hide_that_the_strongest_was_not_made_here() -> None:
    """The defense that was spared the strongest attack became the only complete row, and was named the least."""
    others: Errors = {(d, a, 0): e for d in ("none", "x") for a, e in (("strong", 0.01), ("weak", 0.3))}
    failing: Errors = {("none", "third", 0): None, ("x", "third", 0): None}
    frame = build_summary(*audited(others | failing | {("y", "weak", 0): 0.3, ("y", "third", 0): 0.5}))
    assert row(frame, "y")["incomplete"].startswith("strong: strongest on another defense, not made here")


@pytest.mark.parametrize("others", [("x",), ("x", "y")])
def test_an_attack_that_is_made_for_a_defense_takes_nothing_from_none(others: tuple[str, ...]) -> None:
    """In a suite of two or three defenses it was made on half of the others, and no change against none was told."""
    errors: Errors = {(d, "rmle", 0): 0.3 for d in ("none", *others)}
    assert set(build_summary(*audited(errors | {("x", "unmask", 0): 0.1}))["incomplete"].fillna("")) == {""}


def test_what_is_the_strongest_at_another_level_alone_is_no_lack() -> None:
    plan, records = excluded(STRONG)
    for cell in plan.cells:
        if cell["defense"] == "b":
            cell["knowledge"] = "query-free"
    assert set(build_summary(plan, records)["incomplete"].fillna("")) == {""}


def test_a_defense_is_not_hard_to_read_by_a_reader_that_was_not_made_there() -> None:
    """The best of the weak readers stood for it, and nothing was said."""
    plan, records = audited(STRONG)
    plan.metrics = {ACCURACY: "k"}
    for node in plan.nodes.values():
        if node.kind == "cell":
            node.identity["attribute"] = "label"

    def read(kind: str, key: str) -> dict[str, Any] | None:
        record = records.read(kind, key)
        if record is None or kind != "cell":
            return {**record, "private": {"groups": None, "labels": [0, 1] * (N // 2)}} if record else None
        right = [float("strong" in key or i % 2) for i in range(N)]
        return {**record, "scores": {ACCURACY: {**record["scores"]["mse"], "key": "k", "values": right}}}

    found = build_attributes(plan, Records(plan, read)).set_index("defense")
    assert found["attack"].to_dict() == {"none": "strong", "a": "strong", "b": "weak"}
    assert found.loc["b", "incomplete"] == "strong: strongest on another defense, not made here (excluded by the suite)"
    assert set(found.loc[["none", "a"], "incomplete"]) == {""}


def test_a_done_attack_without_errors_is_named_and_its_defense_not_ranked() -> None:
    """Its record is done, but scored by another version of the metric: the next strongest once stood for the worst case."""
    plan, records = audited(STRONG | {("b", "strong", 0): 0.05})
    record = records.get("cell", "b-strong-0")
    assert record is not None
    records._scores["b-strong-0", "mse"] = type(records.scores("b-weak-0", "mse"))(None, "not scored yet")
    summary = build_summary(plan, records)
    assert row(summary, "b")["incomplete"] == "strong: done, but without mse of every image and seed"
    assert row(summary, "b")["worst_attack"] == "weak"
    assert told(summary).text.startswith("Least leakage of those that are complete: a with")
    (found,) = (r for r in build_worst_case(plan, records).to_dict("records") if r["defense"] == "b")
    assert "strong: done, but without mse" in found["incomplete"]


def test_the_least_is_named_with_those_that_it_cannot_be_told_from() -> None:
    errors: Errors = {}
    for seed in range(3):
        errors |= {
            ("none", "a", seed): 0.1,
            ("low", "a", seed): 0.31 - seed / 100,
            ("level", "a", seed): 0.29 + seed / 100,
        }
        errors |= {("high", "a", seed): 0.2}
    plan, records = audited(errors)
    summary = build_summary(plan, records)
    text = told(summary, build_pairs(plan, records, summary)).text
    assert "Not distinguishable from it: " in text
    alike = text.split("Not distinguishable from it: ")[1].split(".")[0]
    assert alike in ("low", "level")
    assert "high" not in alike


def test_a_row_whose_best_attack_does_not_beat_the_prior_says_so() -> None:
    frame = build_summary(*audited({("none", "a", 0): 0.2, ("x", "a", 0): 1.0}))
    assert "even the strongest attack is no better than the prior: a" in row(frame, "x")["flags"]
    assert pd.isna(row(frame, "none")["flags"]) or "no better" not in str(row(frame, "none")["flags"])


def test_that_the_strongest_is_no_better_hides_no_flag_of_other_cells() -> None:
    plan, records = audited({("none", "a", 0): 0.2, ("none", "weak", 0): 1.0, ("x", "a", 0): 1.0})
    raised = {r.kind: r.where for r in collect(build_summary(plan, records), build_cells(plan, records))}
    assert ("weak", "query", "none") in raised["no better than the prior"]
    assert raised["even the strongest attack is no better than the prior"] == (("a", "query", "x"),)


def test_equally_good_attacks_share_an_image() -> None:
    """A control that comes first in the suite once had every tie: nobody's image is 'best at prior'."""
    plan, records = audited({("none", "prior", 0): [1.0] * 12, ("none", "rmle", 0): [0.5] * 3 + [1.0] * 9})
    (found,) = build_worst_case(plan, records).to_dict("records")
    assert found["best_at"] == "rmle 62 %, prior 38 %"
