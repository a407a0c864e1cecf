"""Checks of what every plugin declares: its name, its parameters and its construction."""

from __future__ import annotations

import contextlib
import inspect
import json
from typing import Any

from pydantic import ValidationError

from ..errors import PluginError
from ..params import Params
from ..plugins import ATTACKS, DEFENSES, METRICS
from ..registry import Registry
from .outcome import Check, fail, require
from .randomness import global_generators_watched
from .targets import make


def check_declaration(cls: Any) -> None:
    """A table names a plugin, its version and its source: without them nobody can say what was measured."""
    require(
        inspect.getdoc(cls) and cls.__doc__,
        f"{cls.__name__} has no docstring of its own",
        "a first line that says what it does, then the formula and every departure from its source",
        "it was left for later",
    )
    require(
        isinstance(cls.version, int) and not isinstance(cls.version, bool) and cls.version >= 1,
        f"{cls.__name__}.version is {cls.version!r}",
        "an int of at least 1, raised whenever behaviour changes (it is part of the key)",
        "a release string was put there",
    )
    require(
        isinstance(cls.source, str) and cls.source.strip(),
        f"{cls.__name__}.source is {cls.source!r}",
        "the paper and equation that it implements, or 'definition'",
        "it was left for later",
    )


def check_name(cls: Any) -> None:
    """The name in a config, in the tables and of the file is one: two names for one plugin split its results."""
    own = cls.__dict__.get("name")
    names = registered_names(cls)
    require(
        own is None or own in names,
        f"{cls.__name__} sets name = {own!r}, the registry knows it as {' and '.join(names) or 'nothing'}",
        "the registry's name, which the framework sets on every instance",
        "the class attribute is left from a copy; delete it",
    )
    require(
        len(names) <= 1,
        f"{cls.__name__} is registered as {' and '.join(names)}",
        "one name for one class",
        "it is both decorated and listed as an entry point",
    )
    package, _, stem = cls.__module__.rpartition(".")
    if package in _registry_of(cls)._packages:
        require(
            names == [stem],
            f"{cls.__module__} defines {cls.__name__}, the registry knows it as {' and '.join(names) or 'nothing'}",
            f"the name of its file, '{stem}'",
            "the file was renamed",
        )


def check_params_are_frozen(cls: Any) -> None:
    """Parameters are part of a key: what is hashed must be what is used."""
    require(
        inspect.isclass(cls.Params) and issubclass(cls.Params, Params),
        f"{cls.__name__}.Params is {cls.Params!r}",
        "a subclass of splitaudit.Params",
        "it derives from pydantic's BaseModel",
    )
    params = cls.Params(**cls.cheap())
    for field in type(params).model_fields:
        try:
            setattr(params, field, getattr(params, field))
        except ValidationError:
            continue
        fail(
            f"{cls.Params.__name__}.{field} can be assigned",
            "frozen parameters (model_config frozen=True)",
            "model_config is overridden without frozen=True",
        )


def check_params_refuse_unknown_keys(cls: Any) -> None:
    """A misspelt parameter in a config must be an error, never a run with the default."""
    try:
        cls.Params(**{**cls.cheap(), "no_such_parameter": 1})
    except ValidationError:
        return
    fail(
        f"{cls.Params.__name__} accepts the unknown key 'no_such_parameter'",
        "unknown keys are errors (model_config extra='forbid')",
        "model_config is overridden with extra='allow' or 'ignore'",
    )


def check_params_survive_json(cls: Any) -> None:
    """Parameters travel to workers and into records as JSON: the way back has to give the same ones."""
    for which, given in _parameter_sets(cls).items():
        try:
            params = cls.Params(**given)
        except ValidationError as exc:
            fail(
                f"the {which} parameters {given!r} are not valid: {exc.errors()[0]['msg']}",
                f"{cls.Params.__name__} accepts them (every field has a default)",
                "a field was renamed, or has no default",
            )
        try:
            text = json.dumps(params.dump(), allow_nan=False)
        except (TypeError, ValueError) as exc:
            fail(
                f"the {which} parameters cannot be written as JSON: {exc}",
                "finite numbers, text, booleans, lists and null",
                "model_config is overridden with allow_inf_nan=True, or a field holds an object",
            )
        back = cls.Params(**json.loads(text))
        require(
            back == params,
            f"the {which} parameters come back from JSON as {back!r} instead of {params!r}",
            "equal parameters",
            "a validator changes a value that it has already changed once",
        )


def check_params_are_described(cls: Any) -> None:
    """`splitaudit show` is what a user reads before turning a knob."""
    silent = [name for name, field in cls.Params.model_fields.items() if not (field.description or "").strip()]
    require(
        not silent,
        f"{cls.Params.__name__} has no description of {', '.join(silent)}",
        "Field(default, description='what it does, with its unit') for every parameter",
        "the field is a bare annotation",
    )


def check_construction_has_no_side_effects(cls: Any) -> None:
    """Plugins are constructed for planning, for `show` and in every worker: it must cost and change nothing."""
    likely = "__init__ builds networks; build them in wrap or prepare (defense) or in fit (attack)"
    with global_generators_watched(f"constructing {cls.__name__}", likely):
        make(cls)
        make(cls, {})


PLUGIN_CHECKS: tuple[Check, ...] = (
    check_declaration,
    check_name,
    check_params_are_frozen,
    check_params_refuse_unknown_keys,
    check_params_survive_json,
    check_params_are_described,
    check_construction_has_no_side_effects,
)


def registered_names(cls: Any) -> list[str]:
    """Returns the names under which the registries know a class; what comes from elsewhere is not imported for it."""
    registry = _registry_of(cls)
    file = (getattr(inspect.getmodule(cls), "__file__", None) or "").rpartition("/")[2]
    marks = [f"({cls.__module__})", f"({cls.__module__}:", *([f"file {file}", f"{file}:"] if file else [])]
    names = []
    for name in registry.names():
        entry = registry.entry(name)
        if entry.cls is None and entry.error is None and any(mark in entry.origin for mark in marks):
            with contextlib.suppress(PluginError):  # a broken neighbour in the same module is not this class's fault
                registry.get(name)
        if entry.cls is cls:
            names.append(name)
    return names


def _registry_of(cls: Any) -> Registry[Any]:
    for registry in (DEFENSES, ATTACKS, METRICS):
        if issubclass(cls, registry._base()):
            return registry
    raise TypeError(f"{cls!r}: expected a Defense, an Attack, a Metric or a Measure")


def _parameter_sets(cls: Any) -> dict[str, dict[str, Any]]:
    sets: dict[str, dict[str, Any]] = {"default": {}, "cheap": cls.cheap()}
    neutral = getattr(cls, "neutral", lambda: None)()
    if neutral is not None:
        sets["neutral"] = neutral
    return sets
