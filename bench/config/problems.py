"""What is wrong with a suite, in words: *where: got, expected, what to do*."""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ..errors import did_you_mean

_EXPECTED = {
    "bool": "true or false",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
    "tuple": "a list",
    "string_pattern_mismatch": "text of the form {pattern}",
    "string": "text",
    "dict": "keys and values: {{key: value}}",
    "model": "keys and values: {{key: value}}",
    "mapping": "keys and values: {{key: value}}",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
    "less_than": "less than {lt:g}",
    "literal_error": "{expected}",
    "finite_number": "a finite number",
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
}
"""Start of pydantic's error type to what was expected."""

_BRANCH = re.compile(
    r"\[key\]|(int|float|bool|str|none)|(tuple|list|dict|literal|function-.*|constrained-.*)\[.*", re.DOTALL
)
"""What pydantic adds to a place to say which branch of a union it tried; no place in the config."""


def problems_of(error: ValidationError, where: str, model: type[BaseModel]) -> list[str]:
    """Turns pydantic's errors into one line each.

    Args:
        error: what pydantic raised.
        where: the place in the config, for instance ``defense 'noise'``; empty for the suite itself.
        model: the model that was validated, for close names and descriptions.
    """
    return list(dict.fromkeys(_problem(e, where, model) for e in error.errors(include_url=False)))


def told(value: Any) -> str:
    """Returns a value as a message shows it: short, in YAML's words."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple | dict) and not value:
        return "no keys" if isinstance(value, dict) else "an empty list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


COLON = "YAML wants a space after a colon: {name: noise}."


def colon_without_space(value: Any) -> bool:
    """Says whether a value looks like keys and values of which YAML has read a key and its value as one word."""
    return isinstance(value, Mapping) and any(":" in str(k) and v is None for k, v in value.items())


def _problem(e: Any, where: str, model: type[BaseModel]) -> str:
    loc = tuple(p for p in e["loc"] if not _BRANCH.fullmatch(str(p)) or isinstance(p, int))
    path = ".".join(str(p) for p in loc)
    place = ": ".join(p for p in (where, path) if p) or "suite"
    kind, given = e["type"], e["input"]
    if kind == "extra_forbidden":
        return f"{place}: is not a known key.{_known(model, loc, given)}"
    if kind == "missing":
        about = _field_of(model, loc)
        return f"{place}: is missing. Add it{f' ({about})' if about else ''}."
    if kind in ("value_error", "assertion_error"):
        return f"{place}: {e['msg'].removeprefix('Value error, ').removeprefix('Assertion failed, ')}"
    expected = next((text for start, text in _EXPECTED.items() if kind.startswith(start)), None)
    if expected is None:
        return f"{place}: got {told(given)}. {e['msg']}"
    expected = expected.format_map(e.get("ctx", {}))
    about = _field_of(model, loc) if kind == "string_pattern_mismatch" else ""
    expected += f" ({about})" if about else ""
    return f"{place}: got {told(given)}, expected {expected}.{_hint(kind, given, e.get('ctx', {}))}"


def _hint(kind: str, given: Any, context: Mapping[str, Any]) -> str:
    if isinstance(given, bool) and not kind.startswith("bool"):
        return " An unquoted yes, no, on or off is true or false in YAML."
    if kind == "literal_error" and isinstance(given, str):
        known = [w.strip("' ") for w in str(context["expected"]).replace(" or ", ", ").split(",")]
        return did_you_mean(given, known)
    if isinstance(given, str) and "," in given and kind.startswith(("int", "float")):
        return " A list is written in brackets: [1, 2]."
    if kind.startswith("string") and isinstance(given, int | float):
        return " Put it in quotes."
    if colon_without_space(given):
        return f" {COLON}"
    return ""


def _known(model: type[BaseModel], loc: tuple[Any, ...], given: Any) -> str:
    owner = _model_at(model, loc[:-1])
    if owner is None:
        return ""
    key, fields = str(loc[-1]), list(owner.model_fields)
    fields += ["preset"] if owner.__name__ == "Suite" else []  # a suite is written with it, and read without
    text = did_you_mean(key, fields)
    within = [f for f in owner.model_fields if key in getattr(_model_at(owner, (f,)), "model_fields", {})]
    if len(within) == 1 and owner.__name__ == "Suite":
        text = f" Did you mean '{within[0]}.{key}'?"
    if not text and "params" in fields:
        text = f" A parameter of the plugin belongs into params: {{{key}: {given}}}."
    return f"{text} Known: {', '.join(sorted(fields)) or 'none'}."


def _field_of(model: type[BaseModel], loc: tuple[Any, ...]) -> str:
    owner = _model_at(model, loc[:-1])
    field = owner.model_fields.get(str(loc[-1])) if owner is not None else None
    return (field.description or "") if field is not None else ""


def _model_at(model: type[BaseModel], loc: tuple[Any, ...]) -> type[BaseModel] | None:
    """Returns the model at a place inside another one, or None."""
    at: type[BaseModel] | None = model
    for step in loc:
        if isinstance(step, int) or at is None:
            continue  # an element of a list has the model that the list's field names
        field = at.model_fields.get(str(step))
        at = _inner_model(field.annotation) if field is not None else None
    return at


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in typing.get_args(annotation) if (m := _inner_model(a)) is not None), None)
