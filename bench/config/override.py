"""Overrides: ``dotted.key=value`` as ``-s`` on the command line gives them."""

from __future__ import annotations

from typing import Any

from .problems import told
from .yaml_text import parse

_SHORT = ("dataset", "other", "backbone", "defenses", "attacks", "metrics")
"""Fields whose entries may be written as a bare name."""


def override(raw: dict[str, Any], text: str) -> list[str]:
    """Puts ``key=value`` into a raw suite in place and returns what is wrong with it.

    The value is YAML. An element of a list is named by its number: ``defenses.1.params.sigma=0.5``. A bare name on the
    way becomes a mapping, and a list of one entry need not be numbered. ``dataset=NAME`` changes the dataset alone: the
    sizes of the parts stay those of the suite (``sizes`` is the one thing of a dataset that another one has too).
    """
    key, equals, value_text = text.partition("=")
    key = key.strip()
    steps = key.split(".")
    if not equals or not all(steps):
        return [f"-s {text}: expected key=value, for instance -s training.epochs=5"]
    try:
        value, problems = parse(value_text)
    except ValueError as exc:
        return [f"-s {text}: {exc}"]
    problems = [f"-s {text}: {p}" for p in problems]
    at: Any = raw
    for i, step in enumerate(steps[:-1]):
        inner = _entered(at, step, steps[i + 1])
        if inner is None:
            return [*problems, f"-s {text}: {_nowhere(at, steps, i)}"]
        at = inner
    if isinstance(at, dict):
        at[steps[-1]] = _with_sizes(value, at.get("dataset")) if steps == ["dataset"] else value
    elif isinstance(at, list) and _number(steps[-1], at):
        at[int(steps[-1])] = value
    else:
        problems.append(f"-s {text}: {_nowhere(at, steps, len(steps) - 1)}")
    return problems


def _entered(at: Any, step: str, following: str) -> Any:
    """Returns the mapping or list at a step, made where it is missing; None where there can be none."""
    if isinstance(at, list):
        if not _number(step, at):
            return None
        at[int(step)] = inner = _spelled_out(at[int(step)])
    elif isinstance(at, dict):
        inner = at.get(step)
        if inner is None:
            inner = {}
        elif step in _SHORT:
            inner = _spelled_out(inner)
        at[step] = inner
    else:
        return None
    if isinstance(at, dict) and step in _SHORT and isinstance(inner, dict) and following == "0":
        at[step] = inner = [inner]
    elif isinstance(inner, list) and len(inner) == 1 and not following.isdigit():
        inner[0] = inner = _spelled_out(inner[0])
    return inner if isinstance(inner, dict | list) else None


def _with_sizes(value: Any, before: Any) -> Any:
    """Returns the dataset that is named alone with the sizes of the one that was there."""
    if isinstance(before, list) and len(before) == 1:
        before = before[0]
    sizes = before.get("sizes") if isinstance(before, dict) else None
    return {"name": value, "sizes": sizes} if isinstance(value, str) and sizes else value


def _spelled_out(entry: Any) -> Any:
    return {"name": entry} if isinstance(entry, str) else entry


def _number(step: str, entries: list[Any]) -> bool:
    return step.isdigit() and int(step) < len(entries)


def _nowhere(at: Any, steps: list[str], i: int) -> str:
    place, before = ".".join(steps[: i + 1]), ".".join(steps[:i])
    if isinstance(at, list):
        entries = [e.get("name", e) if isinstance(e, dict) else e for e in at]
        numbered = ", ".join(f"{n} {e}" for n, e in enumerate(entries))
        return f"'{place}' is no place in the suite: {before} is a list, name an entry by its number ({numbered})"
    return f"'{place}' is no place in the suite: {steps[i]} is {told(at[steps[i]])}, not keys and values"
