"""What a row of worst cases lacks: without it the true worst case may be higher, so nothing is said of its rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..plan import Plan
from .reading import Array, Records

NO_VALUES = "done, but without {metric} of every image and seed"


def missing(
    plan: Plan, records: Records, cells: Sequence[Mapping[str, Any]], metric: str, found: Mapping[str, Array]
) -> list[str]:
    """Returns what cells of one defense and level ought to have and do not, each in words.

    Args:
        plan: of the suite.
        records: of the run.
        cells: rows of the plan.
        metric: whose values are wanted, of attacks on images.
        found: the attacks that have them for every seed.
    """
    states = [(c, records.row_state("cell", c)) for c in cells]
    owed = [f"{c['attack']}, seed {c['seed']}: {s.status}" for c, s in states if s.owed]
    done = [c for c, s in states if s.status == "done" and plan.nodes["cell", c["key"]].infers == "image"]
    hidden = {str(c["attack"]) for c, s in states if s.owed}  # already named
    lacking = [a for a in dict.fromkeys(str(c["attack"]) for c in done) if a not in found and a not in hidden]
    return owed + [f"{a}: {NO_VALUES.format(metric=metric)}" for a in lacking]


def decided_elsewhere(cells: Sequence[Mapping[str, Any]], strongest: Sequence[str]) -> list[str]:
    """Returns which attacks are not made here though they are the strongest on other defenses of the same place and level.

    A defense that an attack refuses, or that the suite excludes from it, would look the safer for it.

    Args:
        cells: rows of the plan of one defense and level.
        strongest: the strongest attack on each defense of that place and level.
    """
    here = {c["attack"] for c in cells if c["key"]}
    why = {c["attack"]: c["skip"] for c in cells if c["skip"]}
    return [
        f"{a}: strongest on another defense, not made here ({why.get(a) or 'excluded by the suite'})"
        for a in dict.fromkeys(strongest)
        if a not in here
    ]
