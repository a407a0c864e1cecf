"""The shape of a suite: lists that are crossed into a matrix, and what is left out of it."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ..data.base import PartName
from ..defense import When
from ..params import no_switch
from ..training import TrainingParams
from .claims import Claim
from .problems import COLON, colon_without_space, told


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | dict | int) else value


def _as_spec(value: Any) -> Any:
    """Returns what stands for a plugin as a mapping: a bare name is the plugin with its defaults.

    Raises:
        ValueError: for anything else; the message says how it is written.
    """
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, BaseModel) or (isinstance(value, dict) and "name" in value):
        return value
    if isinstance(value, dict) and len(value) == 1:
        name, params = next(iter(value.items()))
        if isinstance(name, str) and isinstance(params, dict | None):
            inner = ", ".join(f"{k}: {v}" for k, v in (params or {}).items())
            written = f"{{name: {name}, params: {{{inner}}}}}" if inner else name
            raise ValueError(f"got {{{name}: …}}, expected a name or {{name: …, params: {{…}}}}. Write {written}.")
    words = ""
    if isinstance(value, bool):
        words = " An unquoted no or off is false in YAML; the undefended baseline is called none."
    elif colon_without_space(value):
        words = f" {COLON}"
    raise ValueError(f"got {told(value)}, expected a name or {{name: …, params: {{…}}}}.{words}")


def _switches(value: Any) -> Any:
    """Refuses what is no switch, nor a list of some, in one line.

    Raises:
        ValueError: with what is expected.
    """
    if not isinstance(value, bool) and not (
        isinstance(value, list) and value and all(isinstance(v, bool) for v in value)
    ):
        raise ValueError(f"got {told(value)}, expected true, false or a list of them")
    return value


def _tidy(name: str) -> str:
    return "+".join(part.strip() for part in name.split("+"))


def _file_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"got {name!r}, expected letters, digits and . _ - without spaces: it names the results folder. "
            "Add name: … to the suite."
        )
    return name


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DatasetSpec(_Model):
    """A dataset and how much of it is used."""

    name: str = Field(description="registry name")
    params: dict[str, Any] = Field(default_factory=dict, description="the dataset's parameters")
    sizes: dict[PartName, Annotated[int, BeforeValidator(no_switch), Field(ge=1)]] = Field(
        default_factory=dict, description="images per part; parts not named have the dataset's own size"
    )


class BackboneSpec(_Model):
    """A backbone and where to cut it; a list of cuts, or of values of a parameter, is crossed."""

    name: str = Field(description="registry name")
    cut: Annotated[list[str], BeforeValidator(_as_list), Field(min_length=1)] = Field(
        description="the block after which the model is split, or several; splitaudit show BACKBONE lists them"
    )
    params: dict[str, Any] = Field(default_factory=dict, description="the backbone's parameters")


class DefenseSpec(_Model):
    """A defense, or several in order (``nopeek+noise``); a list of values of a parameter is crossed."""

    name: Annotated[str, AfterValidator(_tidy)] = Field(description="registry name, or names joined by +")
    params: dict[str, Any] = Field(
        default_factory=dict, description="parameters; for a composition: part name to its parameters"
    )
    sweep: dict[str, Any] = Field(
        default_factory=dict,
        description="lists of values of parameters, crossed: the strengths to compare the defense at",
    )
    when: When | None = Field(
        default=None,
        description="infer: act on the trained undefended network; infer+cloud: then train the cloud on what is sent; null: "
        "as the defense usually does (splitaudit show DEFENSE)",
    )


class AttackSpec(_Model):
    """An attack; a list of values of a parameter is crossed."""

    name: str = Field(description="registry name")
    params: dict[str, Any] = Field(default_factory=dict, description="the attack's parameters")
    adaptive: Annotated[bool | list[bool], BeforeValidator(_switches)] = Field(
        default=True,
        description="false: as if the defense did nothing on the wire, to show what that hides; a list is crossed",
    )
    tune: Annotated[int, BeforeValidator(no_switch)] = Field(
        default=1,
        ge=1,
        description="settings that are tried on aux_val, the given one among them; the best one attacks",
    )


class MetricSpec(_Model):
    """A metric or measure."""

    name: str = Field(description="registry name")
    params: dict[str, Any] = Field(default_factory=dict, description="its parameters")


class Exclusion(_Model):
    """What is left out of the matrix: cells that match every field given."""

    dataset: str | None = None
    backbone: str | None = None
    cut: str | None = None
    defense: str | None = Field(None, description="registry name or label")
    attack: str | None = Field(None, description="registry name or label")
    knowledge: str | None = None


Listed = BeforeValidator(_as_list)
Named = BeforeValidator(_as_spec)
Seed = Annotated[int, BeforeValidator(no_switch), Field(ge=0)]


class Suite(_Model):
    """Everything that a run is to do. Nothing in it says where or how fast: that is for the command line."""

    name: Annotated[str, AfterValidator(_file_name)] = Field(description="name of the results folder")
    description: str = Field("", description="a sentence for the report")
    dataset: Annotated[list[Annotated[DatasetSpec, Named]], Listed, Field(min_length=1)] = Field(description="datasets")
    other: Annotated[DatasetSpec | None, BeforeValidator(lambda v: None if v is None else _as_spec(v))] = Field(
        None, description="where the auxiliary images of the levels '-other' come from"
    )
    backbone: Annotated[list[Annotated[BackboneSpec, Named]], Listed, Field(min_length=1)] = Field(
        description="backbones with their cuts"
    )
    defenses: Annotated[list[Annotated[DefenseSpec, Named]], Listed, Field(min_length=1)] = Field(
        description="defenses"
    )
    attacks: Annotated[list[Annotated[AttackSpec, Named]], Listed, Field(min_length=1)] = Field(description="attacks")
    knowledge: Annotated[list[str], Listed, Field(min_length=1)] = Field(
        ["white-box", "query"], description="levels of adversary knowledge, by name"
    )
    metrics: Annotated[list[Annotated[MetricSpec, Named]], Listed, Field(min_length=1)] = Field(
        default_factory=lambda: [MetricSpec(name=n) for n in DEFAULT_METRICS], description="metrics and measures"
    )
    seeds: Annotated[list[Seed], Listed, Field(min_length=1)] = Field([0], description="one target per seed")
    attack_seeds: Annotated[list[Seed], Listed, Field(min_length=1)] = Field(
        [0], description="one cell per attack seed"
    )
    training: TrainingParams = Field(default_factory=TrainingParams, description="how targets are trained")
    threads: Annotated[int, BeforeValidator(no_switch)] = Field(
        1, ge=1, description="torch threads per worker; changes low-order bits, so it is in the key"
    )
    exclude: Annotated[list[Exclusion], Listed] = Field(
        default_factory=list, description="what is left out of the matrix"
    )
    claims: list[Claim] = Field(default_factory=list, description="statements of papers to test on the results")
    declared_claims: bool = Field(
        False, description="also test what each defense's source says of it against none (splitaudit show DEFENSE)"
    )


DEFAULT_METRICS = (
    "mse",
    "psnr",
    "ssim",
    "lpips",
    "retrieval",
    "accuracy",
    "mutual_information",
    "entropy",
    "effective_information_volume",
    "fisher_information",
    "reconstruction_floor",
    "cost",
    "latency",
)

LABEL_METRIC = "label_accuracy"
"""Added to suites with attacks that read labels and no metric that judges them."""

IDENTITY_FIELDS = frozenset(
    {"dataset", "other", "backbone", "defenses", "attacks", "knowledge", "seeds", "attack_seeds", "training", "threads"}
)
"""Fields that reach keys."""

RUN_TIME_FIELDS = frozenset({"name", "description", "metrics", "exclude", "claims", "declared_claims"})
"""Fields that do not: a test fails until a new field is put into one of the two."""
