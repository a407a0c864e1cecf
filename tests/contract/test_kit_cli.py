"""``splitaudit check`` holds a plugin of one's own to its contract: exit codes, lines and JSON."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitaudit.cli import main
from splitaudit.plugins import REGISTRIES

GOOD_METRIC = '''
import torch
from splitaudit.metric import Metric


class Gap(Metric):
    """Averages the absolute error of each image."""

    source = "toy"
    label = "mean absolute error"
    bounds = (0.0, 1.0)

    def per_sample(self, truth, guess):
        if not truth.is_floating_point():
            raise TypeError(f"got {guess.dtype}, expected float images in [0, 1]")
        return (truth - guess).abs().flatten(1).mean(1)
'''

BROKEN_METRIC = GOOD_METRIC.replace("bounds = (0.0, 1.0)", 'bounds = (0.0, 1.0)\n    higher_means = "more leakage"')

GOOD_DEFENSE = '''
import torch.nn.functional as F
from splitaudit import Defense


class Blur(Defense):
    """Averages neighbouring features."""

    source = "toy"
    acts_on_wire = True

    def protect(self, z, generator):
        return F.avg_pool2d(z, 3, stride=1, padding=1)
'''

BROKEN_DEFENSE = GOOD_DEFENSE.replace("return F", "z = z - z.mean(0)\n        return F")

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Call:
    """Returns a function that writes a plugin file, runs the command line and returns code, stdout and stderr."""
    for registry in REGISTRIES.values():
        registry.discover()
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))

    def run(*arguments: str, plugin: str | None = None, stem: str = "mine") -> tuple[int, str, str]:
        if plugin is not None:
            (tmp_path / f"{stem}.py").write_text(plugin)
            monkeypatch.setitem(sys.modules, f"splitaudit_local_{stem}", None)  # forgotten after the test
            arguments = (*arguments, "--plugin", str(tmp_path / f"{stem}.py"))
        monkeypatch.setattr(sys, "argv", ["splitaudit", "check", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def test_a_plugin_that_keeps_its_contract_exits_0_with_a_line_per_check(call: Call) -> None:
    code, out, err = call("local/mine", plugin=GOOD_METRIC)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert "kept            metric local/mine: check_perfect_copy_is_best" in lines
    assert "does not apply  metric local/mine: check_agrees_with_its_reference: no reference is named" in lines
    assert not any(line.startswith("BROKEN") for line in lines)
    kept, beside = (sum(line.startswith(state) for line in lines) for state in ("kept ", "does not apply "))
    assert lines[-1] == f"{kept} kept, 0 broken, {beside} do not apply"
    assert kept + beside == len(lines) - 1 > 5


def test_a_plugin_that_breaks_its_contract_exits_1_and_says_how(call: Call) -> None:
    code, out, err = call("local/mine", plugin=BROKEN_METRIC)
    assert (code, err) == (1, "")
    broken = [line for line in out.splitlines() if line.startswith("BROKEN")]
    assert len(broken) == 1
    assert broken[0].startswith("BROKEN          metric local/mine: check_degradation_moves_as_declared: replacing 10%")
    assert broken[0].endswith("Most likely higher_means is the wrong way round.")
    assert " kept, 1 broken, " in out.splitlines()[-1]


def test_an_unknown_name_exits_2_and_suggests_a_close_one(call: Call) -> None:
    code, out, err = call("local/mina", plugin=GOOD_METRIC)
    assert (code, out) == (2, "")
    assert err.strip() == (
        "splitaudit: 'local/mina' is no defense, attack or metric. Did you mean 'local/mine'?  (splitaudit list)"
    )


def test_one_unknown_name_among_several_stops_before_anything_is_checked(call: Call) -> None:
    code, out, err = call("local/mine", "nosuch", plugin=GOOD_METRIC)
    assert (code, out) == (2, "")
    assert "'nosuch' is no defense, attack or metric" in err


def test_a_file_that_does_not_import_exits_2_with_its_own_traceback(call: Call) -> None:
    code, out, err = call("local/mine", plugin="raise RuntimeError('halfway')")
    assert (code, out) == (2, "")
    assert "--plugin mine.py is broken" in err
    assert "RuntimeError: halfway" in err


def test_json_holds_every_check_of_every_name_and_the_exit_code_stays(call: Call) -> None:
    code, out, _ = call("local/mine", "mse", "--json", plugin=BROKEN_METRIC)
    rows: list[dict[str, Any]] = json.loads(out)
    assert code == 1
    assert {row["name"] for row in rows} == {"local/mine", "mse"}
    assert [row["check"] for row in rows if row["state"] == "BROKEN"] == ["check_degradation_moves_as_declared"]
    assert {row["state"] for row in rows if row["name"] == "mse"} == {"kept"}


@pytest.mark.full
def test_a_defense_of_ones_own_is_checked_in_another_process_too(call: Call) -> None:
    code, out, _ = call("local/blur", plugin=GOOD_DEFENSE, stem="blur")
    assert code == 0
    assert "kept            defense local/blur: check_restores_in_a_new_process" in out.splitlines()
    code, out, _ = call("local/sharp", plugin=BROKEN_DEFENSE, stem="sharp")
    assert code == 1
    assert [line.split(": ")[1] for line in out.splitlines() if line.startswith("BROKEN")] == [
        "check_batch_equals_samples"
    ]


@pytest.mark.full
def test_the_installed_command_ends_with_the_same_codes(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN_METRIC)
    command = [sys.executable, "-m", "splitaudit", "check", "--plugin", str(tmp_path / "mine.py")]
    done = subprocess.run([*command, "local/mine"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout
    done = subprocess.run([*command, "nosuch"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
