"""A claim names an attack as a person would: by its label, or by a name that no other attack of the suite goes by."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from claims_records import claim, results, rows_of

from splitaudit.labels import labels_meant

DECODER = claim(figures=[{"column": "mse", "attack": "decoder"}])
ERRORS = {"new": 1.5, "old": 1.0, "none": 0.1}


def labelled(*labels: str) -> tuple[Any, pd.DataFrame, pd.DataFrame]:
    """Returns results in which the decoder's cells stand once under each label."""
    records, targets, cells = results(ERRORS)
    decoder, weak = cells[cells["attack"] == "decoder"], cells[cells["attack"] != "decoder"]
    mine = [decoder.assign(attack=label, key=[f"{k}{label}" for k in decoder["key"]]) for label in labels]
    records.errors |= {f"{k}{label}": records.errors[k] for k in decoder["key"] for label in labels}
    return records, targets, pd.concat([*mine, weak], ignore_index=True)


@pytest.mark.parametrize(
    "labels",
    [
        ("decoder@tune8",),
        ("decoder(width=32)",),
        ("decoder(width=32)@tune8",),
        ("decoder@tune8", "decoder@tune8@nonadaptive"),
        ("decoder", "decoder@tune8"),
        ("decoder", "decoder(width=32)", "decoder@nonadaptive"),
    ],
)
def test_a_bare_name_means_the_one_attack_that_goes_by_it(labels: tuple[str, ...]) -> None:
    (row,) = rows_of(DECODER, labelled(*labels))
    assert (row["verdict"], row["attack"]) == ("holds", labels[0])


@pytest.mark.parametrize("labels", [("decoder(width=32)", "decoder(width=64)"), ("decoder@tune8", "decoder@tune4")])
def test_a_name_of_several_attacks_decides_nothing_and_says_so(labels: tuple[str, ...]) -> None:
    (row,) = rows_of(DECODER, labelled(*labels))
    assert (row["verdict"], row["attack"]) == ("not decided", "")
    assert f"decoder names several attacks: {', '.join(labels)}" in row["note"]


def test_an_attack_that_leaves_the_defense_out_of_account_is_never_meant_by_a_bare_name() -> None:
    (row,) = rows_of(DECODER, labelled("decoder@nonadaptive"))
    assert row["verdict"] == "not decided"
    assert "no complete cell of decoder on 'new'" in row["note"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("decoder", ["decoder(width=32)@tune8", "decoder(width=64)@tune8"]),
        ("decoder@tune8", ["decoder(width=32)@tune8", "decoder(width=64)@tune8"]),
        ("decoder(width=32)", ["decoder(width=32)@tune8"]),
        ("decoder@nonadaptive", ["decoder(width=32)@tune8@nonadaptive"]),
        ("decoder(width=32)@nonadaptive", ["decoder(width=32)@tune8@nonadaptive"]),
        ("decoder(width=64)@nonadaptive", []),
        ("rmle", ["rmle"]),
        ("decode", []),
    ],
)
def test_a_name_means_every_label_that_goes_by_it(name: str, meant: list[str]) -> None:
    tuned = ["decoder(width=32)@tune8", "decoder(width=64)@tune8", "decoder(width=32)@tune8@nonadaptive"]
    assert labels_meant(name, [*tuned, "rmle", "rmle(steps=9)"]) == meant


@pytest.mark.parametrize("lacking", ["no row", "no key"])
def test_a_defense_that_is_spared_the_deciding_attack_wins_no_claim(lacking: str) -> None:
    """Attacked by the decoder on both sides the claim fails; with it excluded from one it once held, without a note."""
    errors = {"new": 1.2, "old": 1.0, "none": 0.1}
    records, targets, cells = results(errors)
    (both,) = rows_of(claim(), (records, targets, cells))
    assert both["verdict"] == "does not hold"
    spared = (cells["defense"] == "new") & (cells["attack"] == "decoder")
    kept = cells[~spared] if lacking == "no row" else cells.assign(key=cells["key"].mask(spared, ""))
    (row,) = rows_of(claim(), (records, targets, kept))
    assert row["verdict"] == "not decided"
    assert "strongest on another defense and not made here: decoder on new" in row["note"]


def test_an_attack_that_decides_nowhere_may_be_lacking_in_a_claim() -> None:
    records, targets, cells = results({"new": 1.5, "old": 1.0, "none": 0.1})
    spared = (cells["defense"] == "new") & (cells["attack"] == "weak")
    (row,) = rows_of(claim(), (records, targets, cells[~spared]))
    assert row["verdict"] == "holds"
