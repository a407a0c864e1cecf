"""Whole runs of a toy suite: resuming, failing, refusing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

import splitaudit
from splitaudit.api import Options, failures, run
from splitaudit.api import plan_suite as preview
from splitaudit.errors import ConfigError, KnowledgeError, StoreError
from splitaudit.events import Event
from splitaudit.store import Store

SERIAL = Options(executor="serial", device="cpu", offline=True)
TABLES = ("targets.csv", "cells.csv", "summary.csv", "per_image.csv")


def serial(**more: Any) -> Options:
    return Options(executor="serial", device="cpu", offline=True, **more)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    from conftest import SIZES

    suite = {
        "name": "toy",
        "dataset": {"name": "photos", "sizes": dict(SIZES)},
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none", "noise"],
        "attacks": ["prior", {"name": "rmle", "params": {"steps": 5, "gaussian": 0.03}}],
        "metrics": ["mse", "ssim", "accuracy", "cost", "latency"],
        "training": {"epochs": 1},
    }
    folder = tmp_path_factory.mktemp("run") / "toy"
    outcome = run(suite, out=folder, options=SERIAL)
    assert outcome.exit_code == 0
    assert outcome.counts.done == outcome.counts.total > 0
    return folder, suite


def test_a_run_writes_its_tables_and_its_report(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = finished
    for name in (*TABLES, "summary.md", "summary.tex", "report.html", "suite.yaml"):
        assert (folder / name).stat().st_size > 0, name


def test_a_second_run_does_no_work_and_changes_no_file(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, suite = finished
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*.csv")} | {
        p: p.stat().st_mtime_ns for p in folder.rglob("*.json")
    }
    outcome = run(suite, out=folder, options=SERIAL)
    assert (outcome.counts.total, outcome.exit_code) == (0, 0)
    records = {p for p in before if "records" in p.parts}
    assert records
    assert all(p.stat().st_mtime_ns == before[p] for p in before if p.name != "plan.json")


def test_results_load_as_frames_without_the_dataset(finished: tuple[Path, dict[str, Any]]) -> None:
    results = splitaudit.load_results(finished[0])
    assert set(results.summary["defense"]) == {"none", "noise"}
    assert len(results.targets) == 2
    assert {"leakage", "attack", "knowledge"} <= set(results.cells.columns)


def test_a_metric_added_later_is_scored_from_stored_reconstructions(
    finished: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, suite = finished

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a new metric must not train or attack")

    monkeypatch.setattr("splitaudit.work.train", refuse)
    monkeypatch.setattr("splitaudit.work.receive", refuse)
    outcome = run({**suite, "metrics": [*suite["metrics"], "psnr"]}, out=folder, options=SERIAL)
    assert outcome.exit_code == 0
    assert outcome.counts.done > 0
    assert splitaudit.load_results(folder).cells["psnr"].notna().any()


def test_two_runs_on_one_folder_at_once_are_refused(finished: tuple[Path, dict[str, Any]]) -> None:
    folder, suite = finished
    with Store.writing(folder), pytest.raises(StoreError, match=str(os.getpid())):
        run(suite, out=folder, options=SERIAL)


@pytest.mark.full
def test_the_same_suite_gives_the_same_tables_in_processes_and_serially(toy: dict[str, Any], tmp_path: Path) -> None:
    toy["attacks"] = toy["attacks"][:2]
    run(toy, out=tmp_path / "a", options=SERIAL)
    run(toy, out=tmp_path / "b", options=Options(executor="processes", jobs=2, device="cpu", offline=True))
    assert untimed(tmp_path / "a") == untimed(tmp_path / "b")


BROKEN = '''
import torch
from splitaudit import Defense

class {name}(Defense):
    """A broken defense."""
    acts_on_wire = True
    def protect(self, z, generator):
        {body}
'''

FAULTS = {
    "raises": ("raise RuntimeError('out of cheese')", "out of cheese"),
    "nan": ("return z * float('nan')", "nan"),
    "shape": ("return z[:, :1]", "expected"),
}


@pytest.mark.full
def test_broken_defenses_fail_alone_with_their_reason(toy: dict[str, Any], tmp_path: Path) -> None:
    plugins = []
    for stem, (body, _) in FAULTS.items():
        path = tmp_path / f"{stem}.py"
        path.write_text(BROKEN.format(name=stem.title(), body=body))
        plugins.append(str(path))
    suite = {**toy, "defenses": ["none", *(f"local/{s}" for s in FAULTS)]}
    events: list[Event] = []
    outcome = run(suite, out=tmp_path / "run", options=serial(plugins=tuple(plugins)), listener=events.append)
    assert outcome.exit_code == 1
    results = splitaudit.load_results(tmp_path / "run")
    for stem, (_, reason) in FAULTS.items():
        target = results.targets[results.targets["defense"] == f"local/{stem}"].iloc[0]
        assert target["status"] == "failed"
        assert reason in target["reason"]
        cells = results.cells[
            (results.cells["defense"] == f"local/{stem}") & (results.cells["knowledge"] == "white-box")
        ]
        assert len(cells) == 3
        assert set(cells["status"]) == {"skipped"}
        assert all("target failed" in r and reason in r for r in cells["reason"])
    good = results.cells[(results.cells["defense"] == "none") & (results.cells["knowledge"] == "white-box")]
    assert set(good["status"]) == {"done"}
    skipped = [e for e in events if e.kind == "skipped"]
    assert skipped
    assert all(e.message for e in skipped)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "out of cheese" in page


def test_failed_nodes_are_tried_again_and_their_recovery_completes_the_tables(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    plugin = tmp_path / "flaky.py"
    flag = tmp_path / "works"
    plugin.write_text(
        "from pathlib import Path\nfrom splitaudit import Defense\n\n\nclass Flaky(Defense):\n"
        "    acts_on_wire = True\n\n    def protect(self, z, generator):\n"
        f"        if not Path({str(flag)!r}).exists():\n            raise OSError('not yet')\n        return z\n"
    )
    tiny["defenses"], tiny["attacks"] = ["local/flaky"], ["prior"]
    options = serial(data_root=images, plugins=(str(plugin),))
    assert run(tiny, out=tmp_path / "run", options=options).exit_code == 1
    kept = run(tiny, out=tmp_path / "run", options=serial(data_root=images, plugins=(str(plugin),), keep_failed=True))
    assert (kept.counts.total, kept.exit_code) == (0, 1)
    flag.touch()
    assert run(tiny, out=tmp_path / "run", options=options).exit_code == 0
    assert set(splitaudit.load_results(tmp_path / "run").targets["status"]) == {"done"}


def test_an_attack_that_reaches_too_far_or_returns_nonsense_fails_its_cell_only(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(
        "import torch\nfrom splitaudit import Attack, AdversaryKnowledge\n\n\n"
        "class Greedy(Attack):\n    def reconstruct(self, view, fitted):\n        return view.edge(view.z)\n\n\n"
        "class Flat(Attack):\n    def reconstruct(self, view, fitted):\n        return torch.zeros(3)\n\n\n"
        "class Blank(Attack):\n    def reconstruct(self, view, fitted):\n"
        "        return torch.full((len(view), *view.image_shape), float('nan'))\n"
    )
    tiny["defenses"], tiny["attacks"] = ["none"], ["prior", "local/bad.Greedy", "local/bad.Flat", "local/bad.Blank"]
    outcome = run(tiny, out=tmp_path / "run", options=serial(data_root=images, plugins=(str(plugin),)))
    assert outcome.exit_code == 1
    cells = splitaudit.load_results(tmp_path / "run").cells
    cells = cells[cells["knowledge"] == "white-box"].set_index("attack")
    assert cells.loc["prior", "status"] == "done"
    assert KnowledgeError.__name__ in cells.loc["local/bad.Greedy", "reason"]
    assert "expected (8, 3, 28, 28)" in cells.loc["local/bad.Flat", "reason"]
    assert "not finite" in cells.loc["local/bad.Blank", "reason"]


def test_an_inference_time_defense_reuses_the_undefended_weights(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    tiny["defenses"] = ["none", {"name": "noise", "when": "infer", "params": {"sigma": 0.0}}]
    tiny["attacks"] = ["prior"]
    run(tiny, out=tmp_path, options=serial(data_root=images))
    targets = splitaudit.load_results(tmp_path).targets.set_index("defense")
    assert targets.loc["noise@infer", "accuracy"] == targets.loc["none", "accuracy"]
    store = Store.open(tmp_path)
    sizes = {
        r["identity"]["defense"]["when"]: store.artifact_path("target", r["key"]).stat().st_size
        for r in store.records("target")
    }
    assert sizes["infer"] < sizes["train+infer"] / 2


def test_without_images_no_reconstruction_is_stored(tiny: dict[str, Any], images: Path, tmp_path: Path) -> None:
    tiny["attacks"] = ["prior"]
    assert run(tiny, out=tmp_path, options=serial(data_root=images, images=False)).exit_code == 0
    assert not list((tmp_path / "artifacts" / "cell").rglob("*.safetensors"))
    assert not list(tmp_path.rglob("reconstructions*"))
    assert run(tiny, out=tmp_path, options=serial(data_root=images, images=False)).counts.total == 0


def test_filters_and_limits_run_a_part_and_an_unknown_filter_is_refused(
    tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None
) -> None:
    outcome = run(
        tiny, out=tmp_path, options=serial(data_root=images, filters={"defense": ["none"], "attack": ["prior"]})
    )
    assert outcome.exit_code == 0
    cells = splitaudit.load_results(tmp_path).cells
    assert set(cells[(cells["defense"] == "noise") & (cells["knowledge"] == "white-box")]["status"]) == {"not run"}
    with pytest.raises(ConfigError, match="no such defense"):
        run(tiny, out=tmp_path, options=serial(data_root=images, filters={"defense": ["noize"]}))


def test_the_preview_does_nothing_and_names_what_it_would_do(
    tiny: dict[str, Any], images: Path, tmp_path: Path
) -> None:
    made = preview(tiny, out=tmp_path / "none", options=serial(data_root=images))
    assert not (tmp_path / "none").exists()
    assert made.todo.jobs
    assert made.seconds > 0
    assert made.bytes > 0


def test_a_deleted_artifact_is_made_again(tiny: dict[str, Any], images: Path, tmp_path: Path, undrawn: None) -> None:
    tiny["attacks"], tiny["defenses"] = ["prior"], ["none"]
    run(tiny, out=tmp_path, options=serial(data_root=images))
    weights = next((tmp_path / "artifacts" / "target").rglob("*.safetensors"))
    before = weights.read_bytes()
    weights.unlink()
    run(tiny, out=tmp_path, options=serial(data_root=images))
    assert weights.read_bytes() == before


def untimed(folder: Path) -> dict[str, str]:
    """The tables without their timing columns, as bytes would be compared."""
    from splitaudit.report import timing_columns

    results = splitaudit.load_results(folder)
    out = {}
    for name in ("targets", "cells", "summary", "per_image"):
        frame = getattr(results, name)
        out[name] = frame.drop(columns=timing_columns(frame)).to_csv(index=False)
    return out


def two_attacks(toy: dict[str, Any], folder: Path, out: Path) -> list[str]:
    """Returns the command that runs the toy suite with two attacks, in two processes."""
    suite = folder / "toy.yaml"
    suite.write_text(yaml.safe_dump({**toy, "attacks": toy["attacks"][:2]}))
    command = [sys.executable, "-m", "splitaudit", "run", suite, "--offline", "-j", 2, "-q", "--out", out]
    return [str(word) for word in command]


WHOLE: list[dict[str, str]] = []
"""The tables of the run that nothing killed, for all that were."""


@pytest.mark.parametrize(
    "after", [pytest.param(n, marks=pytest.mark.full if n == 4 else pytest.mark.slow) for n in (1, 4, 9)]
)
def test_a_run_killed_at_any_point_ends_with_the_same_tables(toy: dict[str, Any], tmp_path: Path, after: int) -> None:
    """SIGKILL to the whole driver when so many records are there, then the same command again."""
    if not WHOLE:
        whole = tmp_path / "whole"
        assert subprocess.run(two_attacks(toy, tmp_path, whole), capture_output=True, check=False).returncode == 0
        WHOLE.append(untimed(whole))
    cut = tmp_path / "cut"
    command = two_attacks(toy, tmp_path, cut)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list((cut / "records").rglob("*.json"))) < after and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (cut / "report.html").exists()
    resumed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert untimed(cut) == WHOLE[0]


def test_workers_do_not_outlive_a_killed_driver() -> None:
    """The watcher ends a worker as soon as its parent's sentinel fires."""
    from splitaudit.executors import processes

    assert multiprocessing.parent_process() is None
    processes._die_with_the_driver()  # in a process without a parent it returns and ends nothing


def test_nothing_failed_is_counted_when_nothing_was_chosen(tiny: dict[str, Any], images: Path, tmp_path: Path) -> None:
    made = preview(tiny, out=tmp_path, options=serial(data_root=images))
    with Store.writing(tmp_path) as store:
        assert failures(made.plan, store, set()) == 0
