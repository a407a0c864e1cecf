"""What a run tells while it goes on: the live board and the plain lines."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from splitaudit.cli import progress
from splitaudit.cli.board import Board, clock_face, duration
from splitaudit.cli.progress import Display, job_line, size
from splitaudit.events import Counts, Event

FACTS = {
    "cautions": ["Too few images."],
    "targets": 1,
    "cells": 3,
    "cell_jobs": 3,
    "done": 0,
    "retried": 0,
    "skipped_rows": 0,
    "outdated": 0,
    "workers": 2,
    "device": "cpu",
    "seconds": 100.0,
    "bytes": 2e6,
}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def board(clock: Clock) -> Board:
    return Board(Counts(total=5, facts=FACTS), clock)


def event(kind: Any, title: str = "a", task: str = "cell", left: float | None = None, **counts: int) -> Event:
    return Event(kind, title, task, 2.0, "", replace(Counts(total=5), **counts), left)


def drawn(board: Board, width: int = 100) -> str:
    text = io.StringIO()
    Console(file=text, width=width, highlight=False).print(board)
    return text.getvalue()


def test_the_board_counts_cells_done_failed_and_left(board: Board) -> None:
    board.take(event("done", task="target", done=1))
    board.take(event("done", done=2))
    board.take(event("failed", done=2, failed=1))
    assert board.tally() == ["cells: 1 done, 1 failed, 1 left", "jobs: 2 done, 1 failed, 2 left"]
    board.take(event("skipped", done=2, failed=1, skipped=1))
    assert board.tally()[0] == "cells: 1 done, 1 failed, 1 skipped, 0 left"


def test_a_run_without_cells_counts_jobs_only() -> None:
    assert Board(Counts(total=2, facts={"cell_jobs": 0})).tally() == ["jobs: 0 done, 0 failed, 2 left"]


def test_the_times_go_on_while_nothing_happens(board: Board, clock: Clock) -> None:
    board.take(event("started", "long job", left=60.0))
    assert "about 60 s left" in board.head()
    clock.now = 45.0
    assert "0/5 jobs, 0:45, about 15 s left" in board.head()
    assert board.running() == [" 0:45  long job"]


def test_an_estimate_that_has_run_out_is_admitted(board: Board, clock: Clock) -> None:
    board.take(event("started", left=10.0))
    clock.now = 30.0
    assert "taking longer than estimated" in board.head()


def test_nothing_is_promised_before_anything_is_known_nor_while_the_report_is_written(board: Board) -> None:
    assert "not known yet" in board.head()
    board.take(event("done", done=5, left=0.0))
    assert board.head().endswith("writing tables and report")


def test_two_running_jobs_of_one_title_are_two_jobs(board: Board, clock: Clock) -> None:
    board.take(event("started", "decoder on none"))
    clock.now = 5.0
    board.take(event("started", "decoder on none"))
    assert len(board.running()) == 2
    board.take(event("done", "decoder on none", done=1))
    assert board.running() == [" 0:00  decoder on none"]


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_board_fits_the_terminal_and_keeps_the_seconds_of_long_titles(board: Board, width: int) -> None:
    board.take(event("started", "information, cost and accuracy of " + "nopeek+noise(sigma=0.5) " * 9))
    lines = drawn(board, width).splitlines()
    assert max(len(line) for line in lines) <= width
    assert lines[-1].startswith("   0:00  information")


@pytest.mark.parametrize(("terminal", "verbose", "lines"), [(False, False, 2), (True, False, 1), (True, True, 2)])
def test_failures_are_printed_at_once_and_done_jobs_only_if_asked(
    terminal: bool,
    verbose: bool,
    lines: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Console(stderr=True, force_terminal=terminal, width=200, highlight=False)
    monkeypatch.setattr(progress, "Console", lambda **_: fake)
    with Display(verbose=verbose) as display:
        display(Event("planned", counts=Counts(total=5, facts=FACTS)))
        display(event("done", "job one", done=1))
        failed = event("failed", "job two", done=1, failed=1, left=9.0)
        display(replace(failed, message="ValueError: out of cheese\nTraceback (most recent call last)"))
        display(Event("finished"))
    said = capsys.readouterr().err
    assert said.count("job one") + said.count("FAILED after 2 s: attack job two") == lines
    assert "[2/5] FAILED after 2 s: attack job two: ValueError: out of cheese; 3 jobs left, about 9 s" in said
    assert "Traceback" not in said
    assert "about 2 min and 2 MB of disk" in said


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (event("done", "none", "target", 9.0, done=1), "[1/5] done in 2 s: training of none; 4 jobs left, about 9 s"),
        (
            event("done", "fit of decoder on none", "fit", done=4),
            "[4/5] done in 2 s: fit of decoder on none; 1 job left",
        ),
        (event("done", "rmle", left=0.0, done=5), "[5/5] done in 2 s: attack rmle; now the tables and the report"),
        (event("skipped", "rmle on none", skipped=1), "[1/5] skipped: attack rmle on none; 4 jobs left"),
    ],
)
def test_a_line_says_what_is_over_how_long_it_took_and_what_is_left(what: Event, line: str) -> None:
    assert what.counts is not None
    assert job_line(what, what.counts) == line


def test_a_quiet_run_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with Display(quiet=True) as display:
        display(Event("planned", counts=Counts(total=5, facts=FACTS)))
        display(event("failed", failed=1))
    assert capsys.readouterr() == ("", "")


def test_times_and_sizes_are_said_as_people_say_them() -> None:
    assert [duration(s) for s in (0.3, 42, 89.6, 420, 7800, 200_000)] == [
        "0.3 s",
        "42 s",
        "90 s",
        "7 min",
        "2 h 10 min",
        "2.3 days",
    ]
    assert [clock_face(s) for s in (7, 750, 3723)] == ["0:07", "12:30", "1:02:03"]
    assert [size(b) for b in (12, 4.3e7, 2.5e9)] == ["12 bytes", "43 MB", "2.5 GB"]
