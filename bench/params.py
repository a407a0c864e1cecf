"""The base of every plugin's parameters."""

from __future__ import annotations

import typing
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError


class Params(BaseModel):
    """Frozen, validated parameters of a plugin.

    Every field has a default and a description with its unit. Unknown keys and non-finite numbers are errors. What is
    hashed into keys is the *validated* dump, so ``1``, ``1.0`` and ``"1e0"`` are the same value of a float field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        annotation = cls.model_fields[info.field_name or ""].annotation
        if _mentions(annotation, bool, Any) or not _mentions(annotation, int, float):
            return value
        return no_switch(value, "float_type" if _mentions(annotation, float) else "int_type")

    def dump(self) -> dict[str, Any]:
        """Returns the parameters as plain JSON values."""
        return self.model_dump(mode="json")

    def implied(self) -> dict[str, Any]:
        """Returns the values that some fields have unless they are given, as they follow from others here.

        A label names such a field only where it has another value.
        """
        return {}


def list_valued(model: type[BaseModel], field: str) -> bool:
    """Says whether a field is itself a list or tuple (then a list in a config is its value, not a sweep)."""
    info = model.model_fields.get(field)
    if info is None:
        return False

    def is_list(annotation: Any) -> bool:
        origin = typing.get_origin(annotation)
        if origin in (list, tuple) or annotation in (list, tuple):
            return True
        return any(is_list(a) for a in typing.get_args(annotation)) if origin is not None else False

    return is_list(info.annotation)


def no_switch(value: Any, kind: Literal["int_type", "float_type"] = "int_type") -> Any:
    """Refuses true and false where a number is expected: an unquoted ``yes`` in YAML would silently be a 1.

    Raises:
        PydanticKnownError: inside a validation, which reports it.
    """
    if isinstance(value, bool):
        raise PydanticKnownError(kind)
    return value


def _mentions(annotation: Any, *types: Any) -> bool:
    """Says whether an annotation is one of the types or has one among its arguments."""
    if any(annotation is t for t in types):
        return True
    return any(_mentions(a, *types) for a in typing.get_args(annotation))
