"""``splitaudit plan`` and ``run --dry-run``."""

from __future__ import annotations

import json
import sys
from typing import Any

from .. import api
from ..events import Event
from .output import Output
from .progress import duration, size

STATES = ("failed", "to do", "done", "left out", "skipped")


def plan_command(
    source: str, settings: list[str], seeds: list[int], options: api.Options, *, tune: int | None = None, as_json: bool
) -> None:
    """Prints what a run would do."""

    def listener(event: Event) -> None:
        print(event.message, file=sys.stderr, flush=True)

    preview = api.plan_suite(source, overrides=settings, seeds=seeds, tune=tune, options=options, listener=listener)
    targets = [{**row, "state": _state("target", row, preview)} for row in preview.plan.targets]
    cells = [{**row, "state": _state("cell", row, preview)} for row in preview.plan.cells]
    if as_json:
        print(
            json.dumps(
                {
                    "suite": preview.plan.suite["name"],
                    "targets": targets,
                    "cells": cells,
                    "jobs": len(preview.todo.jobs),
                    "seconds": round(preview.seconds, 1),
                    "bytes": preview.bytes,
                    "workers": preview.workers,
                    "device": preview.device,
                    "outdated": preview.outdated,
                    "cautions": preview.cautions,
                },
                indent=1,
            )
        )
        return
    _print(preview, targets, cells)


def _state(kind: str, row: dict[str, Any], preview: api.Preview) -> str:
    if row["skip"]:
        return "skipped"
    name: Any = (kind, row["key"])
    if name not in preview.chosen:
        return "left out"
    entry = preview.status.get(name)
    if entry is None:
        return "to do"
    return {"done": "done", "failed": "failed", "incomplete": "to do"}[entry.status]


def _print(preview: api.Preview, targets: list[dict[str, Any]], cells: list[dict[str, Any]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    console = Output(140)
    suite = preview.plan.suite
    about = f": {escape(suite['description'])}" if suite["description"] else ""
    console.print(f"[bold]{escape(suite['name'])}[/]{about}", soft_wrap=True)
    for label, data in preview.plan.datasets.items():
        parts = ", ".join(f"{k} {v}" for k, v in data["sizes"].items())
        shape = "×".join(map(str, data["image_shape"]))
        console.print(
            f"dataset {label}: {shape}, {len(data['classes'])} classes; {parts}", markup=False, soft_wrap=True
        )
    levels = list(dict.fromkeys(r["knowledge"] for r in cells))
    many = len({(r["dataset"], r["backbone"], r["cut"]) for r in targets}) > 1
    trained = Table(title="targets, and how many cells of each are in which state", title_justify="left")
    for name in ("target", "trained", *levels):
        trained.add_column(escape(name), overflow="fold")
    for label, of in _grouped(targets, ("dataset", "backbone", "cut", "defense")).items():
        place = f" ({', '.join(label[:3])})" if many else ""
        here = [c for c in cells if tuple(c[k] for k in ("dataset", "backbone", "cut", "defense")) == label]
        trained.add_row(escape(label[3] + place), _states(of), *(_states(_at(here, level)) for level in levels))
    console.print(trained)
    attacks = Table(title="attacks, over all targets", title_justify="left")
    for name in ("attack", *levels):
        attacks.add_column(escape(name), overflow="fold")
    for (attack,), of in _grouped(cells, ("attack",)).items():
        attacks.add_row(escape(attack), *(_states(_at(of, level)) for level in levels))
    console.print(attacks)
    reasons = dict.fromkeys(
        [f"{r['defense']}: {r['skip']}" for r in targets if r["skip"]]
        + [
            f"{r['attack']} at {r['knowledge']}: {r['skip']}"
            for r in cells
            if r["skip"] and not r["skip"].startswith("target ")
        ]
    )
    for reason in reasons:
        console.print(f"skipped: {reason}", markup=False, soft_wrap=True)
    for caution in preview.cautions:
        console.print(f"note: {caution}", markup=False, soft_wrap=True)
    todo = preview.todo
    if preview.outdated:
        console.print(
            f"{preview.outdated} stored records are of no row of this suite (of another suite or selection, or of earlier "
            "versions); a run leaves them alone.",
            soft_wrap=True,
        )
    if todo.jobs:
        console.print(
            f"{todo.done} nodes done, {todo.retried} failed (retry), {len(todo.jobs)} jobs to do on {preview.device} with "
            f"{preview.workers} worker(s): about {duration(preview.seconds)}, {size(preview.bytes)}.",
            soft_wrap=True,
        )
    else:
        console.print(f"{todo.done} nodes done, nothing to do.")


def _grouped(rows: list[dict[str, Any]], by: tuple[str, ...]) -> dict[tuple[Any, ...], list[dict[str, Any]]]:
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[k] for k in by), []).append(row)
    return found


def _at(cells: list[dict[str, Any]], level: str) -> list[dict[str, Any]]:
    return [c for c in cells if c["knowledge"] == level]


def _states(rows: list[dict[str, Any]]) -> str:
    """Returns how many rows are in which state: ``4 to do, 1 skipped``."""
    states = [r["state"] for r in rows]
    return ", ".join(f"{states.count(s)} {s}" for s in STATES if s in states) or "-"
