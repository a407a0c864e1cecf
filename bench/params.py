"""The base of every plugin's parameters."""

from __future__ import annotations

import typing
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from .errors import did_you_mean


class Params(BaseModel):
    """Frozen, validated parameters of a plugin.

    Every field has a default and a description with its unit. Unknown keys and non-finite numbers are errors. What is
    hashed into keys is the *validated* dump, so ``1``, ``1.0`` and ``"1e0"`` are the same value of a float field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    def dump(self) -> dict[str, Any]:
        """Returns the parameters as plain JSON values."""
        return self.model_dump(mode="json")


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


def problems_of(error: ValidationError, where: str, model: type[BaseModel] | None = None) -> list[str]:
    """Turns pydantic's errors into lines of *where: got, expected, what to do*.

    Args:
        error: what pydantic raised.
        where: the place in the config, for instance ``defense 'noise'``.
        model: the model, for suggesting close field names.
    """
    lines = []
    for e in error.errors(include_url=False):
        path = ".".join(str(p) for p in e["loc"])
        place = f"{where}: {path}" if path else where
        if e["type"] == "extra_forbidden":
            fields = list(model.model_fields) if model is not None and len(e["loc"]) == 1 else []
            known = (
                f" Known: {', '.join(sorted(fields)) or 'none'}." if model is not None and len(e["loc"]) == 1 else ""
            )
            lines.append(f"{place}: is not a known key.{did_you_mean(str(e['loc'][-1]), fields)}{known}")
        elif e["type"] == "missing":
            lines.append(f"{place}: is missing")
        else:
            lines.append(f"{place}: got {e['input']!r}. {e['msg']}")
    return lines
