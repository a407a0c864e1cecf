"""The summary and what is said of it: seeds, groups, failures, and which rows may be ranked. Records are made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import pytest
from audited_records import GROUPS, NOISE, PRIOR, THUMBNAILS, Errors, N, audited

from splitaudit import stats
from splitaudit.report.cells import attack_facts, build_cells, diverged_curves
from splitaudit.report.exported import markdown
from splitaudit.report.figures import _trade_off_caption
from splitaudit.report.findings import find
from splitaudit.report.frames import select
from splitaudit.report.matrix import build_matrix
from splitaudit.report.meanings import SUMMARY, WORST_CASE
from splitaudit.report.plot_trade_off import front_of, trade_off
from splitaudit.report.reading import Scores
from splitaudit.report.summary import build_summary
from splitaudit.report.tables import Results
from splitaudit.report.worst_case import build_worst_case


def summary(errors: Errors, accuracy: dict[str, float] | None = None) -> pd.DataFrame:
    return build_summary(*audited(errors, accuracy))


def row(frame: pd.DataFrame, defense: str) -> dict[str, Any]:
    (found,) = select(frame, frame["defense"] == defense).to_dict("records")
    return {str(k): v for k, v in found.items()}


def told(frame: pd.DataFrame, pairs: pd.DataFrame | None = None) -> Any:
    """Returns the only finding on a summary."""
    tables = {f.name: frame for f in fields(Results)} | {
        "pairs": pd.DataFrame() if pairs is None else pairs,
        "suite": {},
    }
    (finding,) = find(Results(**tables))
    return finding


def ends(found: dict[str, Any], name: str) -> tuple[float, float, float]:
    return found[name], found[f"{name}_lo"], found[f"{name}_hi"]


# -- seeds ------------------------------------------------------------------------------------------------------------


def test_a_failed_seed_leaves_the_figure_of_its_attack_empty_everywhere() -> None:
    """Nothing is averaged over survivors: the strong attack failed on seed 1, so it is no figure at all."""
    errors: Errors = {("none", "strong", 0): 0.1, ("none", "strong", 1): None, ("none", "weak", 0): 0.8}
    plan, records = audited(errors | {("none", "weak", 1): 0.8})
    found = row(build_summary(plan, records), "none")
    assert found["worst_attack"] == "weak"
    assert found["incomplete"] == "strong, seed 1: failed"
    assert found["leakage_envelope"] == pytest.approx(1 - 0.8 * NOISE.mean(), rel=1e-5)
    matrix = build_matrix(plan, records).set_index("attack")
    assert pd.isna(matrix.loc["strong", "leakage"])
    assert matrix.loc["strong", "state"] == "1 of 2\nfailed"


def test_a_defense_whose_only_attack_failed_on_one_seed_has_no_figure() -> None:
    found = row(summary({("none", "strong", 0): 0.1, ("none", "strong", 1): None}), "none")
    assert pd.isna(found["leakage"])
    assert pd.isna(found["mse"])


def test_a_failed_attack_seed_counts_as_much_as_a_failed_target_seed() -> None:
    """The other attack seed of the same target is there, so that every target seed has a value: still no mean of one."""
    plan, records = audited({("none", "strong", 0): 0.1, ("none", "weak", 0): 0.8, ("none", "strong", 1): None})
    plan.targets.pop()
    repeated = plan.cells.pop()
    plan.cells.append({**repeated, "seed": 0, "attack_seed": 1})
    assert row(build_summary(plan, records), "none")["worst_attack"] == "weak"


def test_an_attack_without_a_cell_for_one_seed_is_no_figure() -> None:
    found = row(summary({("none", "strong", 0): 0.1, ("none", "weak", 0): 0.8, ("none", "weak", 1): 0.8}), "none")
    assert found["worst_attack"] == "weak"


def test_one_training_never_gives_a_plain_verdict_and_several_do() -> None:
    """With one seed a huge difference was once printed as if it were the defense's; its note says what is missing."""
    few: Errors = {("none", "a", 0): 0.2, ("far", "a", 0): 0.9, ("near", "a", 0): 0.2}
    once = build_summary(*audited(few, {"none": 1.0, "far": 0.0, "near": 1.0}, independent=True))
    assert row(once, "far")["leakage_change_note"] == "one seed: training noise not included"
    assert row(once, "far")["accuracy_drop_note"] == "one seed: training noise not included"
    assert row(once, "near")["leakage_change_note"] == "not distinguishable; one seed: training noise not included"
    errors: Errors = {}
    for seed in range(3):
        errors |= {
            ("none", "a", seed): 0.2 + seed / 100,
            ("far", "a", seed): 0.9,
            ("near", "a", seed): 0.23 - seed / 100,
        }
    several = summary(errors)
    assert row(several, "far")["leakage_change_note"] == ""
    assert row(several, "near")["leakage_change_note"] == "not distinguishable"
    assert "One seed" in " ".join(told(once).cautions)
    assert "One seed" not in " ".join(told(several).cautions)


def test_the_mark_of_no_difference_is_not_set_by_the_note_on_one_seed() -> None:
    lines = markdown(summary({("none", "a", 0): 0.2, ("far", "a", 0): 0.9, ("near", "a", 0): 0.2})).splitlines()
    (far,), (near,) = ([line for line in lines if line.startswith(f"| {d}")] for d in ("far", "near"))
    assert "n.d." in near
    assert "n.d." not in far.split("|")[4]
    assert any("One seed: training noise not included" in line for line in lines)


def test_two_attack_seeds_on_one_target_are_still_one_training() -> None:
    plan, records = audited({("none", "a", 0): 0.2, ("far", "a", 0): 0.9})
    for cell in list(plan.cells):
        plan.cells.append({**cell, "attack_seed": 1})
    found = row(build_summary(plan, records), "far")
    assert found["leakage_change_note"] == "one seed: training noise not included"


# -- groups -----------------------------------------------------------------------------------------------------------


def test_every_interval_of_a_table_is_over_groups_of_images() -> None:
    """Crops of one tile are not independent: an interval over single images would be another one (asserted too)."""
    plan, records = audited({("none", "a", 0): 0.5})
    errors = 0.5 * NOISE
    expected = {
        "mse": stats.mean_interval(errors, GROUPS),
        "leakage": stats.ratio_interval(errors, PRIOR, GROUPS),
        "equivalent_resolution": stats.equivalent_resolution(errors, THUMBNAILS, PRIOR, 8, GROUPS),
    }
    assert stats.mean_interval(errors) != pytest.approx(expected["mse"], rel=1e-3)
    cell = row(build_cells(plan, records).iloc[:1], "none")
    of_attack = row(build_matrix(plan, records), "none")
    worst = row(build_summary(plan, records), "none")
    for name, interval in expected.items():
        for found in (cell, of_attack, worst):
            assert ends(found, name) == pytest.approx(interval, rel=1e-5), name
    right = stats.mean_interval([float(i < 9) for i in range(N)], GROUPS, bounds=(0.0, 1.0))
    assert ends(worst, "accuracy") == pytest.approx(right, rel=1e-5)


# -- ranking ----------------------------------------------------------------------------------------------------------

BROKEN: Errors = {
    ("none", "weak", 0): 0.8,
    ("none", "strong", 0): 0.1,
    ("broken", "weak", 0): 1.0,
    ("broken", "strong", 0): None,
    ("fine", "weak", 0): 0.9,
    ("fine", "strong", 0): 0.4,
}


def test_a_defense_with_a_failed_attack_never_wins_the_headline() -> None:
    """It once read 'Least leakage: broken with 0.000', because the attack that breaks it had failed."""
    frame = summary(BROKEN)
    assert row(frame, "broken")["leakage"] < row(frame, "fine")["leakage"]
    finding = told(frame)
    assert finding.text.startswith("Least leakage of those that are complete: fine with")
    assert any("not ranked: broken" in c for c in finding.cautions)


def test_a_defense_with_a_failed_attack_is_on_no_pareto_front() -> None:
    frame = summary(BROKEN)
    assert front_of(frame, "query") == ["fine"]
    assert "front at query: fine." in _trade_off_caption(frame)
    fig = trade_off(frame)
    ax = fig.axes[0]
    (front,) = [line for line in ax.lines if line.get_linestyle() == "--"]
    assert np.asarray(front.get_xdata()) == pytest.approx([row(frame, "fine")["leakage"]])
    assert any("hollow: incomplete" in text.get_text() for text in fig.texts)


def test_where_everything_is_incomplete_nothing_is_ranked() -> None:
    frame = summary({k: None if k[1] == "strong" else v for k, v in BROKEN.items()})
    assert "none is named the least" in told(frame).text
    assert front_of(frame, "query") == []
    assert not [line for line in trade_off(frame).axes[0].lines if line.get_linestyle() == "--"]


def test_the_envelope_is_labelled_as_chosen_with_the_truth_in_hand() -> None:
    assert "selected with the truth in hand" in SUMMARY["leakage_envelope"][1]
    assert "selected with the truth in hand" in WORST_CASE["envelope"][1]


def test_every_row_of_the_worst_cases_says_that_it_was_chosen_with_the_truth_in_hand(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    row = worst({"one": [0.2, 0.4] * 6, "two": [0.3, 0.1] * 6}, "mse", monkeypatch)
    assert "attack and envelope" in row["selection"]
    assert "selected with the truth in hand" in row["selection"]


# -- the worst case by every metric -----------------------------------------------------------------------------------


def worst(values: dict[str, list[float]], metric: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Returns the worst case of attacks on one target with the given values per image."""
    plan, records = audited({("none", attack, 0): 0.5 for attack in values})
    plan.suite["metrics"] = [{"name": metric, "params": {}}]
    found = {f"none-{attack}-0": Scores(np.array(v)) for attack, v in values.items()}
    monkeypatch.setattr(records, "scores", lambda key, name: found[key])
    (only,) = build_worst_case(plan, records).to_dict("records")
    return {str(k): v for k, v in only.items()}


def test_the_envelope_takes_each_image_from_the_attack_that_is_best_there(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {"one": [0.1] * 9 + [0.9] * 3, "other": [0.3] * 9 + [0.5] * 3, "never": [1.0] * 12}
    found = worst(errors, "mse", monkeypatch)
    assert found["attack"] == "one"  # 0.3 on average, the other 0.35
    assert found["value"] == pytest.approx(0.3)
    assert found["envelope"] == pytest.approx(0.2)
    assert found["best_at"] == "one 75 %, other 25 %"
    assert found["attacks"] == 3


def test_the_strongest_attack_is_the_one_with_the_most_where_more_means_leakage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = worst({"one": [0.2] * 12, "other": [0.7] * 12}, "ssim", monkeypatch)
    assert (found["attack"], found["value"], found["envelope"]) == ("other", 0.7, 0.7)


def test_an_attack_that_lacks_a_value_has_no_part_in_the_worst_case(monkeypatch: pytest.MonkeyPatch) -> None:
    found = worst({"one": [0.2] * 12, "lacking": [float("nan")] + [0.0] * 11}, "mse", monkeypatch)
    assert (found["attack"], found["attacks"], found["best_at"]) == ("one", 1, "one 100 %")


# -- divergence ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "flagged"),
    [
        ({"curves": {"loss": [[1, 0.5], [9, 0.1]]}}, ""),
        ({"curves": {"loss": [[1, 0.5], [9, 0.52]]}}, ""),  # as much as fresh draws do
        ({"curves": {"loss": [[1, 0.5], [9, 0.9]]}}, "diverged: loss"),
        ({"curves": {"loss": [[1, -0.5], [9, -0.9]]}}, ""),
        ({"curves": {"aux_val_cross_entropy": [[1, 0.5], [9, 0.9]]}}, ""),  # the weights of the first epoch are kept
        ({"curves": {"loss": [[1, 0.5]]}, "not_finite": ["loss"]}, "diverged: loss"),
        ({"curves": {"stand_in_accuracy": [[1, 0.3], [9, 0.8]]}}, ""),  # an accuracy is to rise
        ({"curves": {"stand_in_accuracy": [[1, 0.8], [9, 0.1]]}}, "diverged: stand_in_accuracy"),
        ({"curves": {"stand_in_aux_val_mse": [[1, 0.5], [5, 0.1], [9, 0.9]]}}, ""),  # the best is kept
        ({"curves": {"calibration_loss adam 0.8": [[1, 0.5], [9, 0.9]]}}, ""),  # one of several ways to descend
        ({}, ""),
    ],
)
def test_an_attack_whose_curve_ends_above_its_beginning_has_diverged(told: dict[str, Any], flagged: str) -> None:
    plan, records = audited({("none", "rmle", 0): 0.5})
    record = records.done("cell", "none-rmle-0")
    assert record is not None
    record["attack"] |= told
    (cell,) = (r for r in build_cells(plan, records).to_dict("records") if r["attack"] == "rmle")
    assert cell["flags"] == flagged
    assert ("diverged: rmle" in row(build_summary(plan, records), "none")["flags"]) == bool(flagged)


# -- no better than the prior, not converged ------------------------------------------------------------------------------


def cell_of(
    errors: Errors, attack: str, change: Callable[[dict[str, Any]], None] = lambda record: None
) -> dict[str, Any]:
    """Returns the row of an attack's cell, after a change of its record."""
    plan, records = audited(errors)
    record = records.done("cell", f"none-{attack}-0")
    assert record is not None
    change(record)
    (found,) = (r for r in build_cells(plan, records).to_dict("records") if r["attack"] == attack)
    return found


@pytest.mark.parametrize(
    ("attack", "error", "flagged"),
    [
        ("rmle", 0.5, False),
        pytest.param("rmle", np.where(np.array(GROUPS) % 2, 1.15, 0.7), True, id="by its mean, not by its interval"),
        ("rmle", 1.0, True),
        ("nearest", 1.4, True),
        ("unsplit", 1.02, True),
        ("prior", 1.0, False),
    ],
)
def test_what_does_not_beat_a_constant_guess_is_flagged_in_every_cell_but_the_priors_own(
    attack: str, error: Any, flagged: bool
) -> None:
    """An attack that is not expected to beat the prior is flagged too: who reads its figure has to know what it is worth."""
    assert ("no better than the prior" in cell_of({("none", attack, 0): error}, attack)["flags"]) is flagged


@pytest.mark.parametrize(("said", "flagged"), [(True, False), (False, True), (None, False)])
def test_an_attack_that_says_it_has_not_converged_is_flagged(said: bool | None, flagged: bool) -> None:
    def change(record: dict[str, Any]) -> None:
        record["attack"] |= {"notes": {"converged": said}}

    cell = cell_of({("none", "rmle", 0): 0.5}, "rmle", change)
    assert ("not converged" in cell["flags"]) is flagged
    assert cell["converged"] is said or (said is None and pd.isna(cell["converged"]))


@pytest.mark.parametrize(
    ("chosen", "expected"), [(0, (False, ["loss"])), (1, (True, []))], ids=["the short one", "the long one"]
)
def test_of_settings_that_were_tried_only_the_chosen_one_is_judged(
    chosen: int, expected: tuple[bool, list[str]]
) -> None:
    _, records = audited({("none", "rmle", 0): 0.5})
    tried = [{"steps": 150}, {"steps": 600}]
    attack = {"name": "rmle", "params": tried[0], "tune": tried[1:]}
    identity = {"attack": attack, "fit": "tuned", "builds_on": {"0": "short", "1": "long", "1.decoder": "deep"}}
    facts = {
        "tuned": {"notes": {"chosen": tried[chosen]}, "queries": 1},
        "short": {"notes": {"converged": False}, "curves": {"loss": [[1, 0.5], [9, 0.9]]}, "queries": 10},
        "long": {"notes": {"converged": True}, "queries": 100},
        "deep": {"notes": {"converged": True}, "queries": 1000},
    }
    fits = {k: {"status": "done", "identity": identity if k == "tuned" else {}, "info": f} for k, f in facts.items()}
    cell = records.done("cell", "none-rmle-0")
    assert cell is not None
    cell["identity"] = identity
    kept = records.done
    records.done = lambda kind, key: fits.get(key) if kind == "fit" else kept(kind, key)  # type: ignore[method-assign]
    converged, queries = attack_facts(records, "none-rmle-0")
    assert (converged, diverged_curves(records, "none-rmle-0")) == expected
    assert queries == 1111, "all that were tried were paid for"
