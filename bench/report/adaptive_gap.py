"""How much leakage an attack hides that leaves the defense out of account: a table of every attack that ran both ways."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..labels import ignores_defense
from ..plan import Plan
from .adaptive import adaptive_pairs, unlike_settings
from .columns import HIGH, LOW, PLACE
from .frames import Row, joined, make_frame, spread
from .headline import leakage, leakage_difference, note_on, values_over_seeds
from .reading import Records

FIGURES = ("leakage", "leakage_ignoring", "leakage_hidden")
COLUMNS = (
    *(*PLACE, "defense", "knowledge", "attack", "ignoring"),
    *(n + end for n in FIGURES for end in ("", LOW, HIGH)),
    *("note", "incomplete"),
)


def build_adaptive(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per defense, knowledge level and attack on images that ran with ``adaptive`` true and false.

    ``leakage_hidden`` is the leakage score of the attack that takes the defense into account less that of the one that does
    not, paired over images and seeds. One of which a seed is missing has no figure, and ``incomplete`` says what.
    """
    if not any(row["key"] and ignores_defense(row["attack"]) for row in plan.cells):
        return make_frame([], COLUMNS)
    groups: dict[tuple[str, ...], list[tuple[int, int]]] = {}
    for naive, adaptive in adaptive_pairs(plan, records):
        row = plan.cells[adaptive]
        if plan.nodes["cell", row["key"]].infers == "image":
            at = tuple(str(row[n]) for n in (*PLACE, "defense", "knowledge", "attack"))
            groups.setdefault((*at, str(plan.cells[naive]["attack"])), []).append((naive, adaptive))
    return make_frame([_row(plan, records, at, pairs) for at, pairs in groups.items()], COLUMNS)


def in_words(table: pd.DataFrame) -> str:
    """Returns in a sentence how often leaving the defense out of account hides leakage, and how much at most."""
    known = table.dropna(subset=["leakage_hidden"])
    if known.empty:
        return "None of them is complete."
    hiding = known[known[f"leakage_hidden{LOW}"] > 0]
    text = f"It hides leakage, beyond the interval, in {len(hiding)} of {len(known)} rows"
    if hiding.empty:
        return f"{text}."
    most = hiding.loc[hiding["leakage_hidden"].idxmax()]
    return f"{text}, at most {most['leakage_hidden']:.3f} ({most['attack']} on {most['defense']}, {most['knowledge']})."


def _row(plan: Plan, records: Records, at: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Row:
    *_, attack, ignoring = at
    row: Row = dict(zip((*PLACE, "defense", "knowledge", "attack", "ignoring"), at, strict=True))
    sides = [
        [c for c in plan.cells if _is_at(c, at) and c["attack"] == label and c["key"]] for label in (attack, ignoring)
    ]
    states = [(c, records.row_state("cell", c)) for side in sides for c in side]
    row["incomplete"] = joined(f"{c['attack']}, seed {c['seed']}: {s.status}" for c, s in states if s.owed)
    seeds = {c["seed"] for side in sides for c in side}
    found = [values_over_seeds(records, side, "mse", seeds) for side in sides]
    if found[0] is None or found[1] is None or found[0].shape != found[1].shape:
        return row | {"incomplete": row["incomplete"] or "errors of some images or seeds"}
    reference = records.reference(at[0])
    difference = leakage_difference(found[0], found[1], reference)
    row |= spread("leakage", leakage(found[0], reference)) | spread("leakage_ignoring", leakage(found[1], reference))
    unlike = joined(unlike_settings(plan, records, pair) for pair in pairs)
    note = [note_on(difference, len(seeds)), f"in different settings: {unlike}" if unlike else ""]
    return row | spread("leakage_hidden", difference) | {"note": joined(note)}


def _is_at(cell: Mapping[str, Any], at: Sequence[str]) -> bool:
    return all(str(cell[n]) == value for n, value in zip((*PLACE, "defense", "knowledge"), at, strict=False))
