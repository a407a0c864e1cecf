"""The summary for a terminal of any width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console, ConsoleOptions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from .columns import PLACE
from .flags import collect
from .frames import select
from .promised import promises_in_words
from .style import wrapped
from .tables import Results
from .texts import ONE_SEED, bracket, fixed, number, one_seed, present, said, undistinguished

HEAD = ("defense", "knowledge", "worst\nattack", "leakage", "accuracy", "equiv.\npx", "SSIM", "drop")
HEAD += ("MI nats", "edge\nMACs")

SHAPES = ((10, True), (10, False), (8, True), (8, False), (7, False), (6, False), (5, False), (4, False))
"""Columns shown, and whether figures other than the leakage score have their interval; the first that fits is taken."""

NAME = 16
"""Characters after which a name is broken."""


class SummaryTable:
    """The summary as something that rich prints; a narrow terminal gets fewer columns and is told so.

    Args:
        summary: the table of that name.
        reads: attacks on labels ran too, which have a table of their own.
    """

    def __init__(self, summary: pd.DataFrame, *, reads: bool = False) -> None:
        self.summary, self.reads = summary, reads

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        yield Text("Worst case over attacks (each selected with the truth in hand), with 95 % intervals", style="bold")
        least = SHAPES[0]
        places = list(dict.fromkeys(self.summary[list(PLACE)].itertuples(index=False, name=None)))
        for place in places:
            if len(places) > 1:
                yield Text(f"\n{', '.join(place)}", style="bold")
            mask = (self.summary[list(PLACE)] == list(place)).all(axis=1)
            rows = select(self.summary, mask).to_dict("records")
            shape = next((s for s in SHAPES if _fits(_table(rows, *s), console, options)), SHAPES[-1])
            least = min(least, shape)
            yield _table(rows, *shape)
        yield from (Text(line, style="dim") for line in self._notes(least))

    def _notes(self, shape: tuple[int, bool]) -> list[str]:
        notes = ["n.d.: not distinguishable from the undefended target."]
        if one_seed(self.summary.to_dict("records")):
            notes.append(f"{ONE_SEED[:1].upper()}{ONE_SEED[1:]}: intervals are over images.")
        if any(said(r, "incomplete") != "-" for r in self.summary.to_dict("records")):
            notes.append(
                "incomplete: something is missing (the report says what), so the true worst case may be higher."
            )
        flags = collect(self.summary)
        if flags:
            notes.append(f"!: validity flags, explained in the report: {', '.join(f.kind for f in flags)}.")
        notes += [f"Promised: {text}" for text in promises_in_words(self.summary, briefly=True)]
        if self.reads:
            notes.append("What attacks read of labels is in attributes.csv and in the report.")
        if shape != SHAPES[0]:
            notes.append("A wider terminal shows more; everything is in summary.csv and in the report.")
        return notes


def summary_table(results: Results) -> SummaryTable:
    """Returns the summary as a table for the terminal."""
    return SummaryTable(results.summary, reads=not results.attributes.empty)


def _fits(table: Table, console: Console, options: ConsoleOptions) -> bool:
    return Measurement.get(console, options.update_width(1000), table).maximum <= options.max_width


def _table(rows: Sequence[Mapping[Any, Any]], columns: int, intervals: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for i, name in enumerate(HEAD[:columns]):
        table.add_column(name, no_wrap=True, justify="left" if i < 3 else "right")
    for row in rows:
        table.add_row(*_texts(row, intervals)[:columns])
    return table


def _texts(row: Mapping[Any, Any], intervals: bool) -> list[Text]:
    """Returns the cells of a row, values over their intervals."""
    unfinished = said(row, "incomplete") != "-"

    def below(name: str, digits: int) -> str:
        return bracket(row, name, digits) if intervals else ""

    drop = "-" if row["defense"] == "none" else number(row, "accuracy_drop", 3)
    return [
        _over(
            wrapped(str(row["defense"]), NAME), "incomplete" if unfinished else "", style="red" if unfinished else ""
        ),
        Text(str(row["knowledge"])),
        Text(wrapped(said(row, "worst_attack"), NAME) + (" !" if said(row, "flags") != "-" else "")),
        _over(number(row, "leakage", 3), bracket(row, "leakage", 3), undistinguished(row, "leakage_change")),
        _over(number(row, "accuracy", 3), below("accuracy", 3)),
        _over(number(row, "equivalent_resolution", 1), below("equivalent_resolution", 1)),
        _over(number(row, "ssim", 3), below("ssim", 3)),
        _over(drop, below("accuracy_drop", 3) if drop != "-" else "", undistinguished(row, "accuracy_drop")),
        _over(*_information(said(row, "mi_text"))),
        Text(f"{fixed(row['edge_macs'] / 1e6, 2)} M" if present(row.get("edge_macs")) else "-"),
    ]


def _over(value: str, below: str, mark: str = "", *, style: str = "") -> Text:
    """Returns a value and its mark over what belongs below it."""
    text = Text(value + (f" {mark}" if mark else ""), style=style)
    return Text("\n").join((text, Text(below.strip(), style="dim"))) if below else text


def _information(text: str) -> tuple[str, str]:
    """Returns the mutual information and, below it, its interval or why there is no value."""
    if ";" in text:
        return text.replace("; ", ";\n"), ""
    at = min((i for i in (text.find(" ["), text.find(" (")) if i > 0), default=len(text))
    return text[:at], text[at:]
