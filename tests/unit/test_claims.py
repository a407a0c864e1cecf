"""Claims of papers: which baseline they are put against, what an interval decides, what a censored figure allows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from claims_records import BASE, PLACE, Measured, N, claim, results, rows_of

from splitaudit.config import load_suite
from splitaudit.config.claims import Claim
from splitaudit.config.suite import Suite
from splitaudit.plan import Plan
from splitaudit.plugins import DEFENSES, METRICS
from splitaudit.report.claims import COLUMNS, build_claims
from splitaudit.report.claims_sentences import measured, needed
from splitaudit.report.claims_sentences import verdict as verdict_of
from splitaudit.report.claims_sides import Side
from splitaudit.report.claims_text import claim_lines, claim_rows, claims_markdown
from splitaudit.report.claims_verdict import compared, decide, weigh
from splitaudit.report.findings import verdicts
from splitaudit.report.meanings import CLAIMS


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


def test_a_baseline_as_accurate_as_the_defense_is_compared_with_however_much_both_lose() -> None:
    """A baseline 1 image in 200 below the defense would else be useless, and the defense that loses as much is not."""
    errors = {"new": 1.5, "old": 1.0, "better": 9.0, "none": 0.1}
    for better, baseline in ((0.8, "better"), (0.795, "better"), (0.7, "old")):
        found = results(errors, {"new": 0.8, "better": better, "none": 0.9, "old": 0.9})
        (row,) = rows_of(claim(against=["old", "better"]), found)
        assert row["baseline"] == baseline
        assert row["verdict"] == ("holds" if baseline == "old" else "does not hold")


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
    assert (row["defense_value_lo"], row["defense_value_hi"], row["baseline_value_lo"]) == (1.9, 2.1, 5.0)
    assert "at least 5.00 with old (accuracy" in measured(row, {})
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
        ([("published", "holds")], "holds only under the published estimator"),
        ([("published", "does not hold")], "does not hold"),
        (
            [("published", "holds"), ("published", "does not hold"), ("trustworthy", "does not hold")],
            "holds only under the published estimator",
        ),
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


@pytest.mark.parametrize("side", ["new", "old"])
@pytest.mark.parametrize("new", [1.0, 1.5])
def test_without_the_strongest_attack_on_either_side_nothing_is_decided(side: str, new: float) -> None:
    records, targets, cells = results({"new": new, "old": 1.0, "none": 0.1})
    del records.errors[f"{side}-decoder"]
    (row,) = rows_of(claim(), (records, targets, cells))
    assert row["verdict"] == "not decided"
    assert f"not complete: decoder on {side}" in row["note"]
    (row,) = rows_of(claim(figures=[{"column": "mse", "attack": "weak"}]), (records, targets, cells))
    assert row["verdict"] == ("holds" if new > 1.3 else "does not hold")


def test_another_baseline_refutes_although_one_lacks_its_strongest_attack() -> None:
    records, targets, cells = results({"new": 1.5, "old": 1.0, "better": 1.4, "none": 0.1})
    del records.errors["old-decoder"]
    (row,) = rows_of(claim(against=["old", "better"]), (records, targets, cells))
    assert (row["baseline"], row["verdict"]) == ("better", "does not hold")


def test_an_attack_that_one_level_of_knowledge_cannot_have_is_still_the_strongest() -> None:
    records, targets, cells = results({"new": 1.5, "old": 1.0, "none": 0.1})
    skipped = cells[cells["attack"] == "decoder"].assign(knowledge="white-box", key="", status="skipped")
    (row,) = rows_of(claim(), (records, targets, pd.concat([cells, skipped], ignore_index=True)))
    assert (row["attack"], row["verdict"]) == ("decoder", "holds")


def test_a_cell_that_was_not_run_is_not_asked_for_its_scores() -> None:
    records, targets, cells = results({"new": 1.5, "old": 1.0, "none": 0.1})
    cells.loc[(cells["defense"] == "old") & (cells["attack"] == "decoder"), "status"] = "not run"
    (row,) = rows_of(claim(), (records, targets, cells))
    assert "not complete: decoder on old" in row["note"]


def test_a_claim_without_or_with_two_limits_is_refused() -> None:
    for limits in ({}, {"at_least": 1.0, "at_most": 2.0}):
        with pytest.raises(ValueError, match="exactly one of at_least and at_most"):
            Claim.model_validate(BASE | limits)


def test_a_claim_whose_figures_have_no_vote_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one with decides"):
        claim(figures=[{"column": "mse", "decides": False}])


def test_claims_are_no_part_of_what_is_run() -> None:
    from splitaudit.config.suite import RUN_TIME_FIELDS

    assert "claims" in Suite.model_fields
    assert "claims" in RUN_TIME_FIELDS


def test_the_texts_state_each_claim_once_with_its_figures_verdicts_and_accuracies() -> None:
    made = claim(figures=[{"column": "mse", "estimator": "published", "note": "a note"}, {"column": "mse"}])
    found = results({"new": 1.5, "old": 1.0, "none": 0.1})
    plan = Plan({"metrics": [{"name": "mse", "params": {}}], "claims": [made.model_dump(mode="json")]}, targets=[PLACE])
    frame = build_claims(plan, *found)
    first, second = claim_rows(frame, {"mse": "mean squared error"})
    assert first[0] == "s (published: p)"
    assert first[-1] == "holds"
    assert second[0] == second[-1] == ""
    assert second[1] == (
        "Mean squared error under decoder: 1.524 with new, 1.016 with old. "
        "The ratio (new / old) is 1.5 [1.5, 1.5]; the claim needs at least 1.3."
    )
    assert second[2] == "holds"
    assert "computed as in the paper's code" in first[1]
    text = claims_markdown(frame, {"mse": "mean squared error"})
    assert text.count("s (published: p)") == 1
    assert "- s, by mean squared error: a note" in text


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
    assert "The ratio (new / old) lies in [2.38, no limit]; the claim needs at most 0.5." in claim_rows(frame, {})[0][1]


# -- several baselines ------------------------------------------------------------------------------------------------

SAME = {"new": 1.0, "old": 1.0, "old2": 1.0, "none": 1.0}


def mine(**known: tuple[float, float, float, str]) -> dict[str, dict[str, Any]]:
    """Returns columns of the mutual information: value, ends and status by defense."""
    known.setdefault("none", (3.0, 2.9, 3.1, "ok"))
    names = ("mi_mine_nats", "mi_mine_lo", "mi_mine_hi", "mi_mine_status")
    return {name: {d: v[i] for d, v in known.items()} for i, name in enumerate(names)}


def both_orders(found: tuple[Any, pd.DataFrame, pd.DataFrame], **given: Any) -> dict[str, Any]:
    """Returns the row of a claim against two baselines, which must not depend on their order."""
    (row,), (other,) = (rows_of(claim(against=a, **given), found) for a in (["old", "old2"], ["old2", "old"]))
    assert {k: row[k] for k in ("baseline", "verdict", "interval")} == {
        k: other[k] for k in ("baseline", "verdict", "interval")
    }
    return row


INFORMATION = {"at_most": 0.5, "figures": [{"column": "mi_mine_nats"}]}
BOUNDS = {"at_most": 0.5, "figures": [{"column": "mi_lower_nats", "high": "mi_upper_nats"}]}


def test_a_censored_baseline_leaves_open_what_another_one_allows() -> None:
    columns = mine(
        new=(1.0, 0.95, 1.05, "ok"), old=(math.nan, 1.25, math.nan, "at_ceiling"), old2=(2.3, 2.25, 2.35, "ok")
    )
    row = both_orders(results(SAME, **columns), **INFORMATION)
    assert (row["baseline"], row["verdict"]) == ("old", "not decided")
    assert row["value_hi"] == pytest.approx(1.05 / 1.25)


def test_bounds_that_allow_everything_leave_a_claim_open() -> None:
    lower, upper = {"new": 0.8, "old": 0.0, "old2": 2.4, "none": 3}, {"new": 1.0, "old": 3.0, "old2": 2.6, "none": 4}
    row = both_orders(results(SAME, mi_lower_nats=lower, mi_upper_nats=upper), **BOUNDS)
    assert (row["baseline"], row["verdict"]) == ("old", "not decided")


def test_bounds_that_contradict_each_other_are_no_figure() -> None:
    lower, upper = {"new": 1.2, "old": 9.0, "none": 3}, {"new": 1.0, "old": 10.0, "none": 4}
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, mi_lower_nats=lower, mi_upper_nats=upper)
    (row,) = rows_of(claim(**BOUNDS), found)
    assert row["verdict"] == "not decided"
    assert "one of the bounds is wrong" in row["note"]


def test_one_baseline_refutes_beside_a_vaguer_one_that_looks_worse() -> None:
    lower, upper = {"new": 1.0, "old": 1.5, "old2": 0.7, "none": 3}, {"new": 1.1, "old": 1.6, "old2": 9.0, "none": 4}
    row = both_orders(results(SAME, mi_lower_nats=lower, mi_upper_nats=upper), **BOUNDS)
    assert (row["baseline"], row["verdict"]) == ("old", "does not hold")
    assert (row["value_lo"], row["value_hi"]) == pytest.approx((1.0 / 1.6, 1.1 / 1.5))


def test_of_two_that_refute_the_clearer_one_is_shown() -> None:
    lower, upper = {"new": 1.0, "old": 1.0, "old2": 0.2, "none": 3}, {"new": 1.1, "old": 1.1, "old2": 1.9, "none": 4}
    row = both_orders(results(SAME, mi_lower_nats=lower, mi_upper_nats=upper), **BOUNDS)
    assert (row["baseline"], row["verdict"]) == ("old", "does not hold")


def test_a_censored_and_a_missing_baseline_among_three_leave_a_claim_open() -> None:
    errors = SAME | {"old3": 1.0}
    columns = mine(
        new=(1.0, 0.95, 1.05, "ok"),
        old=(math.nan, 5.0, math.nan, "at_ceiling"),
        old2=(math.nan, math.nan, math.nan, "invalid"),
        old3=(4.0, 3.9, 4.1, "ok"),
    )
    made = claim(against=["old", "old2", "old3"], **INFORMATION)
    (row,) = rows_of(made, results(errors, **columns))
    assert (row["baseline"], row["verdict"]) == ("old3", "not decided")
    assert "no figure of old2: mi_mine_nats: invalid" in row["note"]
    columns["mi_mine_nats"]["old2"], columns["mi_mine_status"]["old2"] = 4.0, "ok"
    columns["mi_mine_lo"]["old2"], columns["mi_mine_hi"]["old2"] = 3.9, 4.1
    (row,) = rows_of(made, results(errors, **columns))
    assert row["verdict"] == "holds"


@pytest.mark.parametrize(("new", "verdict"), [(1.5, "not decided"), (1.2, "does not hold")])
def test_a_failed_baseline_confirms_nothing_and_another_one_still_refutes(new: float, verdict: str) -> None:
    found = results({"new": new, "old": 1.0, "old2": 3.0, "none": 0.1})
    found[1].loc[2, "status"] = "failed"
    row = both_orders(found)
    assert (row["baseline"], row["verdict"]) == ("old", verdict)
    assert "'old2' is not done for every seed" in row["note"]


def test_a_baseline_that_cannot_exist_here_is_named_and_does_not_count() -> None:
    found = results({"new": 1.5, "old": 1.0, "old2": 3.0, "none": 0.1})
    found[1].loc[2, ["status", "key"]] = ["skipped", ""]
    row = both_orders(found)
    assert row["verdict"] == "holds"
    assert "'old2' is not in the suite" in row["note"]


# -- ratios with 0, figures without an interval -----------------------------------------------------------------------


def test_a_baseline_that_carries_nothing_refutes_that_less_is_carried() -> None:
    columns = mine(new=(1.0, 0.95, 1.05, "ok"), old=(0.0, 0.0, 0.0, "constant"), old2=(2.3, 2.25, 2.35, "ok"))
    row = both_orders(results(SAME, **columns), **INFORMATION)
    assert (row["baseline"], row["verdict"]) == ("old", "does not hold")
    assert "infinite" in row["note"]


def test_an_infinite_comparison_is_called_so_in_the_table() -> None:
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, edge_flops={"new": 5, "old": 0, "none": 9})
    made = claim(at_most=0.5, figures=[{"column": "edge_flops"}])
    metrics = [{"name": "cost", "params": {}}]
    frame = build_claims(Plan({"metrics": metrics, "claims": [made.model_dump(mode="json")]}, targets=[PLACE]), *found)
    assert "The ratio (new / old) is infinite" in claim_rows(frame, {})[0][1]


def test_a_constant_wire_carries_0_nats_which_is_a_value() -> None:
    columns = mine(new=(0.0, 0.0, 0.0, "constant"), old=(2.0, 1.9, 2.1, "ok"))
    (row,) = rows_of(claim(**INFORMATION), results({"new": 1.0, "old": 1.0, "none": 1.0}, **columns))
    assert (row["value"], row["verdict"]) == (0, "holds")


@pytest.mark.parametrize(
    ("limit", "ends", "verdict"),
    [
        ({"at_least": 2}, (1.0, 1.0), "holds"),
        ({"at_most": 2}, (1.0, 1.0), "does not hold"),
        ({"at_least": 2}, (0.0, 0.0), "not decided"),
        ({"at_most": 2}, (0.0, 0.0), "not decided"),
        ({"at_most": 2}, (0.0, 1.0), "not decided"),
    ],
)
def test_what_is_divided_by_nothing_is_infinite_and_nothing_by_nothing_is_open(
    limit: dict[str, float], ends: tuple[float, float], verdict: str
) -> None:
    made = claim(**limit)
    interval, _ = compared(made, Side(None, *ends), Side(0.0, 0.0, 0.0))
    assert interval is not None
    assert decide(made, interval.low, interval.high) == verdict
    errors = np.zeros((1, 20)), np.full((1, 20), ends[0])
    interval, _ = compared(made, Side(ends[0], *ends, errors[1]), Side(0.0, 0.0, 0.0, errors[0]))
    assert interval is not None
    if ends[0] == ends[1]:  # errors per image have no ends of their own
        assert decide(made, interval.low, interval.high) == verdict


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("ends", [(math.nan, 1.0), (1.0, math.nan)])
@pytest.mark.parametrize("compare", ["ratio", "inverse ratio", "difference"])
def test_a_side_with_an_unknown_end_is_not_compared(side: int, ends: tuple[float, float], compare: str) -> None:
    sides = [Side(1.0, 0.9, 1.1), Side(1.0, 0.9, 1.1)]
    sides[side] = Side(None, *ends)
    assert compared(claim(compare=compare), *sides)[0] is None


def test_errors_of_other_seeds_are_compared_by_their_own_intervals() -> None:
    noise = np.random.default_rng(0).uniform(0.5, 1.5, (3, N))
    interval, over = compared(claim(), Side(1.0, 1.0, 1.0, noise[:1]), Side(1.0, 1.0, 1.0, noise[1:]))
    assert interval is not None
    assert over == "ends of both figures"
    assert interval.low < interval.value < interval.high


def test_a_paired_interval_that_straddles_the_threshold_decides_nothing() -> None:
    records, targets, cells = results({"new": 1.32, "old": 1.0, "none": 0.1})
    records.errors["old-decoder"] = np.random.default_rng(1).permutation(records.errors["old-decoder"])
    (row,) = rows_of(claim(), (records, targets, cells))
    assert row["value_lo"] < 1.3 < row["value"] < row["value_hi"]
    assert row["verdict"] == "not decided"
    (row,) = rows_of(claim(at_least=1.2), (records, targets, cells))
    assert row["verdict"] == "holds"


def test_a_single_reading_decides_nothing_but_arithmetic_and_intervals_do() -> None:
    made = claim(at_most=0.5, figures=[{"column": "eiv_dims"}])
    volumes = {"new": 4.0, "old": 10.0, "none": 12.0}
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, eiv_dims=volumes)
    (row,) = rows_of(made, found)
    assert (row["value"], row["interval"], row["verdict"]) == (0.4, "none: a single reading", "not decided")
    assert math.isnan(row["value_lo"])
    found[1]["eiv_dims_lo"], found[1]["eiv_dims_hi"] = found[1]["eiv_dims"] - 0.1, found[1]["eiv_dims"] + 0.1
    (row,) = rows_of(made, found)
    assert (row["interval"], row["verdict"]) == ("ends of both figures; one seed: training noise not included", "holds")
    assert row["value_hi"] == pytest.approx(4.1 / 9.9)


def test_a_latency_is_no_arithmetic() -> None:
    made = claim(at_most=0.5, figures=[{"column": "timing_edge_latency_median_ms"}])
    times = {"new": 4.0, "old": 10.0, "none": 12.0}
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, timing_edge_latency_median_ms=times)
    suite = {"metrics": [{"name": "latency", "params": {}}], "claims": [made.model_dump(mode="json")]}
    (row,) = build_claims(Plan(suite, targets=[dict(PLACE)]), *found).to_dict("records")
    assert (row["interval"], row["verdict"]) == ("none: a single reading", "not decided")


def test_a_value_without_an_interval_says_so_in_the_table() -> None:
    made = claim(at_most=0.5, figures=[{"column": "eiv_dims"}])
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, eiv_dims={"new": 4.0, "old": 10.0, "none": 12.0})
    frame = build_claims(Plan({"metrics": [], "claims": [made.model_dump(mode="json")]}, targets=[PLACE]), *found)
    assert "The ratio (new / old) is 0.4 (no interval)" in claim_rows(frame, {})[0][1]
    assert claim_rows(frame, {})[0][2] == "not decided (without an interval nothing is decided)"


# -- several seeds ----------------------------------------------------------------------------------------------------


def seeded(
    found: tuple[Any, pd.DataFrame, pd.DataFrame], shifts: list[float], *columns: str
) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Returns results with a seed per shift, which is added to columns of targets and to the errors of cells."""
    records, targets, cells = found
    errors, right = {}, {}
    parts: list[list[pd.DataFrame]] = [[], []]
    for seed, shift in enumerate(shifts):
        moved = targets.assign(seed=seed, key=targets["key"] + f"/{seed}")
        for column in columns:
            moved[column] += shift
        parts[0].append(moved)
        parts[1].append(cells.assign(seed=seed, key=cells["key"] + f"/{seed}"))
        right |= {f"{k}/{seed}": v for k, v in records.right.items()}
        errors |= {f"{k}/{seed}": v + (shift if k.startswith("new") else 0) for k, v in records.errors.items()}
    made = [pd.concat(p, ignore_index=True) for p in parts]
    return Measured(errors, right), made[0], made[1]


def test_the_spread_of_seeds_is_in_the_interval_of_a_figure_of_targets() -> None:
    columns = mine(new=(1.0, 0.99, 1.01, "ok"), old=(2.1, 2.09, 2.11, "ok"))
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, **columns)
    (row,) = rows_of(claim(**INFORMATION), found)
    assert row["verdict"] == "holds"
    (row,) = rows_of(claim(**INFORMATION), seeded(found, [-0.6, 0.0, 0.6], "mi_mine_nats", "mi_mine_lo", "mi_mine_hi"))
    logs = np.log(np.array([0.4, 1.0, 1.6]) / np.array([1.5, 2.1, 2.7]))
    half = 4.302653 * logs.std(ddof=1) / math.sqrt(3)  # the readings' own ends add next to nothing
    ends = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    assert (row["value"], row["value_lo"], row["value_hi"]) == pytest.approx(tuple(ends), rel=1e-3)
    assert (row["interval"], row["verdict"]) == ("seeds, paired, and ends of both figures", "not decided")


def test_what_a_seed_does_to_both_sides_cancels_in_their_ratio_and_their_difference() -> None:
    columns = mine(new=(1.0, 1.0, 1.0, "ok"), old=(3.0, 3.0, 3.0, "ok"))
    records, targets, cells = seeded(results({"new": 1.0, "old": 1.0, "none": 1.0}, **columns), [0.0, 0.0])
    doubled = targets["seed"] == 1
    for column in ("mi_mine_nats", "mi_mine_lo", "mi_mine_hi"):
        targets.loc[doubled, column] *= 2
    (row,) = rows_of(claim(**INFORMATION), (records, targets, cells))
    assert (row["value"], row["value_lo"], row["value_hi"]) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert row["verdict"] == "holds"
    difference = {**INFORMATION, "compare": "difference", "at_most": -1.5}
    (row,) = rows_of(claim(**difference), (records, targets, cells))
    assert row["value"] == pytest.approx(-3.0)
    assert row["value_hi"] > -1.5, "a difference of 2 and one of 4"


def test_bounds_and_limits_of_several_seeds_take_their_extreme_ends() -> None:
    lower, upper = {"new": 1.0, "old": 4.0, "none": 3.0}, {"new": 1.2, "old": 5.0, "none": 4.0}
    found = results({"new": 1.0, "old": 1.0, "none": 1.0}, mi_lower_nats=lower, mi_upper_nats=upper)
    (row,) = rows_of(claim(**BOUNDS), seeded(found, [-0.5, 0.5], "mi_lower_nats", "mi_upper_nats"))
    assert (row["value_lo"], row["value_hi"]) == pytest.approx((0.5 / 5.5, 1.7 / 3.5))
    assert row["verdict"] == "holds"


def test_two_seeds_that_disagree_decide_nothing_on_the_error() -> None:
    found = results({"new": 1.5, "old": 1.0, "none": 0.1})
    (row,) = rows_of(claim(), seeded(found, [0.0, 0.0]))
    assert (row["verdict"], row["interval"]) == ("holds", "images and seeds, paired")
    (row,) = rows_of(claim(), seeded(found, [-0.1, 0.1]))
    assert row["value_lo"] < 1.3 < row["value"]
    assert row["verdict"] == "not decided"


# -- use of the defense, doubts ---------------------------------------------------------------------------------------


def test_a_baseline_that_is_more_accurate_than_the_defense_is_never_left_out() -> None:
    found = results({"new": 2.0, "old": 1.0, "better": 1.9, "none": 0.1}, {"new": 0.6, "better": 0.8})
    (row,) = rows_of(claim(against=["old", "better"]), found)
    assert (row["baseline"], row["verdict"]) == ("better", "does not hold")
    assert "new itself loses 30.0 points" in row["note"]


def test_a_baseline_that_loses_exactly_what_is_allowed_is_compared_with() -> None:
    (row,) = rows_of(claim(), results({"new": 1.5, "old": 1.0, "none": 0.1}, {"old": 0.85}))
    assert row["baseline"] == "old"


def test_a_useless_defense_is_no_evidence_except_of_its_accuracy() -> None:
    found = results({"new": 2.0, "old": 1.0, "none": 0.1}, {"new": 0.1}, flags={"new": "accuracy at chance (0.1)"})
    (row,) = rows_of(claim(), found)
    assert row["verdict"] == "not decided"
    assert "new is useless: no evidence" in row["note"]
    made = claim(against=["none"], compare="difference", at_least=-0.03, figures=[{"column": "accuracy"}])
    assert rows_of(made, found)[0]["verdict"] == "does not hold"


def test_a_baseline_whose_use_is_not_known_may_confirm_but_not_refute() -> None:
    for new, verdict in ((1.5, "holds"), (1.2, "not decided")):
        found = results({"new": new, "old": 1.0, "none": 0.1}, {"old": 0.8})
        found[1].loc[2, "status"] = "failed"
        (row,) = rows_of(claim(), found)
        assert row["verdict"] == verdict
    assert "whether old lost too much accuracy is not known" in row["note"]


def test_what_had_not_come_to_its_end_is_named() -> None:
    records, targets, cells = results(
        {"new": 1.5, "old": 1.0, "none": 0.1}, val_rising={"new": True, "old": False, "none": True}
    )
    cells["converged"] = pd.array([None, None, False, None, None, None], dtype="boolean")
    (row,) = rows_of(claim(), (records, targets, cells))
    assert row["note"] == "validation accuracy still rising: new; not converged: decoder on old"
    records, targets, cells = seeded((records, targets, cells), [0.0, 0.0])
    targets.loc[0, "val_rising"] = False
    (row,) = rows_of(claim(), (records, targets, cells))
    assert "still rising: new (1 of 2 seeds);" in row["note"]


def test_a_figure_that_is_only_shown_has_no_vote_and_half_of_the_published_ones_are_counted() -> None:
    figures: list[dict[str, Any]] = [
        {"column": "mse", "attack": "decoder", "estimator": "published"},
        {"column": "mi_mine_nats", "estimator": "published"},
        {"column": "mse"},
        {"column": "eiv_dims"},
    ]
    columns = mine(new=(1.0, 0.9, 1.1, "ok"), old=(1.0, 0.9, 1.1, "ok")) | {"eiv_dims": {"new": 1.0, "old": 1.0}}
    found = results({"new": 1.5, "old": 1.0, "none": 0.1}, **columns)
    assert rows_of(claim(figures=figures), found)[0]["overall"] == "not decided"
    figures[3]["decides"] = False
    rows = rows_of(claim(figures=figures), found)
    assert {r["overall"] for r in rows} == {"holds"}
    assert [r["decides"] for r in rows] == [True, True, True, False]
    found[0].errors["new-weak"] = found[0].errors["old-weak"] / 3
    rows = rows_of(claim(figures=figures), found)
    assert rows[2]["verdict"] == "does not hold"
    assert {r["overall"] for r in rows} == {"holds only under the published estimator"}
    assert "1 of 2 published figures hold" in rows[0]["note"]


def test_a_note_on_all_figures_of_a_claim_is_said_once() -> None:
    made = claim(figures=[{"column": "mse", "attack": "weak", "note": "weak"}, {"column": "mse", "decides": False}])
    found = results({"new": 1.5, "old": 1.0, "none": 0.1}, val_rising={"new": True, "old": True})
    metrics = [{"name": "mse", "params": {}}]
    frame = build_claims(Plan({"metrics": metrics, "claims": [made.model_dump(mode="json")]}, targets=[PLACE]), *found)
    text = claims_markdown(frame, {})
    assert text.count("still rising") == 1
    assert "- s: validation accuracy still rising: new, old\n" in text
    assert "- s, by mse: weak\n" in text
    assert [line.common for line in claim_lines(frame, {})] == [("validation accuracy still rising: new, old",), ()]
    assert [line.why for line in claim_lines(frame, {})] == ["", "only shown: it has no vote"]


ROW = rows_of(claim(), results({"new": 1.5, "old": 1.0, "none": 0.1}))[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "The ratio (new / old) is 1.5 [1.5, 1.5]; the claim needs at least 1.3."),
        ({"threshold": "<= 0.5"}, "the claim needs at most 0.5."),
        ({"compare": "inverse ratio"}, "The ratio (old / new) is 1.5"),
        ({"compare": "difference"}, "The difference (new less old) is +1.5 [+1.5, +1.5]"),
        ({"interval": "exact"}, "The ratio (new / old) is 1.5, exactly"),
        ({"attack": "rmle; decoder"}, "under rmle on new and decoder on old: 1.524 with new"),
        ({"baseline": ""}, "1.524 with new (accuracy 0.900); there is nothing to compare it with."),
        ({"defense_value": None, "baseline": ""}, "no figure with new (accuracy 0.900); there is nothing"),
        (
            {"defense_value": None, "defense_value_lo": 1.0, "defense_value_hi": 2.0},
            "between 1.00 and 2.00 with new (accuracy",
        ),
    ],
)
def test_what_was_measured_is_a_sentence(change: dict[str, Any], said: str) -> None:
    text = measured(ROW | change, {"mse": "mean squared error"})
    assert said in text
    assert text.startswith("Mean squared error")
    assert text.endswith(".")
    assert "nan" not in text
    assert "None" not in text


@pytest.mark.parametrize(
    ("threshold", "words"),
    [
        (">= 1e-09", "more than 0"),
        ("<= -1e-09", "less than 0"),
        (">= -0.03", "at least -0.03"),
        ("<= 0.5", "at most 0.5"),
    ],
)
def test_what_a_claim_needs_is_said_in_words(threshold: str, words: str) -> None:
    assert needed({"threshold": threshold}) == words


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"value_lo": 1.2, "value_hi": 1.6}, "the interval holds values on both sides of 1.3"),
        ({"value_lo": -1.0, "value_hi": 1.0, "threshold": ">= 1e-09"}, "the interval holds values on both sides of 0"),
        ({"value_lo": math.nan, "value_hi": math.nan}, "without an interval nothing is decided"),
        ({"baseline": ""}, "no comparison"),
        ({"note": "new is useless: no evidence"}, "the defense does not do its task, so it is no evidence"),
        ({}, "it holds for this baseline, and something is missing: see the notes"),
        (
            {"value_lo": 1.0, "value_hi": 1.2},
            "it fails for this baseline, and something is missing: see the notes",
        ),
        (
            {"value_lo": 1.4, "value_hi": 1.6, "threshold": "<= 1.3"},
            "it fails for this baseline, and something is missing: see the notes",
        ),
        (
            {"value_lo": 1.0, "value_hi": 1.2, "threshold": "<= 1.3"},
            "it holds for this baseline, and something is missing: see the notes",
        ),
        ({"decides": False, "baseline": ""}, "no comparison; only shown: it has no vote"),
    ],
)
def test_what_is_not_decided_says_why(change: dict[str, Any], why: str) -> None:
    assert verdict_of(ROW | {"verdict": "not decided"} | change) == ("not decided", why)


def test_the_verdicts_are_counted_each_with_its_statements() -> None:
    frame = pd.DataFrame(
        [ROW | {"claim": str(i), "says": f"s{i}.", "overall": "holds" if i else "not decided"} for i in range(3)]
    )
    assert verdicts(frame) == [("holds", ["s1", "s2"]), ("not decided", ["s0"])]
    two = pd.concat([frame, frame.assign(cut="other")])
    assert verdicts(two)[1] == ("not decided", ["s0 (d, b, c)", "s0 (d, b, other)"])


def test_the_results_format_lists_every_column_of_the_claims() -> None:
    text = (Path(__file__).parents[2] / "docs" / "results-format.md").read_text(encoding="utf-8")
    listed = text.split("### claims.csv\n", 1)[1].split("\n### ", 1)[0].splitlines()
    rows = [f"| `{name}` | {CLAIMS[name][0]} | {CLAIMS[name][1]} |" for name in COLUMNS]
    assert [line for line in listed if line.startswith("| `")] == rows


# -- claims that defenses declare ---------------------------------------------------------------------------------------


def declared(**change: Any) -> list[Claim]:
    suite = {"preset": "smoke", "defenses": ["none", {"name": "noise", "sweep": {"sigma": [0.5, 1.0]}}, "vib", "topk"]}
    return load_suite({**suite, "declared_claims": True, **change}).claims


def test_each_setting_of_a_defense_is_tested_on_what_its_source_says() -> None:
    found = {(c.defense, c.figures[0].column): c for c in declared(metrics=["mse", "mutual_information"])}
    assert set(found) == {
        ("noise(sigma=0.5)", "mse"), ("noise(sigma=1)", "mse"), ("vib", "mse"), ("vib", "mi_lower_nats")
    }  # fmt: skip
    error, bits = found["vib", "mse"], found["vib", "mi_lower_nats"]
    assert (error.against, error.compare, error.usable_drop) == (["none"], "difference", None)
    assert error.at_least is not None
    assert error.at_least > 0, "what has not moved does not hold"
    assert bits.figures[0].high == "mi_upper_nats", "what the bounds leave open is not decided"
    assert bits.at_most is not None
    assert bits.at_most < 0
    assert len({c.name for c in found.values()}) == 4


def test_what_is_not_measured_or_has_no_baseline_is_not_claimed() -> None:
    assert {c.figures[0].column for c in declared(metrics=["mse", "accuracy"])} == {"mse"}
    assert declared(defenses=["noise"]) == []
    assert declared(defenses=["none", "nopeek+noise"]) == []
    assert load_suite({"preset": "smoke", "name": "x"}).claims == []


def test_declared_claims_stand_beside_those_of_the_suite_and_are_spelled_out() -> None:
    own = claim(defense="noise(sigma=1)", against=["none"]).model_dump(mode="json")
    suite = load_suite(
        {
            "preset": "smoke",
            "defenses": ["none", {"name": "noise", "sweep": {"sigma": [0.5, 1.0]}}],
            "metrics": ["mse"],
            "claims": [own],
            "declared_claims": True,
        }
    )
    assert [c.defense for c in suite.claims] == ["noise(sigma=1)", "noise(sigma=0.5)", "noise(sigma=1)"]
    assert not suite.declared_claims
    assert load_suite(suite) == suite


def test_every_figure_that_a_built_in_declares_is_a_column_that_some_metric_fills() -> None:
    columns = {c for n in METRICS.names() for c in (getattr(METRICS.get(n), "columns", None) or {n})}
    for name in DEFENSES.names():
        assert set(DEFENSES.get(name).claims) <= columns, name
