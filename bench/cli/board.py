"""What the live display shows: how far a run is, what goes on now, how long it still takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from rich.console import Console, ConsoleOptions
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ..events import Counts, Event

SHOWN = 8
"""Running jobs that are named."""

BAR = 24
"""Width of the bar in characters."""


class Board:
    """Holds the state of a run and draws it; everything that depends on the time is computed when it is drawn.

    Args:
        counts: of the jobs, before the first one. Its facts may hold ``cell_jobs``.
        clock: seconds that only go forward.
    """

    def __init__(self, counts: Counts, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = counts
        self.cells = Counts(total=int(counts.facts.get("cell_jobs", 0)))
        self._clock, self._began = clock, clock()
        self._left: tuple[float, float] | None = None
        self._running: list[tuple[str, float]] = []

    def take(self, event: Event) -> None:
        """Takes in what happened."""
        now = self._clock()
        if event.counts is not None:
            self.counts = event.counts
        if event.left_s is not None:
            self._left = (event.left_s, now)
        if event.kind == "started":
            self._running.append((event.title, now))
            return
        # Titles need not be unique: of two jobs alike, the one that began first is taken to have ended.
        ended = next((job for job in self._running if job[0] == event.title), None)
        if ended is not None:
            self._running.remove(ended)
        if event.task == "cell" and event.kind in ("done", "failed", "skipped"):
            setattr(self.cells, event.kind, getattr(self.cells, event.kind) + 1)

    def head(self) -> str:
        """Returns how many jobs are over, the time spent and the time left."""
        counts, now = self.counts, self._clock()
        finished = counts.total - counts.left
        return f"{finished}/{counts.total} jobs, {clock_face(now - self._began)}, {self._time_left(now)}"

    def tally(self) -> list[str]:
        """Returns how many cells, and how many jobs of any kind, are done, failed and left; without cells only jobs."""
        rows = [("cells", self.cells)] if self.cells.total else []
        return [_tally(name, c) for name, c in [*rows, ("jobs", self.counts)]]

    def running(self) -> list[str]:
        """Returns what goes on now, and since when; the time first, as long titles are cut."""
        now = self._clock()
        return [f"{clock_face(now - since):>5}  {title}" for title, since in self._running[:SHOWN]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        head = Table.grid(padding=(0, 1))
        bar = min(BAR, max(4, options.max_width - 50))
        head.add_row(ProgressBar(self.counts.total, self.counts.total - self.counts.left, width=bar), Text(self.head()))
        yield head
        for line in self.tally():
            yield Text(line, style="bold red" if " 0 failed" not in line else "", no_wrap=True, overflow="ellipsis")
        for line in self.running():
            yield Text(f"  {line}", style="dim", no_wrap=True, overflow="ellipsis")

    def _time_left(self, now: float) -> str:
        if self.counts.left == 0:
            return "writing tables and report"
        if self._left is None:
            return "time left not known yet"
        left, since = self._left
        remaining = left - (now - since)
        # Counting down below zero would promise an end that is not in sight.
        return f"about {duration(remaining)} left" if remaining >= 1 else "taking longer than estimated"


def _tally(name: str, counts: Counts) -> str:
    skipped = f", {counts.skipped} skipped" if counts.skipped else ""
    return f"{name}: {counts.done} done, {counts.failed} failed{skipped}, {counts.left} left"


def clock_face(seconds: float) -> str:
    """Returns seconds as a clock shows them: ``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def duration(seconds: float) -> str:
    """Returns seconds as people say them: ``42 s``, ``7 min``, ``2 h 10 min``."""
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours} h {rest} min" if hours < 48 else f"{hours / 24:.1f} days"
