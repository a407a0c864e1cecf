"""What a row of worst cases lacks: without it the true worst case may be higher, so nothing is said of its rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import stats
from ..plan import Plan
from .reading import Array, Records

NO_VALUES = "done, but without {metric} of every image and seed"


@dataclass(frozen=True)
class Tried:
    """What was tried on one defense at one place and knowledge level.

    Attributes:
        made: the attacks that are made there, whatever came of them.
        errors: attack to values (S, N), the less the stronger, of those that have them for every seed.
        undefended: it is none.
    """

    made: frozenset[str]
    errors: Mapping[str, Array]
    undefended: bool = False

    @property
    def strongest(self) -> str | None:
        """The attack with the least mean."""
        return min(self.errors, key=lambda a: float(self.errors[a].mean()), default=None)


def made_in(cells: Sequence[Mapping[str, Any]]) -> frozenset[str]:
    """Returns the attacks that rows of the plan have a cell of for every seed."""
    return frozenset(str(c["attack"]) for c in cells) - {str(c["attack"]) for c in cells if not c["key"]}


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
    # What is owed, or refused for some seeds, is named or judged elsewhere.
    judged = made_in(cells) - {str(c["attack"]) for c, s in states if s.owed}
    lacking = [a for a in dict.fromkeys(str(c["attack"]) for c in done) if a not in found and a in judged]
    return owed + [f"{a}: {NO_VALUES.format(metric=metric)}" for a in lacking]


def decided_elsewhere(here: Tried, others: Sequence[Tried], groups: Sequence[int] | None) -> list[str]:
    """Returns which attacks are not made here though they are made on most other defenses and decide the worst case of one.

    A defense that an attack refuses, or that the suite excludes from it, would look the safer for it. An attack for few
    defenses alone is no such attack (nor one that is not made on ``none``, where that is there), nor is one that beats those
    that are made here, too, by no more than its interval. What is missing on another defense does not hide that an attack
    beats there what was made here; where nothing of that is known there, it is no such attack.

    Args:
        here: what was tried on the defense.
        others: the same of each other defense at that place and level.
        groups: a label per image, or None.
    """
    baseline = next((t for t in (here, *others) if t.undefended), None)
    found = dict.fromkeys(o.strongest for o in others if o.strongest)
    out = []
    for attack in found:
        usual = 2 * sum(attack in o.made for o in others) >= len(others)
        usual = usual and (baseline is None or attack in baseline.made)
        won = (o for o in others if o.strongest == attack)
        if attack not in here.made and usual and any(_beats(attack, here, o, groups) for o in won):
            out.append(attack)
    return out


def in_words(attacks: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> list[str]:
    """Returns each attack that decides elsewhere with why it is not made here.

    Args:
        attacks: their labels.
        cells: rows of the plan of the defense.
    """
    why = {str(c["attack"]): str(c["skip"]).replace("; ", ", ") for c in cells if c["skip"]}
    return [
        f"{a}: strongest on another defense, not made here ({why.get(a, 'excluded by the suite')})" for a in attacks
    ]


def _beats(attack: str, here: Tried, other: Tried, groups: Sequence[int] | None) -> bool:
    """Says whether on another defense an attack is stronger than all that are made here too, beyond the interval."""
    rivals = [values for name, values in other.errors.items() if name in here.made]
    if not rivals:
        return not here.made & other.made
    rival = min(rivals, key=lambda v: float(v.mean()))
    return stats.paired_difference(rival, other.errors[attack], groups).low > 0
