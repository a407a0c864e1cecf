"""Runs jobs in worker processes, one per core by default, with a fixed number of torch threads each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import wait as wait_for
from typing import Any

from ..scoring import failure
from ..work import Surroundings
from .base import Result
from .pool import Answer, Pool

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}
"""Makes glibc keep freed memory: activations of every step would go back to the system and be zeroed again (12 % slower)."""

_DIED = (
    "the worker process died while this job was running and no other (killed for lack of memory?). "
    "The next run tries it again."
)

_worker: Any = None


class ProcessExecutor:
    """A pool of spawned processes. A job during which its worker dies has failed; the others go on.

    Args:
        surroundings: where jobs run.
        workers: number of processes.
    """

    def __init__(self, surroundings: Surroundings, workers: int) -> None:
        # Libraries read these when they are first imported, so they have to be there before the processes start.
        os.environ.update({name: str(surroundings.threads) for name in _THREADS})
        for name, value in _MALLOC.items():
            os.environ.setdefault(name, value)
        self._pool = Pool(workers, _start, _run, (surroundings,))

    @property
    def workers(self) -> int:
        return self._pool.workers

    def submit(self, ticket: Any, job: dict[str, Any]) -> None:
        self._pool.submit(ticket, job)

    def pending(self) -> int:
        return self._pool.pending()

    def wait(self) -> list[Result]:
        results = []
        for ticket, answer in self._pool.wait():
            if isinstance(answer, BaseException):
                error = {"type": "WorkerDied", "message": _DIED, "traceback": str(answer)}
                answer = {"ok": False, "error": error}, 0.0
            results.append(Result(ticket, *answer))
        return results

    def close(self, *, at_once: bool = False) -> None:
        self._pool.close(at_once=at_once)


class _Unable:
    """Stands in for a worker that could not start: every job fails with the reason."""

    def __init__(self, reason: BaseException) -> None:
        self._error = failure(reason)

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        return {"ok": False, "error": self._error}


def _start(surroundings: Surroundings) -> None:
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what Ctrl-C means
    threading.Thread(target=_die_with_the_driver, daemon=True).start()
    from ..plugins import add_plugin_file
    from ..work import Worker

    try:
        for path in surroundings.plugins:
            add_plugin_file(path)
        _worker = Worker(surroundings)
    except (Exception, SystemExit) as exc:  # noqa: BLE001  (a plugin's file may raise anything)
        _worker = _Unable(exc)


def _die_with_the_driver() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A killed driver cannot end its workers; left alone they would go on computing for nobody.
        wait_for([parent.sentinel])
        os._exit(1)


def _run(job: dict[str, Any]) -> Answer:
    started = time.perf_counter()
    return _worker.run(job), time.perf_counter() - started
