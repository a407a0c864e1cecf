"""Third parties: an installed package and a single file add to list and to a run in worker processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

pytestmark = pytest.mark.full

BLUR = '''
import torch.nn.functional as F

from splitaudit import Defense


class Blur(Defense):
    """Averages neighbouring features."""

    acts_on_wire = True

    def protect(self, z, generator):
        return F.avg_pool2d(z, 3, stride=1, padding=1)
'''

GUESS = '''
import torch

from splitaudit import Attack


class Grey(Attack):
    """Guesses mid-grey."""

    def reconstruct(self, view, fitted):
        return torch.full((len(view), *view.image_shape), 0.5)
'''


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip would fill it: a package with a defense, an attack, and a defense that does not import."""
    folder = tmp_path_factory.mktemp("site")
    for name, text in (("acme_blur", BLUR), ("acme_guess", GUESS), ("acme_bad", "import acme_nowhere\n")):
        (folder / f"{name}.py").write_text(text)
    info = folder / "acme_splits-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-splits\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[splitaudit.defenses]\nacme/blur = acme_blur:Blur\nacme/bad = acme_bad:Bad\n"
        "[splitaudit.attacks]\nacme/grey = acme_guess:Grey\n"
    )
    return folder


def splitaudit(site: Path, *argv: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "splitaudit", *map(str, argv)],
        capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": str(site)},
    )  # fmt: skip


def test_installed_plugins_are_listed_with_their_distribution_and_a_broken_one_as_broken(site: Path) -> None:
    done = splitaudit(site, "list", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    defenses = {d["name"]: d for d in told["defenses"]}
    assert defenses["acme/blur"]["origin"] == "acme-splits 1.2 (acme_blur:Blur)"
    assert defenses["acme/blur"]["summary"] == "Averages neighbouring features."
    assert defenses["acme/bad"]["error"].startswith("ModuleNotFoundError: No module named 'acme_nowhere'")
    assert {a["name"]: a["origin"] for a in told["attacks"]}["acme/grey"] == "acme-splits 1.2 (acme_guess:Grey)"


def test_they_run_in_worker_processes_beside_a_single_file(
    site: Path, tmp_path: Path, tiny: dict[str, Any], images: Path
) -> None:
    (tmp_path / "own.py").write_text(BLUR)
    tiny |= {"defenses": ["none", "acme/blur", "local/own"], "attacks": ["prior", "acme/grey"]}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    argv = ["run", tmp_path / "tiny.yaml", "--plugin", tmp_path / "own.py", "--data-root", images]
    done = splitaudit(site, *argv, "--out", tmp_path / "out", "-j", 2, "--device", "cpu", "--offline", "--json")
    assert done.returncode == 0, done.stderr
    cells = pd.read_csv(tmp_path / "out" / "cells.csv").set_index(["defense", "attack", "knowledge"])
    for defense in ("none", "acme/blur", "local/own"):
        assert cells.loc[(defense, "acme/grey", "white-box"), "status"] == "done"
    records = [json.loads(p.read_text()) for p in (tmp_path / "out" / "records" / "target").rglob("*.json")]
    origins: dict[str, str] = {}
    for record in records:
        origins |= record["provenance"]["plugins"]
    assert origins["acme/blur"] == "acme-splits 1.2 (acme_blur:Blur)"
    assert origins["local/own"] == "file own.py"


def test_a_broken_one_that_is_asked_for_ends_with_exit_code_2_its_error_and_whose_it_is(
    site: Path, tmp_path: Path, tiny: dict[str, Any], images: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump({**tiny, "defenses": ["none", "acme/bad", "noize"]}))
    done = splitaudit(site, "run", tmp_path / "tiny.yaml", "--data-root", images, "--out", tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert "2 problems" in done.stderr  # beside what else is wrong with the suite
    assert "defense 'acme/bad' from acme-splits 1.2 (acme_bad:Bad) is broken: ModuleNotFoundError" in done.stderr
    assert f"{site / 'acme_bad.py'}, line 1: import acme_nowhere" in done.stderr
    assert "defense 'noize' is not known. Did you mean 'noise'?" in done.stderr
    assert not (tmp_path / "out").exists()
