"""What a run tells while it goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        kind: ``note`` (something to know, in ``message``), ``planned`` (before the first node), ``started``, ``done``,
            ``failed``, ``skipped`` or ``finished``.
        title: what a person calls the node.
        task: the job's task, empty for ``planned`` and ``finished``.
        seconds: how long it took.
        message: the error or reason.
        counts: state of the run after this event.
        left_s: estimate of the seconds left, None where nothing is known.
    """

    kind: Literal["note", "planned", "started", "done", "failed", "skipped", "finished"]
    title: str = ""
    task: str = ""
    seconds: float = 0.0
    message: str = ""
    counts: Counts | None = None
    left_s: float | None = None


@dataclass
class Counts:
    """How many jobs are where."""

    total: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    running: int = 0
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Jobs that are neither finished nor given up."""
        return self.total - self.done - self.failed - self.skipped


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """Ignores an event."""
