"""``splitaudit run`` and ``splitaudit report``."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

from .. import api
from ..events import Event, Listener
from ..report.claims_text import claims_table
from ..report.columns import column_words
from ..report.frames import plain_rows
from ..report.terminal import summary_table
from .output import Output, drop
from .progress import Display, duration


def run_command(
    source: str,
    settings: list[str],
    seeds: list[int],
    options: api.Options,
    *,
    tune: int | None = None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Runs a suite, prints the summary and the report's path, and returns the exit code."""
    with Display(verbose=verbose, quiet=quiet) as display:
        try:
            outcome = api.run(
                source, overrides=settings, seeds=seeds, tune=tune, options=options, listener=_told(display, quiet)
            )
        except KeyboardInterrupt:
            display.__exit__(None, None, None)
            print(
                "\nInterrupted. What was complete is stored: the same command goes on where this one stopped.",
                file=sys.stderr,
            )
            return 130
    with contextlib.suppress(BrokenPipeError):  # a reader that left does not change how the run ended
        _print_outcome(outcome, as_json=as_json)
    return outcome.exit_code


def _told(display: Display, quiet: bool) -> Listener:
    """Returns a listener that tells a run on stderr and lets it go on where nobody reads that any more."""

    def listener(event: Event) -> None:
        try:
            if event.kind != "note":
                display(event)
            elif not quiet:
                print(event.message, file=sys.stderr, flush=True)
        except BrokenPipeError:
            drop(2)

    return listener


def _print_outcome(outcome: api.Outcome, *, as_json: bool) -> None:
    results = api.load_results(outcome.folder)
    page, counts = outcome.folder / "report.html", outcome.counts
    if as_json:
        print(
            json.dumps(
                {
                    "folder": str(outcome.folder),
                    "report": str(page),
                    "jobs": {"done": counts.done, "failed": counts.failed, "skipped": counts.skipped},
                    "failed_nodes": outcome.failed,
                    "seconds": round(outcome.seconds, 3),
                    "summary": plain_rows(results.summary),
                    "claims": plain_rows(results.claims),
                },
                indent=1,
            )
        )
        return
    Output().print(summary_table(results))
    if not results.claims.empty:
        Output(width=150).print(claims_table(results.claims, column_words(results.suite)))
    if outcome.failed:
        print(
            f"{outcome.failed} nodes failed or could not be done: see the report. The next run tries them again.",
            file=sys.stderr,
        )
    if counts.left:
        print(f"Stopped at a failure (--fail-fast): {counts.left} jobs were not begun.", file=sys.stderr)
    print(f"Finished in {duration(outcome.seconds)}.", file=sys.stderr)
    print(f"Report: {page}")


def report_command(folder: Path, options: api.Options, *, as_json: bool) -> None:
    """Builds the derived files of a folder again and prints their paths."""
    written = api.report(folder, options=options)
    if options.images and not any(p.stem.startswith("reconstructions") for p in written):
        print("No pictures: the private images are not there or have changed (--data-root).", file=sys.stderr)
    if as_json:
        print(json.dumps({"folder": str(folder), "files": [str(p) for p in written]}, indent=1))
        return
    for path in written:
        print(path)
