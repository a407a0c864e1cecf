"""The verdicts on claims as people read them: on a terminal, in Markdown and on the page."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pandas as pd
from rich.table import Table

from .claims_verdict import INFINITE
from .columns import HIGH, LOW, PLACE
from .texts import present, said

HEAD = (
    "claim, as published",
    "figure",
    "estimator",
    "defense",
    "baseline",
    "comparison",
    "needed",
    "verdict",
    "overall",
)


def claim_rows(claims: pd.DataFrame) -> list[tuple[str, ...]]:
    """Returns a row of texts per figure; a claim's statement and overall verdict stand in its first row only."""
    many = len(claims[list(PLACE)].drop_duplicates()) > 1
    out, before = [], ""
    for row in claims.to_dict("records"):
        place = f" ({', '.join(str(row[n]) for n in PLACE)})" if many else ""
        name = f"{row['says']} [{row['published']}]{place}"
        first = name != before
        before = name
        attack = f", {row['attack']}" if said(row, "attack") != "-" else ""
        out.append(
            (
                name if first else "",
                f"{row['figure']}{attack}",
                str(row["estimator"]) if row["decides"] else f"{row['estimator']}, no vote",
                _side(row, "defense_value", str(row["defense"]), "accuracy"),
                _side(row, "baseline_value", said(row, "baseline"), "baseline_accuracy"),
                _comparison(row),
                str(row["threshold"]),
                str(row["verdict"]),
                str(row["overall"]) if first else "",
            )
        )
    return out


def claims_table(claims: pd.DataFrame) -> Table:
    """Returns the verdicts as a table for the terminal."""
    table = Table(
        title="claims, each beside the baseline that is hardest for it", title_justify="left", show_lines=True
    )
    for name in HEAD:
        table.add_column(name, overflow="fold")
    for row in claim_rows(claims):
        table.add_row(*row)
    return table


def claims_markdown(claims: pd.DataFrame) -> str:
    """Returns the verdicts as a Markdown table, notes below it."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in claim_rows(claims)]
    return "\n".join([*lines, "", *(f"- {note}" for note in claim_notes(claims))]) + "\n"


def claim_notes(claims: pd.DataFrame) -> list[str]:
    """Returns what a reader should know of each figure, once."""
    rows = claims.to_dict("records")
    many = len(claims[list(PLACE)].drop_duplicates()) > 1
    claimed: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        place = f" ({', '.join(str(row[n]) for n in PLACE)})" if many else ""
        claimed.setdefault(f"{row['claim']}{place}", []).append(row)
    notes = [note for name, some in claimed.items() for note in _notes(name, some)]
    if any("one seed" in str(r["interval"]) for r in rows):
        notes.append("One seed: intervals are over images, the training's own randomness is not in them.")
    return list(dict.fromkeys(notes))


def _notes(name: str, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yields the notes on a claim; what is said of each of its figures is said once."""
    said_of = [str(row["note"]).split("; ") if present(row["note"]) and row["note"] else [] for row in rows]
    common = [t for t in said_of[0] if len(rows) > 1 and all(t in texts for texts in said_of)]
    if common:
        yield f"{name}: {'; '.join(common)}"
    for row, texts in zip(rows, said_of, strict=True):
        if own := [t for t in texts if t not in common]:
            yield f"{name}, {row['figure']}: {'; '.join(own)}"


def _side(row: dict[str, Any], value: str, name: str, accuracy: str) -> str:
    number = (
        f" {_number(row[value])}" if present(row.get(value)) else _limits(row.get(value + LOW), row.get(value + HIGH))
    )
    right = f" (accuracy {row[accuracy]:.3f})" if present(row.get(accuracy)) else ""
    return f"{name}{number}{right}"


def _limits(low: Any, high: Any) -> str:
    if not present(low):
        return ""
    return f" {low:.2f} to {high:.2f}" if present(high) and math.isfinite(high) else f" >= {low:.2f}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"


def _comparison(row: dict[str, Any]) -> str:
    value, low, high = (row.get(n) for n in ("value", "value" + LOW, "value" + HIGH))
    text = f"{value:.3g} " if present(value) else ""
    if not present(low) and not present(high):
        without = f"{text}(no interval)" if text else "-"
        return "infinite" if INFINITE in str(row["note"]) else without
    if row["interval"] == "exact":
        return text.strip()
    ends = [f"{v:.3g}" if present(v) else "?" for v in (low, high)]
    return f"{text}[{ends[0]}, {ends[1]}]"
