"""How much leakage an attack hides that leaves the defense out of account: a table of every attack that runs both ways."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from ..labels import ignores_defense
from ..plan import Plan
from .adaptive import adaptive_pairs, apart, unlike_settings
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
    """Returns a row per defense, knowledge level and attack on images that runs with ``adaptive`` true and false.

    ``leakage_hidden`` is the leakage score of the attack that takes the defense into account less that of the one that does
    not, paired over images and seeds. One of which a seed is missing has no figure, and ``incomplete`` says what.
    """
    if not any(row["key"] and ignores_defense(row["attack"]) for row in plan.cells):
        return make_frame([], COLUMNS)
    sides: dict[tuple[str, ...], dict[bool, list[Mapping[str, Any]]]] = {}
    for row in plan.cells:
        if row["key"] and plan.nodes["cell", row["key"]].infers == "image":
            others, adaptive = apart(plan, row["key"])
            at = (*(str(row[n]) for n in _AT), others)
            sides.setdefault(at, {}).setdefault(adaptive, []).append(row)
    unlike = dict(_unlike(plan, records))
    rows = [_row(records, both[True], both[False], unlike) for both in sides.values() if len(both) == 2]
    return make_frame(rows, COLUMNS)


_AT = (*PLACE, "defense", "knowledge")


def _unlike(plan: Plan, records: Records) -> Iterator[tuple[str, str]]:
    """Yields the key of each cell without account of the defense whose pair chose another setting, and the two in words."""
    for pair in adaptive_pairs(plan, records):
        text = unlike_settings(plan, records, pair)
        if text:
            yield str(plan.cells[pair[0]]["key"]), text


def in_words(table: pd.DataFrame) -> str:
    """Returns in a sentence how often leaving the defense out of account hides leakage, and how much at most."""
    known = table.dropna(subset=["leakage_hidden"])
    lacking = len(table) - len(known)
    without = f" Of {lacking} more something is missing." if lacking else ""
    if known.empty:
        return "None of them is complete."
    hiding = known[known[f"leakage_hidden{LOW}"] > 0]
    text = f"It hides leakage, beyond the interval, in {len(hiding)} of {len(known)} rows"
    if hiding.empty:
        return f"{text}.{without}"
    most = hiding.loc[hiding["leakage_hidden"].idxmax()]
    many = len(table[list(PLACE)].drop_duplicates()) > 1
    where = ", ".join([*(str(most[n]) for n in PLACE if many), str(most["knowledge"])])
    return f"{text}, at most {most['leakage_hidden']:.3f} ({most['attack']} on {most['defense']}, {where}).{without}"


def _row(
    records: Records,
    adaptive: Sequence[Mapping[str, Any]],
    naive: Sequence[Mapping[str, Any]],
    unlike: Mapping[str, str],
) -> Row:
    first = adaptive[0]
    row: Row = {**{n: first[n] for n in _AT}, "attack": first["attack"], "ignoring": naive[0]["attack"]}
    states = [(c, records.row_state("cell", c)) for side in (adaptive, naive) for c in side]
    row["incomplete"] = joined(f"{c['attack']}, seed {c['seed']}: {s.status}" for c, s in states if s.owed)
    seeds = {c["seed"] for c, _ in states}
    found = [values_over_seeds(records, side, "mse", seeds) for side in (adaptive, naive)]
    if found[0] is None or found[1] is None or found[0].shape != found[1].shape:
        return row | {"incomplete": row["incomplete"] or "errors of some images or seeds"}
    reference = records.reference(first["dataset"])
    difference = leakage_difference(found[0], found[1], reference)
    row |= spread("leakage", leakage(found[0], reference)) | spread("leakage_ignoring", leakage(found[1], reference))
    settings = joined(unlike.get(str(c["key"]), "") for c in naive)
    note = [note_on(difference, len(seeds)), f"in different settings: {settings}" if settings else ""]
    return row | spread("leakage_hidden", difference) | {"note": joined(note)}
