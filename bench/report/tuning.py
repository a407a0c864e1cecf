"""What tuning gained: the error of the given and of the chosen setting on the attacker's own images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..plan import Plan
from .adaptive import adaptive_pairs, unlike_settings
from .columns import LABELS
from .fits import chosen_setting, words_of_setting
from .frames import Row, joined, make_frame
from .reading import Records

COLUMNS = (
    *LABELS,
    "attack",
    "knowledge",
    "attack_seed",
    "key",
    "tried",
    "given_mse",
    "chosen_mse",
    "chosen",
    "other",
    "note",
)

AS_GIVEN = "attacked as given: there is nothing to try here"

UNCOMPARED = "the budget left nothing to compare settings on"
"""In the note on a cell that attacks as given for that reason."""


def build_tuned(plan: Plan, records: Records) -> pd.DataFrame:
    """Returns a row per cell of an attack that was to be tuned; none where no cell of the suite is tuned.

    The errors are mean squared errors on images of ``aux_val`` that were attacked as if they were private. Private images
    had no say, so the chosen setting need not be the best one on them.
    """
    wanted = [i for i, row in enumerate(plan.cells) if row["key"] and _asked(str(row["attack"]))]
    if not any("tune" in plan.nodes["cell", plan.cells[i]["key"]].identity["attack"] for i in wanted):
        return make_frame([], COLUMNS)
    unlike: dict[int, str] = {}
    for pair in adaptive_pairs(plan, records):
        text = unlike_settings(plan, records, pair)
        unlike |= dict.fromkeys(pair, f"adaptive and not are compared in different settings: {text}") if text else {}
    return make_frame([_row(plan, records, plan.cells[i], unlike.get(i, "")) for i in wanted], COLUMNS)


def in_words(tuned: pd.DataFrame) -> str:
    """Returns in a sentence in how many cells tuning chose another setting, and what that gained on own images."""
    # One cell may serve several levels of knowledge.
    known = tuned.dropna(subset=["given_mse", "chosen_mse"]).drop_duplicates("key")
    count = len({k for k, note in zip(tuned["key"], tuned["note"], strict=True) if UNCOMPARED in str(note)})
    cells = f"{count} cell{'s' if count > 1 else ''}"
    without = f" In {cells} the budget of queries left nothing to compare settings on." if count else ""
    if known.empty:
        return without.strip() or "No tuned attack is done."
    other = known[known["other"].astype(bool)]
    text = f"Another setting than the given one was chosen in {len(other)} of {len(known)} cells"
    if other.empty:
        return f"{text}.{without}"
    fall = 100 * (1 - other["chosen_mse"] / other["given_mse"])
    ends = dict.fromkeys((f"{fall.min():.0f}", f"{fall.max():.0f}"))
    return f"{text}; there the error on own images fell by {' to '.join(ends)} %.{without}"


def _asked(label: str) -> bool:
    return re.search(r"@tune\d+", label) is not None


def _row(plan: Plan, records: Records, labels: Mapping[str, Any], unlike: str) -> Row:
    row: Row = {n: labels[n] for n in (*LABELS, "attack", "knowledge", "attack_seed", "key")}
    attack = plan.nodes["cell", labels["key"]].identity["attack"]
    if "tune" not in attack:
        return row | {"tried": 1, "chosen": "", "note": AS_GIVEN}
    row["tried"] = 1 + len(attack["tune"])
    identity = plan.nodes["cell", labels["key"]].identity
    fit, record = records.done("fit", identity.get("fit")), {"identity": identity}
    setting = chosen_setting(records, record)
    state = records.row_state("cell", labels)
    lost = f"{state.status}: {state.reason}" if state.status != "done" and state.reason else ""
    if fit is None or setting is None:
        return row | {"chosen": "", "note": lost or state.status}
    row |= {"chosen": words_of_setting(record, setting), "other": setting != 0}
    errors = fit["info"]["notes"].get("aux_val_mse")
    if not errors:
        return row | {"note": joined([lost, UNCOMPARED, unlike])}
    row |= {"given_mse": errors[0], "chosen_mse": errors[setting]}
    return row | {"note": joined([lost, unlike])}
