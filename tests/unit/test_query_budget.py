"""A budget of queries is kept by every attack that queries, and buys what it can."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any

import pytest
import torch

from splitaudit.answers import Answers
from splitaudit.api import load_results, plan_suite, run
from splitaudit.asking import LEAST, Asked, Ledger, divided, draws_each, shortage
from splitaudit.asking import VERSION as BUDGET
from splitaudit.attack import Attack, LabelAttack
from splitaudit.defenses.dropout import Dropout, DropoutParams
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.errors import ConfigError, KnowledgeError
from splitaudit.knowledge import AdversaryKnowledge, level
from splitaudit.options import Options
from splitaudit.pixels import to_float
from splitaudit.plugins import ATTACKS
from splitaudit.store import Store
from splitaudit.testing import attacked, control_target
from splitaudit.testing.attacking import TINY, untrained
from splitaudit.testing.data import SHAPE, part
from splitaudit.view import View

SMALL = {"width": 8, "depth": 1, "epochs": 3, "batch": 8}
READER = {"width": 4, "epochs": 2, "batch": 8}


def view_of(
    budget: int | None, draws: int = 1, sigma: float = 0.0, before: Asked | None = None, defense: Any = None
) -> View:
    model = control_target("orthogonal", Noise(NoiseParams(sigma=sigma)) if sigma else defense)
    return View(
        knowledge=AdversaryKnowledge(edge="query", aux="same", queries=budget, draws=draws),
        received=torch.empty(0, draws, *model.feature_shape),
        image_shape=SHAPE,
        model=model,
        aux=(part("aux_train", 64, SHAPE), part("aux_val", 32, SHAPE)),
        seed=0,
        before=before,
        blank=lambda s: untrained(model, s),
    )


def every(pairs: Any) -> torch.Tensor:
    return torch.arange(len(pairs))


# -- how a budget is divided ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("images", "train", "val", "shares"),
    [
        (8, 128, 32, (6, 2)),
        (80, 128, 32, (70, 10)),
        (80, 64, 32, (64, 16)),  # what training does not want
        (160, 128, 32, (128, 32)),  # all that there is
        (10_000, 128, 400, (9_600, 400)),
        (80, 128, 4, (76, 4)),
    ],
)
def test_a_budget_is_divided_among_training_and_validation(
    images: int, train: int, val: int, shares: tuple[int, int]
) -> None:
    assert divided(images, train, val) == shares


@pytest.mark.parametrize(
    ("budget", "images", "draws", "each"), [(76, 140, 16, 1), (280, 140, 16, 2), (10_000, 140, 16, 16), (9, 0, 4, 4)]
)
def test_a_budget_buys_more_images_before_it_buys_more_draws_of_each(
    budget: int, images: int, draws: int, each: int
) -> None:
    assert draws_each(budget, images, draws) == each


def test_a_budget_that_pays_for_too_little_is_known_before_the_run() -> None:
    assert shortage(level("query:4,queries=7")) == (
        f"needs at least {LEAST} own images with features, the budget pays for 7"
    )
    assert shortage(level("query:4,queries=8")) is None, "images are sent once before they are sent again"
    assert shortage(level("query")) is None


def test_no_budget_binds_who_has_the_weights_nor_what_an_attack_of_theirs_builds_on() -> None:
    with pytest.raises(ConfigError, match="has the edge's weights and needs no query, so a budget limits nothing"):
        level("white-box:16,queries=100")
    with pytest.raises(ConfigError, match="may not query the edge, so a budget limits nothing"):
        level("query-free:queries=100")
    granted = AdversaryKnowledge(edge="weights", aux="same", queries=1)
    assert shortage(granted) is None
    assert ATTACKS.get("decoder")(ATTACKS.get("decoder").Params()).granted(granted).queries is None


# -- pairs ----------------------------------------------------------------------------------------------------------------


def test_pairs_are_the_first_images_of_the_part_as_many_as_the_budget_pays_for() -> None:
    view, free = view_of(80), view_of(None)
    pairs, all_ = view.pairs("train", flips=True), free.pairs("train", flips=True)
    assert (len(pairs), len(view.pairs("val")), view.queries, view.affordable(64)) == (70, 10, 80, 10)
    assert all(torch.equal(a, b) for a, b in zip(pairs.batch(every(pairs)), all_.batch(every(pairs)), strict=True))
    assert view.queries == 80, "one answer says everything"
    assert free.affordable(64) == 64


@pytest.mark.parametrize("budget", [160, 10_000])
def test_with_a_budget_that_pays_for_all_there_is_as_much_as_without(budget: int) -> None:
    view, free = view_of(budget), view_of(None)
    for which in ("train", "val"):
        a, b = (v.pairs(which, flips=which == "train") for v in (view, free))
        assert len(a) == len(b)
        assert torch.equal(a.batch(every(a))[1], b.batch(every(b))[1])
    assert view.queries == free.queries == 160


def test_draws_of_a_random_defense_are_made_as_often_as_the_budget_pays_and_then_used_again() -> None:
    view = view_of(170, sigma=0.5)  # 32 for validation, 138 for training: 64 images twice
    pairs = view.pairs("train")
    assert (len(pairs), view.queries) == (64, 64)
    first, second, third, fourth = (pairs.batch(every(pairs))[1] for _ in range(4))
    assert view.queries == 128
    assert not torch.equal(first, second)
    assert torch.equal(first, third)
    assert torch.equal(second, fourth)
    assert float((first - second).std()) == pytest.approx(0.5 * 2**0.5 * float(pairs_scale(view)), rel=0.1)


def pairs_scale(view: View) -> torch.Tensor:
    """Returns the size of the noise of σ 1 on the wire."""
    zeros = torch.zeros(64, *view.feature_shape)
    return view.protect(zeros, view.generator("scale")).std() / 0.5


def test_an_answer_is_the_average_of_as_many_draws_as_are_received_and_each_is_paid() -> None:
    one, four = view_of(160, sigma=0.5), view_of(640, draws=4, sigma=0.5)
    spread = []
    for view in (one, four):
        pairs = view.pairs("train")
        spread.append(float((pairs.batch(every(pairs))[1] - view_of(None).pairs("train").batch(every(pairs))[1]).std()))
    assert (one.queries, four.queries) == (64, 256)
    assert spread[1] == pytest.approx(spread[0] / 2, rel=0.1)


def test_what_an_earlier_stage_has_asked_is_answered_again_at_no_cost_and_shares_the_budget() -> None:
    fit = view_of(80, sigma=0.5)
    before = fit.pairs("train")
    answers = before.batch(every(before))[1]
    later = view_of(80, sigma=0.5, before=fit.asked)
    pairs = later.pairs("train")
    assert torch.equal(pairs.batch(every(pairs))[1], answers)
    assert (later.queries, later.queries_left) == (0, 16)
    with pytest.raises(KnowledgeError, match="asked for 17 queries, of its budget of 80 are 16 left"):
        later.query(torch.rand(17, *SHAPE))


def test_pairs_are_of_what_other_questions_have_left() -> None:
    view = view_of(80)
    view.query(torch.rand(50, *SHAPE))
    assert len(view.pairs("train")) == 30
    with pytest.raises(KnowledgeError, match="has 0 of 80 queries left"):
        view.pairs("val")


def test_answers_are_shown_in_turn() -> None:
    answers = Answers(3, lambda turn: torch.arange(4.0)[:, None] + 10 * turn)
    shown = [answers(torch.tensor(i)).flatten().tolist() for i in ([0, 1], [3, 2], [0, 1, 2, 3], [3, 2, 1, 0], [0])]
    assert shown == [[0, 1], [3, 2], [10, 11, 12, 13], [23, 22, 21, 20], [0]]


def test_one_answer_is_held_at_a_time_and_the_rest_are_shown_until_one_cannot_be_paid() -> None:
    """So that the size of the features limits nothing: the budget does."""
    held: list[weakref.ref[torch.Tensor]] = []

    def answer(turn: int) -> torch.Tensor | None:
        if turn == 5:
            return None
        made = torch.full((2, 1), float(turn))
        held.append(weakref.ref(made))
        return made

    answers, shown = Answers(10**9, answer), []
    for _ in range(12):
        shown.append(int(answers(torch.arange(2))[0]))
        assert sum(h() is not None for h in held) == 1
    assert shown == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 1]


def test_stages_that_know_of_each_other_add_their_queries_and_share_answers() -> None:
    both = Asked.together([Asked(5, {"train 0": 5}), Asked(3, {"train 0": 4, "val 0": 3})])
    assert both == Asked(8, {"train 0": 5, "val 0": 3})
    ledger = Ledger(10, both)
    ledger.pay("train 0", 6)
    assert (ledger.queries, ledger.left) == (1, 1)


def test_answered_are_images_however_often_each_is_sent_and_the_question_says_how_often() -> None:
    view = view_of(10_000, draws=4, sigma=0.5)
    view.pairs("val")
    assert view.asked == Asked(4 * 32, {"val 0 x4": 32})
    ledger = Ledger(40, Asked(20, {"val 0 x4": 5}))
    assert ledger.pays("val 0 x4", 4) == 10
    ledger.pay("val 0 x4", 10, 4)
    assert (ledger.queries, ledger.left) == (20, 0)


@pytest.mark.parametrize("sigma", [0.0, 0.5])
def test_settings_are_rehearsed_on_the_answers_to_validation_images_and_cost_no_more(sigma: float) -> None:
    view = view_of(1300, draws=16, sigma=sigma)  # 8 draws of each image
    own = to_float(view.aux_val.images)[: view.affordable(12)]
    seen = view.rehearsal(own, "tuning")
    spent = view.queries
    pairs = view.pairs("val")
    assert (len(own), spent) == (12, (8 if sigma else 1) * 32)
    assert torch.allclose(seen.average, pairs.batch(every(pairs))[1][:12], atol=1e-6)
    assert seen.draws.shape[:2] == (12, 8 if sigma else 16)
    view.rehearsal(own, "again")
    assert view.queries == spent


def test_a_rehearsal_on_other_images_is_paid_with_every_draw() -> None:
    view = view_of(1300, draws=16, sigma=0.5)
    seen = view.rehearsal(torch.rand(5, *SHAPE), "own")
    assert (seen.draws.shape[:2], view.queries) == ((5, 8), 40)


def test_where_elements_are_hidden_no_more_draws_are_averaged_than_own_pairs_are_of() -> None:
    for defense, count in ((Dropout(DropoutParams(rate=0.5)), 2), (Noise(NoiseParams(sigma=0.5)), 4)):
        view = view_of(320, draws=4, defense=defense)
        view._received = torch.rand(3, 4, *view.feature_shape)
        expected = view.averaged([view._received[:, i] for i in range(count)])
        assert torch.equal(view.average, expected)


class AsksTwice(Attack):
    """Asks for all that it may while it fits, and again while it reconstructs."""

    source = "toy"
    requires = AdversaryKnowledge(edge="query", aux="same")

    def fit(self, view: View) -> dict[str, torch.Tensor]:
        return {"z": view.query(torch.zeros(12, *view.image_shape))}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        self.fit(view)
        return torch.full((len(view), *view.image_shape), 0.5)


def test_the_stages_of_an_attack_share_one_budget() -> None:
    given = AdversaryKnowledge(edge="query", aux="same", queries=20)
    with pytest.raises(KnowledgeError, match="asked for 12 queries, of its budget of 20 are 8 left"):
        attacked(AsksTwice, knowledge=given, sizes=TINY)
    attacked(AsksTwice, knowledge=given.model_copy(update={"queries": 24}), sizes=TINY)


# -- attacks --------------------------------------------------------------------------------------------------------------

QUERYING = [n for n in ATTACKS.names() if (ATTACKS.get(n).uses or ATTACKS.get(n).requires).edge == "query"]


@pytest.mark.parametrize("name", QUERYING)
@pytest.mark.parametrize("sigma", [0.0, 0.3])
@pytest.mark.parametrize("budget", [LEAST * 2, 30, 1000])
def test_every_built_in_attack_that_queries_lives_within_a_budget(name: str, sigma: float, budget: int) -> None:
    cls, draws = ATTACKS.get(name), 2 if ATTACKS.get(name).uses_draws and sigma else 1
    target = control_target("orthogonal", Noise(NoiseParams(sigma=sigma)) if sigma else None)
    found = attacked(
        cls,
        target,
        knowledge=AdversaryKnowledge(
            edge="query", aux="same", labels=issubclass(cls, LabelAttack), queries=budget, draws=draws
        ),
        sizes=TINY,
    )
    assert 0 < sum(v.queries for v in found.views) <= budget
    assert torch.isfinite(found.guess).all()


def test_the_attacks_that_query_are_among_those_tested() -> None:
    assert {"linear", "nearest", "decoder", "decoder_published", "attribute"} <= set(QUERYING)


@pytest.fixture
def suite(tiny: dict[str, Any]) -> dict[str, Any]:
    """Every way to query, at budgets below what the parts have and against a defense with and without randomness."""
    return tiny | {
        "defenses": ["none", {"name": "noise", "params": {"sigma": 0.5}, "when": "infer"}],
        "attacks": [
            "linear",
            "nearest",
            {"name": "decoder", "params": SMALL, "tune": 3},
            {"name": "attribute", "params": {**READER, "reader": ["network", "linear"]}},
            {"name": "recognise", "params": {**READER, "through": ["linear", "decoder"], "settings": {}}},
            {"name": "refine", "params": {"steps": 2, "decoder": SMALL}},
        ],
        "knowledge": ["query:queries=30", "query:4,queries=31", "query:4,queries=7"],
        "metrics": ["mse"],
    }


def test_no_cell_spends_more_than_its_budget_and_what_cannot_be_is_skipped_in_the_plan(
    suite: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    options = Options(executor="serial", offline=True, data_root=images, images=False)
    assert run(suite, out=tmp_path, options=options).exit_code == 0
    cells = load_results(tmp_path).cells
    cells = cells[cells["knowledge"].str.contains("queries")]
    done = cells[cells["status"] == "done"]
    budget = done["knowledge"].str.extract(r"queries=(\d+)")[0].astype(int)
    assert (done["queries"] > 0).all()
    assert (done["queries"] <= budget).all()
    assert len(set(done["defense"])) == 2
    assert len(set(done["attack"])) == 7
    assert len(done) == 2 * 2 * 7, "the same attacks at both levels, whether or not the defense is random"
    short = cells[cells["knowledge"] == "query:4,queries=7"]
    assert (short["status"] == "skipped").all()
    ours = short[~short["attack"].str.startswith("refine")]
    assert ours["reason"].str.contains("needs at least 8 own images with features, the budget pays for 7").all()


class Borrows(Attack):
    """Asks nothing itself: what it builds on does."""

    source = "toy"
    requires = AdversaryKnowledge(aux="same")
    uses = AdversaryKnowledge(edge="query", aux="same")

    def builds_on(self) -> dict[str, tuple[str, dict[str, Any]]]:
        return {"decoder": ("decoder", SMALL)}

    def reconstruct(self, view: View, fitted: dict[str, torch.Tensor]) -> torch.Tensor:
        return view.prior.expand(len(view), -1, -1, -1)


def test_what_an_attack_builds_on_must_be_paid_too(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    ATTACKS.register("toys/borrows")(Borrows)
    tiny |= {"attacks": ["toys/borrows"], "knowledge": ["query:queries=7", "query:queries=8"]}
    rows = plan_suite(tiny, out=tmp_path, options=Options(offline=True, data_root=images)).plan.cells
    skips = {r["knowledge"]: r["skip"] for r in rows}
    assert "the budget pays for 7" in str(skips["query:queries=7"])
    assert skips["query:queries=8"] is None


def test_more_received_draws_leak_no_less_at_the_same_budget(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    """Who receives more can do all that one who receives less can: nothing is skipped, nothing is thrown away."""
    levels = ["query:queries=76", *(f"query:{k},queries=76" for k in (4, 8, 16))]
    tiny |= {
        "defenses": [
            {"name": "noise", "params": {"sigma": 0.3}, "when": "infer"},
            {"name": "dropout", "params": {"rate": 0.5}, "when": "infer"},
        ],
        "attacks": ["linear", "nearest", {"name": "decoder", "params": {**SMALL, "epochs": 8}, "tune": 2}],
        "knowledge": levels,
        "metrics": ["mse"],
    }
    run(tiny, out=tmp_path, options=Options(executor="serial", offline=True, data_root=images, images=False))
    cells = load_results(tmp_path).cells
    cells = cells[cells["knowledge"].isin(levels)]
    assert (cells["status"] == "done").all()
    for _, rows in cells.groupby(["defense", "attack"]):
        found = rows.set_index("knowledge")
        one = found.loc[levels[0]]
        for name in levels[1:]:
            assert found.loc[name, "leakage"] >= one["leakage_lo"]


def test_a_tuned_attack_tries_all_settings_on_one_set_of_answers(
    suite: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    """As many settings as are tried: each of them has the whole budget's pairs, asked once."""
    suite |= {"attacks": suite["attacks"][2:3], "knowledge": ["query:queries=30"]}
    options = Options(executor="serial", offline=True, data_root=images, images=False)
    plan = plan_suite(suite, out=tmp_path, options=options).plan
    fits = [n for n in plan.nodes.values() if n.kind == "fit" and n.identity["target"] == plan.targets[1]["key"]]
    trained = [n for n in fits if "tune" not in n.identity["attack"]]
    assert [len(n.identity.get("after", [])) for n in trained] == [0, 1, 2]
    assert run(suite, out=tmp_path, options=options).exit_code == 0
    store = Store(tmp_path)
    spent = {n.key: store.read("fit", n.key)["info"]["queries"] for n in fits}  # type: ignore[index]
    assert [spent[n.key] > 0 for n in trained] == [True, False, False]
    (tuning,) = (n for n in fits if "tune" in n.identity["attack"])
    assert spent[tuning.key] == 0, "they are rehearsed on the answers to aux_val"
    assert store.read("fit", tuning.key)["info"]["notes"]["tried"] == 3  # type: ignore[index]


def test_a_run_refuses_what_fit_and_attack_together_ask_beyond_the_budget(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    ATTACKS.register("toys/twice")(AsksTwice)
    levels = {"query:queries=20": "failed", "query:queries=24": "done"}
    tiny |= {"defenses": ["none"], "attacks": ["toys/twice"], "knowledge": list(levels), "metrics": ["mse"]}
    run(tiny, out=tmp_path, options=Options(executor="serial", offline=True, data_root=images, images=False))
    cells = load_results(tmp_path).cells.set_index("knowledge")
    assert {name: cells.loc[name, "status"] for name in levels} == levels
    assert "asked for 12 queries, of its budget of 20 are 8 left" in str(cells.loc["query:queries=20", "reason"])
    assert cells.loc["query:queries=24", "queries"] == 24


def test_without_a_budget_no_key_says_what_was_asked_before(
    suite: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    suite |= {"knowledge": ["query", "query:4"]}
    plan = plan_suite(suite, out=tmp_path, options=Options(offline=True, data_root=images)).plan
    assert not any({"after", "budget"} & n.identity.keys() for n in plan.nodes.values())


def test_keys_with_a_budget_say_by_which_rules_it_was_spent(
    suite: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    suite |= {"knowledge": ["query:queries=30"]}
    plan = plan_suite(suite, out=tmp_path, options=Options(offline=True, data_root=images)).plan
    nodes = [n for n in plan.nodes.values() if n.kind in ("fit", "cell")]
    asking = [n for n in nodes if n.identity["knowledge"]["queries"] is not None]
    assert {n.identity.get("budget") for n in asking} == {BUDGET}
    assert len(asking) < len(nodes)
    assert not any("budget" in n.identity for n in nodes if n not in asking)
