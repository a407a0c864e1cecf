"""What is done and what is to do: the plan compared with the store. Resuming keeps no state of its own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .canonical import key_of
from .labels import names_of_label
from .plan import Node, Plan
from .scoring import is_quiet, judges, make_metric
from .store import Entry, Name
from .work import Job


@dataclass
class Todo:
    """The jobs that a run has to do.

    Attributes:
        jobs: by ticket, in an order in which needs come first.
        needs: ticket to the tickets that must be done before it.
        done: nodes that need nothing.
        retried: failed nodes among the jobs.
        titles: ticket to what a person calls the job.
        kept_failed: failed nodes that are left as they are.
        blocked: nodes that cannot be done because one that they need is left failed, with the reason.
    """

    jobs: dict[str, Job] = field(default_factory=dict)
    needs: dict[str, set[str]] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    done: int = 0
    retried: int = 0
    kept_failed: list[Name] = field(default_factory=list)
    blocked: dict[Name, str] = field(default_factory=dict)


def chosen_nodes(plan: Plan, filters: Mapping[str, Collection[Any]], limit: int | None = None) -> set[Name]:
    """Returns the nodes that a filtered run concerns, with all that they need.

    Args:
        plan: the plan.
        filters: field of a row (defense, attack, knowledge, seed) to allowed values; names match with and without their
            parameters.
        limit: at most so many cells, in the order of the plan.

    An attack or knowledge filter concerns cells; targets without any chosen cell are left out then.
    """

    def allowed(row: Mapping[str, Any]) -> bool:
        for name, values in filters.items():
            if values and name in row and not any(v in (row[name], *names_of_label(str(row[name]))) for v in values):
                return False
        return True

    cells = [r for r in plan.cells if r["key"] and allowed(r)]
    if limit is not None:
        cells = cells[:limit]
    wanted: set[Name] = {("cell", r["key"]) for r in cells}
    narrowed = bool(filters.get("attack") or filters.get("knowledge")) or limit is not None
    if not narrowed:
        wanted |= {("target", r["key"]) for r in plan.targets if r["key"] and allowed(r)}
    wanted |= {("reference", key) for key in plan.references.values()}
    stack = list(wanted)
    while stack:
        for need in plan.nodes[stack.pop()].needs:
            if need not in wanted:
                wanted.add(need)
                stack.append(need)
    return wanted


def find_todo(
    plan: Plan,
    status: Mapping[Name, Entry],
    chosen: Collection[Name],
    *,
    keep_failed: bool = False,
    force: Collection[Name] = (),
) -> Todo:
    """Returns what has to be done, given what is stored.

    A node is done if its record says so. A target or cell that is done but lacks a measurement or score of the suite (or
    has one of another version) is measured or scored again from its artifacts, never trained or attacked again.
    """
    todo = Todo()
    specs = [{**m, "key": plan.metrics[m["name"]]} for m in plan.suite["metrics"]]
    metrics = {what: [s for s in specs if judges(s["name"]) == what] for what in ("image", "label")}
    measures = [s for s in specs if judges(s["name"]) is None]
    listed = {r["key"] for r in plan.targets}
    for name, node in plan.nodes.items():
        if name not in chosen:
            continue
        entry = status.get(name)
        finished = entry is not None and entry.status == "done" and name not in force
        # A tuned attack is done without the settings that diverged.
        needs = () if finished and "tune" in node.identity.get("attack", {}) else node.needs
        bad = next((n for n in needs if n in todo.kept_failed or n in todo.blocked), None)
        if bad is not None:
            todo.blocked[name] = f"{bad[0]} failed earlier and is kept: {plan.nodes[bad].title}"
            continue
        if entry is not None and entry.status == "failed":
            if keep_failed:
                todo.kept_failed.append(name)
                continue
            todo.retried += 1
        if node.kind == "target":
            _target(todo, plan, node, entry if finished else None, measures, node.key in listed)
        elif node.kind == "cell":
            _cell(todo, plan, node, entry if finished else None, metrics[node.infers])
        elif node.kind == "reference":
            if (
                finished
                and entry is not None
                and not _lacking(
                    metrics["image"], entry.scores, entry.unavailable, _shape(plan, node.identity["dataset"])
                )
            ):
                todo.done += 1
            else:
                _add(todo, plan, node, Job("reference", "reference", node.key, node.identity, {}, metrics["image"]))
        elif finished:
            todo.done += 1
        else:
            of = node.identity["target"]
            related = {"target": plan.nodes["target", of].identity} if of else {}
            _add(todo, plan, node, Job("fit", "fit", node.key, node.identity, related))
    _take_from_twins(todo, plan, status, force)
    return todo


def _take_from_twins(todo: Todo, plan: Plan, status: Mapping[Name, Entry], force: Collection[Name]) -> None:
    """Tells the jobs of fits and cells with a twin to wait for it and to take what it found, where the wire is the same."""
    for at, job in todo.jobs.items():
        twin = plan.twins.get(job.key)
        if twin is None or job.task not in ("fit", "cell"):
            continue
        stored = status.get(("fit" if job.task == "fit" else "cell", twin))
        if ticket(job.task, twin) in todo.jobs:
            todo.needs[at].add(ticket(job.task, twin))
        elif stored is None or stored.status != "done" or (job.kind, job.key) in force:
            continue
        todo.jobs[at] = replace(job, extra={**job.extra, "twin": twin})


def ticket(task: str, key: str) -> str:
    """Returns the name of a job within a run."""
    return f"{task}:{key}"


def _target(
    todo: Todo, plan: Plan, node: Node, entry: Entry | None, measures: list[dict[str, Any]], listed: bool
) -> None:
    if entry is None:
        _add(todo, plan, node, Job("target", "target", node.key, node.identity))
    else:
        todo.done += 1
    if not listed:
        return  # trained only to lend its weights: not a row of the tables
    size, shape = _measure_size(plan, node.identity["dataset"]), _shape(plan, node.identity["dataset"])
    # How many images are measured changes the numbers, and is not in the target's key: training does not depend on it.
    measures = [{**s, "key": key_of({"measure": s["key"], "images": size})} for s in measures]
    known = {} if entry is None else entry.measurements
    lacking = _lacking(measures, known, {} if entry is None else entry.unavailable, shape)
    for quiet in (False, True):
        some = [s for s in lacking if is_quiet(s["name"]) is quiet]
        if some:
            task = "quiet" if quiet else "measure"
            at = ticket(task, node.key)
            todo.jobs[at] = Job(
                "measure", "target", node.key, node.identity, {}, some, {"measure": size, "quiet": quiet}
            )
            todo.needs[at] = {ticket("target", node.key)} & set(todo.jobs)
            what = "latency" if quiet else "information, cost and accuracy"
            todo.titles[at] = f"{what} of {node.title}"


def _cell(todo: Todo, plan: Plan, node: Node, entry: Entry | None, metrics: list[dict[str, Any]]) -> None:
    lacking = (
        metrics
        if entry is None
        else _lacking(metrics, entry.scores, entry.unavailable, _shape(plan, node.identity["dataset"]))
    )
    if entry is not None and not lacking:
        todo.done += 1
        return
    related = {"target": plan.nodes["target", node.identity["target"]].identity}
    if entry is not None and entry.artifact:
        todo.jobs[ticket("score", node.key)] = Job("score", "cell", node.key, node.identity, related, lacking)
        todo.needs[ticket("score", node.key)] = set()
        todo.titles[ticket("score", node.key)] = f"scores of {node.title}"
    else:
        _add(todo, plan, node, Job("cell", "cell", node.key, node.identity, related, metrics))


def _add(todo: Todo, plan: Plan, node: Node, job: Job) -> None:
    at = ticket(job.task, node.key)
    todo.jobs[at] = job
    todo.needs[at] = {ticket(kind, key) for kind, key in node.needs} & set(todo.jobs)
    todo.titles[at] = node.title


def _lacking(
    specs: Iterable[dict[str, Any]],
    known: Mapping[str, str],
    unavailable: Mapping[str, str],
    image_shape: tuple[int, int, int],
) -> list[dict[str, Any]]:
    """Returns the metrics without a value of this version. What had none is tried again only if it can have one now."""
    out = []
    for spec in specs:
        if known.get(spec["name"]) == spec["key"]:
            continue
        if unavailable.get(spec["name"]) == spec["key"] and not _available_now(spec, image_shape):
            continue
        out.append(spec)
    return out


def _available_now(spec: Mapping[str, Any], image_shape: tuple[int, int, int]) -> bool:
    return judges(spec["name"]) == "image" and make_metric(spec).unavailable(image_shape) is None


def _label_of(plan: Plan, dataset: Mapping[str, Any]) -> str:
    for label, reference in plan.references.items():
        if plan.nodes["reference", reference].identity["dataset"] == dataset:
            return label
    raise KeyError(f"dataset {dataset['name']} has no reference node")


def _measure_size(plan: Plan, dataset: Mapping[str, Any]) -> int:
    return int(plan.datasets[_label_of(plan, dataset)]["sizes"]["measure"])


def _shape(plan: Plan, dataset: Mapping[str, Any]) -> tuple[int, int, int]:
    channels, height, width = plan.datasets[_label_of(plan, dataset)]["image_shape"]
    return channels, height, width
