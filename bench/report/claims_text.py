"""The verdicts on claims as people read them: on a terminal, in Markdown and on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from rich.table import Table

from .claims_sentences import BOUNDS, claimed, measured, verdict
from .columns import PLACE

HEAD = ("what was claimed", "what was measured", "this figure says", "verdict on the claim")

ONE_SEED = "One seed: intervals are over images, the training's own randomness is not in them."


@dataclass(frozen=True)
class Line:
    """A figure of a claim in words.

    Attributes:
        claim: the statement; empty but in the claim's first line.
        measured: what was measured, in sentences.
        verdict: what this figure says.
        why: why it says nothing, or has no vote.
        overall: what all figures say; empty but in the claim's first line.
        common: notes on every figure of the claim; empty but in its first line.
        notes: those on this figure.
    """

    claim: str
    measured: str
    verdict: str
    why: str
    overall: str
    common: tuple[str, ...]
    notes: tuple[str, ...]


def claim_lines(claims: pd.DataFrame, words: Mapping[str, str]) -> list[Line]:
    """Returns a line per figure; a claim's statement and overall verdict stand in its first one only.

    Args:
        claims: the table of claims.
        words: column to what it is called, from :func:`.columns.column_words`.
    """
    out = []
    for place, rows in _by_claim(claims):
        notes = [[t for t in str(r["note"] or "").split("; ") if t and t != BOUNDS] for r in rows]
        common = tuple(t for t in notes[0] if len(rows) > 1 and all(t in some for some in notes))
        for i, (row, some) in enumerate(zip(rows, notes, strict=True)):
            own = tuple(t for t in some if t not in common)
            first = (claimed(row, place), str(row["overall"]), common) if i == 0 else ("", "", ())
            out.append(Line(first[0], measured(row, words), *verdict(row), first[1], first[2], own))
    return out


def claim_rows(claims: pd.DataFrame, words: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Returns the lines as rows of texts, without notes."""
    return [
        (line.claim, line.measured, f"{line.verdict} ({line.why})" if line.why else line.verdict, line.overall)
        for line in claim_lines(claims, words)
    ]


def claims_table(claims: pd.DataFrame, words: Mapping[str, str]) -> Table:
    """Returns the verdicts as a table for the terminal."""
    table = Table(
        title="claims, each beside the baseline that is hardest for it", title_justify="left", show_lines=True
    )
    for name in HEAD:
        table.add_column(name, overflow="fold")
    for row in claim_rows(claims, words):
        table.add_row(*row)
    return table


def claims_markdown(claims: pd.DataFrame, words: Mapping[str, str]) -> str:
    """Returns the verdicts as a Markdown table, notes below it."""
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in row) + " |" for row in claim_rows(claims, words)]
    return "\n".join([*lines, "", *(f"- {note}" for note in _notes(claims, words))]) + "\n"


def general_notes(claims: pd.DataFrame) -> list[str]:
    """Returns what a reader should know of all claims."""
    return [ONE_SEED] if any("one seed" in str(i) for i in claims["interval"]) else []


def _notes(claims: pd.DataFrame, words: Mapping[str, str]) -> list[str]:
    """Returns the notes on claims and on their figures, each with what it is about."""
    out, lines = [], iter(claim_lines(claims, words))
    for place, rows in _by_claim(claims):
        about = f"{str(rows[0]['says']).rstrip('.')}{place}"
        for row, line in zip(rows, lines, strict=False):
            out += [f"{about}: {'; '.join(line.common)}"] if line.common else []
            figure = words.get(str(row["figure"]), str(row["figure"]))
            out += [f"{about}, by {figure}: {'; '.join(line.notes)}"] if line.notes else []
    return [*dict.fromkeys(out), *general_notes(claims)]


def _by_claim(claims: pd.DataFrame) -> list[tuple[str, Sequence[dict[Any, Any]]]]:
    """Returns (place in brackets, rows) of each claim; the place is empty where there is only one."""
    many = len(claims[list(PLACE)].drop_duplicates()) > 1
    found: dict[tuple[str, str], list[dict[Any, Any]]] = {}
    for row in claims.to_dict("records"):
        place = f" ({', '.join(str(row[n]) for n in PLACE)})" if many else ""
        found.setdefault((str(row["claim"]), place), []).append(row)
    return [(place, rows) for (_, place), rows in found.items()]
