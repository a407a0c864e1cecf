"""The contract of an executor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Result:
    """What came of a job.

    Attributes:
        ticket: what :meth:`Executor.submit` was given.
        value: what the worker returned: ``{"ok": …}``.
        seconds: wall-clock time of the job.
    """

    ticket: Any
    value: dict[str, Any]
    seconds: float


class Executor(Protocol):
    """Runs jobs. JSON in, JSON out; only the driver writes records."""

    @property
    def workers(self) -> int:
        """How many jobs run at once."""
        ...

    def submit(self, ticket: Any, job: dict[str, Any]) -> None:
        """Takes a job; the ticket comes back with its result."""
        ...

    def pending(self) -> int:
        """Returns how many jobs were submitted and not yet returned by :meth:`wait`."""
        ...

    def wait(self) -> list[Result]:
        """Waits until at least one job has finished and returns all that have."""
        ...

    def close(self, *, at_once: bool = False) -> None:
        """Ends the workers; with ``at_once`` without waiting for running jobs."""
        ...
