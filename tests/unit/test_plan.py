"""Plans: nodes, keys, shared work, skips, and what is left to do."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitaudit.canonical import canonical, key_of
from splitaudit.config import load_suite
from splitaudit.config.suite import DefenseSpec
from splitaudit.errors import ConfigError
from splitaudit.knowledge import PRESETS, AdversaryKnowledge
from splitaudit.labels import Labelled, plugin_labels, sweep_labels
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.plugins import DEFENSES
from splitaudit.seeds import derive
from splitaudit.state import chosen_nodes, find_todo
from splitaudit.store import Entry

SIZES = {"client_train": 16, "client_val": 8, "private": 4, "measure": 8, "aux_train": 16, "aux_val": 8}


def plan(**change: Any) -> Plan:
    raw: dict[str, Any] = {
        "name": "t",
        "dataset": {"name": "photos", "sizes": SIZES},
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none", "noise"],
        "attacks": ["prior", "rmle", "decoder"],
        "metrics": ["mse", "accuracy", "latency"],
    }
    return make_plan(load_suite({**raw, **change}))


def keys(made: Plan, kind: str) -> set[str]:
    return {k for t, k in made.nodes if t == kind}


def test_the_plan_survives_json() -> None:
    made = plan()
    assert Plan.load(json.loads(json.dumps(made.dump()))).dump() == made.dump()


def test_every_key_is_the_hash_of_its_identity_and_needs_come_first() -> None:
    made = plan(defenses=["none", {"name": "noise", "when": "infer"}])
    seen = set()
    for name, node in made.nodes.items():
        assert node.key == key_of(node.identity)
        assert set(node.needs) <= seen
        seen.add(name)


def test_an_attack_is_run_once_for_all_levels_that_grant_as_much_as_it_uses() -> None:
    made = plan()
    rows = [r for r in made.cells if r["attack"] == "decoder" and r["defense"] == "none"]
    assert {r["knowledge"] for r in rows} == {"white-box", "query"}
    assert len({r["key"] for r in rows}) == 1


def test_an_attack_that_needs_more_than_a_level_grants_is_skipped_with_the_reason() -> None:
    rows = [r for r in plan().cells if r["attack"] == "rmle" and r["knowledge"] == "query"]
    assert all(r["key"] is None and "needs the edge's weights" in r["skip"] for r in rows)


def test_a_defense_that_cannot_be_at_a_cut_is_skipped_with_its_cells() -> None:
    made = plan(
        backbone={"name": "cnn4", "cut": ["block1", "block2"], "params": {"width": 4}}, defenses=["none", "siftfunnel"]
    )
    skipped = [r for r in made.targets if r["skip"]]
    assert [(r["defense"], r["cut"]) for r in skipped] == [("siftfunnel", "block1")]
    cells = [r for r in made.cells if (r["defense"], r["cut"]) == ("siftfunnel", "block1")]
    assert cells
    assert all(r["skip"].startswith("target skipped:") for r in cells)


def test_an_inference_time_defense_waits_for_the_undefended_target_of_its_seed() -> None:
    made = plan(defenses=["none", {"name": "noise", "when": "infer"}], seeds=[0, 1])
    none = {r["seed"]: r["key"] for r in made.targets if r["defense"] == "none"}
    for row in made.targets:
        if row["defense"] == "noise@infer":
            assert made.nodes["target", row["key"]].needs == (("target", none[row["seed"]]),)


def test_an_inference_time_defense_trains_an_undefended_target_that_no_row_shows() -> None:
    made = plan(defenses=[{"name": "noise", "when": "infer"}])
    assert len(made.targets) == 1
    assert len(keys(made, "target")) == 2


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": [1]},
        {"threads": 2},
        {"training": {"epochs": 3}},
        {"backbone": {"name": "cnn4", "cut": "block1", "params": {"width": 4}}},
        {"backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 5}}},
        {"dataset": {"name": "photos", "sizes": {**SIZES, "client_train": 17}}},
    ],
)
def test_what_may_change_a_number_changes_every_target_key(change: dict[str, Any]) -> None:
    assert not keys(plan(), "target") & keys(plan(**change), "target")


@pytest.mark.parametrize(
    "change", [{"name": "other"}, {"description": "x"}, {"metrics": ["mse"]}, {"exclude": [{"attack": "decoder"}]}]
)
def test_what_cannot_change_a_number_changes_no_key(change: dict[str, Any]) -> None:
    for kind in ("target", "cell", "fit", "reference"):
        assert keys(plan(**change), kind) <= keys(plan(), kind)


def test_another_number_of_private_images_re_attacks_but_does_not_re_train_or_re_fit() -> None:
    more = plan(dataset={"name": "photos", "sizes": {**SIZES, "private": 5}})
    assert keys(more, "target") == keys(plan(), "target")
    assert keys(more, "fit") == keys(plan(), "fit")
    assert not keys(more, "cell") & keys(plan(), "cell")


def test_exclusions_leave_cells_out() -> None:
    made = plan(exclude=[{"attack": "decoder", "defense": "noise"}])
    left = {(r["defense"], r["attack"]) for r in made.cells}
    assert ("noise", "decoder") not in left
    assert ("none", "decoder") in left


def todo(made: Plan, status: dict[Any, Entry], **options: Any) -> set[str]:
    return set(find_todo(made, status, set(made.nodes), **options).jobs)


def entries(made: Plan, **metrics: Any) -> dict[Any, Entry]:
    from splitaudit.canonical import key_of as key

    measures = {n: key({"measure": made.metrics[n], "images": SIZES["measure"]}) for n in ("accuracy", "latency")}
    return {
        name: Entry(
            name[0],  # pyright: ignore[reportArgumentType]
            name[1],
            "done",
            artifact=True,
            measurements=measures if name[0] == "target" else {},
            scores={"mse": made.metrics["mse"]} if name[0] in ("cell", "reference") else {},
        )
        for name in made.nodes
    }


def test_a_finished_plan_leaves_nothing_to_do() -> None:
    made = plan()
    assert todo(made, entries(made)) == set()


def test_a_new_metric_is_scored_from_stored_reconstructions_and_nothing_is_attacked_again() -> None:
    made = plan(metrics=["mse", "psnr", "accuracy", "latency"])
    tasks = {t.split(":")[0] for t in todo(made, entries(made))}
    assert tasks == {"score", "reference"}


def test_a_new_measure_is_measured_without_training() -> None:
    made = plan(metrics=["mse", "accuracy", "latency", "cost"])
    assert {t.split(":")[0] for t in todo(made, entries(made))} == {"measure"}


def test_failed_nodes_are_retried_unless_they_are_kept() -> None:
    made = plan()
    status = entries(made)
    target = next(n for n in made.nodes if n[0] == "target")
    status[target] = Entry("target", target[1], "failed", artifact=False, error="x")
    assert f"target:{target[1]}" in todo(made, status)
    kept = find_todo(made, status, set(made.nodes), keep_failed=True)
    assert not kept.jobs
    assert set(kept.blocked) == {n for n, node in made.nodes.items() if target in node.needs}


def test_filters_choose_rows_and_all_that_they_need() -> None:
    made = plan()
    chosen = chosen_nodes(made, {"defense": ["noise"], "attack": ["rmle"]})
    assert sorted(kind for kind, _ in chosen) == ["cell", "fit", "reference", "target"]
    assert len(chosen_nodes(made, {}, limit=1)) < len(made.nodes)


@given(st.dictionaries(st.text(), st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists)))
def test_canonical_json_does_not_depend_on_the_order_of_keys(value: dict[str, Any]) -> None:
    shuffled = dict(reversed(list(value.items())))
    assert canonical(value) == canonical(shuffled)
    assert key_of(value) == key_of(json.loads(canonical(value)))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_have_no_canonical_json(value: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant|Out of range"):
        canonical({"x": value})


@given(st.text(), st.text(), st.integers(0, 2**40))
def test_seeds_of_different_roles_differ(a: str, b: str, seed: int) -> None:
    assert 0 <= derive(a, seed) < 2**63
    assert (derive(a, seed) == derive(b, seed)) == (a == b)


KNOWLEDGE = st.builds(
    AdversaryKnowledge,
    edge=st.sampled_from(["none", "query", "weights"]),
    cloud=st.booleans(),
    aux=st.sampled_from(["none", "other", "same"]),
    labels=st.booleans(),
)


@settings(max_examples=60)
@given(KNOWLEDGE, KNOWLEDGE)
def test_narrowed_knowledge_grants_no_more_than_either(granted: AdversaryKnowledge, uses: AdversaryKnowledge) -> None:
    given_ = granted.narrowed(uses)
    assert granted.lacks(given_) is None
    assert uses.lacks(given_) is None


def test_the_levels_are_ordered_by_what_they_grant() -> None:
    assert PRESETS["white-box"].lacks(PRESETS["query"]) is None
    assert PRESETS["query"].lacks(PRESETS["white-box"]) is not None
    assert PRESETS["white-box-other"].lacks(PRESETS["white-box"]) is not None


def test_labels_name_only_what_differs() -> None:
    specs = [
        Labelled("noise", {"sigma": 0.5, "relative": True}),
        Labelled("noise", {"sigma": 1.0, "relative": True}),
        Labelled("none", {}),
    ]
    assert sweep_labels(specs) == ["noise(sigma=0.5)", "noise(sigma=1)", "none"]


def test_settings_that_differ_in_the_seventh_digit_have_labels_of_their_own() -> None:
    """Under one label their cells were averaged as if they were repetitions of one."""
    specs = [Labelled("noise", {"sigma": s}, {"sigma": 1.0}) for s in (0.12345671, 0.12345674, 0.5)]
    assert sweep_labels(specs) == ["noise(sigma=0.12345671)", "noise(sigma=0.12345674)", "noise(sigma=0.5)"]


def test_one_dataset_is_measured_on_one_number_of_images() -> None:
    """What was measured on the second was read, and its intervals made, with the images of the first."""
    sizes = {"client_train": 64, "client_val": 16, "private": 12, "aux_train": 64, "aux_val": 16}
    entries = [{"name": "photos", "sizes": {**sizes, "measure": m, "client_train": c}} for m, c in ((48, 64), (64, 96))]
    base = {"name": "x", "defenses": ["none"], "attacks": ["prior"], "metrics": ["mse", "accuracy"]}
    with pytest.raises(ConfigError, match="are one dataset, of which 48 and 64 images would be measured"):
        make_plan(load_suite({**base, "dataset": entries, "backbone": {"name": "cnn4", "cut": "block2"}}))
    entries[1]["sizes"]["measure"] = 48
    assert (
        len(
            make_plan(
                load_suite({**base, "dataset": entries, "backbone": {"name": "cnn4", "cut": "block2"}})
            ).references
        )
        == 2
    )


def test_entries_that_differ_in_many_parameters_are_named_by_what_is_not_the_default() -> None:
    usual = {"a": 1, "b": 2, "c": 3}
    entries = [usual, {**usual, "a": 0}, {**usual, "b": 0}, {**usual, "c": 0}, {**usual, "a": 0, "b": 0}]
    labels = sweep_labels([Labelled("siftfunnel", e, usual) for e in entries])
    assert labels == ["siftfunnel", "siftfunnel(a=0)", "siftfunnel(b=0)", "siftfunnel(c=0)", "siftfunnel(a=0,b=0)"]


def test_a_label_leaves_out_what_follows_from_a_setting() -> None:
    model = DEFENSES.get("siftfunnel").Params
    given = [{}, {"setting": "argparse"}, {"setting": "argparse", "beta": 0.0}, {"setting": "argparse", "gamma": 0.1}]
    specs = [DefenseSpec(name="siftfunnel", params=model(**g).dump()) for g in given]
    assert plugin_labels(DEFENSES, specs) == [
        "siftfunnel",
        "siftfunnel(setting=argparse)",
        "siftfunnel(setting=argparse,beta=0)",
        "siftfunnel(setting=argparse,gamma=0.1)",
    ]
    alone = [DefenseSpec(name="nopeek+siftfunnel", params={"nopeek": {}, "siftfunnel": s.params}) for s in specs[:2]]
    assert plugin_labels(DEFENSES, alone)[1] == "nopeek+siftfunnel(siftfunnel.setting=argparse)"


def test_attacks_as_published_are_skipped_where_another_shape_is_sent() -> None:
    defenses = ["none", "noise", "pca", "downsample", "noise+downsample"]
    attacks = ["prior", "mle_published", "decoder_published"]
    made = plan(defenses=defenses, attacks=attacks, knowledge=["white-box"])
    found = {(c["defense"], c["attack"]): c["skip"] for c in made.cells}
    for defense in ("none", "noise"):
        assert found[defense, "mle_published"] is None
    for defense, named in (("pca", "pca"), ("downsample", "downsample"), ("noise+downsample", "downsample")):
        assert f"and '{named}' sends another shape. Use the attack `rmle`" in found[defense, "mle_published"]
    assert {skip for (_, attack), skip in found.items() if attack == "decoder_published"} == {None}
    at = {"name": "vgg16_bn", "cut": "conv3_1", "params": {"width": 8}}
    made = plan(backbone=at, defenses=defenses, attacks=attacks, knowledge=["white-box"])
    found = {(c["defense"], c["attack"]): c["skip"] for c in made.cells}
    assert found["noise", "decoder_published"] is None
    assert "'downsample' sends another shape than the edge's" in found["downsample", "decoder_published"]


def test_an_attack_that_has_nothing_for_a_target_is_skipped_there_with_its_reason() -> None:
    made = plan(
        backbone={"name": "resnet18", "cut": ["layer1_block2", "layer2_block1"], "params": {"width": 8}},
        defenses=["none", "bottleneck"],
        attacks=["prior", "decoder_published", {"name": "decoder_published", "params": {"structure": "chain"}}],
        knowledge=["query"],
    )
    found = {(c["cut"], c["defense"], c["attack"]): c["skip"] for c in made.cells}
    auto, chain = "decoder_published(structure=auto)", "decoder_published(structure=chain)"
    assert found["layer1_block2", "none", auto] is None
    assert "is known completely" in found["layer2_block1", "none", auto]
    assert "not known completely" in found["layer1_block2", "bottleneck", auto]
    assert all(found[cut, d, chain] is None for cut, d in (("layer2_block1", "none"), ("layer1_block2", "bottleneck")))
    assert not [
        n
        for n in made.nodes.values()
        if n.kind == "fit"
        and n.title.startswith("fit of decoder_published on b")
        and n.identity["attack"]["params"]["structure"] == "auto"
    ]
