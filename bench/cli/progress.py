"""Telling what a run does: a live display on a terminal, plain lines otherwise. Everything goes to stderr."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape

from ..events import Counts, Event
from .board import Board, duration

__all__ = ["Display", "duration", "size"]


class Display:
    """Listens to a run.

    Args:
        verbose: a line per finished job also on a terminal.
        quiet: nothing at all.
    """

    def __init__(self, *, verbose: bool = False, quiet: bool = False) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.live = self.console.is_terminal and not quiet
        self.verbose, self.quiet = verbose, quiet
        self._board: Board | None = None
        self._display: Live | None = None

    def __enter__(self) -> Display:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._display is not None:
            self._display.stop()
            self._display = None

    def __call__(self, event: Event) -> None:
        if event.kind == "planned":
            self._planned(event)
        elif event.kind == "finished":
            self.__exit__(None, None, None)
        else:
            self._job(event)

    def _planned(self, event: Event) -> None:
        counts = event.counts
        if counts is None or self.quiet:
            return
        f = counts.facts
        self._say(
            f"Planned: {f['targets']} targets and {f['cells']} attacks on them (cells); {f['skipped_rows']} rows of the tables "
            "cannot be and are skipped (splitaudit plan says why)."
        )
        for caution in f["cautions"]:
            self._say(f"Note: {caution}")
        again = f", {f['retried']} failed then and are tried again" if f["retried"] else ""
        self._say(f"{f['done']} results are stored from before{again}; {counts.total} jobs to do.")
        if f["outdated"]:
            self._say(
                f"{f['outdated']} stored records are of no row of this suite (of another suite or selection, or of earlier "
                "versions); they are left alone."
            )
        if counts.total:
            workers = f"{f['workers']} worker{'s' if f['workers'] > 1 else ''}"
            self._say(
                f"On {f['device']} with {workers}: about {duration(f['seconds'])} and {size(f['bytes'])} of disk "
                "(rough; corrected as jobs finish)."
            )
            if self.live:
                self._show(counts)

    def _show(self, counts: Counts) -> None:
        board = self._board = Board(counts)
        # The board is drawn anew at every refresh, also while nothing happens: its times go on.
        self._display = Live(get_renderable=lambda: board, console=self.console, refresh_per_second=4, transient=True)
        self._display.start()

    def _job(self, event: Event) -> None:
        counts = event.counts
        if counts is None:
            return
        if self._board is not None:
            self._board.take(event)
        if event.kind == "started" or self.quiet:
            return
        if event.kind == "done" and self._display is not None and not self.verbose:
            return
        self._say(job_line(event, counts))

    def _say(self, text: str) -> None:
        if self.live:
            self.console.print(escape(text))  # above the board, broken between words
        else:
            print(text, file=sys.stderr, flush=True)


_WHAT = {"target": "training of ", "cell": "attack "}
"""What a job is, where its title does not say so."""


def job_line(event: Event, counts: Counts) -> str:
    """Returns the line of a job that is over: which, how long it took, how many of all are over and how long the rest takes."""
    how = {"done": "done in ", "failed": "FAILED after ", "skipped": "skipped"}[event.kind]
    spent = "" if event.kind == "skipped" else duration(event.seconds)
    why = f": {event.message.splitlines()[0]}" if event.message else ""
    title = f"{_WHAT.get(event.task, '')}{event.title}"
    return f"[{counts.total - counts.left}/{counts.total}] {how}{spent}: {title}{why}; {_rest(event, counts)}"


def _rest(event: Event, counts: Counts) -> str:
    if counts.left == 0:
        return "now the tables and the report"
    jobs = f"{counts.left} job{'s' if counts.left > 1 else ''} left"
    return jobs if event.left_s is None else f"{jobs}, about {duration(event.left_s)}"


def size(count: float) -> str:
    """Returns a number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit in ("bytes", "kB", "MB") else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
