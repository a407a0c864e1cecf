"""What each defense's source claims of it, measured: the verdicts of the preset ``defenses`` are those on record."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from splitaudit.api import run
from splitaudit.config import load_suite
from splitaudit.config.declared import declared_claims
from splitaudit.options import Options
from splitaudit.plugins import DEFENSES

ROOT = Path(__file__).parents[2]
RECORDED = ROOT / "results" / "reference" / "defenses" / "claims.csv"
SUITE = load_suite("defenses")
CLAIMING = [n for n in DEFENSES.names() if "/" not in n and DEFENSES.get(n).claims]


def verdicts(file: Path) -> dict[str, str]:
    """Returns claim to overall verdict."""
    rows = pd.read_csv(file)
    return dict(zip(rows["claim"], rows["overall"], strict=True))


def clear(file: Path) -> set[str]:
    """Returns the claims that hold with an interval that stays away from its threshold, 0, by half its width or more."""
    rows = pd.read_csv(file)
    nearest = rows[["value_lo", "value_hi"]].abs().min(axis=1)
    away = nearest >= (rows["value_hi"] - rows["value_lo"]) / 2
    return set(rows["claim"][(rows["overall"] == "holds") & away])


CLOSE = {
    "adversarial-weight-0-3-loss-ressfl-mse",
    "cem-mi-upper-nats",
    "infoscissors-mi-upper-nats",
    "shredder-infer-cloud-mse",
}
"""Claims that hold by too little to be asked for again: the attacks leave next to nothing of the first and the last."""


def test_recorded_claims_are_clear_enough_to_be_asked_for_again_but_for_those_that_are_named() -> None:
    """A defense that is broken into one that does nothing has to fail the slow test."""
    assert {c for c, verdict in verdicts(RECORDED).items() if verdict == "holds"} - clear(RECORDED) == CLOSE


def test_every_claim_that_a_built_in_defense_declares_has_a_recorded_verdict() -> None:
    """Read against the plugins of today: a claim that is added has to be measured."""
    found = verdicts(RECORDED)
    assert set(found) == {c.name for c in declared_claims(SUITE)}
    assert set(found.values()) <= {"holds", "does not hold", "not decided"}
    assert {d for d in CLAIMING if not any(s.name == d for s in SUITE.defenses)} == set()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run folder, so that ``none`` is trained and attacked once."""
    return tmp_path_factory.mktemp("claims")


@pytest.mark.slow
@pytest.mark.parametrize("name", CLAIMING)
def test_the_measured_direction_does_not_contradict_the_recorded_one(name: str, folder: Path) -> None:
    """Minutes for each defense. On another processor a figure at the edge of its interval may become undecided."""
    # Without the level of the attack without queries, on whose hours no claim hangs: a claim needs every attack of the suite.
    run(
        "defenses",
        out=folder,
        overrides=["knowledge=[white-box]"],
        options=Options(filters={"defense": ["none", name]}),
    )
    measured, recorded = verdicts(folder / "claims.csv"), verdicts(RECORDED)
    claims = [c.name for c in declared_claims(SUITE) if c.defense == name]
    assert claims
    for claim in claims:
        assert {measured[claim], recorded[claim]} != {"holds", "does not hold"}, claim
        assert measured[claim] in ("holds", "does not hold", "not decided")
        if claim in clear(RECORDED):
            assert measured[claim] == recorded[claim], claim
