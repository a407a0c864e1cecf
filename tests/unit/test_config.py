"""Suites: reading, overriding, crossing and refusing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from splitaudit.config import load_suite, presets
from splitaudit.config.suite import IDENTITY_FIELDS, RUN_TIME_FIELDS, Suite
from splitaudit.errors import ConfigError
from splitaudit.plugins import ATTACKS, DEFENSES

BASE: dict[str, Any] = {
    "name": "t",
    "dataset": "photos",
    "backbone": {"name": "cnn4", "cut": "block2"},
    "defenses": ["none"],
    "attacks": ["prior"],
}


def problems(raw: dict[str, Any], *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_suite(raw, overrides)
    return caught.value.problems


@pytest.mark.parametrize("name", presets())
def test_every_preset_is_valid(name: str) -> None:
    assert {"smoke", "quick", "standard", "paper"} < set(presets())
    suite = load_suite(name)
    assert suite.name == name
    assert load_suite(suite.model_dump(mode="json")) == suite


def test_the_standard_preset_has_every_defense_and_every_attack_but_the_published_ones() -> None:
    suite = load_suite("standard")
    assert {d.name for d in suite.defenses} == {n for n in DEFENSES.names() if "/" not in n}
    attacks = {n for n in ATTACKS.names() if "/" not in n and not n.endswith("_published")}
    assert {a.name for a in suite.attacks} == attacks


def test_a_suite_may_start_from_a_preset_and_replaces_whole_fields() -> None:
    suite, base = (
        load_suite({"name": "mine", "preset": "quick", "defenses": ["none"], "seeds": [3]}),
        load_suite("quick"),
    )
    assert [d.name for d in suite.defenses] == ["none"]
    assert (suite.name, suite.seeds) == ("mine", [3])
    assert (suite.attacks, suite.training, suite.dataset) == (base.attacks, base.training, base.dataset)


@pytest.mark.parametrize("base", ["quik", "mine.yaml", 3])
def test_a_base_that_is_no_preset_is_refused_with_what_there_is(base: Any) -> None:
    (problem,) = problems({"name": "mine", "preset": base})
    assert f"got '{base}'" in problem
    assert "quick" in problem


def test_claims_about_columns_and_attacks_that_the_suite_does_not_have_are_mistakes() -> None:
    """They would come to light after the run, as a claim that is not decided."""
    figures = [
        {"column": "msee"},
        {"column": "mse", "attack": "decodr"},
        {"column": "mi_lower_nats", "high": "mi_uper_nats"},
        {"column": "mine_published"},
        {"column": "accuracy"},
    ]
    claim = {"name": "c", "says": "s", "published": "p", "defense": "none", "against": "none", "at_least": 1}
    with pytest.raises(ConfigError) as caught:
        load_suite({"preset": "smoke", "claims": [{**claim, "figures": figures}]})
    text = str(caught.value)
    assert "column 'msee' is not measured by the suite. Did you mean 'mse'?" in text
    assert "attack 'decodr' is not in the suite. Did you mean 'decoder'?" in text
    assert "column 'mi_uper_nats' is not measured by the suite. Did you mean 'mi_upper_nats'?" in text
    assert "column 'mine_published' is not measured by the suite." in text
    assert "'accuracy'" not in text


def test_claims_about_defenses_that_the_suite_does_not_have_are_mistakes() -> None:
    claim = {"name": "c", "says": "s", "published": "p", "at_least": 1, "figures": [{"column": "mse"}]}
    found = problems({**BASE, "claims": [{**claim, "defense": "none", "against": ["noize", "dropout"]}]})
    assert found == [
        "claim 'c': defense 'noize' is not in the suite. Did you mean 'none'? It has none.",
        "claim 'c': defense 'dropout' is not in the suite. It has none.",
    ]


def test_a_new_field_must_be_classed_as_identity_or_run_time() -> None:
    assert set(Suite.model_fields) == IDENTITY_FIELDS | RUN_TIME_FIELDS
    assert not IDENTITY_FIELDS & RUN_TIME_FIELDS


def test_all_mistakes_come_in_one_message() -> None:
    found = problems(
        {
            **BASE,
            "defenses": [
                "noize",
                {"name": "noise", "params": {"sigma": -1}},
                {"name": "dropout", "params": {"rat": 0.1}},
            ],
            "backbone": {"name": "cnn4", "cut": "block9"},
            "attacks": [],
            "seedz": [1],
            "training": {"epochs": "many"},
        }
    )
    text = "\n".join(found)
    assert "defense 'noize' is not known. Did you mean 'noise'?" in text
    assert "defense 'noise': sigma: got -1" in text
    assert "defense 'dropout': rat: is not a known key. Did you mean 'rate'?" in text
    assert "cut 'block9' exists in no backbone" in text
    assert "attacks: got an empty list, expected at least 1 of them." in text
    assert "seedz: is not a known key. Did you mean 'seeds'?" in text
    assert "training.epochs: got 'many'" in text
    assert len(found) == 7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"knowledge": "whitebox"}, "knowledge 'whitebox' is not known. Did you mean 'white-box'?"),
        ({"knowledge": "query-other"}, "add other"),
        ({"defenses": [{"name": "nopeek", "when": "infer"}]}, "acts only in training"),
        ({"defenses": ["siftfunnel+siftfunnel"]}, "listed twice"),
        (
            {"defenses": ["noise+bottleneck"]},
            "'bottleneck' rebuilds the network, so it acts before noise: write 'bottleneck+noise'",
        ),
        (
            {"defenses": ["nopeek+topk+quantize+infodecom"]},
            "before topk and quantize: write 'nopeek+infodecom+topk+quantize'",
        ),
        ({"defenses": ["noise+vib"]}, "'vib' rebuilds the network, so it acts before noise: write 'vib+noise'"),
        ({"defenses": ["none+noise"]}, "'none' changes nothing"),
        ({"defenses": [{"name": "nopeek+noise", "params": {"nois": {}}}]}, "'nois' is no part"),
        ({"defenses": ["noise", "noise"]}, "'noise' is listed twice"),
        (
            {"metrics": ["mse", "accuracy", {"name": "accuracy", "params": {"draws": 7}}]},
            "metrics: 'accuracy' is listed with several settings; a suite has one",
        ),
        ({"metrics": ["mse", "mse"]}, "metrics: 'mse' is listed twice with the same parameters"),
        ({"presets": "smoke"}, "presets: is not a known key. Did you mean 'preset'?"),
        ({"epochs": 3}, "epochs: is not a known key. Did you mean 'training.epochs'?"),
        ({"defenses": [{"name": "noise", "sweep": {"sigma": [1, 1]}}]}, "sweep: sigma: [1, 1] has a value twice"),
        ({"claims": [{"name": "Noise-1"}]}, "(short name: small letters, digits and -)"),
        ({"defenses": [{"name": "noise", "params": {"sigma": []}}]}, "empty list"),
        ({"seeds": [1, 1]}, "a value twice"),
        ({"exclude": [{}]}, "is empty"),
        ({"exclude": [{"cut": "block3"}]}, "'block3' is not in the suite"),
        ({"dataset": {"name": "photos", "sizes": {"privat": 3}}}, "privat"),
        ({"dataset": {"name": "photos", "sizes": {"private": 0}}}, "private"),
        ({"defenses": [{"name": "noise", "params": {"sigma": ".nan"}}]}, "sigma"),
    ],
)
def test_a_mistake_is_named(change: dict[str, Any], expected: str) -> None:
    assert expected in "\n".join(problems({**BASE, **change}))


def test_yaml_without_a_space_after_a_colon_is_told_so() -> None:
    with pytest.raises(ConfigError, match="YAML wants a space after a colon"):
        load_suite(BASE, ["defenses=[none,{name:noise,params:{sigma:1}}]"])


def test_a_description_says_what_was_changed_since_it_was_written() -> None:
    """The first line of the report spoke of photographs that were the user's own images."""
    quick = load_suite("quick").description
    assert load_suite({"preset": "quick", "attacks": ["prior"]}).description == f"{quick} Changed: attacks."
    changed = load_suite({"preset": "quick", "attacks": ["prior"]}, ["training.epochs=3"], [4])
    assert changed.description == f"{quick} Changed: attacks, seeds, training."
    assert load_suite({"preset": "quick", "attacks": ["prior"], "description": "Mine."}).description == "Mine."
    assert load_suite(BASE, ["training.epochs=3"]).description == ""
    assert load_suite({"preset": "quick", "seeds": 0}).description == quick  # as it was, written otherwise
    own = {**BASE, "description": "Two widths. Changed: the noise, as Ann asked"}
    assert load_suite(own, ["training.epochs=3"]).description == f"{own['description']}. Changed: training."


def test_values_that_mean_the_same_are_the_same() -> None:
    suites = [load_suite({**BASE, "defenses": [{"name": "noise", "params": {"sigma": s}}]}) for s in (1, 1.0, "1e0")]
    assert len({s.model_dump_json() for s in suites}) == 1


def test_listed_values_of_a_parameter_are_crossed() -> None:
    suite = load_suite(
        {
            **BASE,
            "defenses": [{"name": "noise", "params": {"sigma": [0.5, 1], "distribution": ["gaussian", "laplace"]}}],
        }
    )
    pairs = [(d.params["sigma"], d.params["distribution"]) for d in suite.defenses]
    assert pairs == [(0.5, "gaussian"), (0.5, "laplace"), (1.0, "gaussian"), (1.0, "laplace")]


def test_overrides_reach_nested_places_and_list_elements() -> None:
    suite = load_suite(
        "quick", ["training.epochs=3", "dataset.sizes.private=16", "defenses.1.params.sigma=0.25", "seeds=[4, 5]"]
    )
    assert suite.training.epochs == 3
    assert suite.dataset[0].sizes == {"private": 16}
    assert suite.defenses[1].params["sigma"] == 0.25
    assert suite.seeds == [4, 5]


@pytest.mark.parametrize("override", ["epochs", "=3", "training.epochs.x.y=3", "defenses.99.name=x"])
def test_an_override_that_leads_nowhere_is_refused(override: str) -> None:
    with pytest.raises(ConfigError):
        load_suite("quick", [override])


def test_a_file_gives_the_suite_its_name_and_yaml_mistakes_are_told(tmp_path: Path) -> None:
    good = tmp_path / "mine.yaml"
    good.write_text("dataset: photos\nbackbone: {name: cnn4, cut: block1}\ndefenses: none\nattacks: prior\n")
    assert load_suite(good).name == "mine"
    bad = tmp_path / "bad.yaml"
    bad.write_text("dataset: [photos")
    with pytest.raises(ConfigError, match="is not YAML"):
        load_suite(bad)
    with pytest.raises(ConfigError, match="neither a file nor a preset. Did you mean 'quick'"):
        load_suite("quik")


def test_loading_a_resolved_suite_changes_nothing() -> None:
    once = load_suite("quick")
    assert load_suite(once.model_dump(mode="json")).model_dump_json() == once.model_dump_json()
