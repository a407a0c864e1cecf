"""What is missing in a run and why: failures, skips, empty values, counted. Nothing is dropped silently."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..plan import Node, Plan
from .columns import PLACE, measure_names, metric_names
from .reading import Records, error_line

NAMED = 6
"""Places that a missing value names one by one."""


@dataclass(frozen=True)
class Failure:
    """A node, measure or metric that failed.

    Attributes:
        what: what it was, for a person.
        message: type and text of the error, in one line.
        traceback: where it was raised; empty where none is stored.
    """

    what: str
    message: str
    traceback: str


@dataclass(frozen=True)
class Skip:
    """Rows that were skipped for one reason.

    Attributes:
        reason: why.
        rows: how many rows of the tables.
        where: what they are.
        owed: something failed; False where the combination was never meant to be.
    """

    reason: str
    rows: int
    where: tuple[str, ...]
    owed: bool


def failures(plan: Plan, records: Records) -> list[Failure]:
    """Returns everything that failed, in the order of the plan."""
    out = []
    many = len({(t["dataset"], t["backbone"], t["cut"]) for t in plan.targets}) > 1
    for node in plan.nodes.values():
        record = records.get(node.kind, node.key)
        if record is None:
            continue
        if record["status"] == "failed":
            error = record["error"]
            out.append(Failure(_what(plan, node, many), error_line(error), error["traceback"]))
        for name, found in _parts(record):
            if found["status"] == "failed":
                trace = (found["error"] or {}).get("traceback", "")
                out.append(Failure(f"{name} of {node.title}", found["reason"].splitlines()[0], trace))
    return out


def skips(plan: Plan, records: Records) -> list[Skip]:
    """Returns the skipped rows by reason, those that are owed first."""
    found: dict[tuple[bool, str], list[str]] = {}
    for kind, rows in (("target", plan.targets), ("cell", plan.cells)):
        for row in rows:
            state = records.row_state(kind, row)
            if state.status == "skipped":
                reason = state.reason.removeprefix("target skipped: ")
                found.setdefault((not state.owed, reason), []).append(_where(row, reason))
    return [
        Skip(reason, len(where), tuple(dict.fromkeys(where)), not planned)
        for (planned, reason), where in sorted(found.items(), key=lambda f: f[0][0])
    ]


def incomplete(summary: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Returns what rows of the summary lack and ought to have, each lack with the rows: (what, rows)."""
    out: dict[str, list[str]] = {}
    many = len(summary[list(PLACE)].drop_duplicates()) > 1
    for row in summary.to_dict("records"):
        where = f"{row['defense']} at {row['cut']}" if many else str(row["defense"])
        for lack in str(row["incomplete"] or "").split("; "):
            if lack and lack != "nan":
                out.setdefault(lack, []).append(f"{where} ({row['knowledge']})")
    return list(out.items())


def counts(plan: Plan, records: Records) -> list[tuple[str, dict[str, int]]]:
    """Returns, for targets and for cells, the number of rows in each state."""
    out = []
    for kind, title, rows in (("target", "targets", plan.targets), ("cell", "cells at their levels", plan.cells)):
        states = [records.row_state(kind, row) for row in rows]
        numbers = {
            "done": sum(s.status == "done" for s in states),
            "failed": sum(s.status == "failed" for s in states),
            "skipped because something failed": sum(s.status == "skipped" and s.owed for s in states),
            "not run": sum(s.status == "not run" for s in states),
            "skipped as not possible": sum(s.status == "skipped" and not s.owed for s in states),
        }
        out.append((title, numbers))
    return out


def empty(plan: Plan, records: Records) -> list[tuple[str, str]]:
    """Returns metrics and measures that lack values though the work is done: (name, reason and where)."""
    out: dict[tuple[str, str], list[str]] = {}
    places = len({tuple(t[n] for n in PLACE) for t in plan.targets}) > 1
    seeds = len({t["seed"] for t in plan.targets}) > 1

    def target_of(row: Mapping[str, Any]) -> str:
        place = ", ".join(str(row[n]) for n in PLACE) if places else ""
        return ", ".join(p for p in (str(row["defense"]), place, f"seed {row['seed']}" if seeds else "") if p)

    for row in {c["key"]: c for c in plan.cells if records.done("cell", c["key"])}.values():
        for name in metric_names(plan, plan.nodes["cell", row["key"]].infers):
            found = records.scores(row["key"], name)
            if found.values is None or found.reason:
                out.setdefault((name, found.reason), []).append(f"{row['attack']} on {target_of(row)}")
    for row in {t["key"]: t for t in plan.targets if records.done("target", t["key"])}.values():
        for name in measure_names(plan):
            reason = records.measured(row["key"], name)[1].reason.removeprefix(f"{name}: ")
            if reason:
                out.setdefault((name, reason), []).append(target_of(row))
    return [(name, f"{reason} ({_some(where)})") for (name, reason), where in out.items()]


def _some(names: list[str]) -> str:
    """Returns the first few names, and how many there are more."""
    more = len(names) - NAMED
    return "; ".join(names[:NAMED]) + (f"; and {more} more" if more > 0 else "")


def _what(plan: Plan, node: Node, many: bool) -> str:
    """Returns what a node is; where there are several places, also which one."""
    what = node.title if node.title.startswith(node.kind) else f"{node.kind} {node.title}"
    target: Any = ("target", node.identity.get("target"))
    if not many or target not in plan.nodes:
        return what
    identity = plan.nodes[target].identity
    return f"{what} ({identity['dataset']['name']}, {identity['backbone']['name']} at {identity['cut']})"


def _parts(record: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yields what a record holds besides itself: measurements, scores, scores of reference rows."""
    for field in ("measurements", "scores"):
        yield from record.get(field, {}).items()
    for row, scores in record.get("rows", {}).items():
        for name, found in scores.items():
            yield f"{name} of {row}", found


def _where(row: Mapping[str, Any], reason: str) -> str:
    """Returns as much of a row's place as its reason depends on."""
    target = f"{row['defense']}, {row['cut']}, seed {row['seed']}"
    if reason.startswith("target failed"):
        return target
    if reason.startswith("fit failed"):
        return f"{row['attack']} on {target}"
    if reason.startswith("attack ") and "attack" in row:
        return f"{row['attack']} at {row['knowledge']}"
    return f"{row['defense']} at {row['cut']}"
