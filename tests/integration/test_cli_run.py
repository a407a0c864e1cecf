"""Runs from the command line: streams, exit codes, and what each option does to a folder."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml
from PIL import Image
from safetensors.numpy import load_file

import splitaudit
from splitaudit import plugins
from splitaudit.api import Options, run
from splitaudit.store import Store

if TYPE_CHECKING:
    from conftest import Called

    Call = Callable[..., Called]
else:
    Call = Callable


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Path:
    """A finished run of the tiny suite, whole with plots and report; copy it before changing it."""
    folder = tmp_path_factory.mktemp("done") / "out"
    suite = {
        "name": "tiny",
        "dataset": "imagefolder",
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none", "noise"],
        "attacks": ["prior", {"name": "rmle", "params": {"steps": 2, "gaussian": 0.03}}],
        "metrics": ["mse", "accuracy"],
        "training": {"epochs": 1},
    }
    options = Options(executor="serial", device="cpu", offline=True, data_root=images)
    assert run(suite, out=folder, options=options).exit_code == 0
    return folder


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "out"))


@pytest.fixture
def command(tiny: dict[str, Any], tmp_path: Path, images: Path) -> tuple[str, ...]:
    """A run of the tiny suite into the folder ``out``."""
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tiny))
    out = str(tmp_path / "out")
    return "run", str(path), "--data-root", str(images), "--out", out, "--device", "cpu", "--executor", "serial",\
        "--offline"  # fmt: skip


PLUGIN = '''
from splitaudit import Defense


class Works(Defense):
    """Does nothing."""


class Fails(Defense):
    """Fails."""

    def wrap(self, split):
        raise RuntimeError("out of cheese")


class FailsToo(Fails):
    """Fails as well."""
'''


@pytest.fixture
def broken(tmp_path: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """The same run with two defenses that fail and one that works, in this order."""
    path = tmp_path / "some.py"
    path.write_text(PLUGIN)
    names = "[local/some.Fails, local/some.FailsToo, local/some.Works]"
    return *command, "--plugin", str(path), "-s", f"defenses={names}", "-a", "prior"


def test_progress_goes_to_stderr_and_the_summary_and_the_path_of_the_report_to_stdout(
    call: Call, command: tuple[str, ...], undrawn: None
) -> None:
    called = call(*command)
    assert called.code == 0
    assert "jobs to do" in called.err
    assert re.search(r"^\[\d+/\d+\] done in .*: training of none .*; \d+ jobs? left, about ", called.err, re.M)
    assert called.err.splitlines()[-2].endswith("; now the tables and the report")
    assert "Finished in" in called.err
    assert "Worst case over attacks" in called.out
    assert called.out.splitlines()[-1] == f"Report: {command[5]}/report.html"
    assert "done in" not in called.out


def test_a_finished_run_as_json_is_json_alone_on_stdout(call: Call, command: tuple[str, ...], copy: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in copy.rglob("*") if p.is_file()}
    called = call(*command, "--json")
    told = json.loads(called.out)
    assert called.code == 0
    assert told["folder"] == str(copy)
    assert Path(told["report"]).is_file()
    assert told["jobs"] == {"done": 0, "failed": 0, "skipped": 0}
    assert {r["defense"] for r in told["summary"]} == {"none", "noise"}
    assert "0 jobs to do" in called.err
    touched = {p.name for p, at in before.items() if p.stat().st_mtime_ns != at}
    assert touched <= {"plan.json", "suite.yaml", "run.lock"}


def test_quiet_leaves_only_the_outcome(call: Call, command: tuple[str, ...], copy: Path, undrawn: None) -> None:
    called = call(*command, "-q", "--force", "prior")
    assert called.code == 0
    assert called.err.splitlines() == [line for line in called.err.splitlines() if line.startswith("Finished in")]
    assert len(called.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("pattern", "again"),
    [
        ("noise", {"target noise", "fit rmle on noise", "cell prior on noise", "cell rmle on noise"}),
        ("prior", {"cell prior on none", "cell prior on noise"}),
        ("r*", {"fit rmle on none", "fit rmle on noise", "cell rmle on none", "cell rmle on noise"}),
    ],
)
def test_force_does_again_what_it_names_and_what_depends_on_it(
    call: Call, command: tuple[str, ...], copy: Path, undrawn: None, pattern: str, again: set[str]
) -> None:
    def written() -> dict[tuple[str, str], float]:
        paths = (copy / "records").rglob("*.json")
        return {(p.parts[-3], p.stem): p.stat().st_mtime_ns for p in paths}

    titles = {
        (n["kind"], n["key"]): n["title"].split(" (")[0].replace("fit of ", "").replace(", seed 0", "")
        for n in json.loads((copy / "plan.json").read_text())["nodes"]
    }
    before = written()
    assert call(*command, "--force", pattern).code == 0
    assert {f"{n[0]} {titles[n]}" for n, at in written().items() if at != before[n]} == again


def test_a_limit_runs_so_many_cells_and_the_next_run_the_rest(
    call: Call, command: tuple[str, ...], undrawn: None
) -> None:
    assert call(*command, "--limit", "1").code == 0
    store = Store(Path(command[5]))
    assert len(list(store.records("cell"))) == 1
    assert len(list(store.records("target"))) == 1
    assert call(*command).code == 0
    assert len(list(store.records("cell"))) == 4


def test_a_failure_ends_with_exit_code_1_and_is_tried_again_unless_it_is_kept(
    call: Call, broken: tuple[str, ...], undrawn: None
) -> None:
    first = call(*broken)
    assert first.code == 1
    assert len(re.findall(r"FAILED after [\d.]+ s: training of", first.err)) == 2
    assert "RuntimeError: out of cheese" in first.err
    assert "skipped: attack prior on local/some.Fails, seed 0: target failed: RuntimeError: out of cheese" in first.err
    assert "nodes failed or could not be done: see the report. The next run tries them again." in first.err
    kept = call(*broken, "--keep-failed")
    assert (kept.code, kept.err.count("FAILED")) == (1, 0)
    again = call(*broken, "--json")
    assert again.code == 1
    assert json.loads(again.out)["jobs"]["failed"] == 2
    targets = splitaudit.load_results(broken[5]).targets.set_index("defense")
    assert targets["status"].to_dict() == {
        "local/some.Fails": "failed", "local/some.FailsToo": "failed", "local/some.Works": "done",
    }  # fmt: skip


def test_fail_fast_stops_at_the_first_failure_and_says_what_was_not_begun(
    call: Call, broken: tuple[str, ...], undrawn: None
) -> None:
    called = call(*broken, "--fail-fast")
    assert called.code == 1
    assert called.err.count("FAILED") == 1
    assert "Stopped at a failure (--fail-fast): " in called.err
    states = splitaudit.load_results(broken[5]).targets["status"].value_counts().to_dict()
    assert states == {"failed": 1, "not run": 2}


def test_a_run_whose_readers_have_left_goes_on_and_ends_as_it_would(
    call: Call, command: tuple[str, ...], undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise BrokenPipeError

    dropped: list[int] = []
    monkeypatch.setattr("splitaudit.cli.run.drop", lambda *descriptors: dropped.extend(descriptors))
    monkeypatch.setattr("splitaudit.cli.run.Display.__call__", nobody)
    monkeypatch.setattr("splitaudit.cli.run._print_outcome", nobody)
    called = call(*command, "-a", "prior", "-d", "none")
    assert called.code == 0
    assert set(dropped) == {2}
    assert len(list(Store(Path(command[5])).records("cell"))) == 1


@pytest.mark.full
def test_report_builds_the_derived_files_again_and_prints_them(
    call: Call, copy: Path, images: Path, done: Path
) -> None:
    before = (copy / "cells.csv").read_bytes()
    derived = ("cells.csv", "targets.csv", "summary.csv", "per_image.csv", "report.html")
    for name in derived:
        (copy / name).unlink()
    called = call("report", copy, "--data-root", images, "--offline")
    assert (called.code, called.err) == (0, "")
    assert set(derived) <= {Path(line).name for line in called.out.splitlines()}
    assert (copy / "cells.csv").read_bytes() == before
    assert any("reconstructions" in line for line in called.out.splitlines())


def test_report_without_the_dataset_says_that_pictures_are_missing(
    call: Call, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[str, Any] = {}

    def record(folder: Path, plan: object, store: object, private: object, *, no_images: bool) -> list[Path]:
        drawn.update(private=private, no_images=no_images)
        return [folder / "report.html"]

    monkeypatch.setattr("splitaudit.report.write_derived", record)
    called = call("report", copy, "--data-root", tmp_path / "elsewhere", "--json")
    assert called.code == 0
    assert json.loads(called.out) == {"folder": str(copy), "files": [str(copy / "report.html")]}
    assert "No pictures: the private images are not there or have changed (--data-root)." in called.err
    assert drawn == {"private": None, "no_images": False}


def test_report_takes_no_pictures_from_a_dataset_that_has_changed(
    call: Call, copy: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = Path(shutil.copytree(images, tmp_path / "changed"))
    for path in (changed / "test" / "dark").glob("*.png"):
        shutil.copy(path, changed / "test" / "light" / path.name)  # other pixels under the same names
    monkeypatch.setattr("splitaudit.report.write_derived", lambda *_, **__: [])
    assert "have changed" in call("report", copy, "--data-root", changed).err


def test_report_needs_neither_the_plugins_nor_the_suite_of_the_run(
    call: Call, broken: tuple[str, ...], images: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(*broken).code == 1
    for registry in plugins.REGISTRIES.values():
        registry.forget("splitaudit_local_some")
    called = call("report", broken[5], "--data-root", images)
    assert called.code == 0
    assert "local/some" not in called.err


# -- without images ---------------------------------------------------------------------------------------------------


def pictures(folder: Path, colour: tuple[int, int, int]) -> list[str]:
    """Names the files in which a picture of that colour is: artifacts, plots, and what the report embeds."""

    def shows(pixels: Any) -> bool:
        near = np.abs(np.asarray(pixels, dtype=int)[..., :3] - colour).max(-1) < 40
        return bool(near.sum() > 50)

    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix == ".safetensors":
            if path.parts[-3] == "cell" or any(t.dtype == np.uint8 for t in load_file(path).values()):
                found.append(path.name)
        elif path.suffix == ".png":
            found += [path.name] if shows(Image.open(path).convert("RGB")) else []
        else:
            text = path.read_bytes().decode("utf-8")
            for data in re.findall(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", text):
                if shows(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")):
                    found.append(path.name)
    return found


@pytest.mark.full
def test_without_images_no_picture_is_in_any_file_and_with_them_the_search_finds_them(
    call: Call, command: tuple[str, ...], tmp_path: Path
) -> None:
    """Every image is of one colour that no plot uses, so a picture is found wherever it hides."""
    random, colour = np.random.default_rng(0), (250, 5, 250)
    for part in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "magenta" / part / label).mkdir(parents=True)
            for i in range(40):
                pixels = np.clip(random.normal(colour, 4, (28, 28, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(tmp_path / "magenta" / part / label / f"{i}.png")
    argv = [*command[:3], str(tmp_path / "magenta"), *command[4:]]
    assert call(*argv, "--no-images").code == 0
    assert pictures(Path(command[5]), colour) == []
    assert (Path(command[5]) / "report.html").is_file()

    argv[5] = str(tmp_path / "with")
    assert call(*argv).code == 0
    shown = pictures(tmp_path / "with", colour)
    assert {"report.html", "reconstructions.png", "reconstructions.svg"} <= set(shown)
    assert any(name.endswith(".safetensors") for name in shown)

    after = call(*argv, "--no-images")
    assert after.code == 0
    assert "4 reconstructions of an earlier run are kept in" in after.err
    assert {n for n in pictures(tmp_path / "with", colour) if not n.endswith(".safetensors")} == set()
