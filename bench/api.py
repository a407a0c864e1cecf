"""Everything that the command line does, as functions. The command line holds no logic of its own."""

from __future__ import annotations

import fnmatch
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Suite, load_suite
from .config.load import dump_suite
from .data.base import DataContext
from .errors import ConfigError, SplitAuditError, StoreError, did_you_mean
from .events import Counts, Event, Listener, silent
from .executors import ProcessExecutor, SerialExecutor
from .labels import names_of_label
from .plan import Plan, make_plan, open_datasets
from .plugins import METRICS, add_plugin_files
from .provenance import provenance
from .state import Todo, chosen_nodes, find_todo
from .store import Name, Store, write_json, write_text
from .work import Surroundings, is_metric

if TYPE_CHECKING:
    from .report import Results

SuiteLike = str | Path | Mapping[str, Any] | Suite


@dataclass(frozen=True)
class Options:
    """How and where a run is done; nothing in it may change a number.

    Attributes:
        out: the run folder; None: ``results/<suite name>`` below the current folder.
        device: ``auto`` (a GPU if there is one), ``cpu``, ``cuda`` or ``cuda:N``.
        executor: ``processes`` or ``serial``; None: processes on the CPU, serial on a GPU.
        jobs: worker processes; None: one per core.
        data_root: folder with (or for) the files of datasets.
        offline: never open a connection.
        images: store and show reconstructions and private pictures.
        plugins: files with plugins of your own.
        filters: field of a row (defense, attack, knowledge, seed) to the values to run.
        limit: run at most so many cells.
        force: patterns of defense or attack names to do again.
        keep_failed: do not try failed nodes again.
        fail_fast: stop at the first failure.
    """

    out: Path | None = None
    device: str = "auto"
    executor: str | None = None
    jobs: int | None = None
    data_root: Path | None = None
    offline: bool = False
    images: bool = True
    plugins: tuple[str, ...] = ()
    filters: Mapping[str, Collection[Any]] | None = None
    limit: int | None = None
    force: tuple[str, ...] = ()
    keep_failed: bool = False
    fail_fast: bool = False


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        folder: the run folder.
        counts: of the jobs of this run.
        failed: rows of the plan that failed or were skipped because something failed, now.
        seconds: wall-clock time.
    """

    folder: Path
    counts: Counts
    failed: int
    seconds: float

    @property
    def exit_code(self) -> int:
        """0 if nothing that was asked for failed, else 1."""
        return 1 if self.failed or self.counts.failed else 0


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


def run(
    suite: SuiteLike = "quick",
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    options: Options | None = None,
    listener: Listener = silent,
) -> Outcome:
    """Runs what is left of a suite and writes its tables, plots and report.

    Args:
        suite: preset name, YAML file, mapping or suite.
        out: the run folder (also in ``options``).
        overrides: ``key=value`` each, as ``-s`` on the command line.
        seeds: replaces the suite's seeds.
        options: how and where.
        listener: is told what happens.

    Raises:
        SplitAuditError: what a user can mend: config, data, plugins, a locked folder.
        KeyboardInterrupt: after Ctrl-C, with everything complete stored.
    """
    started = time.perf_counter()
    options = _with_out(options, out)
    resolved, folder = _open(suite, overrides, seeds, options)
    context = _context(options, folder)
    with Store.writing(folder) as store:
        plan = make_plan(resolved, context)
        preview = _preview(plan, store, options)
        if preview.todo.jobs and _fetch_weights(resolved, plan, options.offline, listener):
            preview = _preview(plan, store, options)  # what had no value may have one now
        write_text(store.suite_path, dump_suite(resolved))
        write_json(folder / "plan.json", plan.dump())
        if not options.images:
            _tell_of_old_pictures(store, listener)
        listener(Event("planned", counts=Counts(total=len(preview.todo.jobs), facts=_facts(preview))))
        counts = Counts(total=len(preview.todo.jobs))
        if preview.todo.jobs:
            counts = _run_jobs(plan, preview, store, options, resolved.threads, listener)
        failed = failures(plan, store, preview.chosen)
        derive(folder, store, plan, options, context, resolved)
    outcome = Outcome(folder, counts, failed, time.perf_counter() - started)
    listener(Event("finished", counts=counts, seconds=outcome.seconds))
    return outcome


def plan(
    suite: SuiteLike = "quick",
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    options: Options | None = None,
) -> Preview:
    """Returns what a run would do, without doing anything.

    Raises:
        SplitAuditError: as :func:`run`.
    """
    options = _with_out(options, out)
    resolved, folder = _open(suite, overrides, seeds, options)
    # A folder that is not there yet stays so: then the hashes of the dataset's files are not kept.
    made = make_plan(resolved, _context(options, folder if folder.is_dir() else None))
    return _preview(made, Store(folder), options)


def report(folder: str | Path, *, options: Options | None = None) -> list[Path]:
    """Builds the tables, plots and the report of a run folder again, from its records; returns the files.

    Raises:
        StoreError: the folder holds no results.
    """
    folder = Path(folder)
    store = Store.open(folder)
    options = options or Options()
    add_plugin_files(options.plugins)
    made, suite = _stored_plan(folder)
    return derive(folder, store, made, options, _context(options, folder), suite, always=True)


def load_results(folder: str | Path) -> Results:
    """Returns the tables of a run folder as pandas frames: ``targets``, ``cells``, ``summary``, ``per_image``.

    Raises:
        StoreError: the folder holds no results.
    """
    from .report import load_results as load

    return load(Path(folder))


def failures(made: Plan, store: Store, chosen: Collection[Name]) -> int:
    """Returns how many chosen nodes are failed, or cannot be done because one that they need is."""
    status = store.status()
    bad: set[Name] = set()
    for name, node in made.nodes.items():
        entry = status.get(name)
        if (entry is not None and entry.status == "failed") or any(n in bad for n in node.needs):
            bad.add(name)
    return len(bad & set(chosen))


def derive(
    folder: Path,
    store: Store,
    made: Plan,
    options: Options,
    context: DataContext,
    suite: Suite,
    *,
    always: bool = False,
) -> list[Path]:
    """Writes the derived files of a folder, unless they are up to date."""
    stamp = _stamp(store, made, options.images)
    at = folder / "derived.json"
    if not always and at.is_file() and (folder / "report.html").is_file():
        try:
            if json.loads(at.read_text()).get("stamp") == stamp:
                return []
        except ValueError:
            pass  # a damaged stamp is no stamp
    from .report import write_derived

    private = _private_pictures(made, suite, context) if options.images else None
    written = write_derived(folder, made, store, private, no_images=not options.images)
    write_json(at, {"stamp": stamp})
    return written


def default_folder(suite: Suite) -> Path:
    """Returns where a suite's results go unless ``--out`` says otherwise."""
    return Path("results") / suite.name


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


# -- inner --------------------------------------------------------------------------------------------------------


def _with_out(options: Options | None, out: str | Path | None) -> Options:
    from dataclasses import replace

    options = options or Options()
    return replace(options, out=Path(out)) if out is not None else options


def _open(suite: SuiteLike, overrides: Sequence[str], seeds: Sequence[int], options: Options) -> tuple[Suite, Path]:
    add_plugin_files(options.plugins)
    resolved = load_suite(suite, overrides, seeds)
    _executor_kind(options, pick_device(options.device))  # what cannot run is refused before anything is written
    return resolved, options.out or default_folder(resolved)


def _check_filters(made: Plan, options: Options) -> None:
    """Refuses a filter or a pattern that no row of the plan answers to: it would silently do nothing."""
    known: dict[str, dict[str, None]] = {"defense": {}, "attack": {}, "knowledge": {}, "seed": {}}
    for row in [*made.targets, *made.cells]:
        for name, labels in known.items():
            labels |= dict.fromkeys(names_of_label(str(row[name])) if name in row else ())
    problems = [
        f"--{name} {value}: the suite '{made.suite['name']}' has no such {name}."
        f"{did_you_mean(str(value), known[name])} It has {', '.join(known[name])}."
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


def _context(options: Options, folder: Path | None) -> DataContext:
    return DataContext(root=options.data_root, cache=folder / "cache" if folder else None, offline=options.offline)


def _preview(made: Plan, store: Store, options: Options) -> Preview:
    from .estimate import Estimator

    _check_filters(made, options)
    device = pick_device(options.device)
    executor, workers = _executor_kind(options, device)
    stored = (store.folder / "records").is_dir()
    status = store.status() if stored else {}
    filters = options.filters or {}
    chosen = chosen_nodes(made, filters, options.limit)
    force = _forced(made, options.force)
    todo = find_todo(made, status, chosen, keep_failed=options.keep_failed, force=force)
    estimator = Estimator(made, device, made.suite["threads"])
    seconds = [estimator.seconds(j) for j in todo.jobs.values()]
    whole = max([sum(seconds) / workers, *seconds]) + 5.0 * (executor == "processes") if seconds else 0.0
    outdated = len(store.outdated(made.nodes.keys())) if stored else 0
    return Preview(made, todo, chosen, status, whole, estimator.disk(todo), workers, device, outdated)


def _executor_kind(options: Options, device: str) -> tuple[str, int]:
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
            forced |= {n for n in made.nodes["cell", row["key"]].needs if n[0] == "fit"}
    for name, node in made.nodes.items():
        if any(n in forced for n in node.needs):
            forced.add(name)
    return forced


def _run_jobs(made: Plan, preview: Preview, store: Store, options: Options, threads: int, listener: Listener) -> Counts:
    from .estimate import Estimator
    from .runner import Runner

    surroundings = Surroundings(
        folder=str(store.folder.resolve()),
        device=preview.device,
        threads=threads,
        data_root=str(options.data_root.resolve()) if options.data_root else None,
        cache=str((store.folder / "cache").resolve()),
        offline=options.offline,
        plugins=tuple(str(Path(p).resolve()) for p in options.plugins),
        images=options.images,
    )
    kind, workers = _executor_kind(options, preview.device)
    workers = max(1, min(workers, len(preview.todo.jobs)))
    executor = SerialExecutor(surroundings) if kind == "serial" else ProcessExecutor(surroundings, workers)
    estimator = Estimator(made, preview.device, threads)
    runner = Runner(
        made,
        preview.todo,
        store,
        executor,
        {t: estimator.seconds(j) for t, j in preview.todo.jobs.items()},
        provenance(preview.device, workers, threads),
        listener,
        fail_fast=options.fail_fast,
    )
    try:
        counts = runner.run()
    except BaseException:
        executor.close(at_once=True)
        raise
    executor.close()
    return counts


def _facts(preview: Preview) -> dict[str, Any]:
    return {
        "done": preview.todo.done,
        "retried": preview.todo.retried,
        "skipped_rows": sum(1 for r in preview.plan.cells if r["skip"]),
        "cells": len({r["key"] for r in preview.plan.cells if r["key"]}),
        "targets": len({r["key"] for r in preview.plan.targets if r["key"]}),
        "workers": preview.workers,
        "device": preview.device,
        "seconds": preview.seconds,
        "bytes": preview.bytes,
        "outdated": preview.outdated,
    }


def _fetch_weights(suite: Suite, made: Plan, offline: bool, listener: Listener) -> bool:
    """Fetches what metrics need, once, before the first node; says whether something is there that was not.

    Where that fails the metric's column is empty, with the reason, and the run goes on.
    """
    shapes = [tuple(data["image_shape"]) for data in made.datasets.values()]
    found = False
    for spec in suite.metrics:
        cls = METRICS.get(spec.name)
        params = cls.Params(**spec.params)
        if not is_metric(spec.name) or all(cls(params).unavailable(shape) is None for shape in shapes):
            continue
        try:
            cls.fetch(params, offline=offline)
        except SplitAuditError as exc:
            listener(Event("note", message=f"{spec.name}: no values in this run. {exc}"))
            continue
        found = found or any(cls(params).unavailable(shape) is None for shape in shapes)
    return found


def _tell_of_old_pictures(store: Store, listener: Listener) -> None:
    """Says that reconstructions of an earlier run lie here: a run without images writes none, and deletes none."""
    kept = sum(entry.artifact for (kind, _), entry in store.status().items() if kind == "cell")
    if kept:
        at = store.folder / "artifacts" / "cell"
        listener(
            Event("note", message=f"{kept} reconstructions of an earlier run are kept in {at}: delete it if unwanted.")
        )


def _private_pictures(made: Plan, suite: Suite, context: DataContext) -> dict[str, Any] | None:
    """Returns the private images by dataset label, or None if the dataset is not there any more or has changed."""
    try:
        opened = open_datasets(suite, context)
    except SplitAuditError:
        return None
    found = {}
    for label, key in made.references.items():
        dataset = opened[label][0]
        if dataset.fingerprint() == made.nodes["reference", key].identity["dataset"]["fingerprint"]:
            found[label] = dataset.load("private").images
    return found or None


def _stored_plan(folder: Path) -> tuple[Plan, Suite]:
    """Returns the plan of a folder and its suite, as they were resolved then: plugins need not be there any more."""
    at = folder / "plan.json"
    try:
        made = Plan.load(json.loads(at.read_text(encoding="utf-8")))
        return made, Suite.model_validate(made.suite)
    except FileNotFoundError:
        raise StoreError(f"{at}: is missing, so the folder holds no run. Run the suite with --out {folder}.") from None
    except (ValueError, KeyError, TypeError) as exc:
        raise StoreError(f"{at}: cannot be read ({exc}). Run the suite again: it does only what is left.") from exc


def _stamp(store: Store, made: Plan, images: bool) -> str:
    """Returns a hash of everything that the derived files are made from."""
    from . import __version__
    from .canonical import key_of
    from .store.layout import stored_records

    records = {f"{k}/{key}": list(s) for (k, key), s in stored_records(store.folder).items()}
    return key_of({"records": records, "plan": made.dump(), "images": images, "version": __version__})
