"""Reading suites: YAML, presets and overrides."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError, did_you_mean
from .override import override
from .problems import problems_of
from .resolve import resolve
from .suite import Suite
from .yaml_text import parse

_PRESETS = "splitaudit.config"

_CHANGED = " Changed: "
"""Between a description and the fields that are not as it was written for."""


def presets() -> list[str]:
    """Returns the names of the suites that come with the package."""
    return sorted(
        p.name.removesuffix(".yaml") for p in (files(_PRESETS) / "presets").iterdir() if p.name.endswith(".yaml")
    )


def preset_text(name: str) -> str:
    """Returns a preset's YAML as it is, with its comments."""
    return (files(_PRESETS) / "presets" / f"{name}.yaml").read_text(encoding="utf-8")


def describe_preset(name: str) -> str:
    """Returns the sentence that a preset says of itself, without checking the preset."""
    return str(_read(name)[0].get("description", ""))


def load_suite(
    source: str | Path | Mapping[str, Any] | Suite = "quick", overrides: Sequence[str] = (), seeds: Sequence[int] = ()
) -> Suite:
    """Returns a validated suite.

    A file or mapping with ``preset: NAME`` starts from that preset and replaces the fields that it names.

    Args:
        source: a preset's name, the path of a YAML file, a mapping, or a suite.
        overrides: ``dotted.key=value`` each, the value as YAML; list elements by number (``defenses.0.params.sigma=0.5``).
        seeds: replaces the suite's seeds, if any are given.

    Raises:
        ConfigError: with every problem at once.
    """
    raw, origin, problems = _read(source)
    before = copy.deepcopy(raw)
    for text in overrides:
        problems += override(raw, text)
    if seeds:
        raw["seeds"] = list(seeds)
    if raw != before:
        _tell_of_changes(raw, before)
    try:
        suite = Suite.model_validate(raw)
    except ValidationError as exc:
        problems += problems_of(exc, "", Suite) + _independent_problems(raw)
        raise ConfigError(list(dict.fromkeys(problems)), origin) from exc
    suite, more = resolve(suite)
    if problems or more:
        raise ConfigError(list(dict.fromkeys(problems + more)), origin)
    return suite


def dump_suite(suite: Suite) -> str:
    """Returns a suite as YAML, as it was resolved."""
    return yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(source: str | Path | Mapping[str, Any] | Suite) -> tuple[dict[str, Any], str, list[str]]:
    """Returns a raw suite of the caller's own, what messages call it, and what is wrong with it already."""
    if isinstance(source, Suite):
        return source.model_dump(mode="json"), f"suite '{source.name}'", []
    if isinstance(source, Mapping):
        return _based(copy.deepcopy(dict(source)), "suite"), "suite", []
    path = Path(source)
    if isinstance(source, str) and source in presets():
        text = preset_text(source)
        name, origin = source, f"preset '{source}'"
    else:
        text, name, origin = _text(path, str(source)), re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem), str(path)
    try:
        raw, problems = parse(text)
    except ValueError as exc:
        raise ConfigError([str(exc)], origin) from exc
    if not isinstance(raw, dict):
        got = "an empty file" if raw is None else f"a {'list' if isinstance(raw, list) else 'single value'}"
        raise ConfigError([f"got {got}, expected keys and values (name, dataset, backbone, …)"], origin)
    raw.setdefault("name", name)
    return _based(raw, origin), origin, problems


def _based(raw: dict[str, Any], origin: str) -> dict[str, Any]:
    """Returns a suite that begins with ``preset: NAME`` on top of that preset; a field that is given replaces it whole."""
    base = raw.pop("preset", None)
    if base is None:
        return raw
    if base not in presets() or base == raw.get("name"):
        hint = did_you_mean(str(base), presets())
        raise ConfigError([f"preset: got '{base}'.{hint} Expected one of {', '.join(presets())}."], origin)
    before = _read(str(base))[0]
    made = before | raw
    _tell_of_changes(made, before)
    return made


def _tell_of_changes(raw: dict[str, Any], before: Mapping[str, Any]) -> None:
    """Adds to a description that was not written for a changed suite in what it is changed, in place."""
    said = raw.get("description")
    if not isinstance(said, str) or not said or said != before.get("description"):
        return
    try:
        one, other = (Suite.model_validate(r) for r in (raw, before))
    except ValidationError:
        return  # there will be no suite
    changed = {
        f for f in Suite.model_fields if f not in ("name", "description") and getattr(one, f) != getattr(other, f)
    }
    if changed:
        own, _, told = said.rpartition(_CHANGED)
        earlier = told.removesuffix(".").split(", ")
        if not own or not set(earlier) <= set(Suite.model_fields):
            own, earlier = said if said.endswith((".", "!", "?")) else f"{said}.", []
        every = changed | set(earlier)
        raw["description"] = f"{own}{_CHANGED}{', '.join(f for f in Suite.model_fields if f in every)}."


def _text(path: Path, source: str) -> str:
    if path.is_dir():
        raise ConfigError([f"'{source}' is a folder, expected a YAML file or a preset ({', '.join(presets())})"])
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        hint = did_you_mean(source, [*presets(), *(str(p) for p in path.parent.glob("*.y*ml"))])
        raise ConfigError(
            [f"'{source}' is neither a file nor a preset.{hint} Presets: {', '.join(presets())}."]
        ) from None
    except UnicodeDecodeError as exc:
        raise ConfigError([f"is not text in UTF-8 ({exc.reason} at byte {exc.start}), expected YAML"], source) from exc
    except OSError as exc:
        raise ConfigError([f"cannot be read: {exc.strerror}. Check its permissions."], source) from exc


def _independent_problems(raw: Mapping[str, Any]) -> list[str]:
    """Returns the problems of plugins' names and parameters in a suite whose shape is wrong elsewhere.

    Every problem belongs in one message, also when some lie in the suite's shape and others inside a plugin.
    """
    valid: dict[str, Any] = {}
    for field in ("dataset", "other", "backbone", "defenses", "attacks", "knowledge", "metrics", "training"):
        if field in raw:
            valid[field] = raw[field]
    fallback: dict[str, Any] = {
        "name": "x",
        "dataset": "photos",
        "backbone": {"name": "cnn4", "cut": "block2"},
        "defenses": "none",
        "attacks": "prior",
    }
    for field, value in valid.items():
        try:
            Suite.model_validate(fallback | {field: value})
        except ValidationError:
            continue  # its problems are reported already
        fallback = fallback | {field: value}
    return resolve(Suite.model_validate(fallback))[1]
