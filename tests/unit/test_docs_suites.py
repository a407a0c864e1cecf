"""The page on suites: its tables are the fields, its examples resolve to what the text says of them."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from splitaudit.augment import Augmentation
from splitaudit.config import load_suite
from splitaudit.config.claims import Claim, ClaimFigure
from splitaudit.config.suite import (
    RUN_TIME_FIELDS,
    AttackSpec,
    BackboneSpec,
    DatasetSpec,
    DefenseSpec,
    Exclusion,
    MetricSpec,
    Suite,
)
from splitaudit.data.base import PARTS, DataContext
from splitaudit.plan import Plan
from splitaudit.planner import make_plan
from splitaudit.training import TrainingParams

PAGE = Path(__file__).parents[2] / "docs" / "suites.md"
TABLES: dict[str, type[BaseModel]] = {
    "Fields": Suite,
    "dataset, other": DatasetSpec,
    "backbone": BackboneSpec,
    "defenses": DefenseSpec,
    "attacks": AttackSpec,
    "metrics": MetricSpec,
    "training": TrainingParams,
    "training.augment": Augmentation,
    "exclude": Exclusion,
    "claims": Claim,
    "claims.figures": ClaimFigure,
}
"""Heading of a table to the model whose fields it lists."""

ENTRIES = {
    "DatasetSpec": "dataset",
    "BackboneSpec": "backbone",
    "DefenseSpec": "defense",
    "AttackSpec": "attack",
    "MetricSpec": "metric",
    "Exclusion": "rule",
    "Claim": "claim",
    "ClaimFigure": "figure",
    "TrainingParams": "training",
    "Augmentation": "augment",
}
"""What a table calls an entry of a model of ours."""


QUICK = ("none", "noise", "dropout", "adversarial", "nopeek", "siftfunnel")


@cache
def section(heading: str) -> str:
    """Returns the text under a heading, with the headings below it."""
    found = re.search(rf"^(##+) {re.escape(heading)}\n([\s\S]*)", PAGE.read_text(encoding="utf-8"), re.M)
    assert found is not None, f"{PAGE.name} has no heading '{heading}'"
    return re.split(rf"^#{{2,{len(found[1])}}} ", found[2], maxsplit=1, flags=re.M)[0]


def rows(heading: str) -> dict[str, list[str]]:
    """Returns field to the other columns (type, default, meaning) of the table under a heading."""
    lines = [line for line in section(heading).splitlines() if line.startswith("| `")]
    cells = [[c.strip().replace(r"\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    assert len({c[0] for c in cells}) == len(cells)
    return {name.strip("`"): rest for name, *rest in cells}


def default_of(field: FieldInfo) -> str:
    """Returns a default as a suite would write it; entries of plugins by their names."""
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return "its own fields' defaults"
    if isinstance(value, list) and value and isinstance(value[0], MetricSpec):
        return ", ".join(f"`{m.name}`" for m in value)
    if value == "":
        return "empty"
    return "`" + yaml.safe_dump(value, default_flow_style=True).strip().removesuffix("...").strip() + "`"


def type_of(schema: dict[str, Any]) -> str:
    """Returns the words for a field's JSON schema: what may be written, with its limits."""
    if "$ref" in schema:
        return ENTRIES[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        return " or ".join(type_of(s) for s in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{v}`" for v in schema["enum"])
    if schema["type"] == "array":
        return f"list of {type_of(schema['items'])}"
    if schema["type"] == "object":
        inner = schema.get("additionalProperties")
        return f"part: {type_of(inner)}" if isinstance(inner, dict) else "mapping"
    words = {"string": "text", "number": "number", "integer": "integer", "boolean": "true or false", "null": "null"}
    limits = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in limits.items() if key in schema]
    return " ".join([words[schema["type"]], ", ".join(bounds)]).strip()


def examples() -> dict[str, str]:
    """Returns the name of each YAML example (its heading) to its text."""
    found = re.findall(r"^##+ ([^\n]+)\n(?:(?!^##)[\s\S])*?^```yaml\n([\s\S]*?)^```$", PAGE.read_text("utf-8"), re.M)
    return dict(found)


def on_images(suite: Suite, root: Path) -> Plan:
    """Returns the plan of a suite on a folder of small images instead of its own dataset."""
    return make_plan(
        suite.model_copy(
            update={"dataset": load_suite({"preset": "quick", "name": "x", "dataset": "imagefolder"}).dataset}
        ),
        DataContext(root, None, True),
    )


def resolved(name: str, folder: Path) -> Suite:
    """Returns the suite of an example, read from a file as a user would write it."""
    path = folder / "mine.yaml"
    path.write_text(examples()[name], encoding="utf-8")
    return load_suite(path)


# -- the tables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("heading", TABLES)
def test_a_table_lists_every_field_with_its_type_default_and_meaning(heading: str) -> None:
    model = TABLES[heading]
    schema = model.model_json_schema()["properties"]
    page = rows(heading)
    assert list(page) == list(model.model_fields)
    for name, field in model.model_fields.items():
        type_, default, meaning = page[name]
        assert type_ == type_of(schema[name]), name
        assert default == default_of(field), name
        assert meaning == field.description if field.description else meaning, name


def test_every_model_that_a_suite_is_made_of_has_a_table() -> None:
    inner = set(Suite.model_json_schema()["$defs"])
    assert {m.__name__ for m in TABLES.values()} == inner | {"Suite"}


def test_the_page_names_every_part_and_every_field_that_is_no_part_of_a_key() -> None:
    assert [part for part in PARTS if f"`{part}`" not in section("dataset, other")] == []
    sentence = re.search(r"((?:`\w+`,? (?:and )?)+)may change\s", section("Fields"))
    assert sentence is not None
    assert set(re.findall(r"`(\w+)`", sentence[1])) == RUN_TIME_FIELDS


# -- the examples -----------------------------------------------------------------------------------------------------


def test_every_yaml_block_of_the_page_is_an_example_with_a_heading_of_its_own() -> None:
    assert len(examples()) == PAGE.read_text(encoding="utf-8").count("```yaml\n") == 12


@pytest.mark.parametrize("name", examples())
def test_an_example_resolves_and_sets_only_what_it_gives(name: str, tmp_path: Path) -> None:
    given = yaml.safe_load(examples()[name])
    suite = resolved(name, tmp_path)
    if "preset" in given:
        base = load_suite(given["preset"])
        changed = {f for f in Suite.model_fields if getattr(suite, f) != getattr(base, f)}
        assert changed - {"description"} == (set(given) - {"preset", "description"}) | {"name"}
        fields = ", ".join(f for f in Suite.model_fields if f in given and f != "description")
        assert suite.description == given.get("description", f"{base.description} Changed: {fields}.")
        assert suite.name == "mine"
    else:
        assert set(given) == {f for f, info in Suite.model_fields.items() if info.is_required()}


def test_a_preset_as_a_base_gives_up_the_presets_training_whole(tmp_path: Path) -> None:
    training = resolved("A preset as a base", tmp_path).training
    assert training == TrainingParams(epochs=30)


def test_the_composition_has_the_parameters_of_each_part(tmp_path: Path) -> None:
    parts = [d.params for d in resolved("A composition", tmp_path).defenses if d.name == "nopeek+noise"]
    assert [(p["nopeek"]["alpha"], p["noise"]["sigma"]) for p in parts] == [(2.0, 0.5), (2.0, 1.0)]


@pytest.mark.parametrize(
    ("name", "targets"),
    [
        ("Two cuts", {(d, c) for d in QUICK if d != "siftfunnel" for c in ("block1", "block3")}),
        ("A sweep", {(d, "block2") for d in ("none", "noise(sigma=0.5)", "noise(sigma=1)", "noise(sigma=2)")}),
        (
            "The strengths of a defense",
            {(d, "block2") for d in ("none", "noise(sigma=0.5)", "noise(sigma=1)", "noise(sigma=2)")},
        ),
        (
            "A defense on a trained network",
            {(d, "block2") for d in ("none", "noise", "noise@infer", "noise@infer+cloud")},
        ),
        (
            "Leaving cells out",
            {(d, "block2") for d in ("none", "noise(sigma=1)", "noise(sigma=2)")} | {("none", "block3")},
        ),
    ],
)
def test_an_example_plans_the_targets_that_the_page_says(
    name: str, targets: set[tuple[str, str]], tmp_path: Path, images: Path
) -> None:
    planned = on_images(resolved(name, tmp_path), images)
    found = {(t["defense"], t["cut"]) for t in planned.targets if t["skip"] is None}
    assert found == targets


def test_the_rules_leave_out_the_cells_that_the_page_says(tmp_path: Path, images: Path) -> None:
    planned = on_images(resolved("Leaving cells out", tmp_path), images)
    assert {c["defense"] for c in planned.cells if c["attack"] == "rmle"} == {"none", "noise(sigma=1)"}
    assert {c["defense"] for c in planned.cells if c["attack"] == "prior"} == {
        "none",
        "noise(sigma=1)",
        "noise(sigma=2)",
    }


def test_the_command_for_images_of_ones_own_plans_the_default_suite_on_them(images: Path) -> None:
    command = re.search(r"splitaudit run (-s .*) --data-root", section("Your own images"))
    more = re.search(r"add `-s (\S+)`", section("Your own images"))
    assert command is not None
    assert more is not None
    suite = load_suite("quick", [command[1].removeprefix("-s "), more[1]])
    assert [(d.name, d.params["image_size"]) for d in suite.dataset] == [("imagefolder", 64)]
    planned = make_plan(suite, DataContext(images, None, True))
    assert {t["defense"] for t in planned.targets if t["skip"] is None} == {
        d.name for d in load_suite("quick").defenses
    }


@pytest.mark.parametrize("divided", [True, False])
def test_the_folders_shown_are_layouts_that_are_read(divided: bool, tmp_path: Path, images: Path) -> None:
    lines = re.findall(r"^    (images/\S+) +(images/\S+)", section("Your own images"), re.M)
    shown = [p for pair in lines for p in pair if p.startswith(("images/train", "images/test")) is divided]
    assert len(shown) == (4 if divided else 2)
    some = sorted(images.rglob("*.png"))
    for i, path in enumerate(shown):
        folder = (tmp_path / path).parent
        folder.mkdir(parents=True)
        for file in some[i * 40 : i * 40 + 40]:
            shutil.copy(file, folder / file.name)
    data = make_plan(
        load_suite({"preset": "quick", "name": "x", "dataset": "imagefolder"}),
        DataContext(tmp_path / "images", None, True),
    )
    assert len(data.targets) == 6


def test_the_overrides_that_the_page_shows_change_what_they_name() -> None:
    shown = re.findall(r"`-s ([a-z_.0-9]+)=([\w.]+)`", section("Examples").split("### Two cuts")[0])
    suite = load_suite("quick", [f"{key}={value}" for key, value in shown])
    assert len(shown) == 3
    assert suite.dataset[0].name == "cifar100"
    assert suite.training == load_suite("quick").training.model_copy(update={"epochs": 20})
    assert suite.defenses[1].name == "noise"
    assert suite.defenses[1].params["sigma"] == 2.0
