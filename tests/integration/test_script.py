"""A run from a script of the user's own, as the README shows it, and plugins in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import splitaudit
from splitaudit.errors import ConfigError
from splitaudit.options import Options

pytestmark = pytest.mark.full

PLUGIN = '''
from splitaudit import Metric, register_metric

@register_metric("me/l1")
class L1(Metric):
    """Mean absolute error."""

    label, source = "mean absolute error", "own"

    def per_sample(self, truth, guess):
        return (truth - guess).abs().flatten(1).mean(1)
'''


def script(
    folder: Path, toy: dict[str, Any], plugin: str = "", guard: str = "if True:"
) -> subprocess.CompletedProcess[str]:
    suite = {**toy, "defenses": ["none"], "attacks": ["prior"], "metrics": ["mse", *(["me/l1"] if plugin else [])]}
    text = f"import splitaudit\n{plugin}\n{guard}\n    outcome = splitaudit.run({suite!r}, out='out')\n"
    (folder / "mine.py").write_text(text + "    print(outcome.counts.done, outcome.failed)\n")
    return subprocess.run([sys.executable, "mine.py"], cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_script_without_a_guard_starts_one_run_and_not_one_in_each_worker(
    tmp_path: Path, toy: dict[str, Any]
) -> None:
    done = script(tmp_path, toy)
    assert (done.returncode, done.stdout.split()) == (0, ["3", "0"]), done.stderr


def test_plugins_of_a_script_reach_the_workers_and_a_name_with_a_slash_is_no_folder(
    tmp_path: Path, toy: dict[str, Any]
) -> None:
    done = script(tmp_path, toy, PLUGIN, 'if __name__ == "__main__":')
    assert (done.returncode, done.stdout.split()) == (0, ["3", "0"]), done.stderr
    assert (tmp_path / "out" / "plots" / "heatmap-me_l1.png").is_file()
    assert (tmp_path / "out" / "report.html").is_file()


def test_plugins_of_a_script_without_a_guard_are_told_what_is_missing(tmp_path: Path, toy: dict[str, Any]) -> None:
    done = script(tmp_path, toy, PLUGIN)
    assert "Put the call under if __name__ == '__main__':" in done.stderr


def test_another_suite_in_the_same_folder_is_told(tmp_path: Path, toy: dict[str, Any]) -> None:
    said: list[str] = []
    options = Options(executor="serial", device="cpu")
    small = {**toy, "defenses": ["none"], "attacks": ["prior"], "metrics": ["mse"]}
    for suite in (small, small, {**small, "seeds": [1]}):
        splitaudit.run(suite, out=tmp_path, options=options, listener=lambda e: said.append(e.message))
    notes = [m for m in said if "held a run with other" in m]
    assert len(notes) == 1
    assert "other seeds" in notes[0]


def test_a_data_root_that_no_dataset_reads_is_a_mistake(tmp_path: Path, toy: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no dataset of the suite reads a folder"):
        splitaudit.plan_suite(toy, options=Options(data_root=tmp_path))
