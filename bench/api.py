"""Everything that the command line does, as functions. The command line holds no logic of its own."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config import Suite, load_suite
from .config.load import dump_suite
from .derived import derive, stored_plan
from .errors import ConfigError, SplitAuditError
from .events import Counts, Event, Listener, silent
from .executors import ProcessExecutor, SerialExecutor
from .options import Options
from .plan import Plan
from .planner import make_plan
from .plugins import ATTACKS, DATASETS, METRICS, add_plugin_files
from .preview import Preview, executor_kind, facts, look_ahead, pick_device
from .provenance import provenance
from .scoring import judges
from .store import Name, Store, write_json, write_text
from .work import Surroundings

if TYPE_CHECKING:
    from .report import Results

SuiteLike = str | Path | Mapping[str, Any] | Suite


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


def run(
    suite: SuiteLike = "quick",
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    tune: int | None = None,
    options: Options | None = None,
    listener: Listener = silent,
) -> Outcome:
    """Runs what is left of a suite and writes its tables, plots and report.

    Args:
        suite: preset name, YAML file, mapping or suite.
        out: the run folder (also in ``options``).
        overrides: ``key=value`` each, as ``-s`` on the command line.
        seeds: replaces the suite's seeds.
        tune: settings to try for each attack that has any to try, on auxiliary images; replaces the suite's ``tune``.
        options: how and where.
        listener: is told what happens.

    Raises:
        SplitAuditError: what a user can mend: config, data, plugins, a locked folder.
        KeyboardInterrupt: after Ctrl-C, with everything complete stored.
    """
    started = time.perf_counter()
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        # A worker is importing the caller's script, because it registers plugins of its own.
        raise ConfigError(
            [
                "run was called while a worker process imports your script. Put the call under "
                "if __name__ == '__main__':, so that workers import the plugins and start no run."
            ]
        )
    options = _with_out(options, out)
    resolved, folder = _open(suite, overrides, seeds, options, tune)
    with Store.writing(folder) as store:
        plan = make_plan(resolved, options.context(folder, listener))
        preview = look_ahead(plan, store, options)
        if preview.todo.jobs and _fetch_weights(resolved, plan, options.offline, listener):
            preview = look_ahead(plan, store, options)  # what had no value may have one now
        _tell_of_another_suite(store, resolved, listener)
        write_text(store.suite_path, dump_suite(resolved))
        write_json(folder / "plan.json", plan.dump())
        if not options.images:
            _tell_of_old_pictures(store, listener)
        listener(Event("planned", counts=Counts(total=len(preview.todo.jobs), facts=facts(preview))))
        counts = Counts(total=len(preview.todo.jobs))
        if preview.todo.jobs:
            counts = _run_jobs(plan, preview, store, options, resolved.threads, listener)
        failed = failures(plan, store, preview.chosen)
        derive(folder, store, plan, options, resolved)
    outcome = Outcome(folder, counts, failed, time.perf_counter() - started)
    listener(Event("finished", counts=counts, seconds=outcome.seconds))
    return outcome


def plan_suite(
    suite: SuiteLike = "quick",
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] = (),
    tune: int | None = None,
    options: Options | None = None,
    listener: Listener = silent,
) -> Preview:
    """Returns what a run would do, without doing anything.

    The listener is told what takes long.

    Raises:
        SplitAuditError: as :func:`run`.
    """
    options = _with_out(options, out)
    resolved, folder = _open(suite, overrides, seeds, options, tune)
    # A folder that is not there yet stays so: then the hashes of the dataset's files are not kept.
    made = make_plan(resolved, options.context(folder if folder.is_dir() else None, listener))
    return look_ahead(made, Store(folder), options)


def report(folder: str | Path, *, options: Options | None = None) -> list[Path]:
    """Builds the tables, plots and the report of a run folder again, from its records; returns the files.

    Raises:
        StoreError: the folder holds no results.
    """
    folder = Path(folder)
    store = Store.open(folder)
    options = options or Options()
    add_plugin_files(options.plugins)
    made, suite = stored_plan(folder)
    return derive(folder, store, made, options, suite, always=True)


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


def default_folder(suite: Suite) -> Path:
    """Returns where a suite's results go unless ``--out`` says otherwise."""
    return Path("results") / suite.name


# -- inner --------------------------------------------------------------------------------------------------------


def _with_out(options: Options | None, out: str | Path | None) -> Options:
    options = options or Options()
    return replace(options, out=Path(out)) if out is not None else options


def _open(
    suite: SuiteLike, overrides: Sequence[str], seeds: Sequence[int], options: Options, tune: int | None
) -> tuple[Suite, Path]:
    add_plugin_files(options.plugins)
    resolved = load_suite(suite, overrides, seeds)
    if tune is not None:
        tuned = [a.model_copy(update={"tune": tune if ATTACKS.get(a.name).search else 1}) for a in resolved.attacks]
        resolved = resolved.model_copy(update={"attacks": tuned})
    names = [s.name for s in (*resolved.dataset, *([resolved.other] if resolved.other else []))]
    if options.data_root is not None and not any(DATASETS.get(n).reads_root for n in names):
        raise ConfigError(
            [
                f"--data-root {options.data_root}: no dataset of the suite reads a folder (it has {', '.join(names)}). To "
                "audit your own images: -s dataset=imagefolder"
            ]
        )
    executor_kind(options, pick_device(options.device))  # what cannot run is refused before anything is written
    return resolved, options.out or default_folder(resolved)


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
    kind, workers = executor_kind(options, preview.device)
    workers = max(1, min(workers, len(preview.todo.jobs)))
    executor = SerialExecutor(surroundings) if kind == "serial" else ProcessExecutor(surroundings, workers)
    estimator = Estimator(made, preview.device, threads, workers)
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


def _fetch_weights(suite: Suite, made: Plan, offline: bool, listener: Listener) -> bool:
    """Fetches what metrics need, once, before the first node; says whether something is there that was not.

    Where that fails the metric's column is empty, with the reason, and the run goes on.
    """
    shapes = [tuple(data["image_shape"]) for data in made.datasets.values()]
    found = False
    for spec in suite.metrics:
        cls = METRICS.get(spec.name)
        params = cls.Params(**spec.params)
        if judges(spec.name) != "image" or all(cls(params).unavailable(shape) is None for shape in shapes):
            continue
        try:
            cls.fetch(params, offline=offline)
        except SplitAuditError as exc:
            listener(Event("note", message=f"{spec.name}: no values in this run. {exc}"))
            continue
        found = found or any(cls(params).unavailable(shape) is None for shape in shapes)
    return found


def _tell_of_another_suite(store: Store, suite: Suite, listener: Listener) -> None:
    """Says that the folder's tables become those of this suite, where they were those of another one."""
    try:
        before = load_suite(store.suite_path)
    except (SplitAuditError, OSError):  # the first run here, or a suite whose plugins are not at hand
        return
    changed = [
        f
        for f in ("dataset", "backbone", "defenses", "attacks", "knowledge", "seeds")
        if getattr(before, f) != getattr(suite, f)
    ]
    if changed:
        listener(
            Event(
                "note",
                message=f"{store.folder} held a run with other {', '.join(changed)}: tables and report become those of this "
                "one, what was computed is kept. Use --out for a folder of its own.",
            )
        )


def _tell_of_old_pictures(store: Store, listener: Listener) -> None:
    """Says that reconstructions of an earlier run lie here: a run without images writes none, and deletes none."""
    kept = sum(entry.artifact for (kind, _), entry in store.status().items() if kind == "cell")
    if kept:
        at = store.folder / "artifacts" / "cell"
        listener(
            Event("note", message=f"{kept} reconstructions of an earlier run are kept in {at}: delete it if unwanted.")
        )
