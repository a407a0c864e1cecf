"""Fits that attacks share: planned once, with the lender's knowledge, at hand in the view of whoever builds on them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch

from splitaudit import load_results
from splitaudit.api import run
from splitaudit.attack import Attack
from splitaudit.config import load_suite
from splitaudit.data.base import DataContext
from splitaudit.errors import ConfigError, KnowledgeError
from splitaudit.knowledge import AdversaryKnowledge, level, split_draws
from splitaudit.options import Options
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.plugins import ATTACKS
from splitaudit.report.cells import attack_facts
from splitaudit.report.reading import Records
from splitaudit.state import chosen_nodes, find_todo
from splitaudit.store import Store, new_record
from splitaudit.targets import build
from splitaudit.testing import attacked, toy_part, toy_target
from splitaudit.view import View
from splitaudit.work import Surroundings, Worker


class Mean(Attack):
    """Learns the mean image, of no target in particular."""

    source = "toy"
    requires = AdversaryKnowledge(aux="other")
    uses = AdversaryKnowledge(aux="same")
    fit_scope = "images"

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        with pytest.raises(KnowledgeError, match="for all targets"):
            _ = view.feature_shape
        view.note(converged=False)
        return {"mean": view.prior}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return fitted["mean"].expand(len(view), -1, -1, -1)


class Brighter(Attack):
    """Asks the edge, then guesses what another attack has learned, a little brighter."""

    source = "toy"
    requires = AdversaryKnowledge(edge="query", aux="other")
    uses = AdversaryKnowledge(edge="weights", aux="same")
    seen: ClassVar[list[tuple[str, ...]]] = []

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {"constant": ("toys/mean", {})}

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        view.query(torch.zeros(3, *view.image_shape))
        self.seen.append(tuple(view.fits))
        return {"step": torch.tensor([0.1])}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        guess = (view.fits["constant"]["mean"] + fitted["step"]).clamp(0, 1)
        return guess.expand(len(view), -1, -1, -1)


@pytest.fixture
def toys() -> None:
    ATTACKS.register("toys/mean")(Mean)
    ATTACKS.register("toys/brighter")(Brighter)


def planned(tiny: dict[str, Any], images: Path, **change: Any) -> Plan:
    sizes = {"client_train": 16, "client_val": 4, "aux_train": 16, "aux_val": 4, "private": 8, "measure": 16}
    raw = {**tiny, "dataset": {"name": "imagefolder", "sizes": sizes}, "metrics": ["mse", "accuracy"], **change}
    return make_plan(load_suite(raw), DataContext(root=images))


def fits(plan: Plan, name: str) -> list[Any]:
    return [n for n in plan.nodes.values() if n.kind == "fit" and n.identity["attack"]["name"] == name]


@pytest.mark.usefixtures("toys")
def test_a_fit_on_images_alone_serves_all_targets_and_all_that_build_on_it(tiny: dict[str, Any], images: Path) -> None:
    plan = planned(tiny, images, attacks=["toys/mean", "toys/brighter"], knowledge=["query", "white-box"])
    (mean,) = fits(plan, "toys/mean")
    assert mean.identity["target"] is None
    assert mean.identity["knowledge"]["edge"] == "none", "the lender is given what it uses itself"
    assert not mean.needs
    brighter = fits(plan, "toys/brighter")
    assert len(brighter) == 2 * 2, "one a target and level: the weights are of use to it"
    for node in brighter:
        assert node.identity["builds_on"] == {"constant": mean.key}
        assert mean.name in node.needs
    order = list(plan.nodes)
    for node in plan.nodes.values():
        assert all(order.index(n) < order.index(node.name) for n in node.needs)
    for cell in [n for n in plan.nodes.values() if n.kind == "cell"]:
        assert mean.name in cell.needs


@pytest.mark.usefixtures("toys")
def test_an_attack_is_skipped_where_what_it_builds_on_may_not_run(tiny: dict[str, Any], images: Path) -> None:
    plan = planned(tiny, images, attacks=["toys/brighter"], knowledge=["white-box-no-aux"])
    assert all("needs auxiliary images" in c["skip"] for c in plan.cells)


@pytest.mark.usefixtures("toys")
def test_a_worker_hands_an_attack_what_it_builds_on(tiny: dict[str, Any], images: Path, tmp_path: Path) -> None:
    plan = planned(tiny, images, attacks=["toys/brighter"], knowledge=["query"], defenses=["none"])
    worker = Worker(Surroundings(str(tmp_path), data_root=str(images)))
    found: dict[Any, Any] = {}
    with Store.writing(tmp_path) as store:
        todo = find_todo(plan, {}, chosen_nodes(plan, {}))
        for job in todo.jobs.values():
            if job.task in ("target", "fit", "cell", "reference"):
                done = worker.run(job.dump())
                assert done["ok"], done
                found[job.kind, job.key] = new_record(job.kind, job.identity, provenance={}, **done["fields"])
        assert Brighter.seen[-1] == ("constant",)
        (cell,) = [n for n in plan.nodes.values() if n.kind == "cell"]
        (mean,) = fits(plan, "toys/mean")
        (own,) = fits(plan, "toys/brighter")
        guess = store.read_artifact("cell", cell.key)["guess"].float() / 255
        expected = (store.read_artifact("fit", mean.key)["mean"] + 0.1).clamp(0, 1)
        assert torch.allclose(guess, expected.expand_as(guess), atol=1 / 255)
    records = Records(plan, lambda kind, key: found.get((kind, key)))
    assert attack_facts(records, cell.key) == (False, 3), "what it builds on has not converged; its own queries"
    assert own.identity["target"] is not None


def test_a_level_with_draws_gives_them_to_attacks_that_use_them(tiny: dict[str, Any], images: Path) -> None:
    class Averages(Mean):
        fit_scope = "target"
        uses_draws = True
        requires = AdversaryKnowledge(edge="query", aux="other")

        def fit(self, view: View) -> dict[str, torch.Tensor]:
            return {"mean": view.prior}

    ATTACKS.register("toys/mean")(Mean)
    ATTACKS.register("toys/averages")(Averages)
    assert level("query:16").draws == 16
    plan = planned(tiny, images, attacks=["toys/averages", "decoder"], knowledge=["query", "query:16"])
    keys = {(c["defense"], c["attack"], c["knowledge"]): c["key"] for c in plan.cells}
    draws = {at: plan.nodes["cell", key].identity["knowledge"]["draws"] for at, key in keys.items() if key is not None}
    assert draws["noise", "toys/averages", "query:16"] == 16
    assert draws["noise", "toys/averages", "query"] == 1
    assert keys["none", "toys/averages", "query"] == keys["none", "toys/averages", "query:16"], "all draws are the same"


@pytest.mark.parametrize("name", ["quary", "quary:4", "", ":4"])
def test_a_level_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        level(name)


def test_a_rehearsal_shows_own_images_as_private_ones_and_counts_its_queries() -> None:
    part = toy_part(12, (3, 16, 16), seed=3)
    knowledge = AdversaryKnowledge(edge="query", aux="same", queries=10)
    view = View(
        knowledge=knowledge,
        received=torch.empty(0, 1, *toy_target().feature_shape),
        image_shape=(3, 16, 16),
        model=toy_target(),
        aux=(part, part),
        seed=0,
    )
    own = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    other = view.rehearsal(own, "tuning")
    assert len(other) == 6
    assert len(view) == 0
    assert torch.allclose(other.z, view.protect(toy_target().clean(own), view.generator("x")), atol=1e-5)
    other.note(of="the rehearsal")
    assert view.notes == {}
    assert view.queries == other.queries == 6
    with pytest.raises(KnowledgeError, match="asked for 6 queries, of its budget of 10 are 4 left"):
        view.rehearsal(1 - own, "tuning")


def test_an_untrained_model_has_nothing_of_the_target_nor_of_what_it_started_from(
    tiny: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    """Initialisations are derived from seeds: with the target's own one the attacker would hold the victim's first weights."""
    seen: list[Any] = []

    class Looks(Mean):
        fit_scope = "target"
        requires = AdversaryKnowledge()
        uses = AdversaryKnowledge()

        def has_fit(self) -> bool:
            return False

        def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
            seen.extend([view.untrained("a"), view.untrained("a"), view.untrained("b"), view.architecture])
            return view.prior.expand(len(view), -1, -1, -1)

    ATTACKS.register("toys/mean")(Looks)
    plan = planned(tiny, images, attacks=["toys/mean"], defenses=["siftfunnel"], knowledge=["query-free"])
    worker = Worker(Surroundings(str(tmp_path), data_root=str(images)))
    with Store.writing(tmp_path):
        for job in find_todo(plan, {}, chosen_nodes(plan, {})).jobs.values():
            if job.task in ("target", "cell"):
                done = worker.run(job.dump())
                assert done["ok"], done
    (target,) = [n for n in plan.nodes.values() if n.kind == "target"]
    trained = worker.model(target.key, target.identity)
    first = build(
        target.identity, worker.info(target.identity["dataset"]), (torch.zeros(3), torch.ones(3)), worker.device
    )
    one, same, other, architecture = seen
    assert architecture.cut == "block2"
    assert [tuple(p.shape) for p in one.parameters()] == [tuple(p.shape) for p in trained.parameters()]
    for name, weight in one.edge.named_parameters():
        assert torch.equal(weight, same.edge.get_parameter(name))
        if weight.ndim > 1:  # biases and norms start at the same constants everywhere
            for model in (trained, first, other):
                assert not torch.equal(weight, model.edge.get_parameter(name)), name


def test_generative_priors_serve_all_targets_and_levels_though_their_attacks_start_from_a_decoder(
    tiny: dict[str, Any], images: Path
) -> None:
    plan = planned(tiny, images, attacks=["latent", "diffusion"], knowledge=["white-box", "white-box:4"])
    for name in ("latent", "diffusion"):
        (prior,) = fits(plan, name)
        assert prior.identity["target"] is None
        assert "builds_on" not in prior.identity
    cells = [n for n in plan.nodes.values() if n.kind == "cell" and n.identity["attack"]["name"] == "latent"]
    assert len({c.identity["builds_on"]["decoder"] for c in cells}) == 3, "none, noise, noise with four draws"


def test_decoder_refine_and_latent_of_one_target_share_one_trained_decoder(tiny: dict[str, Any], images: Path) -> None:
    attacks = ["decoder", "refine", "latent", {"name": "refine", "params": {"decoder": {"epochs": 2}}}]
    plan = planned(tiny, images, attacks=attacks, knowledge=["white-box"], defenses=["none"])
    shared, other = (d.key for d in fits(plan, "decoder"))
    assert [f.identity["builds_on"]["decoder"] for f in fits(plan, "refine")] == [shared, other]
    cells = {n.identity["attack"]["name"]: n.identity for n in plan.nodes.values() if n.kind == "cell"}
    assert cells["latent"]["builds_on"]["decoder"] == cells["decoder"]["fit"] == shared


@pytest.mark.parametrize("name", ["latent", "diffusion"])
def test_settings_that_the_fit_does_not_read_share_one_generative_prior(
    name: str, tiny: dict[str, Any], images: Path
) -> None:
    """Otherwise tuning would train the same prior for each setting."""
    attacks = [{"name": name, "tune": 4}, {"name": name, "params": {"width": 8}}]
    plan = planned(tiny, images, attacks=attacks, knowledge=["white-box"], defenses=["none"])
    own = [f for f in fits(plan, name) if "tune" not in f.identity["attack"]]
    assert [f.identity["attack"]["params"]["width"] for f in own] == [ATTACKS.get(name).Params().width, 8]
    (tuned,) = (f for f in fits(plan, name) if "tune" in f.identity["attack"])
    assert {r: k for r, k in tuned.identity["builds_on"].items() if r.isdigit()} == dict.fromkeys("0123", own[0].key)


@pytest.mark.parametrize("name", ["latent", "diffusion"])
def test_a_fit_reads_no_parameter_that_it_does_not_name(name: str) -> None:
    cls, seen = ATTACKS.get(name), set[str]()

    class Read:
        def __init__(self, params: Any) -> None:
            self.__dict__["given"] = params

        def __getattr__(self, parameter: str) -> Any:
            seen.add(parameter)
            return getattr(self.given, parameter)

    class Watched(cls):
        def of_fit(self) -> Attack:
            made = cls.of_fit(self)
            made.params = Read(made.params)
            return made

    attacked(Watched, "orthogonal")
    assert seen == set(cls.fit_params or ())


def test_queries_of_a_fit_that_several_paths_lead_to_count_once() -> None:
    records = {
        "d": {"status": "done", "identity": {}, "info": {"queries": 100, "notes": {"converged": True}}},
        "r": {"status": "done", "identity": {"builds_on": {"decoder": "d"}}, "info": {"queries": 5, "notes": {}}},
    }
    cell = {"fit": "r", "builds_on": {"decoder": "d"}}
    records["c"] = {"status": "done", "identity": cell, "attack": {"queries": 1, "notes": {"converged": True}}}
    found = SimpleNamespace(done=lambda kind, key: records.get(key))
    assert attack_facts(found, "c") == (True, 106)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "draws", "aux", "queries"),
    [
        ("query", 1, None, None),
        ("query:16", 16, None, None),
        ("query:aux=20,draws=4", 4, 20, None),
        ("query:aux=2000", 1, 2000, None),
        ("query-other:queries=50,4", 4, None, 50),
        ("white-box:16,aux=500", 16, 500, None),
    ],
)
def test_a_level_may_limit_draws_auxiliary_images_and_queries(
    name: str, draws: int, aux: int | None, queries: int | None
) -> None:
    found = level(name)
    assert (found.draws, found.aux_count, found.queries) == (draws, aux, queries)
    assert found.edge == level(name.split(":")[0]).edge
    base, count = split_draws(name)
    assert count == draws
    assert level(base).model_copy(update={"draws": draws}) == found


AT_LEAST = "a whole number of {}, at least 1."


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("query:0", "draws: got '0', expected " + AT_LEAST.format("received draws of each private image")),
        ("query:", "draws: got nothing, expected"),
        ("query:x", "draws: got 'x', expected"),
        ("query:aux=", "aux: got nothing, expected"),
        ("query:aux=0", "aux: got '0', expected " + AT_LEAST.format("auxiliary training images")),
        (
            "query:queries=1e3",
            "queries: got '1e3', expected " + AT_LEAST.format("images that may be run through the edge"),
        ),
        ("query:4,8", "draws is given twice"),
        ("query:draws=4,4", "draws is given twice"),
        ("query:querys=5", "'querys' is no limit. Did you mean 'queries'? A level may have draws per image (query:16)"),
        ("query:images=3", "'images' is no limit. A level may have"),
    ],
)
def test_a_limit_that_is_none_is_refused_by_its_name(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        level(name)
    (problem,) = caught.value.problems
    assert problem.startswith(f"knowledge '{name}': ")
    assert words in problem


def test_every_part_of_a_level_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        level("qery:0,aux=x")
    assert [p.split(": ", 1)[0] for p in caught.value.problems] == [
        "knowledge 'qery:0,aux=x' is not known. Did you mean 'query'? Known",
        "knowledge 'qery:0,aux=x'",
        "knowledge 'qery:0,aux=x'",
    ]


def test_fewer_auxiliary_images_are_a_fit_of_their_own_and_are_all_that_is_queried(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    tiny |= {"defenses": ["none"], "attacks": ["linear"], "knowledge": ["query", "query:aux=10"]}
    assert run(tiny, out=tmp_path, options=Options(executor="serial", offline=True, data_root=images)).exit_code == 0
    cells = load_results(tmp_path).cells
    queries = cells[cells["attack"] == "linear"].set_index("knowledge")["queries"]
    assert queries["query:aux=10"] < queries["query"]
