"""Ctrl-C, and two runs on one folder at once."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from splitaudit.store import Store
from splitaudit.store.schema import KINDS

pytestmark = [pytest.mark.full, pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")]

SLOW = '''
import time

from splitaudit import Defense


class Slow(Defense):
    """Takes its time."""

    def wrap(self, split):
        time.sleep({seconds})
        return split
'''


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


@pytest.mark.usefixtures("ctrl_c_is_heard")
def test_ctrl_c_ends_with_130_and_how_to_resume_and_the_same_command_completes_the_run(
    tmp_path: Path, tiny: dict[str, Any], images: Path
) -> None:
    out, plugin = tmp_path / "out", tmp_path / "slow.py"
    plugin.write_text(SLOW.format(seconds=600))
    tiny |= {"defenses": ["none", "local/slow"], "attacks": ["prior"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    argv = ["run", tmp_path / "tiny.yaml", "--plugin", plugin, "--data-root", images, "--out", out, "-j", 2]
    command = [sys.executable, "-m", "splitaudit", *map(str, argv), "--device", "cpu", "--offline"]

    def start() -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, start_new_session=True)

    # To the whole group, as a terminal sends it, while the workers still import: they must not die with a traceback.
    first = start()
    wait_until(lambda: (out / "plan.json").exists(), first)
    os.killpg(first.pid, signal.SIGINT)
    printed, told = first.communicate(timeout=60)
    assert (first.returncode, printed) == (130, "")
    assert "Traceback" not in told

    second = start()
    wait_until(lambda: any((out / "records" / "target").rglob("*.json")), second)
    # While it goes on, another run on the folder is refused.
    beside = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (beside.returncode, beside.stdout) == (2, "")
    assert f"{out}: is in use by process {second.pid} on " in beside.stderr
    assert "Wait for it to end, or choose another folder with --out." in beside.stderr
    assert "Traceback" not in beside.stderr
    os.killpg(second.pid, signal.SIGINT)
    printed, told = second.communicate(timeout=60)
    assert (second.returncode, printed) == (130, "")
    assert "Interrupted. What was complete is stored: the same command goes on where this one stopped." in told
    assert "Traceback" not in told
    assert not (out / "report.html").exists()
    trained = {p: p.stat().st_mtime_ns for p in (out / "artifacts" / "target").rglob("*.safetensors")}
    assert trained

    # Quick now, and so another defense to the store; what was complete of the others is not done again.
    plugin.write_text(SLOW.format(seconds=0))
    resumed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    done_before = re.search(r"(\d+) results are stored from before", resumed.stderr)
    assert done_before
    assert int(done_before[1]) >= len(trained)
    assert {p: p.stat().st_mtime_ns for p in trained} == trained
    assert (out / "report.html").is_file()
    assert len(list(Store.open(out).records("target"))) == 2
    assert {r["status"] for kind in KINDS for r in Store.open(out).records(kind)} == {"done"}


@pytest.mark.parametrize("code", ["raise KeyboardInterrupt", "exec('raise KeyboardInterrupt')"], ids=["plain", "exec"])
def test_ctrl_c_in_the_middle_of_an_import_ends_with_130_too(tmp_path: Path, code: str) -> None:
    """Fails for an interrupt within code given as a string, which Python counts as unhandled even where it was handled: -2."""
    plugin = tmp_path / "interrupted.py"
    plugin.write_text(code)
    command = [sys.executable, "-m", "splitaudit", "list", "--plugin", str(plugin)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 130, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
