"""Complete parameters of plugins: checked, with their defaults, one set per combination of listed values."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import PluginError
from ..params import list_valued
from ..registry import Registry
from .problems import problems_of, told


def complete_params(
    registry: Registry[Any], name: str, params: dict[str, Any], problems: list[str]
) -> dict[str, Any] | None:
    """Returns the validated, complete parameters of a plugin, or None after adding to the problems."""
    if name not in registry:
        problems.append(registry.unknown(name) + _way_of_writing(registry, name))
        return None
    try:
        cls = registry.get(name)
    except PluginError as exc:
        problems.append(str(exc))
        return None
    try:
        return cls.Params(**params).dump()
    except ValidationError as exc:
        problems += problems_of(exc, f"{registry.kind} '{name}'", cls.Params)
        return None
    except TypeError as exc:
        problems.append(f"{registry.kind} '{name}': params: {exc}")
        return None


def crossed_params(
    registry: Registry[Any],
    name: str,
    params: dict[str, Any],
    problems: list[str],
    cross: bool = True,
    sweep: Mapping[str, Any] | None = None,
) -> list[dict[str, Any]]:
    """Returns one complete set of parameters per combination of listed values.

    Args:
        registry: where the plugin is found.
        name: its name.
        params: as the suite gives them.
        problems: takes what is wrong.
        cross: whether a list stands for its values; without it every value is the parameter's own.
        sweep: parameters that are listed apart, each with its list of values.
    """
    swept: dict[str, list[Any]] = {}
    for key, value in (sweep or {}).items():
        place = f"{registry.kind} '{name}': sweep: {key}"
        if not isinstance(value, list) or not value:
            problems.append(f"{place}: got {told(value)}, expected a list of values. Write {key}: [0.5, 1, 2], say.")
            return []
        if key in params:
            problems.append(f"{place}: is given in params too. Leave it out there.")
            return []
        if any(value.count(v) > 1 for v in value):
            problems.append(f"{place}: {told(value)} has a value twice. Keep one of the two.")
            return []
        swept[key] = value
    if cross and name in registry:
        try:
            model = registry.get(name).Params
        except PluginError:
            model = None
        for key, value in params.items():
            if isinstance(value, list) and model is not None and not list_valued(model, key):
                if not value:
                    problems.append(f"{registry.kind} '{name}': {key}: got an empty list, expected at least one value")
                    return []
                swept[key] = value
    out = []
    for values in itertools.product(*swept.values()):
        complete = complete_params(registry, name, {**params, **dict(zip(swept, values, strict=True))}, problems)
        if complete is not None:
            out.append(complete)
    return out


def _way_of_writing(registry: Registry[Any], name: str) -> str:
    """Returns how it is written, where a name that is not known looks like a list or like a name with parameters."""
    parts = [p.strip() for p in name.split(",")]
    if len(parts) > 1 and all(p in registry for p in parts):
        return f" A list is written in brackets: [{', '.join(parts)}]."
    first = re.match(r"([^\s(:=]+)[\s(:=]", name)
    if first and first[1] in registry:
        return f" Parameters are written apart from the name: {{name: {first[1]}, params: {{…}}}}."
    return ""
