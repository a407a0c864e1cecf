"""Telling what a run does: a live display on a terminal, plain lines otherwise. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from ..events import Event


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
        self._running: dict[str, float] = {}
        self._progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            _Counts(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            _Left(),
            console=self.console,
        )
        self._task = self._progress.add_task("jobs", total=1, failed=0, skipped=0, left=None)
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
            f"{f['targets']} targets, {f['cells']} cells: {f['done']} nodes done, {f['retried']} failed before (retried), "
            f"{f['skipped_rows']} rows skipped, {counts.total} jobs to do."
        )
        if f["outdated"]:
            self._say(f"{f['outdated']} stored records belong to no row of this suite (outdated); they are left alone.")
        if counts.total:
            workers = f"{f['workers']} worker{'s' if f['workers'] > 1 else ''}"
            self._say(
                f"On {f['device']} with {workers}: about {duration(f['seconds'])} and {size(f['bytes'])} of disk "
                "(rough; corrected as jobs finish)."
            )
            if self.live:
                self._progress.update(self._task, total=counts.total)
                self._display = Live(self._render(), console=self.console, refresh_per_second=4, transient=True)
                self._display.start()

    def _job(self, event: Event) -> None:
        counts = event.counts
        if counts is None:
            return
        if event.kind == "started":
            self._running[event.title] = time.monotonic()
        else:
            self._running.pop(event.title, None)
        finished = counts.done + counts.failed + counts.skipped
        if self._display is not None:
            self._progress.update(
                self._task, completed=finished, failed=counts.failed, skipped=counts.skipped, left=event.left_s
            )
            self._display.update(self._render())
        if event.kind == "started" or self.quiet:
            return
        if event.kind == "done" and self._display is not None and not self.verbose:
            return
        left = "" if event.left_s is None or counts.left == 0 else f", about {duration(event.left_s)} left"
        mark = {"done": "done", "failed": "FAILED", "skipped": "skipped"}[event.kind]
        tail = f": {event.message}" if event.message else ""
        spent = f" in {duration(event.seconds)}" if event.kind != "skipped" else ""
        self._say(f"[{finished}/{counts.total}] {mark} {event.task} {event.title}{spent}{tail}{left}")

    def _render(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_row(self._progress)
        now = time.monotonic()
        for title, started in list(self._running.items())[:8]:
            table.add_row(Text(f"  {title}  {now - started:.0f} s", style="dim"))
        return table

    def _say(self, text: str) -> None:
        if self._display is not None:
            self._display.console.print(escape(text))
        else:
            print(text, file=sys.stderr, flush=True)


class _Counts(ProgressColumn):
    def render(self, task: Task) -> Text:
        failed, skipped = task.fields["failed"], task.fields["skipped"]
        return Text(f"{failed} failed, {skipped} skipped", style="bold red" if failed else "")


class _Left(ProgressColumn):
    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text("" if left is None else f"about {duration(left)} left")


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


def size(count: float) -> str:
    """Returns a number of bytes as people say it."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit in ("bytes", "kB", "MB") else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")
