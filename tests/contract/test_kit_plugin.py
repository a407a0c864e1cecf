"""Each check of what every plugin declares finds the toy that breaks it, and says how."""

from __future__ import annotations

from typing import Any

import pytest
from kit_toys import ALL, Broken, ToyAttack, ToyDefense, ToyMeasure, ToyMetric, collector
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import nn

from splitaudit import Params, register_attack
from splitaudit.plugins import ATTACKS
from splitaudit.testing.kit import outcome_of
from splitaudit.testing.plugin import check_name

TOYS: list[Broken] = []
breaks = collector(TOYS)


@breaks("check_declaration", "Silent has no docstring of its own", "the formula")
class Silent(ToyDefense):
    pass


@breaks("check_declaration", "Released.version is '1.0'", "an int of at least 1")
class Released(ToyAttack):
    """Takes its version for that of a distribution."""

    version: Any = "1.0"


@breaks("check_declaration", "Sourceless.source is ''", "the paper and equation")
class Sourceless(ToyMetric):
    """Comes from nowhere."""

    source = ""


@breaks("check_name", "sets name = 'noise', the registry knows it as nothing", "delete it")
class Impostor(ToyDefense):
    """Carries the name of another."""

    name = "noise"


class Thawed(Params):
    """Parameters that can be assigned."""

    model_config = ConfigDict(frozen=False)
    weight: float = Field(1.0, description="weight")


@breaks("check_params_are_frozen", "Thawed.weight can be assigned", "frozen=True")
class HasThawedParams(ToyAttack):
    """Can be changed after it has been hashed."""

    Params = Thawed


class Foreign(BaseModel):
    """Parameters that keep every rule but one: they are not the framework's."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    weight: float = Field(1.0, description="weight")

    def dump(self) -> dict[str, Any]:
        return self.model_dump(mode="json")


@breaks("check_params_are_frozen", "Foreign", "a subclass of splitaudit.Params", "BaseModel")
class HasForeignParams(ToyMetric):
    """Has parameters of its own kind."""

    Params: Any = Foreign


class Lax(Params):
    """Parameters that swallow what they do not know."""

    model_config = ConfigDict(extra="ignore")


@breaks("check_params_refuse_unknown_keys", "Lax accepts the unknown key 'no_such_parameter'", "extra='forbid'")
class HasLaxParams(ToyMeasure):
    """Lets a misspelt parameter pass."""

    Params = Lax


class Doubling(Params):
    """Parameters that grow on the way."""

    weight: float = Field(1.0, description="weight")

    @field_validator("weight")
    @classmethod
    def doubled(cls, value: float) -> float:
        return 2 * value


@breaks(
    "check_params_survive_json", "the default parameters come back from JSON as Doubling(weight=4.0)", "a validator"
)
class HasDoublingParams(ToyMetric):
    """Means another thing in a worker than in the plan."""

    Params = Doubling


class Boundless(Params):
    """Parameters without an end."""

    model_config = ConfigDict(allow_inf_nan=True)
    weight: float = Field(float("inf"), description="weight")


@breaks("check_params_survive_json", "cannot be written as JSON", "allow_inf_nan=True")
class HasBoundlessParams(ToyAttack):
    """Has a default that no record can hold."""

    Params = Boundless


class Renamed(Params):
    """Parameters of RenamedAField."""

    strength: float = Field(1.0, description="strength")


@breaks(
    "check_params_survive_json", "the neutral parameters {'weight': 0.0} are not valid", "a field was renamed", also=ALL
)
class RenamedAField(ToyDefense):
    """Still has the old name in its neutral parameters."""

    Params = Renamed

    @classmethod
    def neutral(cls) -> dict[str, Any]:
        return {"weight": 0.0}


class Bare(Params):
    """Parameters that do not say what they are."""

    weight: float = 1.0
    depth: int = Field(2, description="depth")


@breaks("check_params_are_described", "Bare has no description of weight", "with its unit")
class HasBareParams(ToyMeasure):
    """Leaves the reader to guess."""

    Params = Bare


@breaks(
    "check_construction_has_no_side_effects", "constructing BuildsAtOnce changed the global random state", "prepare"
)
class BuildsAtOnce(ToyDefense):
    """Builds a network before anybody wants it."""

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self.early = nn.Linear(3, 3)


@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_plugin_with_a_broken_declaration_is_found_with_words_that_help(toy: Broken) -> None:
    toy.is_found()


@pytest.mark.full
@pytest.mark.parametrize("toy", TOYS, ids=str)
def test_a_plugin_with_a_broken_declaration_fails_no_other_check(toy: Broken) -> None:
    toy.fails_nothing_else()


class Twofold(ToyAttack):
    """Is registered under two names."""


class Moved(ToyDefense):
    """Says that it lives in a built-in file of another name."""

    __module__ = "splitaudit.defenses.no_such_file"


@pytest.fixture
def kept_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ATTACKS, "_entries", dict(ATTACKS._entries))


@pytest.mark.usefixtures("kept_registry")
def test_a_class_with_two_names_is_found() -> None:
    for name in ("toys/one", "toys/two"):
        register_attack(name)(Twofold)
    outcome = outcome_of(check_name, Twofold)
    assert not outcome.passed
    assert "Twofold is registered as toys/one and toys/two; required: one name for one class" in outcome.message


@pytest.mark.usefixtures("kept_registry")
def test_the_registrys_own_name_may_stand_on_the_class() -> None:
    named = type("Named", (ToyAttack,), {"name": "toys/named", "__module__": __name__})
    assert "the registry knows it as nothing" in outcome_of(check_name, named).message
    register_attack("toys/named")(named)
    assert outcome_of(check_name, named).passed


def test_a_built_in_whose_file_has_another_name_is_found() -> None:
    outcome = outcome_of(check_name, Moved)
    assert not outcome.passed
    assert "the name of its file, 'no_such_file'" in outcome.message


@pytest.mark.usefixtures("kept_registry")
def test_a_broken_neighbour_is_not_held_against_a_class() -> None:
    from splitaudit.registry import Entry

    def fails() -> Any:
        raise ImportError("broken neighbour")

    ATTACKS.add(Entry("toys/broken", f"a distribution ({__name__}:Neighbour)", fails))
    assert outcome_of(check_name, Twofold).passed
    assert "broken neighbour" in str(ATTACKS.entry("toys/broken").error)
