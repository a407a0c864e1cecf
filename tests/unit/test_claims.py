"""Claims of papers: which baseline they are put against, what an interval decides, what a censored figure allows."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from splitaudit.config.claims import Claim
from splitaudit.config.suite import Suite
from splitaudit.plan import Plan
from splitaudit.report.claims import Side, build_claims, compared, decide, weigh
from splitaudit.report.claims_text import claim_rows, claims_markdown

BASE = {
    "name": "c",
    "says": "s",
    "published": "p",
    "defense": "new",
    "against": ["old"],
    "figures": [{"column": "mse"}],
}
PLACE = {"dataset": "d", "backbone": "b", "cut": "c"}
N = 200


def claim(**given: Any) -> Claim:
    limit = {} if {"at_least", "at_most"} & set(given) else {"at_least": 1.3}
    return Claim.model_validate(BASE | limit | given)


class Measured:
    """Stands in for the records: errors per image by cell, accuracy per image by target."""

    def __init__(self, errors: dict[str, Any], accuracy: dict[str, Any]) -> None:
        self.errors, self.right = errors, accuracy

    def reference(self, dataset: str) -> Any:
        return SimpleNamespace(groups=None, measure_groups=None)

    def scores(self, key: str, metric: str) -> Any:
        return SimpleNamespace(whole=self.errors.get(key) if metric == "mse" else None)

    def measured(self, key: str, measure: str) -> Any:
        found = {"per_image": {"accuracy": self.right[key]}, "values": {}} if measure == "accuracy" else None
        return found, SimpleNamespace(status="done")


def results(
    errors: dict[str, float], accuracy: dict[str, float] | None = None, **columns: dict[str, Any]
) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Returns records, targets and cells of defenses with an error each; the decoder is the strongest attack."""
    noise = np.random.default_rng(0).uniform(0.8, 1.2, N)
    right = {d: (accuracy or {}).get(d, 0.9) for d in errors}
    per_image = {f"{d}-decoder": e * noise for d, e in errors.items()} | {
        f"{d}-weak": 3 * e * noise for d, e in errors.items()
    }
    records = Measured(per_image, {d: [float(i < right[d] * N) for i in range(N)] for d in errors})
    targets = [
        {**PLACE, "defense": d, "seed": 0, "key": d, "status": "done", **{c: v.get(d) for c, v in columns.items()}}
        for d in errors
    ]
    cells = [
        {**PLACE, "defense": d, "seed": 0, "attack": a, "knowledge": "query", "key": f"{d}-{a}", "status": "done"}
        for d in errors
        for a in ("decoder", "weak")
    ]
    return records, pd.DataFrame(targets), pd.DataFrame(cells)


def rows_of(made: Claim, found: tuple[Any, pd.DataFrame, pd.DataFrame]) -> list[dict[str, Any]]:
    metrics = [{"name": n, "params": {}} for n in ("mse", "accuracy", "mutual_information")]
    plan = Plan({"metrics": metrics, "claims": [made.model_dump(mode="json")]}, targets=[dict(PLACE)])
    return build_claims(plan, *found).to_dict("records")


def test_the_strongest_attack_and_a_paired_interval_decide() -> None:
    (row,) = rows_of(claim(), results({"new": 1.5, "old": 1.0, "none": 0.1}))
    assert (row["verdict"], row["overall"], row["attack"]) == ("holds", "holds", "decoder")
    # Errors of both sides are proportional image by image, so a paired interval has no width.
    assert row["value"] == pytest.approx(1.5, rel=1e-5)
    assert row["value_lo"] == pytest.approx(row["value_hi"], rel=1e-4)
    (row,) = rows_of(claim(), results({"new": 1.2, "old": 1.0, "none": 0.1}))
    assert row["verdict"] == "does not hold"


def test_the_baseline_is_the_one_that_is_hardest_for_the_claim() -> None:
    errors = {"new": 1.5, "old": 1.0, "better": 1.4, "none": 0.1}
    (row,) = rows_of(claim(against=["old", "better"]), results(errors))
    assert (row["baseline"], row["verdict"]) == ("better", "does not hold")


def test_a_baseline_that_lost_its_accuracy_is_named_and_not_compared_with() -> None:
    errors = {"new": 1.5, "old": 1.0, "better": 9.0, "none": 0.1}
    (row,) = rows_of(claim(against=["old", "better"]), results(errors, {"better": 0.5}))
    assert (row["baseline"], row["verdict"]) == ("old", "holds")
    assert "better" in row["note"]
    (row,) = rows_of(claim(against=["old", "better"], usable_drop=None), results(errors, {"better": 0.5}))
    assert row["baseline"] == "better"


def test_accuracy_is_beside_every_figure_and_can_be_the_figure() -> None:
    made = claim(against=["none"], compare="difference", at_least=-0.03, figures=[{"column": "accuracy"}])
    (row,) = rows_of(made, results({"new": 1.0, "none": 1.0}, {"new": 0.8}))
    assert row["value"] == pytest.approx(-0.1)
    assert (row["accuracy"], row["baseline_accuracy"]) == pytest.approx((0.8, 0.9))
    assert row["verdict"] == "does not hold"


def test_an_exact_figure_is_compared_exactly_and_the_other_way_round_where_asked() -> None:
    made = claim(compare="inverse ratio", at_least=18, figures=[{"column": "edge_flops"}])
    (row,) = rows_of(made, results({"new": 1.0, "old": 1.0, "none": 1.0}, edge_flops={"new": 5, "old": 100, "none": 9}))
    assert (row["value"], row["interval"], row["verdict"]) == (20, "exact", "holds")


def test_a_censored_figure_never_stands_as_a_value_but_its_limit_may_refute() -> None:
    made = claim(at_most=0.5, figures=[{"column": "mi_mine_nats"}])
    information = {
        "mi_mine_nats": {"new": 2.0, "old": math.nan, "none": 1.0},
        "mi_mine_lo": {"new": 1.9, "old": 5.0, "none": 0.9},
        "mi_mine_hi": {"new": 2.1, "old": math.nan, "none": 1.1},
        "mi_mine_status": {"new": "ok", "old": "at_ceiling", "none": "ok"},
    }
    (row,) = rows_of(made, results({"new": 1.0, "old": 1.0, "none": 1.0}, **information))
    assert math.isnan(row["value"])
    assert row["value_hi"] == pytest.approx(2.1 / 5.0)
    assert row["verdict"] == "holds"
    assert "at_ceiling" in row["note"]
    information["mi_mine_status"]["new"] = "at_ceiling"
    (row,) = rows_of(made, results({"new": 1.0, "old": 1.0, "none": 1.0}, **information))
    assert row["verdict"] == "not decided"


def test_bounds_of_a_quantity_give_the_widest_interval() -> None:
    mine, other = Side(None, 1.0, 2.0), Side(None, 5.0, 8.0)
    interval, over = compared(claim(at_most=0.5), mine, other)
    assert interval is not None
    assert (interval.low, interval.high, over) == (1 / 8, 2 / 5, "ends of both figures")


@pytest.mark.parametrize(
    ("limit", "low", "high", "verdict"),
    [
        ({"at_least": 1.3}, 1.3, 1.5, "holds"),
        ({"at_least": 1.3}, 1.0, 1.2, "does not hold"),
        ({"at_least": 1.3}, 1.2, 1.4, "not decided"),
        ({"at_most": 0.5}, 0.1, 0.5, "holds"),
        ({"at_most": 0.5}, 0.6, math.inf, "does not hold"),
        ({"at_most": 0.5}, 0.4, math.inf, "not decided"),
        ({"at_most": 0.5}, math.nan, 0.3, "not decided"),
    ],
)
def test_an_interval_decides_only_as_a_whole(limit: dict[str, float], low: float, high: float, verdict: str) -> None:
    assert decide(claim(**limit), low, high) == verdict


@pytest.mark.parametrize(
    ("verdicts", "overall"),
    [
        ([("published", "holds"), ("trustworthy", "holds")], "holds"),
        ([("published", "holds"), ("trustworthy", "does not hold")], "holds only under the published estimator"),
        ([("published", "does not hold"), ("trustworthy", "does not hold")], "does not hold"),
        ([("trustworthy", "holds"), ("trustworthy", "does not hold")], "does not hold"),
        ([("published", "holds"), ("trustworthy", "not decided")], "not decided"),
        ([("published", "holds")], "holds"),
    ],
)
def test_a_claim_holds_only_if_every_trustworthy_figure_says_so(verdicts: list[Any], overall: str) -> None:
    assert weigh(verdicts) == overall


def test_a_defense_that_failed_decides_nothing() -> None:
    found = results({"new": 1.5, "old": 1.0, "none": 0.1})
    found[1].loc[0, "status"] = "failed"
    (row,) = rows_of(claim(), found)
    assert row["overall"] == "not decided"
    assert "not done for every seed" in row["note"]


def test_an_attack_that_lacks_a_seed_is_no_figure() -> None:
    records, targets, cells = results({"new": 1.5, "old": 1.0, "none": 0.1})
    del records.errors["new-decoder"]
    (row,) = rows_of(claim(), (records, targets, cells))
    assert "weak" in row["attack"]


def test_a_claim_without_or_with_two_limits_is_refused() -> None:
    for limits in ({}, {"at_least": 1.0, "at_most": 2.0}):
        with pytest.raises(ValueError, match="exactly one of at_least and at_most"):
            Claim.model_validate(BASE | limits)


def test_claims_are_no_part_of_what_is_run() -> None:
    from splitaudit.config.suite import RUN_TIME_FIELDS

    assert "claims" in Suite.model_fields
    assert "claims" in RUN_TIME_FIELDS


def test_the_texts_state_each_claim_once_with_its_figures_verdicts_and_accuracies() -> None:
    made = claim(figures=[{"column": "mse", "estimator": "published", "note": "a note"}, {"column": "mse"}])
    found = results({"new": 1.5, "old": 1.0, "none": 0.1})
    plan = Plan({"metrics": [{"name": "mse", "params": {}}], "claims": [made.model_dump(mode="json")]}, targets=[PLACE])
    frame = build_claims(plan, *found)
    first, second = claim_rows(frame)
    assert first[0] == "s [p]"
    assert first[-1] == "holds"
    assert second[0] == second[-1] == ""
    assert "1.5 [1.5, 1.5]" in first
    text = claims_markdown(frame)
    assert text.count("s [p]") == 1
    assert "- c, mse: a note" in text


def test_a_limit_without_end_is_no_number_in_the_table() -> None:
    made = claim(at_most=0.5, figures=[{"column": "mi_mine_nats"}])
    information = {
        "mi_mine_nats": {"new": math.nan, "old": 2.0, "none": 1.0},
        "mi_mine_lo": {"new": 5.0, "old": 1.9, "none": 0.9},
        "mi_mine_hi": {"new": math.nan, "old": 2.1, "none": 1.1},
        "mi_mine_status": {"new": "at_ceiling", "old": "ok", "none": "ok"},
    }
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, **information)
    metrics = [{"name": n, "params": {}} for n in ("mse", "accuracy", "mutual_information")]
    plan = Plan({"metrics": metrics, "claims": [made.model_dump(mode="json")]}, targets=[dict(PLACE)])
    frame = build_claims(plan, *found)
    assert frame.loc[0, "verdict"] == "does not hold"
    assert math.isnan(frame.loc[0, "value_hi"])
    assert "[2.38, ?]" in claim_rows(frame)[0]
