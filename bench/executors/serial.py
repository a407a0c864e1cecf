"""Runs jobs one after the other in this process."""

from __future__ import annotations

import time
from collections import deque
from typing import Any

from ..plugins import add_plugin_file
from ..work import Surroundings, Worker
from .base import Result


class SerialExecutor:
    """One job at a time, in the driver's own process: for debugging, for GPUs and for tests.

    Args:
        surroundings: where jobs run.
    """

    def __init__(self, surroundings: Surroundings) -> None:
        import torch

        self._threads = torch.get_num_threads()
        for path in surroundings.plugins:
            add_plugin_file(path)
        self._worker = Worker(surroundings)
        self._queue: deque[tuple[Any, dict[str, Any]]] = deque()

    @property
    def workers(self) -> int:
        return 1

    def submit(self, ticket: Any, job: dict[str, Any]) -> None:
        self._queue.append((ticket, job))

    def pending(self) -> int:
        return len(self._queue)

    def wait(self) -> list[Result]:
        ticket, job = self._queue.popleft()
        started = time.perf_counter()
        value = self._worker.run(job)
        return [Result(ticket, value, time.perf_counter() - started)]

    def close(self, *, at_once: bool = False) -> None:
        import torch

        self._queue.clear()
        torch.set_num_threads(self._threads)
