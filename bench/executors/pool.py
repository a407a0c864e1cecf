"""A pool of processes that survives the death of one of them."""

from __future__ import annotations

import multiprocessing
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from ..plugins import REGISTRIES

Work = tuple[Any, dict[str, Any]]
"""A ticket and its job."""

Answer = tuple[dict[str, Any], float]
"""What a job gave and the seconds that it took."""


class Pool:
    """Spawned processes that run jobs.

    A process that dies (killed for memory, say) takes the standard library's whole pool with it, and nothing tells whose
    job it was. Here the processes are renewed and the jobs that were running are run again one at a time: the one during
    which a process dies again has failed, and those beside it go on.

    Args:
        workers: number of processes.
        begin: what each process does first, with the arguments ``given``; a function that can be imported.
        task: what runs a job; a function that can be imported.
        given: arguments of ``begin``.
    """

    def __init__(
        self, workers: int, begin: Callable[..., None], task: Callable[[dict[str, Any]], Answer], given: tuple[Any, ...]
    ) -> None:
        self.workers = workers
        self._begin, self._task, self._given = begin, task, given
        self._running: dict[Future[Answer], Work] = {}
        self._suspects: deque[Work] = deque()
        self._held: deque[Work] = deque()
        self._trial = False  # a suspect is running, alone
        self._pool = self._new()

    def submit(self, ticket: Any, job: dict[str, Any]) -> None:
        """Takes a job; the ticket comes back with its answer."""
        self._held.append((ticket, job))
        self._launch()

    def pending(self) -> int:
        """Returns how many jobs were submitted and not yet returned by :meth:`wait`."""
        return len(self._running) + len(self._suspects) + len(self._held)

    def wait(self) -> list[tuple[Any, Answer | BrokenProcessPool]]:
        """Waits until at least one job has an answer, or has ended its process, and returns all that have."""
        answers: list[tuple[Any, Answer | BrokenProcessPool]] = []
        while not answers:
            # The time-out keeps the driver open to Ctrl-C on every platform.
            finished, _ = wait(self._running, timeout=1.0, return_when=FIRST_COMPLETED)
            broken: list[Work] = []
            for future in finished:
                work = self._running.pop(future)
                try:
                    answers.append((work[0], future.result()))
                except BrokenProcessPool as exc:
                    broken.append(work)
                    death = exc
            if broken:
                broken += self._running.values()
                self._running.clear()
                self._renew()
                if len(broken) == 1:
                    answers.append((broken[0][0], death))  # pyright: ignore[reportPossiblyUnboundVariable]
                else:
                    self._suspects.extend(broken)
            self._launch()
        return answers

    def close(self, *, at_once: bool = False) -> None:
        """Ends the processes; with ``at_once`` without waiting for running jobs."""
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=not at_once, cancel_futures=True)
        if at_once:
            for process in processes:
                process.terminate()
        self._running.clear()
        self._suspects.clear()
        self._held.clear()

    def _launch(self) -> None:
        """Starts what may start now: one suspect when nothing else runs, other work when there is no suspect."""
        if self._trial and self._running:
            return
        self._trial = False
        if self._suspects:
            if not self._running:
                self._trial = True
                self._start(self._suspects.popleft())
            return
        while self._held:
            self._start(self._held.popleft())

    def _start(self, work: Work) -> None:
        with _deaf_to_ctrl_c(), _without_the_script():
            try:
                future = self._pool.submit(self._task, work[1])
            except BrokenProcessPool:  # an idle process died
                self._renew()
                future = self._pool.submit(self._task, work[1])
        self._running[future] = work

    def _renew(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        spawn = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, spawn, initializer=self._begin, initargs=self._given)


@contextmanager
def _without_the_script() -> Iterator[None]:
    """Lets processes start that do not import the caller's script, so that it needs no ``if __name__ == "__main__"``.

    A spawned process imports it by default, and a script without the guard would start a run inside each worker. Workers
    need nothing of it, unless it registers plugins of its own: then it is imported, and has to have the guard.
    """
    script = sys.modules["__main__"]
    if any(getattr(e.cls, "__module__", "") == "__main__" for r in REGISTRIES.values() for e in r.loaded()):
        yield
        return
    kept = {name: getattr(script, name) for name in ("__spec__", "__file__") if hasattr(script, name)}
    for name in kept:
        setattr(script, name, None)
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(script, name, value)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Lets processes start that ignore Ctrl-C from their first moment: what it means is the driver's to decide.

    A terminal sends it to all of them, and one that is still importing would die with a traceback on the screen. The signal is
    blocked and not ignored meanwhile: processes inherit that, and the driver gets afterwards what came in between.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)
        return
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
