"""Short unique names of plugins with parameters, for tables and plots."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .defense import usual_when

if TYPE_CHECKING:
    from .registry import Registry

NONADAPTIVE = "@nonadaptive"
"""End of the label of an attack that leaves the defense out of account."""

SEVERAL = 2
"""Parameters that a label names even where they have their default value."""


@dataclass(frozen=True)
class Labelled:
    """What a label is made of.

    Attributes:
        name: registry name, or names joined by ``+``.
        params: complete parameters; of a composition by part.
        defaults: the same, all at their defaults.
        implied: values that follow from other parameters; of a composition by part.
    """

    name: str
    params: Mapping[str, Any]
    defaults: Mapping[str, Any] = field(default_factory=dict)
    implied: Mapping[str, Any] = field(default_factory=dict)


def plugin_labels(registry: Registry[Any], specs: Iterable[Any]) -> list[str]:
    """Returns one label per spec of a plugin (``name`` and validated ``params``), as :func:`sweep_labels`.

    A name may be composed. A defense that acts at another time than it usually does ends in ``@infer`` or
    ``@infer+cloud``, a tuned attack in ``@tune8``, one that leaves the defense out of
    account in :data:`NONADAPTIVE`.
    """
    specs = list(specs)
    named = sweep_labels([_labelled(registry, s.name, s.params) for s in specs])
    return [name + _suffix(registry, spec) for name, spec in zip(named, specs, strict=True)]


def _suffix(registry: Registry[Any], spec: Any) -> str:
    when = getattr(spec, "when", None)
    if when is not None:
        usual = usual_when([registry.get(part) for part in spec.name.split("+")])
        return "" if when == usual else f"@{when}"
    tuned = f"@tune{spec.tune}" if getattr(spec, "tune", 1) > 1 else ""
    return tuned + ("" if getattr(spec, "adaptive", True) else NONADAPTIVE)


def _labelled(registry: Registry[Any], name: str, params: Mapping[str, Any]) -> Labelled:
    models = {part: registry.get(part).Params for part in name.split("+")}
    if len(models) == 1:
        model = models[name]
        return Labelled(name, params, model().dump(), model(**params).implied())
    return Labelled(
        name,
        params,
        {part: model().dump() for part, model in models.items()},
        {part: model(**params.get(part, {})).implied() for part, model in models.items()},
    )


def sweep_labels(entries: Sequence[Labelled]) -> list[str]:
    """Returns one label per entry.

    A label is the bare name where the name occurs once; else it names the parameters in which the entries of that name
    differ: ``noise(sigma=0.5)``. Where they differ in more than two, only those that are not the default are named, so
    that an ablation reads ``siftfunnel(beta=0)``. What follows from other parameters is never named. Numbers have six
    digits, and all of theirs where labels would else be the same: entries that differ have different labels.
    """
    out = [_named_apart(entry, entries, _short) for entry in entries]
    meant: dict[str, Labelled] = {}
    alike = {s for s, e in zip(out, entries, strict=True) if meant.setdefault(s, e).params != e.params}
    exact = {i: _named_apart(entries[i], entries, str) for i, short in enumerate(out) if short in alike}
    return [exact.get(i, short) for i, short in enumerate(out)]


def _named_apart(entry: Labelled, entries: Sequence[Labelled], said: Callable[[Any], str]) -> str:
    """Returns the label of an entry among others, its values as ``said`` writes them."""
    name = entry.name
    alike = [e.params for e in entries if e.name == name]
    flat, implied = _flat(entry.params), _flat(entry.implied)
    usual = _flat(entry.defaults) | implied
    keys = [k for k in flat if any(_flat(p).get(k, ...) != flat[k] for p in alike)]
    missing = {k for p in alike for k in _flat(p)} - set(flat)
    if not keys and missing:
        text = ",".join(f"no {k}" for k in sorted(missing))
    else:
        if len(keys) > SEVERAL:
            keys = [k for k in keys if flat[k] != usual.get(k, ...)]
        text = ",".join(f"{k}={said(flat[k])}" for k in keys if implied.get(k, ...) != flat[k])
    return f"{name}({text})" if text else name


def label(name: str, params: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """Returns a name with the parameters that differ from their defaults."""
    flat, usual = _flat(params), _flat(defaults)
    text = ",".join(f"{k}={_short(v)}" for k, v in flat.items() if usual.get(k, ...) != v)
    return f"{name}({text})" if text else name


def names_of_label(label: str) -> tuple[str, ...]:
    """Returns every name by which a person may mean a row: its label, and that without parameters or what follows @."""
    bare = re.sub(r"\(.*\)", "", label)
    return tuple(dict.fromkeys((label, label.split("@")[0], bare, bare.split("@")[0])))


def labels_meant(name: str, labels: Iterable[str]) -> list[str]:
    """Returns the labels of attacks that a person may mean by a name: itself if it is one of them, else all that go by it.

    An attack that leaves the defense out of account is another attack, not another name for one that does not: either is
    meant only where the name says so.
    """
    known = list(dict.fromkeys(labels))
    if name in known:
        return [name]
    wanted, apart = name.removesuffix(NONADAPTIVE), ignores_defense(name)
    return [x for x in known if ignores_defense(x) == apart and wanted in names_of_label(x.removesuffix(NONADAPTIVE))]


def ignores_defense(label: str) -> bool:
    """Says whether a label is that of an attack that leaves the defense out of account.

    Such a row shows what an evaluation would miss. It is no attacker of any level (with queries alone nobody has clean
    features), so that it counts for no worst case, and what it lacks makes nothing incomplete.
    """
    return label.endswith(NONADAPTIVE)


def defense_of(label: str) -> str:
    """Returns the defense that a label is a setting of: ``noise@infer`` for ``noise(sigma=0.5)@infer``."""
    return re.sub(r"\(.*\)", "", label)


def params_of_label(label: str) -> dict[str, str]:
    """Returns the parameters that a label names, as they stand there: ``{"sigma": "0.5"}`` for ``noise(sigma=0.5)``.

    A comma within brackets belongs to a value.
    """
    inner = re.search(r"\((.*)\)", label)
    pieces = re.findall(r"(?:\[[^\]]*\]|\{[^}]*\}|\([^)]*\)|[^,])+", inner[1]) if inner else []
    return {key: value for key, found, value in (p.partition("=") for p in pieces) if found}


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
