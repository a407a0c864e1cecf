"""Pairs of cells in which an attack ignores the defense, and takes it into account."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from ..plan import Plan
from .fits import chosen_setting, words_of_setting
from .reading import Records


def adaptive_pairs(plan: Plan, records: Records) -> list[tuple[int, int]]:
    """Returns the indices of rows of done cells that differ in ``adaptive`` alone: (ignores the defense, does not)."""
    groups: dict[tuple[Any, ...], dict[bool, int]] = defaultdict(dict)
    for i, row in enumerate(plan.cells):
        if not records.done("cell", row["key"]):
            continue
        others, adaptive = apart(plan, row["key"])
        groups[*(row[n] for n in ("target", "knowledge", "attack_seed")), others][adaptive] = i
    return [(pair[False], pair[True]) for pair in groups.values() if len(pair) == 2]


def apart(plan: Plan, key: str) -> tuple[str, bool]:
    """Returns what identifies the attack of a cell but for ``adaptive``, and whether it takes the defense into account."""
    attack = plan.nodes["cell", key].identity["attack"]
    return json.dumps({k: v for k, v in attack.items() if k != "adaptive"}, sort_keys=True), attack.get(
        "adaptive", True
    )


def unlike_settings(plan: Plan, records: Records, pair: tuple[int, int]) -> str:
    """Returns the settings that a tuned pair has chosen, where they differ: their gap is then that of the settings too."""
    naive, adaptive = (records.done("cell", plan.cells[i]["key"]) for i in pair)
    if naive is None or adaptive is None:
        return ""
    ours, theirs = chosen_setting(records, naive), chosen_setting(records, adaptive)
    if ours is None or theirs is None or ours == theirs:
        return ""
    ignoring, counting = words_of_setting(naive, ours), words_of_setting(adaptive, theirs)
    return f"{ignoring} against {counting} where the defense is taken into account"
