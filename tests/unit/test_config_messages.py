"""Mistakes that a stranger makes in a suite: each is named in words, with what was expected and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field

from splitaudit.config import load_suite
from splitaudit.config.problems import problems_of, told
from splitaudit.errors import ConfigError
from splitaudit.params import Params

LINES = {
    "name": "t",
    "dataset": "photos",
    "backbone": "{name: cnn4, cut: block2}",
    "defenses": "[none, noise]",
    "attacks": "[prior]",
    "seeds": "[0]",
}


BASE: dict[str, Any] = {
    "name": "t",
    "dataset": "photos",
    "backbone": {"name": "cnn4", "cut": "block2"},
    "defenses": ["none"],
    "attacks": ["prior"],
}


def suite(**change: str) -> str:
    """The text of a suite in YAML, with lines changed, added, or (with an empty text) left out."""
    return "".join(f"{k}: {v}\n" for k, v in (LINES | change).items() if v)


def refused(folder: Path, text: str | bytes, *overrides: str, name: str = "mine.yaml") -> ConfigError:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_suite(path, overrides)
    return caught.value


NOISE = "[none, {name: noise, params: {%s}}]"

FILES: list[tuple[str | bytes, str]] = [
    ("", "got an empty file, expected keys and values (name, dataset, backbone, …)"),
    ("- photos\n", "got a list, expected keys and values"),
    ("photos\n", "got a single value, expected keys and values"),
    (b"\xff\xfe\x00", "is not text in UTF-8"),
    ("dataset:\n\tname: photos\n", "line 2: is indented with a tab, which YAML forbids. Indent with spaces."),
    ("dataset: [photos\n", "is not YAML"),
    ("name: a\n---\nname: b\n", "line 2: a second document begins ('---'), expected one suite in a file."),
    ("name: !!python/name:os.system\n", "line 1: 'name: !!python/name:os.system' has a YAML tag"),
    (suite() + "defenses: [dropout]\n", "line 7: 'defenses' was given in line 4 already. Keep one of the two."),
    (suite(defenses=NOISE % "sigma: 1, sigma: 2"), "line 4: 'sigma' was given in line 4 already."),
]


@pytest.mark.parametrize(("text", "expected"), FILES, ids=[e[:40] for _, e in FILES])
def test_a_file_that_is_no_suite_says_what_it_is_instead(tmp_path: Path, text: str | bytes, expected: str) -> None:
    error = refused(tmp_path, text)
    assert expected in "\n".join(error.problems)
    assert str(tmp_path / "mine.yaml") in str(error)


MISTAKES: list[tuple[dict[str, str], str]] = [
    # defenses, attacks and metrics
    ({"defenses": ""}, "defenses: is missing. Add it"),
    ({"defenses": "[]"}, "defenses: got an empty list, expected at least 1 of them."),
    ({"defenses": "~"}, "defenses: got nothing, expected a list."),
    ({"defenses": "[no, noise]"}, "defenses.0: got false, expected a name or {name: …, params: {…}}. An unquoted no"),
    ({"defenses": "[~]"}, "defenses.0: got nothing, expected a name or {name: …, params: {…}}."),
    ({"defenses": "[1]"}, "defenses.0: got 1, expected a name"),
    ({"defenses": "[[none, noise]]"}, "defenses.0: got ['none', 'noise'], expected a name"),
    ({"defenses": "noise sigma=1"}, "defense 'noise sigma=1' is not known."),
    ({"defenses": "noise sigma=1"}, "Parameters are written apart from the name: {name: noise, params: {…}}."),
    ({"defenses": "noise(sigma=1)"}, "Parameters are written apart from the name: {name: noise, params: {…}}."),
    ({"defenses": "none,noise"}, "A list is written in brackets: [none, noise]."),
    ({"defenses": "[Noise]"}, "defense 'Noise' is not known. Did you mean 'noise'?"),
    ({"defenses": "[local/mine]"}, "A name local/… is that of a file: add --plugin FILE."),
    ({"defenses": "[acme/quite-unlike]"}, "Is the package that offers it installed here? (splitaudit doctor)"),
    ({"defenses": "[{noise: {sigma: 1}}]"}, "Write {name: noise, params: {sigma: 1}}."),
    ({"defenses": "[{name: noise, sigma: 1}]"}, "A parameter of the plugin belongs into params: {sigma: 1}."),
    ({"defenses": "[{name: noise, params: sigma=1}]"}, "defenses.0.params: got 'sigma=1', expected keys and values"),
    (
        {"defenses": "[{name: noise, when: inference}]"},
        "expected 'train+infer', 'infer' or 'infer+cloud'. Did you mean 'infer'?",
    ),
    ({"defenses": NOISE % "sigma: big"}, "defense 'noise': sigma: got 'big', expected a number."),
    ({"defenses": NOISE % "sigma: -1"}, "defense 'noise': sigma: got -1, expected at least 0."),
    ({"defenses": NOISE % "sigma: yes"}, "defense 'noise': sigma: got true, expected a number. An unquoted yes"),
    ({"defenses": NOISE % "sigma: .inf"}, "defense 'noise': sigma: got inf, expected a finite number."),
    ({"defenses": NOISE % "relative: 7"}, "defense 'noise': relative: got 7, expected true or false."),
    ({"defenses": NOISE % "distribution: normal"}, "distribution: got 'normal', expected 'gaussian' or 'laplace'."),
    ({"attacks": "[{name: rmle, params: {steps: 0}}]"}, "attack 'rmle': steps: got 0, expected at least 2."),
    ({"attacks": "[{name: rmle, params: {steps: true}}]"}, "attack 'rmle': steps: got true, expected a whole number."),
    ({"metrics": "[mse, lpisp]"}, "metric 'lpisp' is not known. Did you mean 'lpips'?"),
    # where, how much, how often
    ({"dataset": "{name: photos, sizes: {privat: 8}}"}, "dataset.0.sizes.privat: got 'privat', expected"),
    ({"dataset": "{name: photos, sizes: {private: many}}"}, "dataset.0.sizes.private: got 'many', expected a whole"),
    ({"backbone": "cnn4"}, "backbone.0.cut: is missing. Add it (the block after which the model is split"),
    ({"backbone": "{name: cnn4, cut: 2}"}, "backbone.0.cut.0: got 2, expected text. Put it in quotes."),
    ({"backbone": "{name: cnn4, cut: [block2, block2]}"}, "cut: ['block2', 'block2'] has a value twice"),
    (
        {"backbone": "{name: cnn4, cut: block 2}"},
        "Did you mean 'block2'? Cuts of cnn4: block1, block2, block3, block4.",
    ),
    ({"backbone": "{name: cnn4, cut: block2, params: {wdith: 4}}"}, "wdith: is not a known key. Did you mean 'width'?"),
    ({"seeds": "-1"}, "seeds.0: got -1, expected at least 0."),
    ({"seeds": "[]"}, "seeds: got an empty list, expected at least 1 of them."),
    ({"seeds": "[0, 1.5]"}, "seeds.1: got 1.5, expected a whole number."),
    ({"seeds": "0,1"}, "seeds.0: got '0,1', expected a whole number. A list is written in brackets: [1, 2]."),
    ({"seeds": "true"}, "seeds.0: got true, expected a whole number."),
    ({"threads": "two"}, "threads: got 'two', expected a whole number."),
    ({"threads": "yes"}, "threads: got true, expected a whole number."),
    ({"training": "5"}, "training: got 5, expected keys and values: {key: value}."),
    ({"training": "{epoch: 5}"}, "training.epoch: is not a known key. Did you mean 'epochs'?"),
    ({"training": "{epochs: yes}"}, "training.epochs: got true, expected a whole number."),
    ({"seed": "1"}, "seed: is not a known key. Did you mean 'seeds'?"),
    ({"knowledge": "[white_box]"}, "knowledge 'white_box' is not known. Did you mean 'white-box'?"),
    ({"knowledge": "query:querys=5"}, "knowledge 'query:querys=5': 'querys' is no limit. Did you mean 'queries'?"),
    ({"exclude": "[{defenses: noise}]"}, "exclude.0.defenses: is not a known key. Did you mean 'defense'?"),
    ({"exclude": "[{defense: nois}]"}, "defense 'nois' is not in the suite. Did you mean 'noise'? It has noise, none."),
    ({"exclude": "{attack: rmle}"}, "exclude.0: attack 'rmle' is not in the suite."),
    ({"name": "2024"}, "name: got 2024, expected text. Put it in quotes."),
    ({"name": "../x"}, "name: got '../x', expected letters, digits and . _ - without spaces"),
]


@pytest.mark.parametrize(("change", "expected"), MISTAKES, ids=[f"{c}"[:60] for c, _ in MISTAKES])
def test_a_mistake_says_what_was_got_and_what_was_expected(
    tmp_path: Path, change: dict[str, str], expected: str
) -> None:
    error = refused(tmp_path, suite(**change))
    assert expected in "\n".join(error.problems)
    assert not any("pydantic" in p or "Input should" in p for p in error.problems)


OVERRIDES = [
    ("epochs", "-s epochs: expected key=value, for instance -s training.epochs=5"),
    ("training..epochs=1", "expected key=value"),
    ("trainin.epochs=5", "trainin: is not a known key. Did you mean 'training'?"),
    ("training.epochs.x=5", "'training.epochs' is no place in the suite"),
    ("defenses=", "defenses: got nothing, expected a list."),
    ("defenses=[none", "-s defenses=[none: line 1, column 6: is not YAML"),
    ("defenses=none,noise", "A list is written in brackets: [none, noise]."),
    ("defenses.5.params.sigma=1", "defenses is a list, name an entry by its number (0 none, 1 noise)"),
    ("defenses.noise.sigma=1", "defenses is a list, name an entry by its number (0 none, 1 noise)"),
    ("defenses.1.sigma=1", "A parameter of the plugin belongs into params: {sigma: 1}."),
    ("defenses.1.params.sigma=-1", "defense 'noise': sigma: got -1, expected at least 0."),
    ("training={epochs: 1, epochs: 2}", "'epochs' was given in line 1 already"),
]


@pytest.mark.parametrize(("override", "expected"), OVERRIDES, ids=[o for o, _ in OVERRIDES])
def test_a_mistake_in_an_override_is_named(tmp_path: Path, override: str, expected: str) -> None:
    assert expected in "\n".join(refused(tmp_path, suite(training="{epochs: 2}"), override).problems)


@pytest.mark.parametrize(
    ("override", "cut", "sigma"),
    [
        ("backbone.cut=block1", "block1", 1.0),
        ("backbone.0.cut=block1", "block1", 1.0),
        ("defenses.1.params.sigma=1e-3", "block2", 1e-3),
        (" defenses.1.params.sigma = 2", "block2", 2.0),
    ],
)
def test_an_override_reaches_short_and_long_ways_of_writing(
    tmp_path: Path, override: str, cut: str, sigma: float
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(suite())
    made = load_suite(path, [override])
    assert (made.backbone[0].cut, made.defenses[1].params["sigma"]) == ([cut], sigma)


def test_an_override_of_a_resolved_suite_need_not_number_a_list_of_one() -> None:
    resolved = load_suite(BASE).model_dump(mode="json")
    assert isinstance(resolved["backbone"], list)
    assert load_suite(resolved, ["backbone.cut=block1"]).backbone[0].cut == ["block1"]


def test_a_mapping_that_is_given_is_not_changed_by_overrides() -> None:
    given: dict[str, Any] = {**BASE, "training": {"epochs": 2}}
    assert load_suite(given, ["training.epochs=5", "backbone.params.width=4"]).training.epochs == 5
    assert given == {**BASE, "training": {"epochs": 2}}


def test_mistakes_in_the_file_in_its_shape_in_plugins_and_in_overrides_come_in_one_message(tmp_path: Path) -> None:
    text = suite(defenses="[noize, {name: noise, params: {sigma: -1}}]", seeds="[]", seedz="1") + "attacks: []\n"
    error = refused(tmp_path, text, "training", "training.epochs=many")
    for expected in (
        "line 8: 'attacks' was given in line 5 already",
        "-s training: expected key=value",
        "training.epochs: got 'many'",
        "attacks: got an empty list",
        "seeds: got an empty list",
        "seedz: is not a known key",
        "defense 'noize' is not known",
        "defense 'noise': sigma: got -1",
    ):
        assert sum(expected in p for p in error.problems) == 1, expected
    assert str(error).startswith(f"{tmp_path / 'mine.yaml'}: 8 problems\n")
    assert len(error.problems) == 8


def test_a_mistake_in_a_sweep_is_told_once(tmp_path: Path) -> None:
    text = suite(attacks="[{name: rmle, params: {steps: [10, 20, 30], lr: [1, x]}}]")
    assert refused(tmp_path, text).problems == ["attack 'rmle': lr: got 'x', expected a number."]


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(suite(defenses=NOISE % "sigma: 1e-3"))
    assert load_suite(path).defenses[1].params["sigma"] == 1e-3


def test_spaces_around_the_plus_of_a_composition_mean_nothing(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(suite(defenses="[none, nopeek + noise]"))
    assert [d.name for d in load_suite(path).defenses] == ["none", "nopeek+noise"]


def test_a_suite_without_a_name_takes_that_of_its_file_as_a_folder_can_have_it(tmp_path: Path) -> None:
    path = tmp_path / "my first suite.yaml"
    path.write_text("\ufeff" + suite(name=""), encoding="utf-8")
    assert load_suite(path).name == "my-first-suite"


def test_a_path_that_is_no_file_says_what_there_is_instead(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder, expected a YAML file or a preset"):
        load_suite(tmp_path)
    (tmp_path / "mine.yaml").write_text(suite())
    with pytest.raises(ConfigError, match=r"neither a file nor a preset. Did you mean '.*mine.yaml'"):
        load_suite(tmp_path / "mine.yml")


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs file permissions")
def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(suite())

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")  # root may read everything

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied. Check its permissions."):
        load_suite(path)


def test_what_a_union_tried_is_no_part_of_the_place() -> None:
    class Sized(Params):
        side: int | tuple[int, int] | None = Field(None, description="px")

    with pytest.raises(ValueError) as caught:
        Sized(side="big")  # pyright: ignore[reportArgumentType]
    found = problems_of(caught.value, "dataset 'x'", Sized)  # pyright: ignore[reportArgumentType]
    assert found == [
        "dataset 'x': side: got 'big', expected a whole number.",
        "dataset 'x': side: got 'big', expected a list.",
    ]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (True, "true"), ([], "an empty list"), ({}, "no keys"), ("x" * 100, "'" + "x" * 76 + "…")],
)
def test_values_are_shown_short_and_as_yaml_says_them(value: object, text: str) -> None:
    assert told(value) == text


def test_a_dataset_named_alone_keeps_the_sizes_of_the_suite(tmp_path: Path) -> None:
    sizes = {"client_train": 64, "private": 4}
    raw = {**load_suite("smoke").model_dump(), "dataset": {"name": "photos", "sizes": sizes}}
    (kept,) = load_suite(raw, ["dataset=cifar10"]).dataset
    assert (kept.name, kept.sizes) == ("cifar10", sizes)
    (spelled,) = load_suite(raw, ["dataset={name: cifar10}"]).dataset
    assert spelled.sizes == {}, "a dataset that is spelled out is taken as it is"
    (listed,) = load_suite({**raw, "dataset": [raw["dataset"]]}, ["dataset=cifar10"]).dataset
    assert listed.sizes == sizes
