"""One attack on one wire is made once, whether or not the cloud behind it was trained anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch

from splitaudit.api import load_results, plan_suite, run
from splitaudit.attack import Attack
from splitaudit.attacks.decoder import Decoder
from splitaudit.attacks.linear import Linear
from splitaudit.attacks.shadow import Shadow
from splitaudit.knowledge import AdversaryKnowledge
from splitaudit.options import Options
from splitaudit.plugins import ATTACKS
from splitaudit.store import Store
from splitaudit.view import View

NOISE = [{"name": "noise", "params": {"sigma": 0.5}, "when": when} for when in ("infer", "infer+cloud")]
SMALL = {"width": 8, "depth": 1, "epochs": 1, "batch": 16}


@pytest.fixture
def options(images: Path) -> Options:
    return Options(executor="serial", device="cpu", offline=True, data_root=images)


@pytest.fixture
def suite(tiny: dict[str, Any]) -> dict[str, Any]:
    return tiny | {"defenses": ["none", *NOISE], "attacks": ["linear"], "knowledge": ["query"]}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that takes down every fit and reconstruction of three attacks."""
    found: list[str] = []

    def spied(cls: type[Attack], method: str) -> None:
        inner = getattr(cls, method)

        def spy(self: Any, *given: Any) -> Any:
            found.append(f"{cls.__name__}.{method}")
            return inner(self, *given)

        monkeypatch.setattr(cls, method, spy)

    for cls, method in ((Linear, "reconstruct"), (Decoder, "fit"), (Decoder, "reconstruct"), (Shadow, "fit")):
        spied(cls, method)
    return found


def taken(out: Path, kind: str) -> dict[str, str]:
    """Returns key to the key of what was taken over, of the records of a kind."""
    part = "attack" if kind == "cell" else "info"
    records = list(Store(out).records(kind))  # type: ignore[arg-type]
    return {r["key"]: r[part]["taken_from"] for r in records if "taken_from" in r[part]}


def test_attacks_without_the_cloud_are_made_once_and_those_on_the_cloud_twice(
    suite: dict[str, Any], options: Options, tmp_path: Path, calls: list[str], undrawn: None
) -> None:
    shadow = {"name": "shadow", "params": {**Shadow.cheap(), "epochs": 1, "decoder": SMALL}}
    suite |= {
        "attacks": ["linear", {"name": "decoder", "params": SMALL}, shadow, "attribute"],
        "knowledge": ["query", "query-free"],
    }
    assert run(suite, out=tmp_path, options=options).exit_code == 0
    assert {name: calls.count(name) for name in set(calls)} == {
        "Linear.reconstruct": 2, "Decoder.fit": 2, "Decoder.reconstruct": 2, "Shadow.fit": 3,
    }  # fmt: skip
    results = load_results(tmp_path)
    cells = results.cells[results.cells["status"] == "done"].set_index(["attack", "defense"])
    names = dict.fromkeys(a for a, d in cells.index if d == "noise@infer")
    assert len(names) == 4
    for name in names:
        before, after = (cells.loc[(name, d)] for d in ("noise@infer", "noise@infer+cloud"))
        assert before["key"] != after["key"]
        assert before["target"] != after["target"]
        same = [c for c in ("mse", "leakage", "label_accuracy", "queries") if c in cells]
        if name.startswith("shadow"):
            assert before["mse"] != after["mse"]
        else:
            assert before[same].equals(after[same])
    assert len(taken(tmp_path, "fit")) == 2
    assert len(taken(tmp_path, "cell")) == 3
    assert set(taken(tmp_path, "cell").values()) <= set(results.cells["key"])
    targets = results.targets.set_index("defense")
    assert targets.loc["noise@infer", "key"] != targets.loc["noise@infer+cloud", "key"]
    assert targets["accuracy"].notna().all()


def test_what_is_taken_over_is_what_the_attack_finds_itself(
    suite: dict[str, Any], options: Options, tmp_path: Path, undrawn: None
) -> None:
    assert run(suite, out=tmp_path / "both", options=options).exit_code == 0
    assert run(suite | {"defenses": ["none", NOISE[1]]}, out=tmp_path / "alone", options=options).exit_code == 0
    assert not taken(tmp_path / "alone", "cell")
    (key,) = taken(tmp_path / "both", "cell")
    guess = [Store(tmp_path / out).read_artifact("cell", key)["guess"] for out in ("both", "alone")]
    assert torch.equal(*guess)


class Bright(Attack):
    """Goes beyond [0, 1], of which a warning is stored."""

    source = "toy"
    requires = AdversaryKnowledge(aux="same")

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        return {}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return view.prior.expand(len(view), -1, -1, -1) + 1


def test_what_is_taken_over_has_its_warnings_and_the_time_that_it_took_itself(
    suite: dict[str, Any], options: Options, tmp_path: Path, undrawn: None
) -> None:
    ATTACKS.register("toys/bright")(Bright)
    run(suite | {"defenses": NOISE, "attacks": ["toys/bright"]}, out=tmp_path, options=options)
    store = Store(tmp_path)
    for kind, part, spent in (("fit", "info", set()), ("cell", "attack", {"score_s"})):
        (found,) = (r for r in store.records(kind) if "taken_from" in r[part])  # type: ignore[arg-type]
        assert found["timing"].keys() == spent
    (other,) = (r for r in store.records("cell") if "taken_from" not in r["attack"])
    assert other["warnings"]
    assert found["warnings"] == other["warnings"]
    cells = load_results(tmp_path).cells.set_index("defense")
    assert cells.loc["noise@infer", "timing_attack_s"] > 0
    assert pd.isna(cells.loc["noise@infer+cloud", "timing_attack_s"])


@pytest.mark.full
@pytest.mark.parametrize(
    "name", ["dropout", "clip_noise", "topk", "quantize", "downsample", "pca", "nullspace", "fisher_noise"]
)
def test_defenses_that_learn_nothing_by_a_loss_send_the_same_whether_or_not_the_cloud_is_trained(
    suite: dict[str, Any], options: Options, tmp_path: Path, undrawn: None, name: str
) -> None:
    suite |= {"defenses": [{"name": name, "when": when} for when in ("infer", "infer+cloud")]}
    assert run(suite, out=tmp_path, options=options).exit_code == 0
    assert len(taken(tmp_path, "cell")) == 1


def test_a_defense_that_learns_along_with_the_cloud_has_two_wires(
    suite: dict[str, Any], options: Options, tmp_path: Path, calls: list[str], undrawn: None
) -> None:
    suite |= {"defenses": [{"name": "disco", "when": when} for when in ("infer", "infer+cloud")]}
    plan = plan_suite(suite, out=tmp_path, options=options).plan
    assert len(plan.twins) == 1, "the plan does not know"
    assert run(suite, out=tmp_path, options=options).exit_code == 0
    assert calls == ["Linear.reconstruct"] * 2
    assert not taken(tmp_path, "cell")


def test_a_cell_that_is_forced_is_made_again(
    suite: dict[str, Any], options: Options, tmp_path: Path, calls: list[str], undrawn: None
) -> None:
    run(suite, out=tmp_path, options=options)
    calls.clear()
    run(suite, out=tmp_path, options=replace(options, force=("noise@infer+cloud",)))
    assert calls == ["Linear.reconstruct"]
    assert not taken(tmp_path, "cell")


class FailsOnce(Attack):
    """Fails the first time."""

    source = "toy"
    requires = AdversaryKnowledge()
    failed: ClassVar[list[bool]] = []

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        if not self.failed:
            self.failed.append(True)
            raise ValueError("out of cheese")
        return view.prior.expand(len(view), -1, -1, -1)


def test_where_the_first_fails_the_second_is_made_all_the_same(
    suite: dict[str, Any], options: Options, tmp_path: Path, undrawn: None
) -> None:
    ATTACKS.register("toys/fails-once")(FailsOnce)
    FailsOnce.failed.clear()
    suite |= {"defenses": NOISE, "attacks": ["toys/fails-once"]}
    run(suite, out=tmp_path, options=options)
    cells = load_results(tmp_path).cells.set_index("defense")
    states = {d: cells.loc[d, "status"] for d in ("noise@infer", "noise@infer+cloud")}
    assert states == {"noise@infer": "failed", "noise@infer+cloud": "done"}
    assert run(suite, out=tmp_path, options=options).exit_code == 0
