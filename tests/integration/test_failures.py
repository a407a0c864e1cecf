"""Nothing silent: whatever a plugin does, it ends as failed with its reason, and the rest completes."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import yaml

from splitaudit.store import Store

pytestmark = pytest.mark.full

PLUGIN = """
import os

import torch

from splitaudit import Attack, Defense, Measure, Metric
from splitaudit.metric import Column, Measurement


class Wraps(Defense):
    def wrap(self, split):
        raise RuntimeError("wrap is out of cheese")


class Protects(Defense):
    acts_on_wire = True

    def protect(self, z, generator):
        raise RuntimeError("protect is out of cheese")


class Losses(Defense):
    def extra_loss(self, x, z, y, logits):
        raise RuntimeError("extra_loss is out of cheese")


class Nan(Defense):
    acts_on_wire = True

    def protect(self, z, generator):
        return z * float("nan")


class Unsaid(Defense):
    acts_on_wire = True

    def protect(self, z, generator):
        return z + torch.randn(z.shape, generator=generator, device=z.device)


class Globally(Defense):
    acts_on_wire = True
    stochastic = True

    def protect(self, z, generator):
        return z + torch.randn_like(z)


class Shape(Defense):
    acts_on_wire = True

    def protect(self, z, generator):
        return z[:, :1]


class Exits(Defense):
    def wrap(self, split):
        raise SystemExit("I quit")


class Dies(Defense):
    def wrap(self, split):
        os.kill(os.getpid(), 9)


class Notes(Defense):
    def during(self, course):
        course.notes["level"] = float("nan")
        return super().during(course)


class Raises(Attack):
    def reconstruct(self, view, fitted):
        raise RuntimeError("reconstruct is out of cheese")


class Fits(Attack):
    def fit(self, view):
        raise RuntimeError("fit is out of cheese")

    def reconstruct(self, view, fitted):
        return torch.zeros(len(view), *view.image_shape)


class Blank(Attack):
    def reconstruct(self, view, fitted):
        return torch.full((len(view), *view.image_shape), float("nan"))


class Flat(Attack):
    def reconstruct(self, view, fitted):
        return torch.zeros(3)


class Objects(Attack):
    def reconstruct(self, view, fitted):
        view.note(found=object())


class Doubts(Attack):
    def fit(self, view):
        view.note(errors=[float("nan"), 0.5])
        return {"ones": torch.ones(1)}

    def reconstruct(self, view, fitted):
        view.note(gain=float("inf"), found=torch.ones(2, 1) / 4, converged=torch.tensor(True))
        return torch.zeros(len(view), *view.image_shape)


class Scores(Metric):
    def per_sample(self, truth, guess):
        raise RuntimeError("per_sample is out of cheese")


class Lists(Measure):
    columns = {"mean_of_lists": Column("", "neither", "")}

    def measure(self, context):
        return Measurement(values={"mean_of_lists": 0.0}, per_image={"mean_of_lists": [float("nan")]})


class Measures(Measure):
    def measure(self, context):
        if context.model.defense.name == "noise":
            os.kill(os.getpid(), 9)
        raise RuntimeError("measure is out of cheese")
"""

DEFENSES = {
    "Wraps": "RuntimeError: wrap is out of cheese",
    "Protects": "RuntimeError: protect is out of cheese",
    "Losses": "RuntimeError: extra_loss is out of cheese",
    "Nan": "nan",
    "Unsaid": "draws at random and does not say so; set stochastic = True",
    "Globally": "with an equal generator, expected the same ones: draw with the generator that protect is given",
    "Shape": "expected (",
    "Notes": "level.float: got nan",
    "Exits": "SystemExit: I quit",
    "Dies": "WorkerDied: the worker process died while this job was running",
}

ATTACKS = {
    "Raises": ("failed", "RuntimeError: reconstruct is out of cheese"),
    "Fits": ("skipped", "fit failed: RuntimeError: fit is out of cheese"),
    "Blank": ("failed", "values that are not finite"),
    "Objects": ("failed", "TypeError: got note 'found' of type object, expected plain values"),
    "Flat": ("failed", "returned shape (3,), expected (8, 3, 28, 28)"),
}


@dataclass(frozen=True)
class Run:
    """A run in worker processes with every broken plugin at once."""

    folder: Path
    code: int
    err: str

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.folder / f"{name}.csv", keep_default_na=False, na_values=[""])

    @property
    def page(self) -> str:
        return (self.folder / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory, images: Path) -> Run:
    at = tmp_path_factory.mktemp("broken")
    (at / "bad.py").write_text(PLUGIN)
    suite = {
        "name": "bad",
        "dataset": "imagefolder",
        "backbone": {"name": "cnn4", "cut": "block2", "params": {"width": 4}},
        "defenses": ["none", *(f"local/bad.{name}" for name in DEFENSES), "noise"],
        "attacks": ["prior", "local/bad.Doubts", *(f"local/bad.{name}" for name in ATTACKS)],
        "knowledge": "white-box",
        "metrics": ["mse", "local/bad.Scores", "accuracy", "local/bad.Lists", "local/bad.Measures"],
        "training": {"epochs": 1},
    }
    (at / "bad.yaml").write_text(yaml.safe_dump(suite))
    argv = ["run", at / "bad.yaml", "--plugin", at / "bad.py", "--out", at / "out", "--data-root", images]
    done = subprocess.run(
        [sys.executable, "-m", "splitaudit", *map(str, argv), "--device", "cpu", "-j", "2", "--offline"],
        capture_output=True, text=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert (at / "out" / "report.html").is_file(), done.stderr
    return Run(at / "out", done.returncode, done.stderr)


def test_the_run_ends_with_exit_code_1_without_a_traceback_and_names_each_failure(broken: Run) -> None:
    assert broken.code == 1
    assert "Traceback" not in broken.err
    assert "nodes failed or could not be done: see the report." in broken.err
    for name, reason in DEFENSES.items():
        assert any(
            f": training of local/bad.{name} " in line and "FAILED" in line and reason in line
            for line in broken.err.splitlines()
        )


@pytest.mark.parametrize("name", DEFENSES)
def test_a_broken_defense_is_a_failed_target_and_its_cells_are_skipped_with_that_reason(broken: Run, name: str) -> None:
    reason = DEFENSES[name]
    target = broken.table("targets").set_index("defense").loc[f"local/bad.{name}"]
    assert target["status"] == "failed"
    assert reason in target["reason"]
    cells = broken.table("cells")
    cells = cells[cells["defense"] == f"local/bad.{name}"]
    assert len(cells) == 2 + len(ATTACKS)
    assert set(cells["status"]) == {"skipped"}
    assert all(r.startswith("target failed: ") and reason in r for r in cells["reason"])


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("defense", ["none", "noise"])
def test_a_broken_attack_fails_its_own_cell(broken: Run, name: str, defense: str) -> None:
    status, reason = ATTACKS[name]
    cell = broken.table("cells").set_index(["defense", "attack"]).loc[(defense, f"local/bad.{name}")]
    assert cell["status"] == status
    assert reason in cell["reason"]


def test_what_is_sound_completes(broken: Run) -> None:
    targets = broken.table("targets").set_index("defense")["status"]
    assert (targets["none"], targets["noise"]) == ("done", "done")
    cells = broken.table("cells").set_index(["defense", "attack"])
    for defense in ("none", "noise"):
        assert cells.loc[(defense, "prior"), "status"] == "done"
        assert cells.loc[(defense, "prior"), "mse"] > 0
    assert broken.table("targets").set_index("defense").loc["none", "accuracy"] >= 0


def test_what_an_attack_notes_is_stored_as_plain_values_and_no_number_as_null(broken: Run) -> None:
    records = Store(broken.folder)
    names = [n for n in records.status() if n[0] in ("fit", "cell")]
    found = [r for r in (records.read(*n) for n in names) if r and r["identity"]["attack"]["name"].endswith("Doubts")]
    notes = {r["kind"]: (r["info"] if r["kind"] == "fit" else r["attack"])["notes"] for r in found}
    assert notes["fit"] == {"errors": [None, 0.5]}
    assert notes["cell"] == {"gain": None, "found": [[0.25], [0.25]], "converged": True}


def test_a_measure_whose_values_per_image_are_no_numbers_fails_alone(broken: Run) -> None:
    targets = broken.table("targets").set_index("defense")
    assert "local/bad.Lists: failed: ValueError: " in targets.loc["none", "reason"]
    assert "per image are not finite" in targets.loc["none", "reason"]
    assert targets.loc["none", "accuracy"] >= 0


def test_a_metric_that_raises_leaves_its_column_empty_with_the_reason(broken: Run) -> None:
    cells = broken.table("cells").set_index(["defense", "attack"])
    assert broken.table("cells")["local/bad.Scores"].isna().all()
    for row in (("none", "prior"), ("noise", "prior"), ("-", "mean_colour")):
        assert "local/bad.Scores: failed: RuntimeError: per_sample is out of cheese" in cells.loc[row, "reason"]


def test_a_measure_that_raises_or_whose_worker_dies_is_named_in_its_targets_row(broken: Run) -> None:
    reasons = broken.table("targets").set_index("defense")["reason"]
    assert "local/bad.Measures: failed: RuntimeError: measure is out of cheese" in reasons["none"]
    # The worker died, and with it what else was measured in this job.
    assert "accuracy: failed: WorkerDied: the worker process died" in reasons["noise"]
    assert "local/bad.Measures: failed: WorkerDied: the worker process died" in reasons["noise"]


def test_tables_and_report_say_so(broken: Run) -> None:
    for name in ("targets.csv", "cells.csv"):
        text = (broken.folder / name).read_text(encoding="utf-8")
        for reason in ("wrap is out of cheese", "I quit", "WorkerDied"):
            assert reason in text, name
    summary = broken.table("summary").set_index("defense")
    assert summary["incomplete"].all()
    assert summary.loc["local/bad.Dies", "cells_skipped"] == 2 + len(ATTACKS)
    for what in ("wrap", "protect", "extra_loss", "reconstruct", "fit", "per_sample", "measure"):
        assert f"{what} is out of cheese" in broken.page, what
    for text in ("I quit", "WorkerDied", "values that are not finite", "returned shape (3,)"):
        assert text in broken.page, text
