"""What defenses prove of privacy, for the tables: the budget of each target, from parameters and stored notes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..defense import Defense
from ..errors import PluginError
from ..guarantee import Guarantee, weakest
from ..plan import Plan
from ..plugins import DEFENSES
from ..targets import make_defense
from .columns import PLACE
from .frames import Row
from .reading import Records
from .texts import present, said

EPSILON, DELTA, PROTECTS = "privacy_epsilon", "privacy_delta", "privacy_protects"
LEAVES_OUT, ACCOUNTANT = "privacy_leaves_out", "privacy_accountant"
COLUMNS = (EPSILON, DELTA, PROTECTS, LEAVES_OUT, ACCOUNTANT)

EXPLAINED = (
    "An ε, with its δ, is proven and not measured: whatever is received is at most e^ε times as likely under one image as "
    "under another (but for a probability of δ), or with one training image or another in its place, whatever the attacker "
    "knows. ε = 1 lets two cases be told apart in at most 73 % of trials, ε = 8 in 99.97 %: a large ε promises next to "
    "nothing, and what the attacks found is then all that is known. It holds for what is named and for nothing else."
)


@dataclass(frozen=True)
class Promise:
    """What rows of the summary promise alike.

    Attributes:
        row: the first of them.
        levels: the knowledge levels of all of them.
    """

    row: Mapping[Any, Any]
    levels: tuple[str, ...]

    @property
    def budget(self) -> str:
        """ε and δ as text; empty where nothing is promised."""
        if not present(self.row[EPSILON]):
            return ""
        return _budget(self.row[EPSILON], self.row[DELTA])


def promised(plan: Plan, records: Records, keys: Iterable[str | None], releases: int = 1) -> Row:
    """Returns the columns of what holds for all of some targets that are done.

    Args:
        plan: the plan.
        records: its records.
        keys: of the targets, those of the seeds of one defense.
        releases: how often an image is sent.
    """
    each = [_guarantees(plan, records, key, releases) for key in keys if key and records.done("target", key)]
    everywhere = [g for some in each for g in some if all(any(o.about == g.about for o in other) for other in each)]
    return _row(weakest(everywhere))


def promised_columns(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Returns the columns, or none where no row has anything in them."""
    return COLUMNS if any(row.get(PROTECTS) for row in rows) else ()


def promises(summary: pd.DataFrame) -> list[Promise]:
    """Returns what the rows of a summary promise, those of a defense that differ in the level alone as one."""
    found: dict[tuple[str, ...], tuple[Mapping[Any, Any], list[str]]] = {}
    for row in summary.to_dict("records"):
        if said(row, PROTECTS) != "-":
            same = tuple(str(row[n]) for n in (*PLACE, "defense", *COLUMNS))
            found.setdefault(same, (row, []))[1].append(str(row["knowledge"]))
    return [Promise(row, tuple(levels)) for row, levels in found.values()]


def promises_in_words(summary: pd.DataFrame, *, briefly: bool = False) -> list[str]:
    """Returns a sentence for each promise; ``briefly``: without what it leaves open and how it was worked out."""
    made = promises(summary)
    many = len(summary[list(PLACE)].drop_duplicates()) > 1
    out = []
    for promise in made:
        row = promise.row
        where = [*(str(row[n]) for n in PLACE if many), ", ".join(promise.levels)]
        text = f"{row['defense']} ({'; '.join(where)}): {promise.budget}{', ' if promise.budget else ''}{row[PROTECTS]}"
        if not briefly:
            text += f". Not protected: {row[LEAVES_OUT]}. Accounting: {row[ACCOUNTANT]}"
        out.append(f"{text}.")
    return out


def epsilon_text(epsilon: float) -> str:
    """Returns ε with four digits, or whole."""
    return f"{epsilon:,.0f}" if epsilon >= 1000 else f"{epsilon:.4g}"


def _budget(epsilon: float, delta: float) -> str:
    return f"ε = {epsilon_text(epsilon)}, δ = {delta:.3g}"


def _guarantees(plan: Plan, records: Records, key: str, releases: int) -> tuple[Guarantee, ...]:
    identity = plan.nodes["target", key].identity
    defense = _defense(identity["defense"]["parts"])
    if defense is None:
        return ()
    # What a part left behind in the training that this target starts from is in that target's record.
    base = records.done("target", identity.get("base"))
    done = (base, records.done("target", key))
    notes = [r["training"].get("notes", {}) for r in done if r is not None]
    return defense.guarantees({k: v for some in notes for k, v in some.items()}, releases)


def _defense(parts: Sequence[Mapping[str, Any]]) -> Defense | None:
    """Returns the defense of these parts, or None where none of them has anything to say or one of them is not known here.

    A record of another version of a defense is not spoken for: what that one did is not known here.
    """
    try:
        classes = [DEFENSES.get(part["name"]) for part in parts]
    except PluginError:  # the records of a third party's defense can be read without its plugin
        return None
    if all(cls.guarantees is Defense.guarantees for cls in classes):
        return None
    if any(part.get("version", cls.version) != cls.version for part, cls in zip(parts, classes, strict=True)):
        return None
    return make_defense(parts)


def _row(guarantees: Sequence[Guarantee]) -> Row:
    """Returns the columns: the figures of the first statement, the words of all."""
    if not guarantees:
        return {}
    first, *others = guarantees
    also = [f"also {g.protects}, {_budget(g.epsilon, g.delta)}" if g.holds else f"but {g.protects}" for g in others]
    holding = [g for g in guarantees if g.holds] or [first]
    return {
        EPSILON: first.epsilon if first.holds else None,
        DELTA: first.delta if first.holds else None,
        PROTECTS: "; ".join([first.protects, *also]),
        LEAVES_OUT: "; ".join(g.leaves_out for g in holding),
        ACCOUNTANT: "; ".join(g.accountant for g in holding),
    }
