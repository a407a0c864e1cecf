"""Defenses at equal accuracy: which setting stands for a defense, what lies between two of them, and who is beaten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from audited_records import Errors, at_chance, audited

from splitaudit.report.matched import DROPS, build_matched, build_pairs
from splitaudit.report.meanings import MATCHED, PAIRS
from splitaudit.report.page_matched import ENDS, matched_groups
from splitaudit.report.summary import build_summary

PAGE = Path(__file__).parents[2] / "docs" / "results-format.md"


def swept(name: str, parameter: str, values: list[Any]) -> dict[str, dict[str, Any]]:
    """Returns label to parameters of settings that differ in one parameter."""
    return {f"{name}({parameter}={v:g})": {parameter: v} for v in values}


NOISE = swept("noise", "sigma", [0.5, 1.0, 2.0])
HALF, ONE, TWO = NOISE


def matched(
    errors: Errors, accuracy: dict[str, float], params: dict[str, dict[str, Any]] | None = None
) -> pd.DataFrame:
    plan, records = audited(errors, accuracy, params)
    return build_matched(plan, records, build_summary(plan, records))


def at(frame: pd.DataFrame, defense: str, drop: float) -> dict[str, Any]:
    (found,) = frame[(frame["defense"] == defense) & (frame["allowed_drop"] == drop)].to_dict("records")
    return {str(k): v for k, v in found.items()}


def of(means: dict[str, float], seeds: int = 1) -> Errors:
    return {(defense, "rmle", seed): mean for defense, mean in means.items() for seed in range(seeds)}


def test_the_setting_with_the_least_leakage_within_the_allowed_drop_stands_for_a_defense() -> None:
    """12 images: accuracies are twelfths, so that one lost image is more than any allowed drop."""
    few, more, most = bits = swept("bits", "bits", [4, 3, 2])
    accuracy = {"none": 0.75, few: 0.75, more: 0.75, most: 0.5}
    frame = matched(of({"none": 0.01, few: 0.1, more: 0.3, most: 0.6}), accuracy, bits)
    for drop in DROPS:
        found = at(frame, "bits", drop)
        assert (found["setting"], found["settings"]) == (more, 3)
        assert found["leakage"] < at(frame, "none", drop)["leakage"]
    assert frame["defense"].tolist() == ["none"] * 3 + ["bits"] * 3


def test_a_defense_of_which_something_is_missing_keeps_its_place() -> None:
    errors = of({"none": 0.01, "a": 0.3, "b": 0.2, "c": 0.1}) | {("b", "rmle", 0): None}
    assert list(dict.fromkeys(matched(errors, {})["defense"])) == ["none", "a", "b", "c"]


def test_a_sweep_that_stops_before_the_allowed_drop_gives_an_upper_limit() -> None:
    """Its strongest setting has lost nothing yet: what a stronger one would leak at that drop nobody has tried."""
    means, accuracy = {"none": 0.01, HALF: 0.1, TWO: 0.6}, {"none": 0.75, HALF: 0.75, TWO: 0.75}
    short = matched(of(means), accuracy, NOISE)
    assert at(short, "noise", 0.05)["sweep_ends"]
    assert not at(short, "none", 0.05)["sweep_ends"], "no sweep"
    assert any("sweep ends" in line for line in matched_groups(short)[0][1][1][4].lines)
    whole = matched(of(means), {**accuracy, TWO: 0.5}, NOISE)
    assert not at(whole, "noise", 0.05)["sweep_ends"]
    assert not any("sweep ends" in line for line in matched_groups(whole)[0][1][1][4].lines)
    lacking = of(means) | {(TWO, "decoder", 0): None}
    assert not at(matched(lacking, accuracy, NOISE), "noise", 0.05)["sweep_ends"], "a stronger one is on its way"


def test_a_defense_that_loses_more_in_every_setting_has_no_figure_there() -> None:
    frame = matched(of({"none": 0.01, TWO: 0.6}), {"none": 0.75, TWO: 0.5}, NOISE)
    found = at(frame, "noise", 0.05)
    assert pd.isna(found["leakage"])
    assert (found["setting"], found["note"]) == ("", "loses more, not distinguishable"), "3 of 12 images"
    plan, records = audited(of({"none": 0.01, TWO: 0.6}), {"none": 1.0, TWO: 0.0}, NOISE, independent=True)
    far = at(build_matched(plan, records, build_summary(plan, records)), "noise", 0.05)
    assert far["note"] == "loses more"
    assert matched_groups(frame)[0][1][1][4].interval == "loses more, not distinguishable"


def between(params: dict[str, dict[str, Any]], means: dict[str, float], accuracy: dict[str, float]) -> dict[str, Any]:
    return at(matched(of({"none": 0.01, **means}), {"none": 0.75, **accuracy}, params), "noise", 0.05)


def test_leakage_is_interpolated_between_neighbours_over_the_drop_and_marked() -> None:
    """At drops of 0 and 0.25 the scores are near 0.9 and 0.4: at 0.05 a fifth of the way."""
    found = between(NOISE, {HALF: 0.1, TWO: 0.6}, {HALF: 0.75, TWO: 0.5})
    ends = [1 - m * 1.0 for m in (0.1, 0.6)]
    assert found["interpolated"]
    assert found["leakage"] == pytest.approx(ends[0] + 0.2 * (ends[1] - ends[0]), abs=0.02)
    assert found["setting"] == f"between {HALF} and {TWO}"
    assert found["accuracy_drop"] == 0.05
    assert pd.isna(found["leakage_lo"])
    assert found["note"] == "interpolated, not tested"


@pytest.mark.parametrize(
    ("params", "means", "accuracy"),
    [
        pytest.param(swept("noise", "bits", [2, 3]), {}, {}, id="whole numbers have nothing between them"),
        pytest.param(
            {"noise(a=1,b=1)": {"a": 1.0, "b": 1.0}, "noise(a=2,b=2)": {"a": 2.0, "b": 2.0}}, {}, {}, id="two differ"
        ),
    ],
)
def test_there_is_no_between_where_settings_do_not_differ_in_one_fraction(
    params: dict[str, dict[str, Any]], means: dict[str, float], accuracy: dict[str, float]
) -> None:
    first, second = params
    found = between(params, {first: 0.1, second: 0.6}, {first: 0.75, second: 0.5})
    assert not found["interpolated"]
    assert found["setting"] == first


def test_nothing_is_interpolated_across_zero() -> None:
    """There a strength does nothing: what lies on the one side says nothing of the other."""
    below, above = params = swept("noise", "alpha", [-0.5, 0.5])
    found = between(params, {below: 0.1, above: 0.6}, {below: 0.75, above: 0.5})
    assert (found["setting"], found["interpolated"]) == (below, False)


def test_a_setting_between_two_others_is_never_skipped() -> None:
    """The line from the weakest to the strongest passes under the one that was measured between them."""
    found = between(NOISE, {HALF: 0.1, ONE: 0.12, TWO: 0.6}, {HALF: 0.75, ONE: 0.5, TWO: 0.4167})
    assert found["interpolated"]
    assert found["setting"] == f"between {HALF} and {ONE}"


def without(broken: str, why: str) -> pd.DataFrame:
    """Returns the table of three settings, of which one is at chance or incomplete; its error is far off the others' line."""
    errors = of({"none": 0.01, HALF: 0.1, ONE: 0.9, TWO: 0.6})
    if why == "incomplete":
        errors[broken, "decoder", 0] = None
    plan, records = audited(errors, {"none": 0.75, HALF: 0.75, ONE: 0.6, TWO: 0.5}, NOISE)
    if why == "at chance":
        at_chance(records, f"{broken}-0")
    return build_matched(plan, records, build_summary(plan, records))


@pytest.mark.parametrize("why", ["at chance", "incomplete"])
def test_nothing_is_interpolated_across_a_setting_that_has_no_part(why: str) -> None:
    found = at(without(ONE, why), "noise", 0.05)
    assert (found["setting"], found["interpolated"]) == (HALF, False)


@pytest.mark.parametrize("why", ["at chance", "incomplete"])
def test_nothing_is_interpolated_towards_a_setting_that_has_no_part(why: str) -> None:
    found = at(without(TWO, why), "noise", 0.05)
    assert found["setting"] == f"between {HALF} and {ONE}"
    errors, accuracy = of({"none": 0.01, HALF: 0.1, TWO: 0.6}), {"none": 0.75, HALF: 0.75, TWO: 0.5}
    if why == "incomplete":
        errors[TWO, "decoder", 0] = None
    plan, records = audited(errors, accuracy, NOISE)
    if why == "at chance":
        at_chance(records, f"{TWO}-0")
    found = at(build_matched(plan, records, build_summary(plan, records)), "noise", 0.05)
    assert (found["setting"], found["interpolated"]) == (HALF, False)


def test_what_lacks_an_attack_has_no_part_and_is_counted() -> None:
    errors = of({"none": 0.01, HALF: 0.1, ONE: 0.5})
    errors[ONE, "decoder", 0] = None
    frame = matched(errors, {}, NOISE)
    found = at(frame, "noise", 0.05)
    assert (found["setting"], found["settings"], found["incomplete"]) == (HALF, 1, 1)
    errors[HALF, "decoder", 0] = None
    nothing = at(matched(errors, {}, NOISE), "noise", 0.05)
    assert (nothing["setting"], nothing["settings"], nothing["incomplete"]) == ("", 0, 2)


def test_defenses_are_compared_with_the_best_on_the_same_images_and_seeds() -> None:
    frame = matched(of({"none": 0.01, "a": 0.3, "b": 0.302, "c": 0.1}, seeds=3), {})
    best, near, far = (at(frame, name, 0.05) for name in ("b", "a", "c"))
    assert set(frame["best_measured"]) == {"b"}
    assert pd.isna(best["leakage_above_best"])
    assert near["leakage_above_best"] == pytest.approx(0.002, abs=5e-4)
    assert far["leakage_above_best"] == pytest.approx(0.2, abs=0.02)
    assert far["leakage_above_best_lo"] > 0
    assert far["note"] == ""


def test_pairs_say_which_cannot_be_told_apart() -> None:
    errors = of({"none": 0.01, "a": 0.3, "b": 0.5}, seeds=3)
    errors |= {("c", "rmle", seed): 0.3 + shift for seed, shift in enumerate((0.1, -0.1, 0.02))}
    plan, records = audited(errors)
    pairs = build_pairs(plan, records, build_summary(plan, records)).set_index(["defense", "other"])
    assert len(pairs) == 6
    assert "not distinguishable" in pairs.loc[("a", "c"), "note"]
    assert pairs.loc[("a", "b"), "note"] == ""
    assert pairs.loc[("a", "b"), "leakage_difference"] == pytest.approx(0.2, abs=0.02)


def test_pairs_say_whose_accuracy_cannot_be_told_apart() -> None:
    """12 images: 9 against 9 of the same are alike, 12 and 0 are not; in four groups these are too few to tell."""
    errors = of({"none": 0.01, "a": 0.3, "b": 0.5}, seeds=3)
    plan, records = audited(errors, {"none": 1.0, "a": 1.0, "b": 0.0}, independent=True)
    pairs = build_pairs(plan, records, build_summary(plan, records)).set_index(["defense", "other"])
    assert pairs.loc[("none", "a"), "accuracy_difference"] == 0
    assert pairs.loc[("none", "a"), "accuracy_note"] == "not distinguishable"
    assert pairs.loc[("none", "b"), "accuracy_difference"] == 1
    assert pairs.loc[("none", "b"), "accuracy_difference_lo"] == pytest.approx(2 * 0.025 ** (1 / 12) - 1, rel=1e-5)
    assert pairs.loc[("none", "b"), "accuracy_note"] == ""
    plan, records = audited(errors, {"none": 1.0, "a": 1.0, "b": 0.0})
    pairs = build_pairs(plan, records, build_summary(plan, records)).set_index(["defense", "other"])
    assert pairs.loc[("none", "b"), "accuracy_note"] == "not distinguishable"


def test_pairs_without_an_accuracy_have_no_difference_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitaudit.report.matched.accuracy_over_seeds", lambda *_: None)
    plan, records = audited(of({"none": 0.01, "a": 0.3}, seeds=3))
    (pair,) = build_pairs(plan, records, build_summary(plan, records)).to_dict("records")
    assert pd.notna(pair["leakage_difference"])
    assert pd.isna(pair["accuracy_difference"])
    assert pd.isna(pair["accuracy_note"]) or pair["accuracy_note"] == ""


def test_one_seed_is_no_verdict_on_two_defenses() -> None:
    plan, records = audited(of({"none": 0.01, "a": 0.3}))
    (pair,) = build_pairs(plan, records, build_summary(plan, records)).to_dict("records")
    assert "one seed" in pair["note"]


def test_the_hypervolume_is_the_area_that_the_settings_dominate() -> None:
    """Two classes: 9 of 12 right keep everything, 8 of 12 two thirds of what lies above chance."""
    plan, records = audited(of({"none": 0.0, HALF: 0.2, TWO: 0.5}), {"none": 0.75, HALF: 0.75, TWO: 0.66}, NOISE)
    summary = build_summary(plan, records)
    frame = build_matched(plan, records, summary)
    rows = summary.set_index("defense")
    assert rows.loc[TWO, "accuracy"] == pytest.approx(8 / 12, abs=1e-5)
    low, high = 1 - rows.loc[HALF, "leakage"], 1 - rows.loc[TWO, "leakage"]
    assert at(frame, "noise", 0.05)["hypervolume"] == pytest.approx(low + 2 / 3 * (high - low), abs=1e-4)
    assert at(frame, "noise", 0.05)["hypervolume_within"] == pytest.approx(low, abs=1e-4), "the other loses 8 points"
    assert at(frame, "none", 0.05)["hypervolume"] == pytest.approx(0, abs=1e-6)


def test_a_setting_at_chance_adds_nothing_to_the_hypervolume() -> None:
    plan, records = audited(of({"none": 0.0, HALF: 0.2, TWO: 0.9}), {"none": 0.75, HALF: 0.75, TWO: 0.7}, NOISE)
    whole = at(build_matched(plan, records, build_summary(plan, records)), "noise", 0.05)["hypervolume"]
    at_chance(records, f"{TWO}-0")
    left = at(build_matched(plan, records, build_summary(plan, records)), "noise", 0.05)["hypervolume"]
    assert left < whole - 0.3


def test_the_page_names_the_setting_and_marks_what_was_interpolated() -> None:
    accuracy = {"none": 0.75, HALF: 0.75, TWO: 0.5}
    frame = matched(of({"none": 0.01, HALF: 0.1, TWO: 0.6}), accuracy, NOISE)
    ((_, rows),) = matched_groups(frame)
    noise = rows[1]
    assert noise[0].text == "noise"
    assert noise[4].text.startswith("≈ ")
    measured = at(frame, "noise", 0.05)
    ends = f"[{measured['measured_leakage_lo']:.3f}, {measured['measured_leakage_hi']:.3f}]"
    kept = f"measured, sigma 0.5: {measured['measured_leakage']:.3f} {ends}"
    assert measured["measured_leakage"] > measured["leakage"]
    assert noise[4].lines == ("sigma 0.5 to 2, interpolated", "drop 0.050", kept, "the least measured")
    assert noise[2].text.startswith("≈ ")


def test_the_page_names_the_exact_setting_with_its_interval() -> None:
    frame = matched(of({"none": 0.01, HALF: 0.1, ONE: 0.3}), {}, NOISE)
    ((_, (none, noise)),) = matched_groups(frame)
    assert noise[2].interval.startswith("[")
    assert noise[2].lines == ("sigma 1", "drop 0.000 [0.000, 0.000]", "the least measured", ENDS)
    assert none[2].lines == ("drop 0.000",), "without a parameter there is no setting to name"


def test_the_least_measured_is_said_to_be_that_beside_a_smaller_interpolated_figure() -> None:
    few, more = swept("sweep", "k", [0.5, 1.0])
    errors = of({"none": 0.1, few: 0.3, more: 0.9, "other": 0.4, "alike": 0.4}, seeds=3)
    frame = matched(errors, {more: 0.42}, {few: {"k": 0.5}, more: {"k": 1.0}})
    assert at(frame, "sweep", 0.05)["leakage"] < at(frame, "other", 0.05)["leakage"]
    assert set(frame["best_measured"]) == {"other"}
    page = {row[0].text: row[4].lines[-1] for row in matched_groups(frame)[0][1]}
    beside = at(frame, "sweep", 0.05)
    assert beside["leakage_above_best_lo"] > 0, "the setting that was measured keeps its test"
    assert page == {
        "none": "drop 0.000",
        "sweep": f"measured, k 0.5: {beside['measured_leakage']:.3f} [{beside['measured_leakage_lo']:.3f}, "
        f"{beside['measured_leakage_hi']:.3f}]",
        "other": "the least measured",
        "alike": "n.d. from the least measured",
    }


def test_what_is_not_compared_is_not_called_the_least() -> None:
    frame = matched(of({"none": 0.1, "a": 0.3, "b": 0.4}), {})
    frame.loc[frame["defense"] == "a", ["leakage_above_best", "note"]] = [float("nan"), "not over the same seeds"]
    page = {row[0].text: row[2].lines[-1] for row in matched_groups(frame)[0][1]}
    assert page == {"none": "drop 0.000", "a": "not compared: not over the same seeds", "b": "the least measured"}


@pytest.mark.parametrize(("table", "meanings"), [("matched", MATCHED), ("pairs", PAIRS)])
def test_the_results_format_describes_the_columns(table: str, meanings: dict[str, tuple[str, str]]) -> None:
    lines = PAGE.read_text(encoding="utf-8").split(f"### {table}.csv\n", 1)[1].split("\n### ", 1)[0].splitlines()
    plan, records = audited(of({"none": 0.01, "a": 0.3}))
    summary = build_summary(plan, records)
    found = {"matched": build_matched, "pairs": build_pairs}[table](plan, records, summary)
    assert list(found.columns) == list(meanings)
    assert [line for line in lines if line.startswith("| `")] == [
        f"| `{name}` | {unit} | {meaning} |" for name, (unit, meaning) in meanings.items()
    ]
