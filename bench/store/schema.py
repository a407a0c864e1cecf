"""The written schema of a record: every stored field with its type and what it means.

``docs/results-format.md`` is made from :func:`describe`. Numbers are finite, but for scores of a
perfect copy (the text ``inf``); what is missing is null beside a reason.
"""

from __future__ import annotations

import inspect
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

FORMAT_VERSION = 1
"""Raised when the shape of a record changes; :mod:`.records` then needs an upgrade function from the version before."""

Kind = Literal["target", "fit", "cell", "reference"]
Outcome = Literal["done", "unavailable", "failed"]


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class Failure(_Part):
    """What went wrong."""

    type: str = Field(description="class of the exception")
    message: str = Field(description="its text")
    traceback: str = Field(description="where it was raised, as Python prints it")


class _Found(_Part):
    """What scores and measurements share: an outcome, and a reason for everything that is missing."""

    status: Outcome = Field(description="`unavailable`: cannot have a value here; `failed`: was tried in vain")
    reason: str | None = Field(None, description="why values are missing, in a sentence; null where none are")
    flags: list[str] = Field(default_factory=list, description="validity flags that travel with the numbers")
    error: Failure | None = Field(None, description="what went wrong, where status is `failed`")

    def _missing(self) -> bool:
        raise NotImplementedError

    @model_validator(mode="after")
    def _reasoned(self) -> _Found:
        if self.reason is None and (self.status != "done" or self._missing()):
            raise ValueError("values are missing and 'reason' is null: say why in a sentence")
        return self


class Score(_Found):
    """The values of one metric for every attacked image."""

    key: str = Field(description="hash of the metric's name, version and parameters")
    version: int = Field(description="version of the metric that gave the values")
    values: list[float | Literal["inf", "-inf"] | None] = Field(
        default_factory=list,
        description="one value per image, in the order of `private`; the text `inf` (or `-inf`) where that is the metric's "
        "value of a perfect copy (JSON has no infinity), null for any other that is not finite",
    )

    def _missing(self) -> bool:
        return None in self.values


class Measured(_Found):
    """What one measure found on a target."""

    key: str = Field(description="hash of the measure's name, version and parameters")
    values: dict[str, float | int | str | None] = Field(default_factory=dict, description="column to value")
    timing_values: dict[str, float | int | str | None] = Field(
        default_factory=dict, description="column to value, for columns that differ between runs of the same thing"
    )
    per_image: dict[str, list[float]] = Field(
        default_factory=dict, description="column to one value per image of `measure`, for intervals over images"
    )

    def _missing(self) -> bool:
        return None in self.values.values() or None in self.timing_values.values()


class Record(_Part):
    """What records of every kind have."""

    format_version: int = Field(description="version of this format")
    key_version: int = Field(description="version of the rule that made the key")
    kind: Kind = Field(description="what was done")
    key: str = Field(description="first 20 hex digits of the sha256 of the identity and `key_version`")
    status: Literal["done", "failed"] = Field(description="how it ended")
    artifact: bool = Field(description="whether tensors are stored beside the record")
    identity: dict[str, JsonValue] = Field(description="everything that may change a number of this record")
    error: Failure | None = Field(None, description="what went wrong; null where status is `done`")
    warnings: list[str] = Field(default_factory=list, description="what a reader of the numbers should know")
    timing: dict[str, float] = Field(default_factory=dict, description="seconds of each stage; stages do not overlap")
    provenance: dict[str, JsonValue] = Field(
        default_factory=dict, description="where, when and with which versions it was done"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Record:
        if (self.status == "failed") != (self.error is not None):
            raise ValueError("status 'failed' needs an 'error', status 'done' has none")
        if self.status == "failed" and self.artifact:
            raise ValueError("a failed record has no artifact")
        return self


class TargetRecord(Record):
    """A trained defended model and what was measured on it. Artifact: its weights."""

    training: dict[str, JsonValue] = Field(default_factory=dict, description="training curve and its summary")
    measurements: dict[str, Measured] = Field(default_factory=dict, description="name of the measure to what it found")


class FitRecord(Record):
    """A piece of work that several targets or cells share. Artifact: its tensors."""

    info: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="convergence curve, queries spent; `taken_from`: the key of the fit on another target with the same wire "
        "whose result this is, at no time of its own",
    )


class CellRecord(Record):
    """An attack on a target. Artifact: its reconstructions, uint8, (N, C, H, W), or what it read of labels, float, (N, K)."""

    scores: dict[str, Score] = Field(default_factory=dict, description="name of the metric to its values")
    attack: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="convergence curve, queries spent, whether it converged; `taken_from`: the key of the cell on another "
        "target with the same wire whose reconstructions these are, at no time of its own",
    )


class ReferenceRecord(Record):
    """What is computed once per dataset from the private images themselves, and labelled so. No artifact."""

    private: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="`labels`, `attributes`, `names` and `groups` of the private images (groups null: none), and "
        "`pixels_sha256`, the hash of their uint8 pixels (N, C, H, W)",
    )
    measure_groups: list[int] | None = Field(None, description="group of each image of `measure`; null: none")
    prior_mse: list[float] = Field(
        default_factory=list, description="error of the mean auxiliary image on each private image"
    )
    thumbnails: dict[str, list[float]] = Field(
        default_factory=dict, description="side in pixels to the error of that thumbnail of each private image"
    )
    rows: dict[str, dict[str, Score]] = Field(
        default_factory=dict, description="reference row (`mean_colour`, `thumbnail-4`, …) to metric to its values"
    )


RECORDS: dict[str, type[Record]] = {
    "target": TargetRecord,
    "fit": FitRecord,
    "cell": CellRecord,
    "reference": ReferenceRecord,
}
"""Kind to the model of its records."""

KINDS: tuple[Kind, ...] = ("target", "fit", "cell", "reference")


def describe(model: type[BaseModel]) -> list[tuple[str, str, str]]:
    """Returns (field, type, meaning) of every field of a record or a part of one, in the order of the schema."""
    types: dict[str, Any] = {}
    for cls in reversed(model.__mro__):
        types |= inspect.get_annotations(cls)
    return [(name, str(types[name]), info.description or "") for name, info in model.model_fields.items()]
