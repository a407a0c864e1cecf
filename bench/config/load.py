"""Reading suites: YAML, presets and overrides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from ..errors import ConfigError, did_you_mean
from ..params import problems_of
from .resolve import resolve
from .suite import Suite

_PRESETS = "splitaudit.config"


def presets() -> list[str]:
    """Returns the names of the suites that come with the package."""
    return sorted(
        p.name.removesuffix(".yaml") for p in (files(_PRESETS) / "presets").iterdir() if p.name.endswith(".yaml")
    )


def load_suite(
    source: str | Path | Mapping[str, Any] | Suite = "quick", overrides: Sequence[str] = (), seeds: Sequence[int] = ()
) -> Suite:
    """Returns a validated suite.

    Args:
        source: a preset's name, the path of a YAML file, a mapping, or a suite.
        overrides: ``dotted.key=value`` each, the value as YAML; list elements by number (``defenses.0.params.sigma=0.5``).
        seeds: replaces the suite's seeds, if any are given.

    Raises:
        ConfigError: with every problem at once.
    """
    raw, origin = _read(source)
    problems: list[str] = []
    for override in overrides:
        problem = _override(raw, override)
        if problem:
            problems.append(problem)
    if seeds:
        raw["seeds"] = list(seeds)
    try:
        suite = Suite.model_validate(raw)
    except ValidationError as exc:
        problems += problems_of(exc, "suite", Suite)
        raise ConfigError(problems + _independent_problems(raw), origin) from exc
    suite, more = resolve(suite)
    if problems or more:
        raise ConfigError(problems + more, origin)
    return suite


def dump_suite(suite: Suite) -> str:
    """Returns a suite as YAML, as it was resolved."""
    return yaml.safe_dump(suite.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _read(source: str | Path | Mapping[str, Any] | Suite) -> tuple[dict[str, Any], str]:
    if isinstance(source, Suite):
        return source.model_dump(mode="json"), f"suite '{source.name}'"
    if isinstance(source, Mapping):
        return dict(source), "suite"
    path = Path(source)
    if isinstance(source, str) and source in presets():
        text, origin = (files(_PRESETS) / "presets" / f"{source}.yaml").read_text(), f"preset '{source}'"
    elif path.is_file():
        text, origin = path.read_text(), str(path)
    else:
        hint = did_you_mean(str(source), presets())
        raise ConfigError([f"'{source}' is neither a file nor a preset.{hint} Presets: {', '.join(presets())}."])
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as exc:
        raise ConfigError([f"is not YAML: {exc}"], origin) from exc
    if not isinstance(raw, dict):
        raise ConfigError([f"got {type(raw).__name__}, expected keys and values (name, dataset, backbone, …)"], origin)
    raw.setdefault("name", path.stem if path.is_file() else str(source))
    return raw, origin


def _override(raw: dict[str, Any], override: str) -> str | None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        return f"-s {override}: expected key=value, for instance -s training.epochs=5"
    at: Any = raw
    steps = key.split(".")
    for i, step in enumerate(steps[:-1]):
        if isinstance(at, list) and step.isdigit() and int(step) < len(at):
            if isinstance(at[int(step)], str):
                at[int(step)] = {"name": at[int(step)]}
            at = at[int(step)]
        elif isinstance(at, dict):
            if isinstance(at.get(step), str) and step in ("dataset", "backbone", "other"):
                at[step] = {"name": at[step]}
            at = at.setdefault(step, {})
        else:
            return f"-s {override}: '{'.'.join(steps[: i + 1])}' is no place in the suite"
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return f"-s {override}: '{text}' is not YAML"
    if isinstance(at, list) and steps[-1].isdigit() and int(steps[-1]) < len(at):
        at[int(steps[-1])] = value
    elif isinstance(at, dict):
        at[steps[-1]] = value
    else:
        return f"-s {override}: '{key}' is no place in the suite"
    return None


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
