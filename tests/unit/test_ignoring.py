"""Attacks that leave the defense on the wire out of account, to show what that hides."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from audited_records import audited

from splitaudit.api import load_results, run
from splitaudit.attack import Attack, LabelAttack
from splitaudit.config import load_suite
from splitaudit.data.base import DataContext
from splitaudit.defense import Defense
from splitaudit.errors import ConfigError
from splitaudit.ignoring import off_the_wire, without_wire_defense
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.options import Options
from splitaudit.params import Params
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.plugins import ATTACKS, DEFENSES
from splitaudit.report.summary import build_summary
from splitaudit.report.worst_case import build_worst_case
from splitaudit.testing.attacking import STRONGEST, attacked
from splitaudit.testing.targets import control_target
from splitaudit.view import View

SMALL = {"epochs": 1, "width": 8, "depth": 0}


class Negated(Defense):
    """Sends the features upside down: nothing is lost, but dark is bright."""

    def protect(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return -z


def reads_features(name: str) -> bool:
    """Says whether an attack makes its guesses of what is received, by the edge or by pairs of its own."""
    cls = ATTACKS.get(name)
    access = cls(cls.Params()).granted(STRONGEST)
    return access.edge != "none" and not name.endswith("_published") and cls.infers == "image"


@pytest.mark.parametrize(
    "name",
    [
        n if n in ("linear", "nearest", "rmle") else pytest.param(n, marks=pytest.mark.slow)
        for n in sorted(ATTACKS.names())
        if "/" not in n and reads_features(n)
    ],
)
def test_who_leaves_a_defense_out_of_account_is_misled_by_it(name: str) -> None:
    """Every attack, none of which has anything to do for it: its view knows of no defense."""
    target = control_target("orthogonal", Negated(Params()))
    both = [attacked(ATTACKS.get(name), target, adaptive=adaptive).leakage() for adaptive in (True, False)]
    assert both[0] > 0.35
    assert both[1] < -0.2


def test_the_edge_stays_and_only_the_wire_is_bare() -> None:
    target = control_target("orthogonal", Negated(Params()))
    bare = without_wire_defense(target)
    x, g = torch.rand(3, *target.info.image_shape), torch.Generator()
    assert torch.equal(bare.wire(x, g), target.clean(x))
    assert not torch.equal(target.wire(x, g), target.clean(x))
    assert bare.edge is target.edge
    assert bare.cloud is target.cloud


def planned(tiny: dict[str, Any], images: Path, **change: Any) -> Plan:
    return make_plan(
        load_suite({**tiny, "metrics": ["mse"], "knowledge": ["white-box"], **change}), DataContext(images)
    )


def test_a_list_is_crossed_and_what_it_builds_on_ignores_the_defense_too(tiny: dict[str, Any], images: Path) -> None:
    refine = {"name": "refine", "adaptive": [True, False], "params": {"decoder": SMALL}}
    decoder = {"name": "decoder", "adaptive": [True, False], "params": SMALL}
    latent = {"name": "latent", "adaptive": [True, False], "params": {"decoder": SMALL}}
    plan = planned(tiny, images, attacks=[decoder, refine, latent], defenses=["noise"])
    labels = {row["attack"]: row["key"] for row in plan.cells}
    assert list(labels) == [n + s for n in ("decoder", "refine", "latent") for s in ("", "@nonadaptive")]
    assert len(set(labels.values())) == 6
    nodes = {label: plan.nodes["cell", key] for label, key in labels.items()}
    fits = {suffix: plan.nodes["cell", labels[f"decoder{suffix}"]].identity["fit"] for suffix in ("", "@nonadaptive")}
    assert fits[""] != fits["@nonadaptive"]
    for label, node in nodes.items():
        suffix = "@nonadaptive" if label.endswith("@nonadaptive") else ""
        assert ("adaptive" in node.identity["attack"]) == bool(suffix), "as it was before there was the switch"
        if not label.startswith("decoder"):
            assert node.identity["builds_on"]["decoder"] == fits[suffix]
    priors = [n for n in plan.nodes.values() if n.kind == "fit" and n.title == "fit of latent on auxiliary images"]
    assert len(priors) == 1, "a prior of images meets no defense"


@pytest.mark.parametrize(
    ("defense", "expected"),
    [
        ("none", "does nothing there"),
        ("nopeek", "does nothing there"),
        ("noise", None),
        ("quantize", None),
        ("nopeek+noise", None),
        ("pca", "send another shape"),
        ({"name": "noise+downsample"}, "send another shape"),
        ({"name": "downsample+noise", "params": {"downsample": {"factor": 1}}}, None),
    ],
)
def test_where_there_is_nothing_to_ignore_the_cell_is_skipped_with_its_reason(
    defense: Any, expected: str | None, tiny: dict[str, Any], images: Path
) -> None:
    plan = planned(tiny, images, attacks=[{"name": "linear", "adaptive": [True, False]}], defenses=[defense])
    found = {row["attack"]: row["skip"] for row in plan.cells}
    assert found["linear"] is None
    ignoring = found["linear@nonadaptive"]
    assert (ignoring is None) if expected is None else (ignoring is not None and expected in ignoring)


def test_one_fit_serves_any_number_of_draws_where_the_defense_is_ignored(tiny: dict[str, Any], images: Path) -> None:
    decoder = {"name": "decoder", "adaptive": [True, False], "params": SMALL}
    plan = planned(tiny, images, attacks=[decoder], defenses=["noise"], knowledge=["query", "query:4"])
    fits = {row["attack"]: set[str]() for row in plan.cells}
    for row in plan.cells:
        fits[row["attack"]].add(plan.nodes["cell", row["key"]].identity["fit"])
    assert {label: len(keys) for label, keys in fits.items()} == {"decoder": 2, "decoder@nonadaptive": 1}
    assert len({row["key"] for row in plan.cells}) == 4, "what is received differs"


def test_tuned_settings_all_ignore_the_defense(tiny: dict[str, Any], images: Path) -> None:
    attack = {"name": "decoder", "adaptive": False, "tune": 3, "params": SMALL}
    plan = planned(tiny, images, attacks=[attack], defenses=["noise"])
    (row,) = plan.cells
    assert row["attack"] == "decoder@tune3@nonadaptive"
    fits = [n for n in plan.nodes.values() if n.kind == "fit"]
    assert len(fits) == 4, "three settings and the choice among them"
    assert all(n.identity["attack"]["adaptive"] is False for n in fits)


@pytest.mark.parametrize("value", ["no", [], [True, 1], None, 0])
def test_anything_but_a_switch_is_refused_in_one_line(value: Any, tiny: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_suite({**tiny, "attacks": [{"name": "linear", "adaptive": value}]})
    (problem,) = caught.value.problems
    assert "adaptive: got" in problem
    assert "expected true, false or a list of them" in problem


def test_the_switch_among_the_parameters_is_told_where_it_stands(tiny: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_suite({**tiny, "attacks": [{"name": "rmle", "params": {"adaptive": False}}]})
    assert caught.value.problems == [
        "attack 'rmle': params: adaptive is no parameter, it stands beside them. Write {name: rmle, adaptive: false}."
    ]


def test_a_claim_may_be_about_an_attack_that_ignores_the_defense(tiny: dict[str, Any]) -> None:
    figure = {"column": "mse", "attack": "linear@nonadaptive"}
    claim = {"name": "c", "says": "s", "published": "p", "defense": "noise", "against": "none", "at_least": 1}
    attacks = [{"name": "linear", "adaptive": [True, False]}]
    assert load_suite(
        {**tiny, "metrics": ["mse"], "attacks": attacks, "claims": [{**claim, "figures": [figure]}]}
    ).claims


class Spy(Attack):
    """Notes what its views know of the defense."""

    Params = Params
    requires = AdversaryKnowledge(edge="query", aux="same")
    seen: ClassVar[list[tuple[str, bool, bool, list[str]]]] = []

    def look(self, view: View, where: str) -> None:
        fresh = view.untrained("spy").defense.stochastic
        self.seen.append((where, view.stochastic, fresh, [name for name, _ in view.defense_parts]))

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        self.look(view, "fit")
        return {"mean": view.prior}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        self.look(view, "reconstruct")
        return fitted["mean"].expand(len(view), -1, -1, -1)


def test_in_a_run_neither_fit_nor_cell_nor_an_untrained_target_knows_of_the_defense(
    tiny: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    """Parts that rebuild or train the edge are no part of what is ignored: an attack still sees that they are there."""
    ATTACKS.register("toys/spy")(Spy)
    Spy.seen.clear()
    change = {"attacks": [{"name": "toys/spy", "adaptive": [True, False]}], "knowledge": ["query"]}
    options = Options(executor="serial", device="cpu", offline=True, data_root=images)
    raw = {**tiny, **change, "defenses": ["nopeek+noise"], "seeds": [0]}
    assert run(raw, out=tmp_path, options=options).exit_code == 0
    expected = [
        (where, *known)
        for known in ((True, True, ["nopeek", "noise"]), (False, False, ["nopeek"]))
        for where in ("fit", "reconstruct")
    ]
    assert sorted(map(str, Spy.seen)) == sorted(map(str, expected))


def test_published_decoders_for_a_rebuilt_edge_stay_those_of_that_edge(tiny: dict[str, Any], images: Path) -> None:
    """Parts in front of the noise choose the decoder's structure: it is to be the same both ways."""
    parts = [{"name": n, "params": DEFENSES.get(n).Params().dump()} for n in ("siftfunnel", "noise")]
    assert [part["name"] for part in off_the_wire(parts)] == ["siftfunnel"]
    decoder = {"name": "decoder_published", "adaptive": [True, False]}
    plan = planned(tiny, images, attacks=[decoder], defenses=["siftfunnel+noise"])
    assert [row["skip"] for row in plan.cells] == [None, None]


def test_what_ignores_the_defense_counts_for_no_worst_case_and_makes_nothing_incomplete() -> None:
    errors = {("none", "rmle", 0): 0.01, ("a", "rmle", 0): 0.3, ("a", "rmle@nonadaptive", 0): 0.1}
    errors |= {("b", "rmle", 0): 0.3, ("b", "rmle@nonadaptive", 0): None}
    plan, records = audited(errors)
    summary = build_summary(plan, records).set_index("defense")
    assert set(summary["worst_attack"]) == {"rmle"}
    assert summary.loc["a", "leakage"] == pytest.approx(0.7, abs=0.05)
    assert set(summary["incomplete"]) <= {"", "-", 0} or summary["incomplete"].isna().all()
    worst = build_worst_case(plan, records)
    assert set(worst["attack"]) == {"rmle"}
    assert set(worst["incomplete"].fillna("")) == {""}


def test_a_run_shows_what_ignoring_strong_noise_hides(tiny: dict[str, Any], images: Path, tmp_path: Path) -> None:
    """The map of clean features blows the noise up; what is received is the same for both."""
    noise = {"name": "noise", "when": "infer", "params": {"sigma": 3.0}}
    change = {"attacks": [{"name": "linear", "adaptive": [True, False]}], "defenses": [noise], "knowledge": ["query"]}
    options = Options(executor="serial", device="cpu", offline=True, data_root=images)
    assert run({**tiny, **change}, out=tmp_path, options=options).exit_code == 0
    cells = load_results(tmp_path).cells
    cells = cells[cells["attack"].str.startswith("linear")].groupby("attack")["mse"].mean()
    assert cells["linear@nonadaptive"] > 1.05 * cells["linear"]


def test_labels_are_read_without_account_of_the_defense_too() -> None:
    cls: type[Attack] = ATTACKS.get("attribute")
    assert issubclass(cls, LabelAttack)
    target = control_target("orthogonal", Negated(Params()))
    knowing, ignoring = (attacked(cls, target, adaptive=adaptive).right().mean() for adaptive in (True, False))
    assert knowing > ignoring + 0.2
