"""Settings of one defense that differ in a single number: what a sweep is in tables and figures."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..labels import defense_of, params_of_label


@dataclass(frozen=True)
class Sweep:
    """Settings of a defense, in the order of the number in which they differ.

    Attributes:
        defense: its label without parameters.
        parameter: the number's name.
        fixed: what else their labels name, the same in all: ``relative=True``; may be empty.
        settings: label to the number as the label has it, from the least on.
    """

    defense: str
    parameter: str
    fixed: str
    settings: dict[str, str]

    @property
    def title(self) -> str:
        """The sweep in a line: ``noise: sigma 0.25, 0.5, 1``."""
        fixed = f" ({self.fixed})" if self.fixed else ""
        return f"{self.defense}{fixed}: {self.parameter} {', '.join(self.settings.values())}"


def sweeps(labels: Sequence[str]) -> list[Sweep]:
    """Returns the sweeps among labels of defenses, in the order of their first settings.

    A setting belongs to at most one: in a grid of two numbers that of the number with the most values. Settings that
    differ in something else, as in an ablation, are no sweep.
    """
    families: dict[str, list[str]] = {}
    for label in dict.fromkeys(labels):
        families.setdefault(defense_of(label), []).append(label)
    return [sweep for name, some in families.items() for sweep in _of_family(name, some)]


def _of_family(name: str, labels: Sequence[str]) -> list[Sweep]:
    named = {label: params_of_label(label) for label in labels}
    counts: dict[str, int] = {}
    for key in dict.fromkeys(k for params in named.values() for k in params):
        counts[key] = len({p[key] for p in named.values() if key in p and number(p[key]) is not None})
    out, taken = [], set[str]()
    for key in sorted(counts, key=lambda k: -counts[k]):
        alike: dict[str, dict[str, str]] = {}
        for label, params in named.items():
            if label not in taken and number(params.get(key, "")) is not None:
                fixed = ", ".join(f"{k}={v}" for k, v in params.items() if k != key)
                alike.setdefault(fixed, {})[label] = params[key]
        for fixed, found in alike.items():
            if len(set(found.values())) > 1:
                taken |= found.keys()
                ordered = dict(sorted(found.items(), key=lambda item: number(item[1]) or 0.0))
                out.append(Sweep(name, key, fixed, ordered))
    return sorted(out, key=lambda s: min(labels.index(label) for label in s.settings))


def number(text: str) -> float | None:
    """Returns a number that a label names, or None where the text is none."""
    return float(text) if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", text) else None


def setting_words(setting: str) -> str:
    """Returns a setting's parameters in words, without the defense: ``sigma 0.5``; empty for a label without any."""
    return ", ".join(f"{k} {v}" for k, v in params_of_label(setting).items())


def between_words(low: str, high: str) -> str:
    """Returns what lies between two settings: ``sigma 0.5 to 1``, and what both have in common after it."""
    ours, theirs = params_of_label(low), params_of_label(high)
    differ = [k for k in ours if ours[k] != theirs.get(k)]
    if ours.keys() != theirs.keys() or len(differ) != 1:
        return f"{low} to {high}"
    (key,) = differ
    ends = sorted((ours[key], theirs[key]), key=lambda v: number(v) or 0.0)
    return ", ".join([f"{key} {' to '.join(ends)}", *(f"{k} {v}" for k, v in ours.items() if k != key)])
