"""What a run would do: nodes, filters, the machine, time and disk."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .cautions import cautions
from .errors import ConfigError, did_you_mean
from .estimate import Estimator
from .knowledge import level
from .labels import names_of_label
from .options import Options
from .plan import Plan
from .plugins import ATTACKS, DEFENSES
from .state import Todo, chosen_nodes, find_todo
from .store import Name, Store
from .store.schema import Kind


@dataclass(frozen=True)
class Preview:
    """What a run would do.

    Attributes:
        plan: the plan.
        todo: the jobs.
        chosen: the nodes that filters leave.
        status: state of each stored record.
        seconds: estimated wall-clock time.
        bytes: estimated disk space.
        workers: number of workers.
        device: torch device.
        outdated: stored records that the plan does not have.
    """

    plan: Plan
    todo: Todo
    chosen: set[Name]
    status: Mapping[Name, Any]
    seconds: float
    bytes: int
    workers: int
    device: str
    outdated: int

    @property
    def cautions(self) -> list[str]:
        """What the figures will lack."""
        done = {name for name, entry in self.status.items() if entry.status == "done"}
        return cautions(self.plan, self.chosen, done)


def look_ahead(made: Plan, store: Store, options: Options) -> Preview:
    """Returns what a run would do.

    Raises:
        ConfigError: a filter or pattern that no row answers to, or a machine that is not there.
    """
    _check_filters(made, options)
    device = pick_device(options.device)
    executor, workers = executor_kind(options, device)
    stored = (store.folder / "records").is_dir()
    status = store.status() if stored else {}
    filters = options.filters or {}
    chosen = chosen_nodes(made, filters, options.limit)
    force = _forced(made, options.force)
    todo = find_todo(made, status, chosen, keep_failed=options.keep_failed, force=force)
    estimator = Estimator(made, device, made.suite["threads"], workers)
    whole = estimator.whole(todo, processes=executor == "processes")
    outdated = len(store.outdated(made.nodes.keys())) if stored else 0
    return Preview(made, todo, chosen, status, whole, estimator.disk(todo), workers, device, outdated)


def executor_kind(options: Options, device: str) -> tuple[str, int]:
    """Returns where jobs run (``serial`` or ``processes``) and how many at once.

    Raises:
        ConfigError: there is no such executor, or no worker.
    """
    kind = options.executor or ("serial" if device.startswith("cuda") else "processes")
    if kind not in ("serial", "processes"):
        raise ConfigError([f"--executor {kind}: expected serial or processes"], "command line")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    if options.jobs is not None and options.jobs < 1:
        raise ConfigError([f"--jobs {options.jobs}: expected at least 1"], "command line")
    return kind, 1 if kind == "serial" else (options.jobs or cores)


def _forced(made: Plan, patterns: Sequence[str]) -> set[Name]:
    """Returns the nodes whose defense or attack matches a pattern, and all that depend on them."""
    if not patterns:
        return set()

    def meant(label: str) -> bool:
        return any(fnmatch.fnmatchcase(n, p) or n == p for n in names_of_label(label) for p in patterns)

    forced: set[Name] = set()
    for row in made.targets:
        if row["key"] and meant(row["defense"]):
            forced.add(("target", row["key"]))
    for row in made.cells:
        if row["key"] and meant(row["attack"]):
            forced.add(("cell", row["key"]))
            # Its own fit; those that it builds on belong to other attacks.
            own = made.nodes["cell", row["key"]].identity["fit"]
            forced |= {("fit", own)} if own else set()
    for name, node in made.nodes.items():
        if any(n in forced for n in node.needs):
            forced.add(name)
    return forced


def _how_to_add(name: str, value: str, made: Plan) -> str:
    """Returns what to write to add what a filter names and the suite does not have; empty where it is nowhere."""
    if name == "knowledge":
        try:
            level(value)
        except ConfigError:
            return ""
        field, there = "knowledge", "white-box"
    elif name in ("defense", "attack"):
        registry = DEFENSES if name == "defense" else ATTACKS
        if not all(part in registry for part in value.split("+")):
            return ""
        field, there = f"{name}s", "none" if name == "defense" else "prior"
    else:
        return ""
    return f" --{name} only selects from those. To have it in the suite: -s '{field}=[{there}, {value}]'."


def _check_filters(made: Plan, options: Options) -> None:
    """Refuses a filter or a pattern that no row of the plan answers to: it would silently do nothing."""
    known: dict[str, dict[str, None]] = {"defense": {}, "attack": {}, "knowledge": {}, "seed": {}}
    for name, names in known.items():
        for label in dict.fromkeys(str(row[name]) for row in [*made.targets, *made.cells] if name in row):
            names |= dict.fromkeys(names_of_label(label))
    problems = [
        f"--{name} {value}: the suite '{made.suite['name']}' has no such {name}."
        f"{did_you_mean(str(value), known[name])} It has {', '.join(known[name])}.{_how_to_add(name, str(value), made)}"
        for name, values in (options.filters or {}).items()
        for value in values
        if str(value) not in known.get(name, {str(value): None})
    ]
    names = known["defense"] | known["attack"]
    problems += [
        f"--force {pattern}: matches no defense or attack.{did_you_mean(pattern, names)} There are {', '.join(names)}."
        for pattern in options.force
        if not any(fnmatch.fnmatchcase(name, pattern) or name == pattern for name in names)
    ]
    if problems:
        raise ConfigError(problems, "command line")


def pick_device(wanted: str) -> str:
    """Returns the torch device for a wish.

    Raises:
        ConfigError: a GPU was asked for and there is none.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError as exc:
        raise ConfigError([f"--device {wanted}: expected auto, cpu, cuda or cuda:N"], "command line") from exc
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        n = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise ConfigError(
            [f"--device {wanted}: torch sees {n} GPUs here. Use --device cpu, or see splitaudit doctor."],
            "command line",
        )
    if device.type not in ("cpu", "cuda"):
        raise ConfigError([f"--device {wanted}: expected auto, cpu, cuda or cuda:N"], "command line")
    return wanted


def facts(preview: Preview) -> dict[str, Any]:
    """Returns the numbers that a person is told before a run begins, of what filters leave."""

    def chosen(kind: Kind, rows: Sequence[Mapping[str, Any]]) -> int:
        return len({r["key"] for r in rows if (kind, r["key"]) in preview.chosen})

    return {
        "done": preview.todo.done,
        "retried": preview.todo.retried,
        "skipped_rows": sum(1 for r in preview.plan.cells if r["skip"]),
        "cells": chosen("cell", preview.plan.cells),
        "targets": chosen("target", preview.plan.targets),
        "workers": preview.workers,
        "device": preview.device,
        "cell_jobs": sum(job.task == "cell" for job in preview.todo.jobs.values()),
        "seconds": preview.seconds,
        "bytes": preview.bytes,
        "outdated": preview.outdated,
        "cautions": preview.cautions,
    }
