"""Tuning without an oracle: settings are tried on the attacker's own images, and private ones have no say."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pandas as pd
import pytest
import torch
from pydantic import Field

from splitaudit.api import Options, run
from splitaudit.asking import Asked
from splitaudit.attack import Attack
from splitaudit.config import load_suite
from splitaudit.data.base import DataContext, Part
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.params import Params
from splitaudit.pixels import to_float
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.plugins import ATTACKS
from splitaudit.store import Store
from splitaudit.testing import control_target, toy_part
from splitaudit.testing.data import SHAPE
from splitaudit.tuned import Tuned, attack_of, make_attack, settings_of
from splitaudit.view import View


class ShadeParams(Params):
    """Parameters of Shade."""

    level: float = Field(0.5, description="grey value")
    ink: Literal["a", "b"] = Field("a", description="does nothing")


class Shade(Attack):
    """Guesses one grey value, and learns another in its fit."""

    Params = ShadeParams
    source = "toy"
    requires = AdversaryKnowledge(edge="query", aux="other")
    search: ClassVar[dict[str, tuple[Any, ...]]] = {"level": (0.1, 0.5, 0.9), "ink": ("a", "b")}

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        return {"level": torch.tensor(self.params.level)}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.full((len(view), *view.image_shape), float(fitted["level"]))


@pytest.fixture(autouse=True)
def shade() -> None:
    ATTACKS.register("toys/shade")(Shade)


def dark(n: int, level: int) -> Part:
    return Part(torch.full((n, *SHAPE), level, dtype=torch.uint8), torch.zeros(n, dtype=torch.int64))


def view_of(aux: Part, private: Part, fits: dict[str, dict[str, torch.Tensor]]) -> View:
    model = control_target("orthogonal")
    return View(
        knowledge=AdversaryKnowledge(edge="query", aux="same"),
        received=model.clean(to_float(private.images))[:, None].detach(),
        image_shape=SHAPE,
        model=model,
        aux=(aux, aux),
        seed=0,
        fits=fits,
    )


def test_the_setting_is_the_best_on_own_images_whatever_the_private_ones_are() -> None:
    made = make_attack("toys/shade", {}, 6)
    assert isinstance(made, Tuned)
    fits = {f"{i}": attack.fit(None) for i, attack in enumerate(made.tried)}  # type: ignore[arg-type]
    for private in (dark(3, 230), toy_part(3, SHAPE, seed=1)):
        view = view_of(dark(40, 26), private, fits)
        fitted = made.fit(view)
        assert view.notes["chosen"]["level"] == 0.1
        assert view.queries == 6 * 40, "every trial is counted"
        guess = made.reconstruct(view, fitted)
        assert float(guess.mean()) == pytest.approx(0.1)
        assert len(guess) == 3


def test_a_setting_whose_images_are_no_numbers_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """No number is less than another: one that came first would stay."""
    made = make_attack("toys/shade", {"level": 0.5}, 3)
    assert isinstance(made, Tuned)
    fits = {f"{i}": attack.fit(None) for i, attack in enumerate(made.tried)}  # type: ignore[arg-type]
    broken = {**fits, "0": {"level": torch.tensor(float("nan"))}}
    view = view_of(dark(40, 26), dark(3, 230), broken)
    assert int(made.fit(view)["chosen"]) > 0
    every = {name: {"level": torch.tensor(float("nan"))} for name in fits}
    with pytest.raises(ValueError, match="none of the 3 settings"):
        made.fit(view_of(dark(40, 26), dark(3, 230), every))


def test_where_nothing_is_left_to_rehearse_with_the_given_setting_attacks() -> None:
    """The mean of no errors is no number, and no number is less than another."""
    made = make_attack("toys/shade", {}, 6)
    assert isinstance(made, Tuned)
    aux = dark(40, 26)
    view = View(
        knowledge=AdversaryKnowledge(edge="query", aux="same", queries=50),
        received=control_target("identity").clean(to_float(dark(3, 26).images))[:, None].detach(),
        image_shape=SHAPE,
        model=control_target("identity"),
        aux=(aux, aux),
        seed=0,
        before=Asked(queries=50),
    )
    assert int(made.fit(view)["chosen"]) == 0
    assert view.notes == {"tried": 0, "chosen": made.params.dump()}
    assert view.queries == 0


def test_more_settings_begin_with_the_same_first_ones_and_the_given_one_leads() -> None:
    given = ShadeParams(level=0.3)
    settings = [settings_of("toys/shade", given, n) for n in (1, 3, 5, 99)]
    assert all(s[0] == given for s in settings)
    assert [len(s) for s in settings] == [1, 3, 5, 7], "no more than there are"
    for few, more in itertools.pairwise(settings):
        assert more[: len(few)] == few
    assert len({p.model_dump_json() for p in settings[-1]}) == 7


def planned(tiny: dict[str, Any], images: Path, **change: Any) -> Plan:
    return make_plan(load_suite({**tiny, "metrics": ["mse"], **change}), DataContext(root=images))


def test_trials_share_the_fits_of_attacks_that_run_alone(tiny: dict[str, Any], images: Path) -> None:
    attacks = [{"name": "toys/shade", "tune": 3}, "toys/shade", "prior"]
    plan = planned(tiny, images, defenses=["none"], attacks=attacks, knowledge=["query", "query-free"])
    fits = [n for n in plan.nodes.values() if n.kind == "fit"]
    tuned = [n for n in fits if "tune" in n.identity["attack"]]
    assert len(fits) == 3 + 1
    assert len(tuned) == 1
    assert set(tuned[0].identity["builds_on"]) == {"0", "1", "2"}
    rows = {(c["attack"], c["knowledge"]): c for c in plan.cells}
    assert rows["toys/shade@tune3", "query"]["key"] != rows["toys/shade", "query"]["key"]
    assert "needs" in rows["toys/shade@tune3", "query-free"]["skip"]
    made = attack_of(tuned[0].identity["attack"])
    assert isinstance(made, Tuned)
    assert [a.params for a in made.tried] == settings_of("toys/shade", ShadeParams(), 3)


def test_an_attack_without_anything_to_try_is_left_as_it_is(tiny: dict[str, Any], images: Path) -> None:
    plain = planned(tiny, images, attacks=["prior"])
    tuned = planned(tiny, images, attacks=[{"name": "prior", "tune": 4}])
    assert [c["key"] for c in plain.cells] == [c["key"] for c in tuned.cells]


def test_without_own_images_the_given_setting_attacks(tiny: dict[str, Any], images: Path) -> None:
    plan = planned(tiny, images, attacks=[{"name": "rmle", "tune": 4}], knowledge=["white-box-no-aux", "white-box"])
    identities = {c["knowledge"]: plan.nodes["cell", c["key"]].identity["attack"] for c in plan.cells}
    assert "tune" not in identities["white-box-no-aux"]
    assert len(identities["white-box"]["tune"]) == 3


def test_built_in_attacks_try_values_that_their_parameters_take() -> None:
    for entry in ATTACKS.survey():
        if entry.cls is not None and entry.cls.search:
            assert len(settings_of(entry.name, entry.cls.Params(), 1000)) > 3


@pytest.mark.parametrize("level", [0.1, 0.5])
@pytest.mark.parametrize("error", [FloatingPointError, ValueError])
def test_the_fit_of_a_setting_that_diverges_does_not_take_the_others_along(
    tiny: dict[str, Any], images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type, level: float
) -> None:
    """Only that of the given setting does, and any other error is one that the user has to see."""

    def fit(self: Shade, view: View) -> dict[str, torch.Tensor]:
        if self.params.level == level:
            raise error("a lower lr may help")
        return {"level": torch.tensor(self.params.level)}

    monkeypatch.setattr(Shade, "fit", fit)
    suite = {
        **tiny,
        "attacks": ["prior", {"name": "toys/shade", "tune": 6}],
        "knowledge": ["query"],
        "metrics": ["mse"],
    }
    options = Options(device="cpu", executor="serial", data_root=images)
    for keep_failed in (False, True):
        options = replace(options, keep_failed=keep_failed)
        done = run({**suite, "defenses": ["none"]}, out=tmp_path, options=options)
        cells = pd.read_csv(tmp_path / "cells.csv").set_index("attack")
        works = error is FloatingPointError and level == 0.1
        assert cells.loc["toys/shade@tune6", "status"] == ("done" if works else "skipped")
        if works:
            assert cells.loc["toys/shade@tune6", "mse"] > 0
            assert (done.counts.failed, done.counts.skipped) == ((0, 0) if keep_failed else (2, 0))
    store = Store.open(tmp_path)
    fits = [r for n in store.status() if n[0] == "fit" and (r := store.read(*n)) and "tune" in r["identity"]["attack"]]
    assert len(fits) == works
    for record in fits:
        assert record["info"]["notes"]["aux_val_mse"].count(None) == 2
        assert record["info"]["notes"]["chosen"]["level"] in (0.5, 0.9)


def test_a_setting_whose_images_cannot_be_made_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    made = make_attack("toys/shade", {"level": 0.5}, 3)
    assert isinstance(made, Tuned)
    fits = {f"{i}": attack.fit(None) for i, attack in enumerate(made.tried)}  # type: ignore[arg-type]
    whole = Shade.reconstruct

    def reconstruct(self: Shade, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        if self is made.tried[0]:
            raise FloatingPointError("the samples are not finite")
        return whole(self, view, fitted)

    monkeypatch.setattr(Shade, "reconstruct", reconstruct)
    view = view_of(dark(40, 26), dark(3, 230), fits)
    assert int(made.fit(view)["chosen"]) > 0
    assert view.notes["aux_val_mse"][0] is None
