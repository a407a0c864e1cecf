"""The driver: hands jobs to an executor, writes records, tells what happens. Only the driver writes records."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .errors import StoreError
from .events import Counts, Event, Listener
from .executors import Executor, Result
from .plan import Plan
from .plugins import METRICS, REGISTRIES
from .scoring import failure
from .selftest import self_tests
from .state import Todo
from .store import Store, new_record
from .tuned import one_of_many
from .work import Job

_FIRST = {"target": 0, "fit": 1, "reference": 2, "cell": 3, "measure": 4, "score": 5}


class Runner:
    """Runs the jobs of a plan.

    Args:
        plan: the plan.
        todo: what has to be done.
        store: the store, opened for writing.
        executor: where jobs run.
        estimates: ticket to estimated seconds.
        provenance: what every record says of where and with what it was made.
        listener: is told what happens.
        fail_fast: stop at the first failure.
    """

    def __init__(
        self,
        plan: Plan,
        todo: Todo,
        store: Store,
        executor: Executor,
        estimates: Mapping[str, float],
        provenance: dict[str, Any],
        listener: Listener,
        *,
        fail_fast: bool = False,
    ) -> None:
        self.plan, self.todo, self.store, self.executor = plan, todo, store, executor
        self.estimates, self.provenance, self.listener, self.fail_fast = estimates, provenance, listener, fail_fast
        self.counts = Counts(total=len(todo.jobs))
        self._waiting = dict(todo.jobs)
        self._unmet = {t: set(needs) for t, needs in todo.needs.items()}
        self._started: dict[str, float] = {}
        self._spent = self._predicted = 0.0
        self._plugins = _origins(plan)
        self._verdicts: dict[str, str] = {}

    def run(self) -> Counts:
        """Runs until every job is done, failed or skipped.

        Raises:
            KeyboardInterrupt: after Ctrl-C; what was complete is stored.
        """
        stop = False
        while self._waiting or self.executor.pending():
            if not stop:
                self._submit_ready()
            if not self.executor.pending():
                break
            for result in self.executor.wait():
                stop = self._finish(result) or stop
        return self.counts

    # -- scheduling -----------------------------------------------------------------------------------------------

    def _submit_ready(self) -> None:
        ready = [t for t in self._waiting if not self._unmet[t]]
        loud = [t for t in ready if not self._waiting[t].extra.get("quiet")]
        if loud:
            loud.sort(key=lambda t: (_FIRST[self._waiting[t].task], -self.estimates.get(t, 0.0)))
            for ticket in loud[: self.executor.workers - self.executor.pending()]:
                self._submit(ticket)
        elif ready and not self.executor.pending():
            # A latency is measured while nothing else computes: alone, when all other work is over.
            self._submit(ready[0])

    def _submit(self, ticket: str) -> None:
        job = self._waiting.pop(ticket)
        self._started[ticket] = time.monotonic()
        self.counts.running += 1
        if job.task == "measure":
            # Here and not before the run: the other workers train meanwhile.
            self_tests((s["name"] for s in job.metrics), self.store.folder / "cache", self._verdicts)
            job = replace(job, extra={**job.extra, "self_tests": self._verdicts})
        self.executor.submit(ticket, job.dump())
        self._tell("started", ticket)

    def _finish(self, result: Result) -> bool:
        ticket: str = result.ticket
        job = self.todo.jobs[ticket]
        self.counts.running -= 1
        self._started.pop(ticket, None)
        value = self._stored(job, result.value)
        if value["ok"]:
            self.counts.done += 1
            self._spent += result.seconds
            self._predicted += self.estimates.get(ticket, 0.0)
            for needs in self._unmet.values():
                needs.discard(ticket)
            broken = [f"{n}: {m['reason']}" for n, m in _parts(value["fields"]).items() if m["status"] == "failed"]
            if broken:
                # The node is done, but not all of it: it counts as failed, and the next run tries those parts again.
                self.counts.done -= 1
                self.counts.failed += 1
                self._tell("failed", ticket, result.seconds, _first_line("; ".join(broken)))
                return self.fail_fast
            self._tell("done", ticket, result.seconds)
            return False
        error = value["error"]
        reason = _first_line(f"{error['type']}: {error['message']}")
        if job.task in ("measure", "score"):
            self._store(job, _all_failed(job, reason, error))
        else:
            self.store.write(self._record(job, {"status": "failed", "error": error}))
        self.counts.failed += 1
        self._tell("failed", ticket, result.seconds, reason)
        self._skip_dependents(
            ticket, f"{job.task} failed: {reason}", diverged=error["type"] == FloatingPointError.__name__
        )
        return self.fail_fast

    def _skip_dependents(self, ticket: str, reason: str, *, diverged: bool = False) -> None:
        for other in [t for t, needs in self._unmet.items() if ticket in needs]:
            if other in self._waiting and self._waiting[other].extra.get("twin") == self.todo.jobs[ticket].key:
                self._unmet[other].discard(ticket)  # it would have taken what its twin found, and has to find it itself
                continue
            if diverged and other in self._waiting and one_of_many(self._waiting[other], self.todo.jobs[ticket].key):
                self._unmet[other].discard(ticket)  # a setting that diverges is not the best one
                continue
            if self._waiting.pop(other, None) is None:
                continue  # skipped already: it needs two nodes that cannot be done
            self.counts.skipped += 1
            self._tell("skipped", other, message=reason)
            self._skip_dependents(other, reason)

    # -- storing --------------------------------------------------------------------------------------------------

    def _stored(self, job: Job, value: dict[str, Any]) -> dict[str, Any]:
        """Stores what a worker found and returns it, or the failure of a plugin that gave what no record can hold."""
        if not value["ok"]:
            return value
        try:
            self._store(job, value["fields"])
        except StoreError as refused:
            where = "; ".join(line.strip(" -") for line in str(refused).splitlines())  # reasons are single lines
            return {"ok": False, "error": {**failure(refused), "message": f"it gave what cannot be stored: {where}"}}
        return value

    def _store(self, job: Job, fields: dict[str, Any]) -> None:
        if job.task in ("measure", "score"):
            record = self.store.read(job.kind, job.key)
            if record is None:
                raise KeyError(f"{job.kind} {job.key} vanished while it was measured")
            part = "measurements" if job.task == "measure" else "scores"
            record[part] = {**record[part], **fields[part]}
            self.store.write(record)
        else:
            self.store.write(self._record(job, fields))

    def _record(self, job: Job, fields: dict[str, Any]) -> dict[str, Any]:
        kind: Any = job.kind
        used = {k: v for k, v in self._plugins.items() if k in _names(job.identity)}
        return new_record(kind, job.identity, provenance={**self.provenance, "plugins": used}, **fields)

    # -- telling --------------------------------------------------------------------------------------------------

    def _tell(self, kind: Any, ticket: str, seconds: float = 0.0, message: str = "") -> None:
        self.listener(
            Event(
                kind,
                self.todo.titles[ticket],
                self.todo.jobs[ticket].task,
                seconds,
                message,
                replace(self.counts),
                self.left(),
            )
        )

    def left(self) -> float | None:
        """Returns the estimated seconds left: the estimates of what is left, corrected by what the finished jobs took.

        Early on the correction leans on the estimates; with each finished job it trusts what was measured more.
        """
        if not self.estimates:
            return None
        prior = 10.0  # seconds of estimate that count as evidence for the estimate itself
        ratio = (self._spent + prior) / (self._predicted + prior)
        now = time.monotonic()
        loud = sum(self.estimates.get(t, 0.0) for t, j in self._waiting.items() if not j.extra.get("quiet"))
        quiet = sum(self.estimates.get(t, 0.0) for t, j in self._waiting.items() if j.extra.get("quiet"))
        running = [max(0.0, self.estimates.get(t, 0.0) * ratio - (now - s)) for t, s in self._started.items()]
        workers = max(1, self.executor.workers)
        return max((loud * ratio + sum(running)) / workers, max(running, default=0.0)) + quiet * ratio


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), text)


def _all_failed(job: Job, reason: str, error: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of a job that gave none of its measurements or scores: each has failed, with the reason."""
    head = {"status": "failed", "reason": reason, "error": dict(error)}
    if job.task == "measure":
        return {"measurements": {s["name"]: {**head, "key": s["key"]} for s in job.metrics}}
    versions = {s["name"]: METRICS.get(s["name"]).version for s in job.metrics}
    return {"scores": {s["name"]: {**head, "key": s["key"], "version": versions[s["name"]]} for s in job.metrics}}


def _parts(fields: Mapping[str, Any]) -> dict[str, Any]:
    parts: dict[str, Any] = dict(fields.get("measurements", {}))
    parts.update(fields.get("scores", {}))
    for row in fields.get("rows", {}).values():
        parts.update(row)
    return parts


def _names(identity: Mapping[str, Any]) -> set[str]:
    """Returns every plugin name that an identity mentions."""
    found = set()
    stack: list[Any] = [identity]
    while stack:
        at = stack.pop()
        if isinstance(at, Mapping):
            if isinstance(at.get("name"), str):
                found.add(at["name"])
            stack += list(at.values())
        elif isinstance(at, list):
            stack += at
    return found


def _origins(plan: Plan) -> dict[str, str]:
    names = {name for node in plan.nodes.values() for name in _names(node.identity)}
    return {name: r.entry(name).origin for r in REGISTRIES.values() for name in sorted(names) if name in r}
