"""``splitaudit run`` and ``splitaudit report``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .. import api
from .progress import Display, duration


def run_command(
    source: str,
    settings: list[str],
    seeds: list[int],
    options: api.Options,
    *,
    as_json: bool,
    verbose: bool,
    quiet: bool,
) -> int:
    """Runs a suite, prints the summary and the report's path, and returns the exit code."""
    with Display(verbose=verbose, quiet=quiet) as display:
        try:
            outcome = api.run(source, overrides=settings, seeds=seeds, options=options, listener=display)
        except KeyboardInterrupt:
            display.__exit__(None, None, None)
            print(
                "\nInterrupted. What was complete is stored: the same command goes on where this one stopped.",
                file=sys.stderr,
            )
            return 130
    results = api.load_results(outcome.folder)
    page = outcome.folder / "report.html"
    if as_json:
        counts = outcome.counts
        print(
            json.dumps(
                {
                    "folder": str(outcome.folder),
                    "report": str(page),
                    "jobs": {"done": counts.done, "failed": counts.failed, "skipped": counts.skipped},
                    "failed_nodes": outcome.failed,
                    "seconds": round(outcome.seconds, 3),
                    "summary": json.loads(results.summary.to_json(orient="records")),
                },
                indent=1,
            )
        )
        return outcome.exit_code
    _print_summary(results)
    if outcome.failed:
        print(
            f"{outcome.failed} nodes failed or could not be done: see the report. The next run tries them again.",
            file=sys.stderr,
        )
    print(f"Finished in {duration(outcome.seconds)}.", file=sys.stderr)
    print(f"Report: {page}")
    return outcome.exit_code


def report_command(folder: Path, options: api.Options, *, as_json: bool) -> None:
    """Builds the derived files of a folder again and prints their paths."""
    written = api.report(folder, options=options)
    if as_json:
        print(json.dumps({"folder": str(folder), "files": [str(p) for p in written]}, indent=1))
        return
    for path in written:
        print(path)


def _print_summary(results: object) -> None:
    from rich.console import Console

    from ..report.terminal import summary_table

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=120)  # a file has no width; the table has its own
    console.print(summary_table(results))  # pyright: ignore[reportArgumentType]
