"""What defenses promise: the right budget, for the right images, in every table that a reader may look at."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from audited_records import audited
from report_run import store_run, suite
from rich.console import Console
from scipy.stats import norm

from splitaudit.guarantee import Guarantee, most_right, strongest
from splitaudit.plan import Node, Plan
from splitaudit.report.exported import latex, markdown
from splitaudit.report.frames import select
from splitaudit.report.meanings import PROMISED
from splitaudit.report.promised import COLUMNS, promises
from splitaudit.report.reading import Records
from splitaudit.report.summary import build_summary
from splitaudit.report.targets import build_targets
from splitaudit.report.terminal import SummaryTable
from splitaudit.report.write import write_derived
from splitaudit.store import Store
from splitaudit.targets import make_defense

NOTES = {
    "dpsgd": {
        "epsilon": 1.25,
        "epsilon_shuffled": 9.5,
        "delta": 1e-4,
        "accountant": "opacus RDP",
        "norm": "group",
    }
}
"""What a target that was trained by DP-SGD has in its history; opacus is not asked here."""


def promised_by(*parts: tuple[str, dict[str, Any]], releases: int = 1, notes: Any = NOTES) -> tuple[Guarantee, ...]:
    made = make_defense([{"name": name, "params": params} for name, params in parts])
    return made.guarantees(notes, releases)


def budget(*parts: tuple[str, dict[str, Any]], releases: int = 1) -> dict[str, tuple[float, float]]:
    return {g.about: (g.epsilon, g.delta) for g in promised_by(*parts, releases=releases)}


# -- single defenses --------------------------------------------------------------------------------------------------


def test_a_release_has_the_budget_of_the_parameters() -> None:
    gaussian, laplace = {"epsilon": 8.0, "delta": 1e-5}, {"epsilon": 0.5, "distribution": "laplace"}
    assert budget(("clip_noise", gaussian)) == {"sent image": (8.0, 1e-5)}
    assert budget(("clip_noise", laplace)) == {"sent image": (0.5, 0.0)}
    assert promised_by(("clip_noise", gaussian))[0].protects == "one image sent once (local DP)"


def test_sixteen_releases_cost_what_their_mean_tells() -> None:
    """49.855966 is dp-accounting 0.6.0's ε of Gaussian noise of 0.60022907/4 distances, that of ε = 8 sent 16 times."""
    (found,) = promised_by(("clip_noise", {"epsilon": 8.0, "delta": 1e-5}), releases=16)
    assert (found.epsilon, found.delta) == (pytest.approx(49.855966, abs=1e-5), 1e-5)
    assert found.protects == "one image sent 16 times (local DP)"
    laplace = {"epsilon": 0.5, "distribution": "laplace"}
    assert budget(("clip_noise", laplace), releases=16) == {"sent image": (8.0, 0.0)}


def test_dpsgd_promises_the_figure_of_shuffled_batches_for_training_images_alone() -> None:
    """The smaller one assumes batches that are drawn by chance, which those of the shared loop are not."""
    (found,) = promised_by(("dpsgd_groupnorm", {}), releases=16)
    assert (found.about, found.epsilon, found.delta) == ("training image", 9.5, 1e-4)
    assert found.protects == "one training image, from any other in its place (DP-SGD, shuffled batches)"
    assert "images that the network is used on" in found.leaves_out
    assert "ε = 1.25" in found.accountant


def test_what_was_not_trained_yet_or_promises_nothing_has_no_guarantee() -> None:
    assert promised_by(("dpsgd_groupnorm", {}), notes={}) == ()
    assert promised_by(("noise", {})) == ()


def test_the_share_of_right_guesses_is_that_of_the_best_test() -> None:
    """Of two Gaussians a distance of 1 apart, of randomised response, and at both ends."""
    assert most_right(0.0, 0.0) == 0.5
    assert most_right(0.0, 1.0) == 1.0
    assert most_right(math.log(3), 0.0) == pytest.approx(0.75)  # randomised response: the truth three times in four
    assert most_right(1000.0, 0.0) == 1.0
    total_variation = 1 - 2 * float(norm.cdf(-0.5))  # of N(0, 1) and N(1, 1): their δ at ε = 0
    assert most_right(0.0, total_variation) == pytest.approx(float(norm.cdf(0.5)))


# -- compositions -----------------------------------------------------------------------------------------------------


def test_the_image_that_is_sent_stays_protected_whatever_is_before_or_after() -> None:
    clip: tuple[str, dict[str, Any]] = ("clip_noise", {"epsilon": 2.0})
    for others in ([("noise", {}), clip], [clip, ("quantize", {})], [("dropout", {}), clip, ("topk", {})]):
        assert budget(*others) == {"sent image": (2.0, 1e-5)}


def test_of_several_promises_about_the_same_image_the_strongest_counts() -> None:
    def made(epsilon: float, delta: float, about: Any = "sent image") -> Guarantee:
        return Guarantee(about, epsilon, delta, "", "", "")

    found = strongest([made(9.0, 1e-4, "training image"), made(3.0, 1e-5), made(2.0, 1e-5), made(2.0, 0.0)])
    assert [(g.about, g.epsilon, g.delta) for g in found] == [("sent image", 2.0, 0.0), ("training image", 9.0, 1e-4)]
    two = budget(("clip_noise", {"epsilon": 2.0}), ("clip_noise", {"epsilon": 3.0}))
    assert two == {"sent image": (2.0, 1e-5)}


def test_training_images_lose_their_promise_beside_a_part_that_takes_statistics_of_them() -> None:
    assert budget(("dpsgd_groupnorm", {}), ("dropout", {})) == {"training image": (9.5, 1e-4)}
    found = budget(("dpsgd_groupnorm", {}), ("clip_noise", {"epsilon": 2.0}))
    assert found == {"sent image": (2.0, 1e-5), "training image": (math.inf, 1e-4)}
    (_, training) = promised_by(("dpsgd_groupnorm", {}), ("clip_noise", {}))
    assert training.protects == "no training image: clip_noise takes statistics of them without noise"


# -- tables -----------------------------------------------------------------------------------------------------------

Parts = list[dict[str, Any]]


def tables(
    defenses: dict[str, Parts], notes: dict[str, Any] | None = None, knowledge: str = "query", seeds: int = 1
) -> tuple[pd.DataFrame, pd.DataFrame, Plan, Records]:
    """Returns targets and summary of a made-up run.

    Args:
        defenses: label to the parts of the defense.
        notes: label to what its training left in the history.
        knowledge: the level.
        seeds: of the targets.
    """
    plan, records = audited({(d, "a", s): 0.5 for d in ("none", *defenses) for s in range(seeds)})
    for cell in plan.cells:
        cell["knowledge"] = knowledge
    for (label, parts), seed in ((item, s) for item in defenses.items() for s in range(seeds)):
        plan.nodes["target", f"{label}-{seed}"].identity["defense"] = {"parts": parts}
        record = records.get("target", f"{label}-{seed}")
        assert record is not None
        record["training"] |= {"notes": (notes or {}).get(label, {})}
    return build_targets(plan, records), build_summary(plan, records), plan, records


def row(frame: pd.DataFrame, defense: str) -> dict[str, Any]:
    (found,) = select(frame, frame["defense"] == defense).to_dict("records")
    return {str(k): v for k, v in found.items()}


def clip(epsilon: float, **more: Any) -> dict[str, Any]:
    return {"name": "clip_noise", "params": {"epsilon": epsilon}, **more}


DPSGD: dict[str, Any] = {"name": "dpsgd_groupnorm", "params": {}}


def test_the_tables_have_the_budget_of_each_defense_and_nothing_for_others() -> None:
    targets, summary, *_ = tables({"clip": [clip(8.0)], "dp": [DPSGD]}, {"dp": NOTES})
    for frame in (targets, summary):
        sent, training, none = row(frame, "clip"), row(frame, "dp"), row(frame, "none")
        assert (sent["privacy_epsilon"], sent["privacy_delta"]) == (8.0, 1e-5)
        assert (training["privacy_epsilon"], training["privacy_delta"]) == (9.5, 1e-4)
        assert (
            training["privacy_protects"] == "one training image, from any other in its place (DP-SGD, shuffled batches)"
        )
        assert math.isnan(none["privacy_epsilon"])
        assert none["privacy_protects"] == ""


def test_a_level_with_several_draws_costs_more_in_the_summary_and_a_target_is_sent_once() -> None:
    targets, summary, *_ = tables({"clip": [clip(8.0)]}, knowledge="query:16")
    assert row(targets, "clip")["privacy_epsilon"] == 8.0
    assert row(summary, "clip")["privacy_epsilon"] == pytest.approx(49.856, abs=1e-3)
    assert row(summary, "clip")["privacy_protects"] == "one image sent 16 times (local DP)"


def test_without_a_promise_there_are_no_such_columns_and_no_words() -> None:
    targets, summary, *_ = tables({"noise": [{"name": "noise", "params": {}}]})
    for frame in (targets, summary):
        assert [c for c in frame.columns if c.startswith("privacy_")] == []
    assert "romised" not in markdown(summary) + latex(summary)


def test_the_summary_promises_what_holds_for_all_seeds() -> None:
    _, _, plan, records = tables({"dp": [DPSGD]}, {"dp": NOTES}, seeds=2)
    second = records.get("target", "dp-1")
    assert second is not None
    second["training"] |= {"notes": {"dpsgd": {**NOTES["dpsgd"], "epsilon_shuffled": 12.0}}}
    assert row(build_summary(plan, records), "dp")["privacy_epsilon"] == 12.0
    second["training"] |= {"notes": {}}
    assert "privacy_epsilon" not in build_summary(plan, records)
    second["status"] = "failed"
    second["error"] = {"type": "E", "message": "no memory"}
    assert row(build_summary(plan, records), "dp")["privacy_epsilon"] == 9.5


def test_the_notes_of_the_training_that_a_target_starts_from_count() -> None:
    targets, _, plan, records = tables({"dp": [DPSGD]}, {"dp": NOTES})
    staged = {"parts": [DPSGD, {"name": "dropout", "params": {}}], "when": "infer"}
    plan.nodes["target", "s"] = Node("target", "s", {"dataset": {"name": "d"}, "defense": staged, "base": "dp-0"})
    own = {"status": "done", "measurements": {}, "training": {}, "warnings": [], "timing": {}}
    plan.targets.append({**plan.targets[0], "defense": "staged", "key": "s"})
    read = records.get
    again = Records(plan, lambda kind, key: own if key == "s" else read(kind, key))
    assert row(build_targets(plan, again), "staged")["privacy_epsilon"] == 9.5
    assert "privacy_epsilon" in targets


def test_a_record_of_another_version_or_of_an_unknown_plugin_is_not_spoken_for() -> None:
    targets, *_ = tables({"old": [clip(8.0, version=0)], "x": [clip(8.0), {"name": "acme/x", "params": {}}]})
    assert "privacy_epsilon" not in targets
    targets, *_ = tables({"new": [clip(8.0, version=1)]})
    assert row(targets, "new")["privacy_epsilon"] == 8.0


def test_of_two_kinds_the_figures_are_the_sent_images_and_the_words_name_both() -> None:
    _, summary, *_ = tables({"both": [DPSGD, clip(2.0)]}, {"both": NOTES})
    found = row(summary, "both")
    assert (found["privacy_epsilon"], found["privacy_delta"]) == (2.0, 1e-5)
    assert found["privacy_protects"] == (
        "one image sent once (local DP); but no training image: clip_noise takes statistics of them without noise"
    )
    _, summary, *_ = tables({"void": [DPSGD, {"name": "noise", "params": {}}]}, {"void": NOTES})
    assert np.isnan(row(summary, "void")["privacy_epsilon"])
    assert row(summary, "void")["privacy_protects"].startswith("no training image: noise takes")


def test_the_texts_name_budget_what_is_protected_and_what_is_not() -> None:
    _, summary, *_ = tables({"clip": [clip(8.0)], "dp": [DPSGD]}, {"dp": NOTES})
    for text in (markdown(summary), latex(summary)):
        assert "clip (query): ε = 8, δ = 1e-05, one image sent once (local DP). Not protected: " in text
        said = "one training image, from any other in its place (DP-SGD, shuffled batches)"
        assert f"dp (query): ε = 9.5, δ = 0.0001, {said}. Not protected: " in text
        assert "the images that the network is used on (it adds nothing to the features that are sent)" in text
    console = Console(width=300, record=True, file=None, force_terminal=False)
    with console.capture() as shown:
        console.print(SummaryTable(summary))
    assert "Promised: clip (query): ε = 8, δ = 1e-05, one image sent once (local DP)." in shown.get()


def test_a_large_budget_is_written_out() -> None:
    _, summary, *_ = tables({"clip": [clip(10000.0)]})
    assert "ε = 10,000, δ = 1e-05" in markdown(summary)


def test_levels_that_promise_the_same_are_named_together() -> None:
    _, summary, *_ = tables({"clip": [clip(8.0)]})
    other = summary.assign(knowledge="white-box")
    (promise,) = promises(pd.concat([summary, other], ignore_index=True))
    assert promise.levels == ("query", "white-box")


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("defended", [True, False])
def test_the_page_has_what_is_promised_only_where_something_is(
    defended: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("splitaudit.report.write._rendered", lambda drawn: (b"png", "<svg/>"))
    defenses = ["none", "clip_noise+quantize" if defended else "noise"]
    made_up = suite(defenses=defenses, attacks=["prior"], knowledge=["query", "query:16"], metrics=["mse"], seeds=[0])
    plan, _ = store_run(tmp_path, made_up)
    write_derived(tmp_path, plan, Store.open(tmp_path), None, no_images=True)
    page, head = (tmp_path / "report.html").read_text(), (tmp_path / "targets.csv").read_text().splitlines()[0]
    assert ('id="promised"' in page) is defended
    assert ("privacy_epsilon,privacy_delta,privacy_protects" in head) is defended
    if defended:
        section = page.split('id="promised"')[1].split("<h2")[0].replace("<wbr>", "")
        for text in ("99.97 %", ">8<", ">49.86<", "sent once", "sent 16 times", "does not protect", "1e-05"):
            assert text in section, text


@pytest.mark.parametrize("table", ["targets.csv", "summary.csv"])
def test_the_results_format_describes_the_columns(table: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "results-format.md").read_text(encoding="utf-8")
    lines = text.split(f"### {table}\n", 1)[1].split("\n### ", 1)[0].splitlines()
    assert tuple(PROMISED) == COLUMNS
    for name, (unit, meaning) in PROMISED.items():
        assert f"| `{name}` | {unit} | {meaning} |" in lines
