"""Which curves the figure of convergence shows, and on which axis."""

from __future__ import annotations

from typing import Any

import pytest
from report_run import store_run, suite

from splitaudit.plan import Plan
from splitaudit.report.curves import Panel, in_words, panels
from splitaudit.report.plot_convergence import convergence
from splitaudit.report.reading import Records
from splitaudit.store import Store

PLACE = ("photos", "cnn4", "block2")
LOSS, RATE = [[1, 0.7], [2, 0.6]], [[1, 0.0], [2, 0.55], [3, 0.8]]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    folder = tmp_path_factory.mktemp("curves")
    attacks = ["prior", {"name": "decoder", "tune": 2}, {"name": "decoder", "params": {"width": 24}}]
    plan, _ = store_run(folder, suite(attacks=attacks, seeds=[0], defenses=["none"], metrics=["mse"]), images=False)
    return plan, Store.open(folder)


def changed(
    stored: tuple[Plan, Store], curves: dict[str, Any], *, of: str, logged: tuple[str, ...] = ()
) -> list[Panel]:
    """Returns the panels where every record of a kind has these curves, logged in a given order."""
    plan, store = stored

    def read(kind: str, key: str) -> dict[str, Any] | None:
        record = store.read(kind, key)
        if record and kind == of and "tune" not in record["identity"]["attack"]:
            record["info" if kind == "fit" else "attack"] |= {"curves": curves, "logged": list(logged)}
        return record

    return panels(plan, Records(plan, read), PLACE)


def test_an_accuracy_is_never_drawn_on_the_axis_of_losses(stored: tuple[Plan, Store]) -> None:
    """Records hold curves by name, so that an accuracy comes before the loss of the same training."""
    found = [
        p for p in changed(stored, {"stand_in_accuracy": RATE, "stand_in_loss": LOSS}, of="fit") if "@" not in p.attack
    ]
    assert [(p.quantity, p.share, p.lines["none"]) for p in found] == [
        ("loss of the stand-in's training", False, LOSS),
        ("accuracy of the stand-in on own images", True, RATE),
    ]
    loss, share = convergence(found, ["none"]).axes
    assert (loss.get_yscale(), share.get_yscale()) == ("log", "linear")
    assert share.get_ylim() == (0, 1.02)
    assert "loss" in loss.get_ylabel()
    assert "share of images" in share.get_ylabel()


@pytest.mark.parametrize("logged", [("search", "release"), ()])
def test_the_loss_that_was_logged_first_is_drawn(stored: tuple[Plan, Store], logged: tuple[str, ...]) -> None:
    """Records hold curves by name: the release comes before the search that it ends."""
    found = changed(stored, {"release": LOSS, "search": RATE[1:]}, of="fit", logged=logged)
    first = next(p for p in found if "@" not in p.attack)
    assert first.lines["none"] == (RATE[1:] if logged else LOSS)


def test_an_attack_that_only_has_an_accuracy_has_no_panel_of_losses(stored: tuple[Plan, Store]) -> None:
    assert {p.share for p in changed(stored, {"aux_val_accuracy": RATE}, of="fit")} == {True}


def test_the_curve_of_a_tuned_attack_is_that_of_the_setting_that_it_chose(stored: tuple[Plan, Store]) -> None:
    plan, store = stored
    (tuned,) = (
        store.read("cell", c["key"]) for c in plan.cells if "@tune2" in c["attack"] and c["knowledge"] == "query"
    )
    assert tuned is not None
    fit = store.read("fit", tuned["identity"]["fit"])
    assert fit is not None
    tried = [tuned["identity"]["attack"]["params"], *tuned["identity"]["attack"]["tune"]]
    for number in range(2):

        def read(kind: str, key: str, number: int = number) -> dict[str, Any] | None:
            record = store.read(kind, key)
            if record and key == fit["key"]:
                record["info"]["notes"]["chosen"] = tried[number]
            elif record and kind == "fit" and record["identity"]["attack"]["params"] in tried:
                which = tried.index(record["identity"]["attack"]["params"])
                record["info"]["curves"] = {"aux_val_mse": [[1, 0.1 + which], [2, 0.05 + which]]}
            return record

        (panel,) = (p for p in panels(plan, Records(plan, read), PLACE) if "@tune2" in p.attack)
        assert panel.lines["none"] == [[1, 0.1 + number], [2, 0.05 + number]]
        assert panel.quantity == "mean squared error on own images"


def test_the_attacks_own_curve_comes_before_that_of_its_fit(stored: tuple[Plan, Store]) -> None:
    found = changed(stored, {"loss": LOSS}, of="cell")
    assert [p.lines["none"] for p in found if "@" not in p.attack] == [LOSS, LOSS], "of the prior and of the decoder"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("calibration_loss adam 0.2", "loss on own images"),
        ("somebody's", "the attack's own loss"),
        ("some_accuracy", "accuracy on own images"),
    ],
)
def test_a_curve_is_named_in_words(name: str, words: str) -> None:
    assert in_words(name) == words
