"""A perfect copy has an infinite PSNR: it is stored, counts as the best there is, and breaks no mean, table or figure."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from audited_records import METRICS, N, audited
from claims_records import claim, results
from report_frames import texts

from splitaudit.pixels import to_float
from splitaudit.plan import Plan
from splitaudit.report.cells import build_cells
from splitaudit.report.claims import build_claims
from splitaudit.report.claims_text import claim_rows
from splitaudit.report.frames import csv, plain_rows
from splitaudit.report.matrix import build_matrix
from splitaudit.report.page_tables import worst_row
from splitaudit.report.plot_heatmap import heatmap
from splitaudit.report.reading import Records, parse_scores
from splitaudit.report.summary import build_summary
from splitaudit.report.tables import build_per_image
from splitaudit.report.worst_case import build_worst_case
from splitaudit.scoring import score_all, stored_value
from splitaudit.stats import Interval, mean_interval, paired_difference
from splitaudit.store import new_record, records

PSNR = {"name": "psnr", "key": "k-psnr", "params": {}}
TRUTH = torch.randint(0, 256, (N, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def guess(error: int, *, copies: int = 0) -> torch.Tensor:
    """Returns reconstructions that are off by so many steps of 8 bits, the first few of them exact."""
    off = torch.where(TRUTH < 128, TRUTH + error, TRUTH - error)
    off[:copies] = TRUTH[:copies]
    return off


def scored(stored: torch.Tensor) -> dict[str, Any]:
    """Returns the PSNR of reconstructions as it comes out of a stored record."""
    score = score_all([PSNR], to_float(TRUTH), stored)["psnr"]
    record = new_record("cell", {"a": 1}, scores={"psnr": score})
    return records.parse(json.dumps(record, allow_nan=False), "file")["scores"]["psnr"]


def run_of(attacks: dict[str, torch.Tensor], defense: str = "none") -> tuple[Plan, Records]:
    """Returns plan and records of attacks on one target, with mse and psnr as they would be stored."""
    errors = {
        (defense, a, 0): (to_float(g) - to_float(TRUTH)).square().mean((1, 2, 3)).numpy() for a, g in attacks.items()
    }
    return with_psnr(errors, {f"{defense}-{a}-0": g for a, g in attacks.items()})


def with_psnr(errors: Any, guesses: dict[str, torch.Tensor]) -> tuple[Plan, Records]:
    plan, made = audited(errors)
    plan.suite["metrics"] = [{"name": n, "params": {}} for n in ("mse", "psnr", "accuracy")]
    plan.metrics = {**METRICS, "psnr": PSNR["key"]}

    def read(kind: str, key: str) -> Any:
        record = made.read(kind, key)
        return record if key not in guesses else {**record, "scores": record["scores"] | {"psnr": scored(guesses[key])}}

    return plan, Records(plan, read)


@pytest.mark.parametrize(
    ("value", "best", "stored"),
    [
        (1.5, math.inf, 1.5),
        (math.inf, math.inf, "inf"),
        (-math.inf, -math.inf, "-inf"),
        (-math.inf, math.inf, None),
        (math.inf, 0.0, None),
        (math.inf, None, None),
        (math.nan, math.inf, None),
    ],
)
def test_infinity_is_stored_where_it_is_the_value_of_a_perfect_copy_and_nowhere_else(
    value: float, best: float | None, stored: Any
) -> None:
    assert stored_value(value, best) == stored


def test_the_psnr_of_a_perfect_copy_survives_storage_as_infinity() -> None:
    score = scored(guess(20, copies=1))
    assert score["values"][0] == "inf"
    assert score["reason"] is None
    found = parse_scores(score, PSNR["key"]).whole
    assert found is not None
    assert found[0] == np.inf
    assert np.isfinite(found[1:]).all()


def test_an_attack_that_copies_one_image_exactly_is_the_worst_case_by_psnr() -> None:
    """The other is better by 2 dB on every other image: its finite mean was named before."""
    plan, found = run_of({"copy": guess(20, copies=1), "even": guess(16)})
    cases = {r["metric"]: r for r in build_worst_case(plan, found).to_dict("records")}
    assert cases["psnr"]["attack"] == "copy"
    assert cases["psnr"]["incomplete"] == ""
    assert (cases["psnr"]["value"], cases["psnr"]["value_hi"]) == (np.inf, np.inf)
    assert cases["psnr"]["envelope"] == np.inf
    assert 20 < cases["psnr"]["value_lo"] < 25  # two of four groups in five are drawn without it
    assert cases["psnr"]["best_at"] == "even 92 %, copy 8 %"


def test_of_attacks_with_perfect_copies_the_one_with_more_of_them_is_the_worst_case() -> None:
    """Both means are infinite: the first in the suite was named."""
    plan, found = run_of({"one": guess(20, copies=1), "three": guess(16, copies=3)})
    (case,) = (r for r in build_worst_case(plan, found).to_dict("records") if r["metric"] == "psnr")
    assert case["attack"] == "three"


def test_tables_pages_and_figures_hold_infinity() -> None:
    attacks = {"copy": guess(20, copies=1), "exact": guess(0), "even": guess(16)}
    plan, found = run_of(attacks)
    cells = build_cells(plan, found).set_index("attack")
    assert cells.loc["copy", "psnr"] == np.inf
    assert cells.loc["exact", "psnr_lo"] == np.inf
    assert cells.loc["copy", "reason"] == ""
    assert math.isfinite(cells.loc["even", "psnr"])
    summary = build_summary(plan, found)
    assert summary.loc[0, "worst_attack"] == "exact"
    assert summary.loc[0, "psnr"] == np.inf
    assert "inf" in csv(summary).splitlines()[1].split(",")
    assert plain_rows(summary)[0]["psnr"] == "inf"
    json.dumps(plain_rows(summary), allow_nan=False)
    images = build_per_image(plan, found)
    assert images[images["attack"] == "copy"]["psnr"].tolist()[0] == np.inf
    case = build_worst_case(plan, found)
    shown = worst_row(case[case["metric"] == "psnr"].to_dict("records")[0])
    assert shown[4].text == "∞"
    matrix = build_matrix(plan, found)
    assert any("∞" in t.get_text() for t in texts(heatmap(matrix, "psnr")))
    assert any("∞" in t.get_text() for t in texts(heatmap(matrix[matrix["attack"] == "exact"], "psnr")))


@pytest.mark.parametrize(("none", "other", "alike"), [(1, 1, True), (12, 12, True), (12, 0, False), (0, 12, False)])
def test_perfect_copies_on_both_sides_do_not_differ(none: int, other: int, alike: bool) -> None:
    errors = {("none", "a", 0): 0.1, ("x", "a", 0): 0.1}
    guesses = {"none-a-0": guess(20, copies=none), "x-a-0": guess(20, copies=other)}
    rows = build_matrix(*with_psnr(errors, guesses)).set_index("defense")
    assert rows.loc["x", "psnr_alike"] == alike


def test_differences_of_infinite_values_are_0_infinite_or_not_known() -> None:
    one, other = np.array([np.inf, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 2.0, 3.0])
    assert paired_difference(one, one) == (0, 0, 0)
    assert paired_difference(one, other) == (np.inf, 0, np.inf)
    assert paired_difference(other, one) == (-np.inf, -np.inf, 0)
    value, low, high = paired_difference(one, one[::-1])
    assert math.isnan(value)
    assert (low, high) == (-np.inf, np.inf)
    assert paired_difference(np.stack([one, one]), np.stack([other, other])) == (np.inf, 0, np.inf)
    assert mean_interval([-np.inf, 1.0]) == Interval(-np.inf, -np.inf, 1.0)
    with pytest.raises(ValueError, match="both signs"):
        mean_interval([-np.inf, np.inf])


@pytest.mark.parametrize(("copies", "verdict"), [(200, "holds"), (100, "holds"), (0, "does not hold")])
def test_a_claim_is_decided_where_the_baseline_is_copied_perfectly(
    copies: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The defense is claimed to lower the PSNR by 3 dB."""
    found = results({"new": 1.0, "old": 0.9, "none": 0.1})
    mse = found[0].scores

    def scores(key: str, metric: str) -> Any:
        score = mse(key, "mse")
        if metric == "psnr":
            score.whole = -10 * np.log10(score.whole)
            if key.startswith("old"):
                score.whole[:copies] = np.inf
        return score

    monkeypatch.setattr(found[0], "scores", scores)
    made = claim(compare="difference", at_most=-3.0, figures=[{"column": "psnr"}])
    metrics = [{"name": n, "params": {}} for n in ("mse", "psnr", "accuracy")]
    plan = Plan(
        {"metrics": metrics, "claims": [made.model_dump(mode="json")]},
        targets=[{"dataset": "d", "backbone": "b", "cut": "c"}],
    )
    frame = build_claims(plan, *found)
    assert frame.loc[0, "verdict"] == verdict
    said = claim_rows(frame, {})[0][1]
    if copies:
        assert frame.loc[0, "baseline_value"] == np.inf
        assert pd.isna(frame.loc[0, "value_lo"])
        assert "infinite with old" in said
    if copies == 200:
        assert "The difference (new less old) is infinite" in said
