"""Targets that were spared an attack which decides on others: the strongest attack on them is not known."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np

from ..knowledge import split_draws
from ..labels import ignores_defense
from ..plan import Plan
from .columns import PLACE
from .lacks import Tried, decided_elsewhere
from .reading import Array, Records


def spared_targets(plan: Plan, records: Records) -> frozenset[str]:
    """Returns the keys of targets on which an attack was not made that decides on another one, at any knowledge level.

    Compared are targets of one place and seed, as in the worst case (:func:`.lacks.decided_elsewhere`), but with the levels
    together, as the criterion takes them: an attack that is made at one of them with fewer means is not the one that decides
    at another.
    """
    found: dict[tuple[str, ...], dict[str, dict[str, list[Array]]]] = defaultdict(lambda: defaultdict(dict))
    defenses: dict[str, str] = {}
    for cell in plan.cells:
        if not cell["key"] or not of_one_draw(cell["knowledge"]) or ignores_defense(cell["attack"]):
            continue
        if plan.nodes["cell", cell["key"]].infers != "image":
            continue
        defenses[cell["target"]] = str(cell["defense"])
        of_target = found[tuple(str(cell[n]) for n in (*PLACE, "seed"))][cell["target"]]
        errors = records.scores(cell["key"], "mse").whole if records.done("cell", cell["key"]) else None
        # Levels that give an attack the same share one cell.
        means = json.dumps(plan.nodes["cell", cell["key"]].identity["knowledge"], sort_keys=True)
        of_target.setdefault(f"{cell['attack']} {means}", []).extend([] if errors is None else [errors])
    out = set()
    for at, targets in found.items():
        tried = {target: _tried(attacks, defenses[target]) for target, attacks in targets.items()}
        for target, here in tried.items():
            others = [t for other, t in tried.items() if defenses[other] != defenses[target]]
            if decided_elsewhere(here, others, records.reference(at[0]).groups):
                out.add(target)
    return frozenset(out)


def of_one_draw(level: str) -> bool:
    """Says whether at a knowledge level one draw of each private image's features is received."""
    return split_draws(level)[1] == 1


def _tried(attacks: dict[str, list[Array]], defense: str) -> Tried:
    best = {a: min(found, key=lambda e: float(e.mean())) for a, found in attacks.items() if found}
    return Tried(frozenset(attacks), {a: np.atleast_2d(e) for a, e in best.items()}, defense == "none")
