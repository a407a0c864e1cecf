"""What a cell of a table of the page shows."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Value:
    """What a table's cell shows.

    Attributes:
        text: the value; '-' where there is none.
        interval: its 95 % interval, or a note under the value.
        lines: what else stands under it, a line each, which may be broken.
        kind: ``num`` (kept in one line), ``text`` or ``wide``.
        links: numbers of flags.
        bad: to be seen at once.
    """

    text: str
    interval: str = ""
    lines: tuple[str, ...] = ()
    kind: str = "text"
    links: tuple[int, ...] = ()
    bad: bool = False
