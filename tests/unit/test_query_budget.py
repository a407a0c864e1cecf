"""A budget of queries is kept by every attack that queries, and buys what it can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from splitaudit.answers import Answers
from splitaudit.api import load_results, plan_suite, run
from splitaudit.asking import LATER, LEAST, Asked, Division, Ledger, shortage
from splitaudit.attack import Attack, LabelAttack
from splitaudit.defenses.noise import Noise, NoiseParams
from splitaudit.errors import KnowledgeError
from splitaudit.knowledge import AdversaryKnowledge, level
from splitaudit.options import Options
from splitaudit.plugins import ATTACKS
from splitaudit.store import Store
from splitaudit.testing import attacked, control_target
from splitaudit.testing.attacking import TINY, untrained
from splitaudit.testing.data import SHAPE, part
from splitaudit.view import View

SMALL = {"width": 8, "depth": 1, "epochs": 3, "batch": 8}
READER = {"width": 4, "epochs": 2, "batch": 8}


def view_of(budget: int | None, draws: int = 1, sigma: float = 0.0, before: Asked | None = None, seed: int = 0) -> View:
    model = control_target("orthogonal", Noise(NoiseParams(sigma=sigma)) if sigma else None)
    return View(
        knowledge=AdversaryKnowledge(edge="query", aux="same", queries=budget, draws=draws),
        received=torch.empty(0, draws, *model.feature_shape),
        image_shape=SHAPE,
        model=model,
        aux=(part("aux_train", 64, SHAPE), part("aux_val", 32, SHAPE)),
        seed=seed,
        before=before,
        blank=lambda s: untrained(model, s),
    )


def every(pairs: Any) -> torch.Tensor:
    return torch.arange(len(pairs))


# -- how a budget is divided ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "draws", "val", "division"),
    [
        (8, 1, 32, (5, 2, 1)),
        (80, 1, 32, (60, 10, 10)),
        (80, 4, 32, (16, 2, 2)),
        (10_000, 1, 400, (9_536, 400, LATER)),
        (80, 1, 4, (66, 4, 10)),
    ],
)
def test_a_budget_is_divided_among_training_validation_and_what_comes_later(
    budget: int, draws: int, val: int, division: tuple[int, int, int]
) -> None:
    found = Division.of(budget, draws, val)
    assert (found.train, found.val, found.later) == division
    assert draws * sum(division) <= budget


def test_a_budget_that_pays_for_too_little_is_known_before_the_run() -> None:
    query = level("query:4,queries=31")
    assert shortage(query, True) == (
        f"needs at least {LEAST} own images with features, a budget of 31 queries pays for 7 of 4 queries each"
    )
    assert shortage(query, False) is None, "a defense that draws nothing answers once"
    assert shortage(level("query:4,queries=32"), True) is None
    assert shortage(level("white-box:queries=1"), True) is None, "no budget limits who has the weights"
    assert shortage(level("query"), True) is None


# -- pairs ----------------------------------------------------------------------------------------------------------------


def test_pairs_are_the_first_images_of_the_part_as_many_as_the_budget_pays_for() -> None:
    view, free = view_of(80), view_of(None)
    pairs, all_ = view.pairs("train", flips=True), free.pairs("train", flips=True)
    assert (len(pairs), len(view.pairs("val")), view.queries, view.affordable(64)) == (60, 10, 70, 10)
    assert all(torch.equal(a, b) for a, b in zip(pairs.batch(every(pairs)), all_.batch(every(pairs)), strict=True))
    assert view.queries == 70, "one answer says everything"
    assert free.affordable(64) == 64


def test_with_a_budget_that_pays_for_all_there_is_as_much_as_without() -> None:
    view, free = view_of(10_000), view_of(None)
    for which in ("train", "val"):
        a, b = (v.pairs(which, flips=which == "train") for v in (view, free))
        assert len(a) == len(b)
        assert torch.equal(a.batch(every(a))[1], b.batch(every(b))[1])
    assert view.queries == free.queries == 160


def test_draws_of_a_random_defense_are_made_as_often_as_the_budget_pays_and_then_used_again() -> None:
    view = view_of(230, sigma=0.5)  # 170 for training: 64 images twice
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
    one, four = view_of(80, sigma=0.5), view_of(320, draws=4, sigma=0.5)
    spread = []
    for view in (one, four):
        pairs = view.pairs("train")
        spread.append(float((pairs.batch(every(pairs))[1] - view_of(None).pairs("train").batch(every(pairs))[1]).std()))
    assert (one.queries, four.queries) == (60, 240)
    assert spread[1] == pytest.approx(spread[0] / 2, rel=0.1)


def test_what_an_earlier_stage_has_asked_is_answered_again_at_no_cost_and_shares_the_budget() -> None:
    fit = view_of(80, sigma=0.5)
    before = fit.pairs("train")
    answers = before.batch(every(before))[1]
    later = view_of(80, sigma=0.5, before=fit.asked)
    pairs = later.pairs("train")
    assert torch.equal(pairs.batch(every(pairs))[1], answers)
    assert (later.queries, later.queries_left) == (0, 20)
    with pytest.raises(KnowledgeError, match="asked for 21 queries, of its budget of 80 are 20 left"):
        later.query(torch.rand(21, *SHAPE))


def test_pairs_are_of_what_other_questions_have_left() -> None:
    view = view_of(80)
    view.query(torch.rand(50, *SHAPE))
    assert len(view.pairs("train")) == 30
    with pytest.raises(KnowledgeError, match="has 0 of 80 queries left"):
        view.pairs("val")


def test_images_have_their_next_answer_each_whatever_the_batches() -> None:
    answers = Answers(3, lambda turn: torch.arange(4.0)[:, None] + 10 * turn)
    shown = [answers(torch.tensor(i)).flatten().tolist() for i in ([0, 1], [0, 2], [0, 1, 2, 3], [0])]
    assert shown == [[0, 1], [10, 2], [20, 11, 12, 3], [0]]


def test_stages_that_know_of_each_other_add_their_queries_and_share_answers() -> None:
    both = Asked.together([Asked(5, {"train 0": 5}), Asked(3, {"train 0": 4, "val 0": 3})])
    assert both == Asked(8, {"train 0": 5, "val 0": 3})
    ledger = Ledger(10, both)
    ledger.pay("train 0", 6)
    assert (ledger.queries, ledger.left) == (1, 1)


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
        "knowledge": ["query:queries=30", "query:4,queries=31", "white-box:queries=30"],
        "metrics": ["mse"],
    }


def test_no_cell_spends_more_than_its_budget_and_what_cannot_be_is_skipped_in_the_plan(
    suite: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    options = Options(executor="serial", offline=True, data_root=images, images=False)
    assert run(suite, out=tmp_path, options=options).exit_code == 0
    cells = load_results(tmp_path).cells
    cells = cells[cells["knowledge"].str.contains("queries")]
    done = cells[(cells["status"] == "done") & ~cells["attack"].str.startswith("refine")]
    budget = done["knowledge"].str.extract(r"queries=(\d+)")[0].astype(int)
    assert (done["queries"] > 0).all()
    assert (done["queries"] <= budget).all()
    assert len(set(done["defense"])) == 2
    assert len(set(done["attack"])) == 7
    short = cells[cells["knowledge"] == "query:4,queries=31"]
    noisy = short["defense"] != "none"
    assert (short.loc[noisy, "status"] == "skipped").all()
    ours = short[noisy & ~short["attack"].str.startswith("refine")]
    assert ours["reason"].str.contains("a budget of 31 queries pays for 7 of 4 queries each").all()


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
    assert spent[tuning.key] == 3, "an eighth of the budget, however many settings are rehearsed"


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
    assert not any("after" in n.identity for n in plan.nodes.values())
