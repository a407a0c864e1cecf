"""Short unique names of plugins with parameters, for tables and plots."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

SEVERAL = 2
"""Parameters that a label names even where they have their default value."""


def sweep_labels(specs: Sequence[tuple[str, Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    """Returns one label per (name, parameters, default parameters).

    A label is the bare name where the name occurs once; else it names the parameters in which the entries of that name
    differ: ``noise(sigma=0.5)``. Where they differ in more than two, only those that are not the default are named, so
    that an ablation reads ``siftfunnel(beta=0)``; entries that differ still have different labels.
    """
    out = []
    for name, params, defaults in specs:
        alike = [p for n, p, _ in specs if n == name]
        flat, usual = _flat(params), _flat(defaults)
        keys = [k for k in flat if any(_flat(p).get(k, ...) != flat[k] for p in alike)]
        missing = {k for p in alike for k in _flat(p)} - set(flat)
        if not keys and missing:
            text = ",".join(f"no {k}" for k in sorted(missing))
        else:
            if len(keys) > SEVERAL:
                keys = [k for k in keys if flat[k] != usual.get(k, ...)]
            text = ",".join(f"{k}={_short(flat[k])}" for k in keys)
        out.append(f"{name}({text})" if text else name)
    return out


def label(name: str, params: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Returns a name with the parameters that differ from their defaults."""
    flat, usual = _flat(params), _flat(defaults)
    text = ",".join(f"{k}={_short(v)}" for k, v in flat.items() if usual.get(k, ...) != v)
    return f"{name}({text})" if text else name


def names_of_label(label: str) -> tuple[str, ...]:
    """Returns every name by which a person may mean a row: its label, and that without parameters or ``@infer``."""
    bare = re.sub(r"\(.*\)", "", label)
    return tuple(dict.fromkeys((label, label.removesuffix("@infer"), bare, bare.removesuffix("@infer"))))


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{key}.")
        else:
            out[f"{prefix}{key}"] = value
    return out


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
