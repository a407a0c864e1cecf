"""Defenses of a suite: compositions, sweeps over their strength, and when they act."""

from __future__ import annotations

import itertools
from typing import Any

from ..composing import at_odds
from ..defense import Defense, usual_when
from ..errors import did_you_mean
from ..plugins import DEFENSES
from .complete import crossed_params
from .problems import told
from .suite import DefenseSpec


def complete_defenses(spec: DefenseSpec, problems: list[str]) -> list[DefenseSpec]:
    """Returns a defense once per combination of listed values, with complete parameters, and adds to the problems.

    Problems are mistakes of writing. A composition that can be written and cannot be (:func:`~splitaudit.composing.at_odds`)
    is none of them: the plan skips its rows with the reason.
    """
    names = spec.name.split("+")
    if len(names) == 1:
        found = crossed_params(DEFENSES, spec.name, spec.params, problems, sweep=spec.sweep)
        return [_complete(spec, p, problems) for p in found]
    if len(set(names)) < len(names):
        problems.append(f"defense '{spec.name}': a part is listed twice")
        return []
    if "none" in names:
        problems.append(f"defense '{spec.name}': 'none' changes nothing, leave it out of the composition")
        return []
    for field, key in [("params", k) for k in spec.params] + [("sweep", k) for k in spec.sweep]:
        if key not in names:
            problems.append(
                f"defense '{spec.name}': {field}: '{key}' is no part of the composition.{did_you_mean(key, names)} "
                f"Expected part names ({', '.join(names)}) with their parameters."
            )
    per_part: list[list[dict[str, Any]]] = []
    for name in names:
        given, swept = spec.params.get(name, {}), spec.sweep.get(name, {})
        for field, value in (("params", given), ("sweep", swept)):
            if not isinstance(value, dict):
                problems.append(f"defense '{spec.name}': {field}: {name}: got {told(value)}, expected keys and values")
                return []
        per_part.append(crossed_params(DEFENSES, name, given, problems, sweep=swept))
    if any(not p for p in per_part):
        return []
    return [_complete(spec, dict(zip(names, values, strict=True)), problems) for values in itertools.product(*per_part)]


def _complete(spec: DefenseSpec, params: dict[str, Any], problems: list[str]) -> DefenseSpec:
    parts = {n: DEFENSES.get(n) for n in spec.name.split("+")}
    when = spec.when or usual_when(list(parts.values()))
    later = [n for n, cls in parts.items() if cls.usually != "train+infer"]
    in_training = [n for n, cls in parts.items() if not cls.acts_on_wire]
    staged = when != "train+infer" and len(in_training) < len(parts)
    if when == "train+infer" and later:
        problems.append(
            f"defense '{spec.name}' with when: train+infer: {' and '.join(later)} starts from a trained network. "
            "Leave out when, or write when: infer+cloud to train the cloud on what is sent."
        )
    if staged and in_training:
        # What contradicts itself is skipped with its reason, in whatever order it is written.
        if list(parts)[: len(in_training)] != in_training and at_odds(list(parts), when) is None:
            problems.append(
                f"defense '{spec.name}': {' and '.join(in_training)} shapes the training, and the rest ({when}) starts from "
                f"the network that comes of it: write '{'+'.join(in_training + [n for n in parts if n not in in_training])}'."
            )
    elif when != "train+infer" and in_training and not (list(parts) == ["none"] and when == "infer+cloud"):
        problems.append(
            f"defense '{spec.name}' with when: {when}: {' and '.join(in_training)} acts only in training, so on a network "
            "that is trained already it would equal 'none'. Leave out when."
        )
    late = rebuilt_late(parts)
    if late and at_odds(list(parts), when) is None:
        name, before, order = late
        problems.append(
            f"defense '{spec.name}': '{name}' rebuilds the network, so it acts before {' and '.join(before)}: write '{order}'."
        )
    return spec.model_copy(update={"params": params, "sweep": {}, "when": when})


def rebuilt_late(parts: dict[str, type[Defense]]) -> tuple[str, list[str], str] | None:
    """Returns a part that rebuilds the network, the parts on the wire written before it, and the order to write; or None.

    Such a part acts before all that happens on the wire, wherever it is written: two orders would be the same defense under
    two names, and one of both would take its measures with a part before it that does not act there.
    """
    wire: list[str] = []
    for name, cls in parts.items():
        if cls.wrap is not Defense.wrap and wire:
            rest = [n for n in parts if n != name]
            at = rest.index(wire[0])
            return name, wire, "+".join([*rest[:at], name, *rest[at:]])
        if cls.acts_on_wire:
            wire.append(name)
    return None
