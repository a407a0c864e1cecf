"""Claims over several levels of knowledge: attackers who know less are no repetitions, and no second training."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from claims_records import claim, results, rows_of


def weaker(found: tuple[Any, pd.DataFrame, pd.DataFrame], errors: dict[str, float], level: str) -> Any:
    """Returns results with cells of the decoder of another level beside the given ones, with their own errors."""
    records, targets, cells = found
    more = cells[cells["attack"] == "decoder"].assign(knowledge=level)
    more["key"] = [f"{k}-{level}" for k in more["key"]]
    for defense, error in errors.items():
        mine = records.errors[f"{defense}-decoder"]
        records.errors[f"{defense}-decoder-{level}"] = mine / mine.mean() * error
    return records, targets, pd.concat([cells, more], ignore_index=True)


@pytest.mark.parametrize("beside", [1.8, 6.0])
def test_what_a_weaker_attacker_leaves_is_not_averaged_with_what_the_strongest_does(beside: float) -> None:
    found = results({"new": 1.2, "old": 1.0, "none": 0.1})
    (row,) = rows_of(claim(), weaker(found, {"new": beside, "old": 2.0, "none": 0.3}, "query:aux=500"))
    assert (row["verdict"], row["attack"]) == ("does not hold", "decoder at query")
    assert row["value"] == pytest.approx(1.2, rel=1e-5)
    assert row["value_lo"] == pytest.approx(row["value_hi"], rel=1e-4)


def test_the_strongest_is_found_over_attacks_and_levels() -> None:
    found = results({"new": 1.5, "old": 1.0, "none": 0.1})
    (row,) = rows_of(claim(), weaker(found, {"new": 1.1, "old": 0.9, "none": 0.1}, "white-box"))
    assert row["attack"] == "decoder at white-box"
    assert row["value"] == pytest.approx(1.1 / 0.9, rel=1e-5)


def test_a_cell_that_failed_at_one_level_is_named_with_its_level_and_nothing_is_decided() -> None:
    found = results({"new": 1.5, "old": 1.0, "none": 0.1})
    records, targets, cells = weaker(found, {"new": 1.5, "old": 1.0, "none": 0.1}, "query:aux=500")
    cells.loc[cells["key"] == "new-decoder-query:aux=500", "status"] = "failed"
    (row,) = rows_of(claim(), (records, targets, cells))
    assert row["verdict"] == "not decided"
    assert "not complete: decoder at query:aux=500 on new" in row["note"]


def test_a_cell_that_serves_several_levels_counts_once_and_needs_no_level_beside_its_name() -> None:
    records, targets, cells = results({"new": 1.5, "old": 1.0, "none": 0.1})
    both = pd.concat([cells, cells.assign(knowledge="white-box")], ignore_index=True)
    (row,) = rows_of(claim(), (records, targets, both))
    assert (row["verdict"], row["attack"]) == ("holds", "decoder")


def test_seeds_of_an_attack_on_one_target_are_still_one_training() -> None:
    records, targets, cells = results({"new": 1.5, "old": 1.0, "none": 0.1})
    again = cells.assign(key=[f"{k}-again" for k in cells["key"]])
    records.errors |= {f"{k}-again": v for k, v in records.errors.items()}
    (row,) = rows_of(claim(), (records, targets, pd.concat([cells, again], ignore_index=True)))
    assert row["verdict"] == "holds"
    assert row["interval"] == "images and seeds of the attack, paired; one seed: training noise not included"
