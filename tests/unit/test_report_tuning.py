"""What tuning gained: on the attacker's own images, cell by cell, and only where there is a tuned cell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import store_run, suite

from splitaudit.plan import Node, Plan
from splitaudit.report.adaptive import adaptive_pairs, unlike_settings
from splitaudit.report.comparisons import false_security
from splitaudit.report.fits import chosen_fit
from splitaudit.report.html import page as page_of
from splitaudit.report.meanings import TUNED
from splitaudit.report.page_tuned import tuned_rows
from splitaudit.report.reading import Records, Scores
from splitaudit.report.tables import build_tables
from splitaudit.report.tuning import AS_GIVEN, UNCOMPARED, build_tuned, in_words
from splitaudit.store import Store

DOCS = Path(__file__).parents[2] / "docs"
SHORT = {"steps": 20}
ATTACKS: list[Any] = [
    "prior",
    {"name": "rmle", "params": SHORT, "tune": 3},
    {"name": "rmle", "params": SHORT, "tune": 3, "adaptive": False},
    {"name": "decoder", "tune": 3},
]


def decoder_fails(node: Node) -> str | None:
    return (
        "out of cheese"
        if node.kind == "fit" and "tune" in node.identity["attack"] and "decoder" in node.title
        else None
    )


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A run of tuned attacks at two levels; the decoder's settings could not be compared."""
    folder = tmp_path_factory.mktemp("tuned")
    raw = suite(attacks=ATTACKS, seeds=[0], defenses=["none", "noise"], metrics=["mse"])
    plan, _ = store_run(folder, raw, decoder_fails, images=False)
    return plan, Store.open(folder)


def chosen(stored: tuple[Plan, Store], which: dict[bool, int]) -> Records:
    """Returns the records, with the setting chosen that stands at the place which goes by ``adaptive``."""
    plan, store = stored

    def read(kind: str, key: str) -> dict[str, Any] | None:
        record = store.read(kind, key)
        attack = record["identity"].get("attack", {}) if record else {}
        if (
            record
            and kind == "fit"
            and attack.get("name") == "rmle"
            and "tune" in attack
            and record["status"] == "done"
        ):
            tried = [attack["params"], *attack["tune"]]
            number = which[attack.get("adaptive", True)]
            errors = [0.04] * len(tried)
            errors[number] = 0.04 if number == 0 else 0.03
            record["info"]["notes"] = {"tried": 3, "aux_val_mse": errors, "chosen": tried[number]}
        return record

    return Records(plan, read)


def test_a_row_has_the_given_and_the_chosen_settings_errors_on_own_images(stored: tuple[Plan, Store]) -> None:
    frame = build_tuned(stored[0], chosen(stored, {True: 2, False: 0}))
    assert list(frame.columns) == list(TUNED)
    rmle = frame[frame["attack"].str.startswith("rmle") & frame["given_mse"].notna()]
    assert len(rmle) == 3, (
        "of two defenses one that can be left out of account, at the one level that knows the weights"
    )
    for row in rmle.to_dict("records"):
        adaptive = "nonadaptive" not in row["attack"]
        assert (row["given_mse"], row["chosen_mse"]) == (0.04, 0.03 if adaptive else 0.04)
        assert row["other"] == adaptive
        assert row["tried"] == 3
        assert re.search(r"\w+=", row["chosen"])
        assert "adaptive" not in row["chosen"], "only what was tried is named"
    assert "2 of 3 cells; there the error on own images fell by 25 %." in in_words(frame)


def test_what_could_not_be_compared_says_why(stored: tuple[Plan, Store]) -> None:
    frame = build_tuned(stored[0], chosen(stored, {True: 0, False: 0}))
    decoder = frame[frame["attack"].str.startswith("decoder")]
    assert len(decoder) == 4
    assert decoder["given_mse"].isna().all()
    assert all("out of cheese" in note for note in decoder["note"])


def test_where_the_budget_affords_no_comparison_the_given_setting_stands_and_the_report_is_made(
    stored: tuple[Plan, Store],
) -> None:
    plan, store = stored

    def read(kind: str, key: str) -> dict[str, Any] | None:
        record = store.read(kind, key)
        if record and kind == "fit" and record["status"] == "done" and "tune" in record["identity"]["attack"]:
            record["info"]["notes"] = {"tried": 0, "chosen": record["identity"]["attack"]["params"]}
        return record

    tables, records = build_tables(plan, read)
    rmle = tables.tuned[tables.tuned["attack"].str.startswith("rmle")]
    assert set(rmle["note"]) == {UNCOMPARED}
    assert rmle["given_mse"].isna().all()
    assert rmle["chosen_mse"].isna().all()
    assert not rmle["other"].astype(bool).any()
    assert (rmle["chosen"] != "").all()
    assert in_words(tables.tuned) == "In 3 cells the budget of queries left nothing to compare settings on."
    assert any(row[6].interval == "as given" and row[7].text == UNCOMPARED for row in tuned_rows(tables.tuned))
    assert UNCOMPARED in page_of(plan, tables, records, [], no_images=True, outdated=0)


def test_adaptive_and_not_in_different_settings_are_said_to_be_so(stored: tuple[Plan, Store]) -> None:
    plan = stored[0]
    alike, unlike = (chosen(stored, which) for which in ({True: 1, False: 1}, {True: 2, False: 1}))
    assert adaptive_pairs(plan, unlike)
    for records, said in ((alike, False), (unlike, True)):
        assert all(bool(unlike_settings(plan, records, p)) == said for p in adaptive_pairs(plan, records))
        notes = build_tuned(plan, records)["note"]
        assert notes.str.contains("compared in different settings").sum() == (2 if said else 0)


def test_false_security_names_the_settings_where_they_differ(
    stored: tuple[Plan, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = stored[0]
    for which, said in (({True: 1, False: 1}, False), ({True: 2, False: 1}, True)):
        records = chosen(stored, which)
        naive = {plan.cells[pair[0]]["key"] for pair in adaptive_pairs(plan, records)}
        count = len(records.reference("photos").prior)  # type: ignore[arg-type]
        strong, weak = (Scores(np.full(count, error)) for error in (0.01, 0.03))
        monkeypatch.setattr(records, "scores", lambda key, name, at=(naive, weak, strong): at[1 if key in at[0] else 2])
        flags = list(false_security(plan, records).values())
        assert flags
        assert all(("by another chosen setting (" in f) == said and "; " not in f for f in flags)


def test_the_curves_of_a_tuned_attack_are_the_chosen_settings(stored: tuple[Plan, Store]) -> None:
    plan, records = stored[0], chosen(stored, {True: 2, False: 0})
    for cell in (c for c in plan.cells if c["attack"].startswith("rmle") and records.done("cell", c["key"])):
        record = records.done("cell", cell["key"])
        assert record is not None
        fit = chosen_fit(records, record)
        attack = record["identity"]["attack"]
        expected = attack["tune"][1] if attack.get("adaptive", True) else attack["params"]
        assert fit is not None
        assert fit["identity"]["attack"]["params"] == expected


def test_the_page_has_the_table_only_where_something_is_tuned(stored: tuple[Plan, Store], tmp_path: Path) -> None:
    plan, store = stored
    tables, records = build_tables(plan, store.read)
    html = page_of(plan, tables, records, [], no_images=True, outdated=0)
    part = html.split('<h2 id="tuned">')[1].split("<h2")[0]
    assert "This is no oracle" in part
    cells = tables.tuned["key"].nunique()
    assert part.count('<th scope="row"') == cells > 0
    assert cells < len(tables.tuned), "the decoder's cells serve two levels"
    assert "white-box, query" in part.replace("<wbr>", "")
    given, _ = store_run(tmp_path, suite(seeds=[0], metrics=["mse"]), images=False)
    tables, records = build_tables(given, Store.open(tmp_path).read)
    assert tables.tuned.empty
    assert 'id="tuned"' not in page_of(given, tables, records, [], no_images=True, outdated=0)


def test_what_cannot_be_tuned_at_a_level_is_said_to_be_attacked_as_given(tmp_path: Path) -> None:
    attacks = [{"name": "decoder", "tune": 2}, {"name": "linear", "tune": 2}]
    plan, _ = store_run(tmp_path, suite(attacks=attacks, seeds=[0], defenses=["none"], metrics=["mse"]), images=False)
    _, records = build_tables(plan, Store.open(tmp_path).read)
    frame = build_tuned(plan, records).set_index("attack")
    assert set(frame.loc["linear@tune2", "note"]) == {AS_GIVEN}
    assert set(frame.loc["decoder@tune2", "note"]) == {""}


def test_the_results_format_describes_the_columns() -> None:
    text = (DOCS / "results-format.md").read_text(encoding="utf-8").split("### tuned.csv\n", 1)[1].split("\n### ", 1)[0]
    assert [line for line in text.splitlines() if line.startswith("| `")] == [
        f"| `{name}` | {unit} | {meaning} |" for name, (unit, meaning) in TUNED.items()
    ]
