"""Runs jobs in worker processes, one per core by default, with a fixed number of torch threads each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for
from typing import Any

from ..work import Surroundings
from .base import Result

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
"""Makes glibc keep freed memory: activations of every step would go back to the system and be zeroed again (12 % slower)."""

_worker: Any = None


class ProcessExecutor:
    """A pool of spawned processes. A worker that dies (killed for memory, say) fails its jobs, and the pool is renewed.

    Args:
        surroundings: where jobs run.
        workers: number of processes.
    """

    def __init__(self, surroundings: Surroundings, workers: int) -> None:
        self._surroundings = surroundings
        self._count = workers
        self._pool = self._new_pool()
        self._running: dict[Future[tuple[dict[str, Any], float]], Any] = {}

    @property
    def workers(self) -> int:
        return self._count

    def submit(self, ticket: Any, job: dict[str, Any]) -> None:
        try:
            future = self._pool.submit(_run, job)
        except BrokenProcessPool:
            self._pool = self._new_pool()
            future = self._pool.submit(_run, job)
        self._running[future] = ticket

    def pending(self) -> int:
        return len(self._running)

    def wait(self) -> list[Result]:
        # The time-out keeps the driver open to Ctrl-C on every platform.
        finished: set[Future[tuple[dict[str, Any], float]]] = set()
        while not finished:
            finished, _ = wait(self._running, timeout=1.0, return_when=FIRST_COMPLETED)
        results = []
        for future in finished:
            ticket = self._running.pop(future)
            try:
                value, seconds = future.result()
            except BrokenProcessPool as exc:
                message = (
                    "a worker process died while this job, or one beside it, was running (killed for lack of memory?). "
                    "The next run tries it again; fewer workers (--jobs 1) need less memory."
                )
                error = {"type": "WorkerDied", "message": message, "traceback": str(exc)}
                value, seconds = {"ok": False, "error": error}, 0.0
            results.append(Result(ticket, value, seconds))
        return results

    def close(self, *, at_once: bool = False) -> None:
        processes = list((getattr(self._pool, "_processes", None) or {}).values())
        self._pool.shutdown(wait=not at_once, cancel_futures=True)
        if at_once:
            for process in processes:
                process.terminate()
        self._running.clear()

    def _new_pool(self) -> ProcessPoolExecutor:
        # Libraries read these when they are first imported, so they have to be there before the processes start.
        os.environ.update({name: str(self._surroundings.threads) for name in _THREADS})
        for name, value in _MALLOC.items():
            os.environ.setdefault(name, value)
        return ProcessPoolExecutor(
            self._count, multiprocessing.get_context("spawn"), initializer=_start, initargs=(self._surroundings,)
        )


def _start(surroundings: Surroundings) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    from ..plugins import add_plugin_file
    from ..work import Worker

    for path in surroundings.plugins:
        add_plugin_file(path)
    _worker = Worker(surroundings)


def _die_with_the_driver() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A killed driver cannot end its workers; left alone they would go on computing for nobody.
        wait_for([parent.sentinel])
        os._exit(1)


def _run(job: dict[str, Any]) -> tuple[dict[str, Any], float]:
    started = time.perf_counter()
    return _worker.run(job), time.perf_counter() - started
